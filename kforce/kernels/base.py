"""Kernels: a scalar profile φ(u) of one invariant of two points.

A radial kernel is k(x, y) = φ(|x − y|²). The profile and its derivatives give every
covariance between values and gradients (d = x − y)::

    k          = φ
    ∂ₓ k       = 2 φ' d                 = −c1 d,      c1 = −2 φ'
    ∂ₓ∂ᵧᵀ k    = −2 φ' I − 4 φ'' d dᵀ   = c1 I − c2 d dᵀ,   c2 = 4 φ''

so a new kernel writes its profile and nothing else. A kernel of products is
k(x, y) = φ(x · y), with ∂ₓ k = φ' y; it is meant for normalised features.
"""

from __future__ import annotations

from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator

from kforce.errors import InputError
from kforce.registry import register


class Kernel(BaseEstimator):
    """Base of all kernels: subclasses define `profile`."""

    #: Whether u is the product x · y instead of the squared distance.
    is_product = False

    def profile(self, u, orders=(0, 1, 2, 3)):
        """Return the derivatives of φ with respect to u of the given orders.

        Parameters
        ----------
        u : ndarray
            Squared distances, in the square of the unit of the descriptor, or
            products of the points.
        orders : tuple of int, default=(0, 1, 2, 3)
            Which derivatives; 0 is φ itself.

        Returns
        -------
        tuple of ndarray
            One array of the shape of `u` for each of `orders`.
        """
        raise NotImplementedError

    def __call__(self, u):
        """Return φ(u)."""
        return self.profile(u, orders=(0,))[0]


@register
class Scaled(Kernel):
    """A kernel times the square of an amplitude: δ² k(x, y).

    Parameters
    ----------
    kernel : Kernel
        The kernel that is scaled.
    amplitude : float, default=1.0
        δ, the prior standard deviation of the latent function, in eV.

    Examples
    --------
    >>> float(Scaled(RBF(length_scale=1.0), amplitude=3.0)(0.0))
    9.0
    """

    def __init__(self, kernel, amplitude=1.0):
        self.kernel = kernel
        self.amplitude = amplitude

    @property
    def is_product(self):
        """Whether u is the product x · y instead of the squared distance."""
        return self.kernel.is_product

    def profile(self, u, orders=(0, 1, 2, 3)):  # noqa: D102
        if not isinstance(self.amplitude, Real) or not 0 < self.amplitude < np.inf:
            raise InputError(
                f"The amplitude must be a positive number, found {self.amplitude!r}."
            )
        variance = float(self.amplitude) ** 2
        return tuple(variance * p for p in self.kernel.profile(u, orders))


def unscaled(kernel: Kernel) -> Kernel:
    """Return the kernel inside of `Scaled`, or the kernel itself.

    Examples
    --------
    >>> unscaled(Scaled(RBF(length_scale=1.0), amplitude=3.0))
    RBF(length_scale=1.0)
    """
    while isinstance(kernel, Scaled):
        kernel = kernel.kernel
    return kernel


def check_kernel(kernel: Kernel | None) -> None:
    """Raise an error unless `kernel` is a kernel or None.

    Raises
    ------
    InputError
        If it is something else, or a `Scaled` kernel is scaled again.
    """
    inner = kernel.kernel if isinstance(kernel, Scaled) else kernel
    if isinstance(inner, Kernel) and inner.is_product:
        raise InputError(
            f"{inner!r} is a kernel of products of normalised local features: use it "
            "in a term of GAPRegressor, and a radial kernel such as Matern52() here."
        )
    if kernel is None or (isinstance(inner, Kernel) and not isinstance(inner, Scaled)):
        return
    raise InputError(
        "kernel must be None or a kernel such as Matern52(length_scale=10.0), scaled "
        f"once at most, found {kernel!r}."
    )
