"""Kernels of the product of two normalised points."""

from __future__ import annotations

from numbers import Real

import numpy as np

from kforce.errors import InputError
from kforce.kernels.base import Kernel
from kforce.registry import register


@register
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

    @property
    def degree(self) -> float:
        """ζ: the kernel is this power of the product."""
        return self.zeta

    def describe(self) -> str:
        """Return the kernel in one line."""
        return f"Polynomial(zeta={self.zeta:g})"

    def profile(self, u, orders=(0, 1, 2, 3)):  # noqa: D102
        if not isinstance(self.zeta, Real) or not 1 <= float(self.zeta) < 1000:
            raise InputError(f"zeta must be a number from 1 on, found {self.zeta!r}.")
        zeta, u = float(self.zeta), np.asarray(u, dtype=float)
        derivatives, factor = [], 1.0
        for order in range(max(orders) + 1):
            derivatives.append(factor * _power(u, zeta - order) if factor else 0.0 * u)
            factor *= zeta - order
        return tuple(derivatives[order] for order in orders)


def _power(u, exponent):
    """Return u^exponent; small whole exponents are products, which are much faster."""
    if exponent not in (0.0, 1.0, 2.0, 3.0, 4.0):
        return u**exponent
    out = np.ones_like(u) if exponent in (0.0, 1.0) else u * u
    if exponent in (1.0, 3.0):
        out *= u
    return out * out if exponent == 4.0 else out
