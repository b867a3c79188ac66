"""Sparse Gaussian processes of environments: terms, rows, variances, free energy."""
