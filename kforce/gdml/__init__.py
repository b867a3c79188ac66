"""Exact Gaussian processes of one molecule, on its forces and energies."""
