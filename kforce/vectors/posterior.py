"""Gaussian processes of values and gradients at plain vectors.

With d = x − y, c1 = −2φ' and c2 = 4φ'' the prior covariances are

    cov(f(x),  f(y))   = φ
    cov(f(x),  ∇f(y))  = c1 d
    cov(∇f(x), ∇f(y)ᵀ) = c1 I − c2 d dᵀ

(Rasmussen and Williams, Gaussian Processes for Machine Learning, sec. 9.4). Length
scale and amplitude are those of the largest marginal likelihood (sec. 5.4.1).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from sklearn.base import clone

from kforce.errors import InputError
from kforce.gdml.prior import RELATIVE_NOISE
from kforce.kernels.base import Kernel, Scaled
from kforce.kernels.expansion import Expansion
from kforce.parallel import run_parallel
from kforce.solvers.cholesky import Cholesky, Solution
from kforce.solvers.tiles import TiledMatrix

_log = logging.getLogger("kforce.vector")

#: Logarithms of the length scales that are tried, over the spread of the points.
_LENGTHS = np.arange(-4.0, 4.0)

#: Logarithms of the amplitudes that are tried, over the size of the observations.
_AMPLITUDES = np.array([-3.0, 0.0, 3.0, 6.0])


@dataclass(frozen=True)
class Sites:
    """Which values and partial derivatives of f are meant, at which points.

    `values` says whether the values at the points x (n, n_features) are, and `partials`
    (n, n_features) which components of the gradients. Their order is that of the rows
    of a covariance: the values at all points, then the gradients, point by point.
    """

    x: np.ndarray
    values: bool
    partials: np.ndarray

    @classmethod
    def of_values(cls, x: np.ndarray) -> Sites:
        """Return the values at some points, and no derivatives."""
        return cls(x, True, np.zeros(x.shape, dtype=bool))

    @property
    def at_values(self) -> np.ndarray:
        """Points whose value is meant, (n_values, n_features)."""
        return self.x if self.values else self.x[:0]

    @property
    def at_gradients(self) -> np.ndarray:
        """Points with any component of the gradient, (n_gradients, n_features)."""
        return self.x[self.partials.any(axis=1)]

    @property
    def rows(self) -> np.ndarray:
        """Which of the n_values + n_gradients × n_features rows are meant."""
        partials = self.partials[self.partials.any(axis=1)].ravel()
        return np.append(np.ones(len(self.at_values), dtype=bool), partials)


def covariance(kernel: Kernel, left: Sites, right: Sites) -> np.ndarray:
    """Return the prior covariance of values and gradients, (n_left, n_right).

    Examples
    --------
    >>> from kforce.kernels.stationary import RBF
    >>> one = Sites(np.zeros((1, 1)), True, np.ones((1, 1), dtype=bool))
    >>> covariance(RBF(length_scale=0.5), one, one)
    array([[1., 0.],
           [0., 4.]])
    """
    n, m = len(left.at_values), len(right.at_values)
    K = np.empty((len(left.rows), len(right.rows)))
    K[:n, :m] = kernel(cdist(left.at_values, right.at_values, "sqeuclidean"))
    _fill_gradients(kernel, left.at_values, right.at_gradients, K[:n, m:])
    _fill_gradients(kernel, right.at_values, left.at_gradients, K[n:, :m].T)
    _fill_hessians(kernel, left.at_gradients, right.at_gradients, K[n:, m:])
    for axis, rows in enumerate((left.rows, right.rows)):
        if not rows.all():
            K = K.compress(rows, axis=axis)
    return K


def _fill_gradients(kernel, X, Y, out):
    """Write cov(f(x), ∇f(y)), (len(X), len(Y) × n_features)."""
    n_features = X.shape[1]
    (dphi,) = kernel.profile(cdist(X, Y, "sqeuclidean"), orders=(1,))
    for a in range(n_features):
        out[:, a::n_features] = -2.0 * dphi * np.subtract.outer(X[:, a], Y[:, a])


def _fill_hessians(kernel, X, Y, out):
    """Write cov(∇f(x), ∇f(y)ᵀ), (len(X) × n_features, len(Y) × n_features)."""
    n_features = X.shape[1]
    dphi, ddphi = kernel.profile(cdist(X, Y, "sqeuclidean"), orders=(1, 2))
    for a in range(n_features):
        along_a = -4.0 * ddphi * np.subtract.outer(X[:, a], Y[:, a])
        for b in range(n_features):
            block = out[a::n_features, b::n_features]
            np.multiply(along_a, np.subtract.outer(X[:, b], Y[:, b]), out=block)
        out[a::n_features, a::n_features] -= 2.0 * dphi


@dataclass(frozen=True)
class Observations:
    """Values from their mean, the `constant`, then gradients, as one vector y.

    They are in the order of the `sites`; `is_value` (n_observations,) says which are
    values.
    """

    sites: Sites
    y: np.ndarray
    is_value: np.ndarray
    constant: float

    @classmethod
    def of(cls, X: np.ndarray, y: np.ndarray | None, dy: np.ndarray) -> Observations:
        """Collect all of y, unless it is None, and what of dy is not NaN."""
        partials = np.isfinite(dy)
        values = np.empty(0) if y is None else y
        constant = 0.0 if y is None else float(y.mean())
        observed = np.append(values - constant, dy[partials])
        is_value = np.arange(len(observed)) < len(values)
        return cls(Sites(X, y is not None, partials), observed, is_value, constant)

    def is_exact(self, noises: tuple[float, float]) -> bool:
        """Return whether no observation has a noise."""
        return not np.where(self.is_value, *noises).any()

    def amplitude(self, kernel: Kernel) -> float:
        """Return the root mean square of observation over prior deviation, or 1."""
        prior = np.where(self.is_value, *_prior_variances(kernel))
        return float(np.sqrt(np.mean(self.y**2 / prior))) or 1.0

    def expand(self, kernel: Kernel, coef: np.ndarray) -> Expansion:
        """Write the sum over observations as an expansion."""
        x = self.sites.x
        directions = np.zeros(x.shape)
        directions[self.sites.partials] = coef[~self.is_value]
        weights = coef[self.is_value] if self.sites.values else None
        return Expansion(kernel, x, directions, weights, np.arange(x.shape[1])[None])


def noise_variances(kernel: Kernel, noises: tuple[float, float]) -> tuple[float, float]:
    """Return the noise variances of values and gradients that K stays regular with.

    A noise below `RELATIVE_NOISE` of the prior standard deviation is raised to it.

    Examples
    --------
    >>> from kforce.kernels.stationary import RBF
    >>> noise_variances(RBF(length_scale=0.1), (0.5, 0.0))
    (0.25, 1e-08)
    """
    value, gradient = (
        max(noise**2, RELATIVE_NOISE**2 * prior)
        for noise, prior in zip(noises, _prior_variances(kernel), strict=True)
    )
    return value, gradient


def _prior_variances(kernel):
    """Return the prior variances of a value and of a component of a gradient."""
    phi, dphi = kernel.profile(0.0, orders=(0, 1))
    return float(phi), float(-2.0 * dphi)


def condition(
    kernel: Kernel, observations: Observations, noises: tuple[float, float]
) -> tuple[Kernel, Solution]:
    """Condition a Gaussian process on observed values and gradients.

    Where none of the noises, standard deviations of values and of gradients, is given,
    all of K + Σ is proportional to the square of the amplitude, and the most likely one
    is known: yᵀ (K + Σ)⁻¹ y / n. Unless the kernel is `Scaled`, the kernel that is
    returned with the solution has it. An `InputError` says that the covariance matrix
    cannot be factored.
    """
    n, y, sites = len(observations.y), observations.y, observations.sites
    variance = np.where(observations.is_value, *noise_variances(kernel, noises))
    K = TiledMatrix.from_dense(covariance(kernel, sites, sites))
    solution = Cholesky().solve(K, y, variance)
    chi2 = float(y @ solution.coef)
    is_open = observations.is_exact(noises) and not kernel.is_scaled
    if is_open and chi2 > 0.0:
        kernel = Scaled(kernel, amplitude=float(np.sqrt(chi2 / n)))
        solution = solution.scaled(chi2 / n)
    return kernel, solution


def learn(
    kernel: Kernel, observations: Observations, noises: tuple[float, float]
) -> Kernel:
    """Return the kernel with the parameters of largest marginal likelihood.

    These are the length scale, where it is None, and the amplitude, where the kernel
    is not `Scaled` and there is a noise (there is a formula otherwise: `condition`).
    `observations` are a subset of all; where their points are all equal there is no
    length scale to learn, and an `InputError` says so.
    """
    length_is_free = kernel.needs_length_scale
    amplitude_is_free = not (kernel.is_scaled or observations.is_exact(noises))
    if not (length_is_free or amplitude_is_free):
        return kernel
    x = observations.sites.x
    spread = np.sqrt(2.0 * x.var(axis=0).sum())
    if length_is_free and spread == 0.0:
        raise InputError(
            "A length scale is learned from at least two different points, found "
            f"n_samples={len(x)} without copies: add points, or give a length scale, "
            "as in kernel=Matern52(length_scale=1.0)."
        )

    def with_parameters(logarithms):
        trial = clone(kernel)
        if length_is_free:
            # A Python float: parameters should print and compare as plain numbers.
            trial = kernel.with_length_scale(float(spread * np.exp(logarithms[0])))
        if amplitude_is_free:
            amplitude = observations.amplitude(trial) * np.exp(logarithms[-1])
            trial = Scaled(trial, amplitude=float(amplitude))
        return trial

    def cost(logarithms):
        trial = with_parameters(logarithms)
        try:
            _, solution = condition(trial, observations, noises)
        except InputError:
            return np.inf
        return -solution.log_likelihood(observations.y)

    axes = [_LENGTHS] * length_is_free + [_AMPLITUDES] * amplitude_is_free
    learned = with_parameters(_minimum(cost, axes))
    _log.info("kernel of largest marginal likelihood: %s", learned)
    return learned


def _minimum(cost, axes):
    """Return the minimum on a grid, refined by a simplex of half its spacing."""
    grid = list(product(*axes))
    start = np.array(grid[int(np.argmin(run_parallel(cost, grid)))])
    simplex = np.tile(start, (len(axes) + 1, 1))
    for k, axis in enumerate(axes):
        half = 0.5 * (axis[1] - axis[0])
        simplex[k + 1, k] += -half if start[k] == axis[-1] else half
    options = {"initial_simplex": simplex, "xatol": 0.01, "fatol": 0.01, "maxfev": 60}
    bounds = [(axis[0], axis[-1]) for axis in axes]

    def refine(start):
        return minimize(
            cost, start, method="Nelder-Mead", bounds=bounds, options=options
        ).x

    # A single item: its many small factorisations gain nothing from threads of BLAS.
    return run_parallel(refine, [start])[0]
