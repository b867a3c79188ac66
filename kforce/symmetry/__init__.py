"""Permutations of atoms: groups, and their recovery from data."""

from kforce.symmetry.recovery import find_permutations

__all__ = ["find_permutations"]
