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

from kforce.core import profiles
from kforce.errors import InputError


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


class _Radial(Kernel):
    """A kernel with one length scale; None stands for "to be learned".

    Subclasses name their compiled profile, and how its b follows from the length scale.
    """

    _kind: int
    _factor: float

    def __init__(self, length_scale=None):
        self.length_scale = length_scale

    def _check(self):
        length = self.length_scale
        if length is None:
            raise InputError(
                f"{type(self).__name__} needs a length scale here: give length_scale, "
                "or leave it to a model's fit to learn it."
            )
        if not isinstance(length, Real) or not 1e-100 < float(length) < 1e100:
            raise InputError(
                f"The length scale must be a positive number, found {length!r}."
            )
        return float(length)

    def profile(self, u, orders=(0, 1, 2, 3)):
        return self._evaluate(self._factor, 1.0, u, orders)

    def _evaluate(self, factor, alpha, u, orders):
        b = factor / self._check() ** 2
        u = np.asarray(u, dtype=float)
        out = np.empty((max(orders) + 1, u.size))
        profiles.profile(self._kind, b, alpha, u.ravel(), out)
        return tuple(out[order].reshape(u.shape) for order in orders)


class Matern32(_Radial):
    """Matérn kernel of smoothness 3/2: (1 + a) e^−a, a = √3 |x − y| / ℓ.

    Parameters
    ----------
    length_scale : float or None, default=None
        ℓ, in units of the descriptor.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning, eq. 4.17.

    Examples
    --------
    >>> float(Matern32(length_scale=1.0)(0.0))
    1.0
    """

    _kind, _factor = profiles.MATERN32, 3.0


class Matern52(_Radial):
    """Matérn kernel of smoothness 5/2: (1 + a + a²/3) e^−a, a = √5 |x − y| / ℓ.

    Parameters
    ----------
    length_scale : float or None, default=None
        ℓ, in units of the descriptor (1/Å for inverse distances).

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning, eq. 4.17;
    the kernel of Chmiela et al., Nat. Commun. 9, 3887 (2018).

    Examples
    --------
    >>> float(Matern52(length_scale=2.0)(4.0).round(6))
    0.523994
    """

    _kind, _factor = profiles.MATERN52, 5.0


class Matern72(_Radial):
    """Matérn kernel of smoothness 7/2: (1 + a + 2a²/5 + a³/15) e^−a.

    Here a = √7 |x − y| / ℓ.

    Parameters
    ----------
    length_scale : float or None, default=None
        ℓ, in units of the descriptor.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning, eq. 4.16.

    Examples
    --------
    >>> float(Matern72(length_scale=1.0)(0.0))
    1.0
    """

    _kind, _factor = profiles.MATERN72, 7.0


class RBF(_Radial):
    """Gaussian kernel exp(−|x − y|² / 2ℓ²).

    Parameters
    ----------
    length_scale : float or None, default=None
        ℓ, in units of the descriptor.

    Examples
    --------
    >>> float(RBF(length_scale=1.0)(2.0).round(6))
    0.367879
    """

    _kind, _factor = profiles.RBF, 0.5


class RationalQuadratic(_Radial):
    """Rational quadratic kernel (1 + |x − y|² / 2αℓ²)^−α: a mixture of Gaussians.

    Parameters
    ----------
    length_scale : float or None, default=None
        ℓ, in units of the descriptor.
    alpha : float, default=1.0
        Spread of the length scales: large α is a single Gaussian.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning, eq. 4.19.

    Examples
    --------
    >>> float(RationalQuadratic(length_scale=1.0)(2.0))
    0.5
    """

    _kind = profiles.RATIONAL_QUADRATIC

    def __init__(self, length_scale=None, alpha=1.0):
        super().__init__(length_scale)
        self.alpha = alpha

    def profile(self, u, orders=(0, 1, 2, 3)):  # noqa: D102
        if not isinstance(self.alpha, Real) or not 0 < float(self.alpha) < np.inf:
            raise InputError(f"alpha must be a positive number, found {self.alpha!r}.")
        alpha = float(self.alpha)
        return self._evaluate(0.5 / alpha, alpha, u, orders)


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
