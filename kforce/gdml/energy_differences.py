"""Covariances of energies, in closed form from the kernel alone.

A fit of forces alone knows energies up to a constant, which is the mean residual of the
training energies: E = c + f(x) with c = mean(E_i − f(x_i)). The error of an energy is
then that of f(x) − f̄ with f̄ = mean f(x_i): f̄ is one more linear functional of f, and
cov(f̄, f(x)) as a function of x is an `Expansion` with equal weights at the x_i.

The prior deviation of f, often thousands of eV, says nothing of such differences: their
covariances are written with φ(0) − φ(u), the variogram of the kernel, which is small.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.polynomial.legendre import leggauss
from scipy.spatial.distance import cdist

from kforce.descriptors.base import Features
from kforce.gdml.observations import Observations
from kforce.kernels.base import Kernel
from kforce.kernels.expansion import Expansion
from kforce.kernels.symmetrised import images_of_terms, value_covariance, value_variance
from kforce.parallel import run_parallel

#: Of the quadrature over [0, 1]: exact to rounding where a kernel falls by a tenth.
_NODES, _WEIGHTS = 0.5 * np.array(leggauss(10)) + [[0.5], [0.0]]

#: Distances that one thread works on: they stay in its cache.
_ENTRIES = 50_000


def mean_energy(expansion: Expansion, weights: np.ndarray) -> Expansion:
    """Return cov(f̄, f(·)) of a weighted mean of f over the centers of an expansion.

    Parameters
    ----------
    expansion : Expansion
        Its kernel, centers and permutations count.
    weights : ndarray of shape (n_x_train,)
        Their sum is 1.
    """
    nowhere = np.zeros_like(expansion.x_train)
    return replace(expansion, directions=nowhere, weights=weights)


def variogram(kernel: Kernel, u: np.ndarray) -> np.ndarray:
    """Return φ(0) − φ(u) with no loss of digits at small u.

    Near 0 it is −2u ∫ φ'(u s²) s ds over [0, 1], by Gauss-Legendre quadrature: in s the
    integrand is smooth for every kernel, those with odd powers of the distance, too.

    Parameters
    ----------
    kernel : Kernel
        φ.
    u : ndarray
        Squared distances.

    Examples
    --------
    >>> from kforce.kernels.stationary import RBF
    >>> variogram(RBF(length_scale=1.0), np.array([1e-20, 2.0])).round(24)
    array([5.00000000e-21, 6.32120559e-01])
    """
    at_zero, value = kernel(0.0), kernel(u)
    out = at_zero - value
    near = value > 0.9 * at_zero
    u = u[near]
    integral = np.zeros(len(u))
    for s, weight in zip(_NODES, _WEIGHTS, strict=True):
        (dphi,) = kernel.profile(u * s**2, orders=(1,))
        integral += weight * s * dphi
    out[near] = -2.0 * u * integral
    return out


class EnergyPrior:
    """Prior covariances of energies f(x) − f̄, or f(x) where there is no f̄.

    Parameters
    ----------
    kernel : Kernel
        Covariance of f.
    feature_perms : ndarray of int, shape (n_perms, n_features)
        Images of the features under the atom permutations.
    features, observations : Features, Observations
        Where and what is observed.
    mean : Expansion or None
        cov(f̄, f(·)), see `mean_energy`.
    """

    def __init__(
        self,
        kernel: Kernel,
        feature_perms: np.ndarray,
        features: Features,
        observations: Observations,
        mean: Expansion | None,
    ):
        self._kernel = kernel
        self._perms = feature_perms
        self._features = features
        self._observations = observations
        self._mean = mean
        self._profile, terms = images_of_terms(kernel, feature_perms)
        self._terms = [
            (term.weight, term.scales, term.active, image)
            for term in terms
            for image in term.images
        ]
        if mean is not None:
            self._spread = float(self._to_mean(mean.x_train) @ mean.weights)
            self.of_mean = self._observed(mean)

    def variance(self, x: np.ndarray) -> np.ndarray:
        """Return the variances at x (n, n_features), (n,) in eV²."""
        if self._mean is None:
            return value_variance(self._kernel, self._perms, x)
        own = 0.0
        for weight, scales, active, image in self._terms:
            u = np.sum((scales * (x[:, active] - x[:, image])) ** 2, axis=1)
            own = own + weight * variogram(self._profile, u)
        return 2.0 * self._to_mean(x) - self._spread - own

    def covariance(self, x: np.ndarray) -> np.ndarray:
        """Return the covariance of the energies at x (n, n_features), (n, n) in eV²."""
        if self._mean is None:
            return value_covariance(self._kernel, self._perms, x, x)
        to_mean = self._to_mean(x)
        return np.add.outer(to_mean, to_mean) - self._spread - self._between(x, x)

    def _between(self, x, y):
        """Return the variogram of f, (len(x), len(y))."""
        total = np.zeros((len(x), len(y)))
        for weight, scales, active, image in self._terms:
            u = cdist(scales * x[:, active], scales * y[:, image], "sqeuclidean")
            total += weight * variogram(self._profile, u)
        return total

    def _to_mean(self, x):
        """Return the variogram between f(x) and f̄, (n,)."""
        mean = self._mean
        out = np.empty(len(x))
        step = max(1, _ENTRIES // len(mean.x_train))

        def chunk(start):
            part = slice(start, start + step)
            out[part] = self._between(x[part], mean.x_train) @ mean.weights

        run_parallel(chunk, range(0, len(x), step))
        return out

    def columns(self, x: np.ndarray) -> np.ndarray:
        """Return cov(y, ·) of the energies at x (n, n_features), (n_observations, n).

        As a function of the training structures, the covariance with one f(x) is an
        expansion with a single center.
        """
        n_rows = len(self._observations.variance)
        out = np.empty((n_rows, len(x)), order="F")
        for k in range(len(x)):
            center = x[k : k + 1]
            nowhere, one = np.zeros_like(center), np.ones(1)
            out[:, k] = self._observed(
                Expansion(self._kernel, center, nowhere, one, self._perms)
            )
        return out if self._mean is None else out - self.of_mean[:, None]

    def _observed(self, expansion):
        """Return the observations of a function, (n_observations,)."""
        f, slope = expansion.jet(self._features.x)
        forces = -self._features.pull(slope).reshape(len(f), -1)
        return self._observations.collect(forces, f)
