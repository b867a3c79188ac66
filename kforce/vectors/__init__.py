"""Gaussian processes of plain feature vectors, with gradients."""
