"""Pairs of atoms within a cutoff."""

from kforce.neighbours.search import Neighbours, find_neighbours

__all__ = ["Neighbours", "find_neighbours"]
