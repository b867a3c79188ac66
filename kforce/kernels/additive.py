"""Sums of a kernel over weighted parts of a descriptor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kforce.errors import InputError
from kforce.kernels.base import Kernel, Scaled
from kforce.registry import register


@register
class Additive(Kernel):
    """A sum of one kernel with different scales of the features.

    k(x, y) = Σ_t a_t² φ(u_t) with u_t = Σ_k s_tk² (x_k − y_k)²: a term t looks at the
    features whose scale is not zero, as an energy of many parts does.

    Parameters
    ----------
    kernel : Kernel
        The kernel with the profile φ.
    scales : array-like of shape (n_terms, n_features)
        s_tk, in inverse units of the features; not negative.
    amplitudes : array-like of shape (n_terms,), default=None
        a_t; None is 1 for all.

    References
    ----------
    Duvenaud, Nickisch and Rasmussen, Adv. Neural Inf. Process. Syst. 24 (2011).

    Examples
    --------
    >>> from kforce.kernels.stationary import RBF
    >>> terms_of(Additive(RBF(length_scale=1.0), [[1.0, 0.0], [0.5, 0.5]]), 2).variances
    array([1., 1.])
    """

    def __init__(self, kernel, scales, amplitudes=None):
        self.kernel = kernel
        self.scales = scales
        self.amplitudes = amplitudes


@dataclass(frozen=True)
class Terms:
    """The terms of a kernel.

    Attributes
    ----------
    profile : Kernel
        What all of them share.
    scales : ndarray of shape (n_terms, n_features)
        Factors of the features.
    variances : ndarray of shape (n_terms,)
        Factors of the terms.
    """

    profile: Kernel
    scales: np.ndarray
    variances: np.ndarray


def terms_of(kernel: Kernel, n_features: int) -> Terms:
    """Return the terms of a kernel; any but an `Additive` one has a single term.

    Parameters
    ----------
    kernel : Kernel
        Any kernel, `Scaled` or not.
    n_features : int
        Length of the descriptor.

    Raises
    ------
    InputError
        If the scales or amplitudes do not fit the descriptor.
    """
    factor, inner = 1.0, kernel
    if isinstance(kernel, Scaled) and isinstance(kernel.kernel, Additive):
        factor, inner = float(kernel.amplitude) ** 2, kernel.kernel
    if not isinstance(inner, Additive):
        return Terms(kernel, np.ones((1, n_features)), np.ones(1))
    scales = _checked("scales", inner.scales, 2)
    if scales.shape[1] != n_features:
        raise InputError(
            f"Expected scales for the {n_features} features of the descriptor, found "
            f"{scales.shape[1]} columns."
        )
    amplitudes = np.ones(len(scales))
    if inner.amplitudes is not None:
        amplitudes = _checked("amplitudes", inner.amplitudes, 1)
    if len(amplitudes) != len(scales):
        raise InputError(
            f"Expected one amplitude for each of {len(scales)} terms, found "
            f"{len(amplitudes)}."
        )
    return Terms(inner.kernel, scales, factor * amplitudes**2)


def _checked(name: str, values: ArrayLike, n_dimensions: int) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    good = array.ndim == n_dimensions and array.size and np.isfinite(array).all()
    if not good or (array < 0).any() or not array.any(axis=-1).all():
        raise InputError(
            f"{name} must be finite and not negative, with an entry above zero in each "
            f"term, found an array of shape {array.shape}."
        )
    return array
