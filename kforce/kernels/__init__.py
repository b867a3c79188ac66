"""Kernels: a scalar profile φ(u) of one invariant of two points."""

from kforce.kernels.base import Kernel, Scaled, Sum
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import (
    RBF,
    Matern32,
    Matern52,
    Matern72,
    PiecewisePolynomial,
    RationalQuadratic,
    Stationary,
)

__all__ = [
    "RBF",
    "Kernel",
    "Matern32",
    "Matern52",
    "Matern72",
    "PiecewisePolynomial",
    "Polynomial",
    "RationalQuadratic",
    "Scaled",
    "Stationary",
    "Sum",
]
