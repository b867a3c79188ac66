"""Stationary kernels: profiles of the squared distance of two points."""

from __future__ import annotations

from numbers import Real

import numpy as np

from kforce.errors import InputError, check_positive
from kforce.kernels import _profiles as profiles
from kforce.kernels.base import Kernel
from kforce.registry import register


class Stationary(Kernel):
    """Base of radial kernels with a length scale, of which models can learn it.

    Parameters
    ----------
    length_scale : float or None, default=None
        ℓ, in units of the descriptor; None stands for "to be learned".
    """

    def __init__(self, length_scale=None):
        self.length_scale = length_scale

    def checked_length_scale(self) -> float:
        """Return the length scale.

        Raises
        ------
        InputError
            If it is no positive number, or still to be learned.
        """
        if self.length_scale is None:
            raise InputError(
                f"{type(self).__name__} needs a length scale here: give length_scale, "
                "or leave it to a model's fit to learn it."
            )
        return _checked_length(self.length_scale)


def _checked_length(length):
    if not isinstance(length, Real) or not 1e-100 < float(length) < 1e100:
        raise InputError(
            f"The length scale must be a positive number, found {length!r}."
        )
    return float(length)


class _Compiled(Stationary):
    """A kernel that names its compiled profile, and how its b follows from ℓ."""

    _kind: int
    _factor: float

    def profile(self, u, orders=(0, 1, 2, 3)):
        return self._evaluate(self._factor, 1.0, u, orders)

    def _evaluate(self, factor, alpha, u, orders):
        b = factor / self.checked_length_scale() ** 2
        u = np.asarray(u, dtype=float)
        out = np.empty((max(orders) + 1, u.size))
        profiles.profile(self._kind, b, alpha, u.ravel(), out)
        return tuple(out[order].reshape(u.shape) for order in orders)


@register
class Matern32(_Compiled):
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


@register
class Matern52(_Compiled):
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


@register
class Matern72(_Compiled):
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


@register
class RBF(_Compiled):
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


@register(short="rq")
class RationalQuadratic(_Compiled):
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
        check_positive("alpha", self.alpha)
        alpha = float(self.alpha)
        return self._evaluate(0.5 / alpha, alpha, u, orders)


@register
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

    def for_features(self, n_features: int) -> PiecewisePolynomial:
        """Return the kernel that is positive definite for so many features."""
        return PiecewisePolynomial(n_features, self.length_scale)

    def profile(self, u, orders=(0, 1, 2, 3)):  # noqa: D102
        j, square = self.n_features // 2 + 2, _checked_length(self.length_scale) ** 2
        t = np.sqrt(np.asarray(u, dtype=float) / square)
        remaining = np.maximum(1.0 - t, 0.0)
        # dφ/dt = −(j+1)(j+2) t (1 − t)^j, and dt/du = 1 / 2tℓ².
        derivatives = [remaining ** (j + 1) * ((j + 1) * t + 1.0)]
        derivatives.append(-0.5 * (j + 1) * (j + 2) * remaining**j / square)
        if max(orders) > 1:
            # Those diverge where points meet, but stand beside squares of differences.
            inverse = np.divide(1.0, t, out=np.zeros_like(t), where=t > 0.0)
            factor = 0.25 * j * (j + 1) * (j + 2) * inverse / square**2
            derivatives.append(factor * remaining ** (j - 1))
            dt = (j - 1) * remaining ** (j - 2) + remaining ** (j - 1) * inverse
            inside = remaining > 0.0
            derivatives.append(-0.5 * factor * inverse / square * dt * inside)
        return tuple(derivatives[order] for order in orders)
