"""Linear algebra: matrices and noise, never atoms or kernels."""
