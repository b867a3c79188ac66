"""Cheap models of the energy that a force field corrects."""
