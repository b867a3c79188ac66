"""Kernels of atomic environments: powers of products, and one of compact support."""

from __future__ import annotations

from numbers import Real

import numpy as np

from kforce.errors import InputError
from kforce.kernels import Kernel


class Polynomial(Kernel):
    """Power of a product, (x · y)^ζ: the kernel of normalised SOAP vectors.

    Parameters
    ----------
    zeta : float, default=4
        ζ ≥ 1. What is not a whole number needs products above 0.

    References
    ----------
    Bartók, Kondor and Csányi, Phys. Rev. B 87, 184115 (2013), eq. 36.

    Examples
    --------
    >>> float(Polynomial(zeta=2)(0.5))
    0.25
    """

    is_product = True

    def __init__(self, zeta=4):
        self.zeta = zeta

    def profile(self, u, orders=(0, 1, 2, 3)):  # noqa: D102
        if not isinstance(self.zeta, Real) or not 1 <= float(self.zeta) < 1000:
            raise InputError(f"zeta must be a number from 1 on, found {self.zeta!r}.")
        zeta, u = float(self.zeta), np.asarray(u, dtype=float)
        found, factor = [], 1.0
        for order in range(max(orders) + 1):
            found.append(factor * _power(u, zeta - order) if factor else 0.0 * u)
            factor *= zeta - order
        return tuple(found[order] for order in orders)


def _power(u, exponent):
    """Return u^exponent; small whole exponents are products, which are much faster."""
    if exponent not in (0.0, 1.0, 2.0, 3.0, 4.0):
        return u**exponent
    out = np.ones_like(u) if exponent in (0.0, 1.0) else u * u
    if exponent in (1.0, 3.0):
        out *= u
    return out * out if exponent == 4.0 else out


class PiecewisePolynomial(Kernel):
    """Kernel of compact support (1 − t)₊^(j+1) ((j+1) t + 1), t = |x − y| / ℓ.

    Here j = ⌊d/2⌋ + 2 for points of d dimensions, in which it is positive definite and
    twice differentiable.

    Parameters
    ----------
    n_features : int, default=1
        d.
    length_scale : float, default=1.0
        ℓ, the distance from which on the kernel vanishes.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning, eq. 4.21 (q = 1).

    Examples
    --------
    >>> PiecewisePolynomial(length_scale=2.0)(np.array([0.0, 4.0]))
    array([1., 0.])
    """

    def __init__(self, n_features=1, length_scale=1.0):
        self.n_features = n_features
        self.length_scale = length_scale

    def profile(self, u, orders=(0, 1, 2, 3)):  # noqa: D102
        length = self.length_scale
        if not isinstance(length, Real) or not 1e-100 < float(length) < 1e100:
            raise InputError(
                f"The length scale must be a positive number, found {length!r}."
            )
        j, square = self.n_features // 2 + 2, float(self.length_scale) ** 2
        t = np.sqrt(np.asarray(u, dtype=float) / square)
        left = np.maximum(1.0 - t, 0.0)
        # dφ/dt = −(j+1)(j+2) t (1 − t)^j, and dt/du = 1 / 2tℓ².
        found = [left ** (j + 1) * ((j + 1) * t + 1.0)]
        found.append(-0.5 * (j + 1) * (j + 2) * left**j / square)
        if max(orders) > 1:
            # Those diverge where points meet, but stand beside squares of differences.
            inverse = np.divide(1.0, t, out=np.zeros_like(t), where=t > 0.0)
            factor = 0.25 * j * (j + 1) * (j + 2) * inverse / square**2
            found.append(factor * left ** (j - 1))
            slope = (j - 1) * left ** (j - 2) + left ** (j - 1) * inverse
            found.append(-0.5 * factor * inverse / square * slope * (left > 0.0))
        return tuple(found[order] for order in orders)
