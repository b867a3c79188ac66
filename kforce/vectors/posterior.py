"""The posterior on plain feature vectors, and the kernel of largest likelihood."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import minimize
from sklearn.base import clone

from kforce.errors import InputError
from kforce.gdml.evidence import RELATIVE_NOISE
from kforce.kernels.base import Kernel, Scaled
from kforce.kernels.expansion import Expansion
from kforce.parallel import run_parallel
from kforce.solvers.cholesky import Cholesky, Solution
from kforce.solvers.tiles import TiledMatrix
from kforce.vectors.covariance import Sites, vector_covariance

_log = logging.getLogger("kforce.vector")

#: Logarithms of the length scales that are tried, over the spread of the points.
_LENGTHS = np.arange(-4.0, 4.0)

#: Logarithms of the amplitudes that are tried, over the size of the observations.
_AMPLITUDES = np.array([-3.0, 0.0, 3.0, 6.0])


@dataclass(frozen=True)
class VectorData:
    """Observations as one vector: values from their mean, then gradients.

    Attributes
    ----------
    sites : Sites
        What was observed, and where.
    y : ndarray of shape (n_observations,)
        The observations, in the order of the sites.
    is_value : ndarray of bool, shape (n_observations,)
        Which of them are values.
    constant : float
        The mean that was taken from the values.
    """

    sites: Sites
    y: np.ndarray
    is_value: np.ndarray
    constant: float

    @classmethod
    def of(cls, X: np.ndarray, y: np.ndarray | None, dy: np.ndarray) -> VectorData:
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


@dataclass(frozen=True)
class VectorPosterior:
    """The prior in use and what the observations make of it.

    Attributes
    ----------
    kernel : Kernel
        With the amplitude that was learned, if one was.
    solution : Solution
        (K + Σ)⁻¹ y with the factor of K + Σ.
    log_likelihood : float
        log p(y).
    """

    kernel: Kernel
    solution: Solution
    log_likelihood: float


def condition(
    kernel: Kernel, data: VectorData, noises: tuple[float, float]
) -> VectorPosterior:
    """Condition a Gaussian process on observed values and gradients.

    Where no noise is given, all of K + Σ is proportional to the square of the
    amplitude, and the most likely one is known: yᵀ (K + Σ)⁻¹ y / n. It is used unless
    the kernel is `Scaled`.

    Parameters
    ----------
    kernel : Kernel
        Prior covariance.
    data : VectorData
        Observations.
    noises : tuple of float
        Standard deviations of values and of gradients; see `noise_variances`.

    Raises
    ------
    InputError
        If the covariance matrix cannot be factored.
    """
    n = len(data.y)
    variance = np.where(data.is_value, *noise_variances(kernel, noises))
    K = TiledMatrix.from_dense(vector_covariance(kernel, data.sites, data.sites))
    solution = Cholesky().solve(K, data.y, variance)
    chi2 = float(data.y @ solution.coef)
    if data.is_exact(noises) and not kernel.is_scaled and chi2 > 0.0:
        kernel = Scaled(kernel, amplitude=float(np.sqrt(chi2 / n)))
        solution = solution.scaled(chi2 / n)
        chi2 = float(n)
    log_likelihood = -0.5 * (chi2 + solution.log_det + n * np.log(2.0 * np.pi))
    return VectorPosterior(kernel, solution, float(log_likelihood))


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


def learn(kernel: Kernel, data: VectorData, noises: tuple[float, float]) -> Kernel:
    """Return the kernel with the parameters of largest marginal likelihood.

    These are the length scale, where it is None, and the amplitude, where the kernel
    is not `Scaled` and there is a noise (there is a formula otherwise: `condition`).

    Parameters
    ----------
    kernel : Kernel
        Prior covariance.
    data : VectorData
        A subset of the observations.
    noises : tuple of float
        Standard deviations of values and of gradients.

    Raises
    ------
    InputError
        If all points are equal and the length scale is None.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning, sec. 5.4.1.
    """
    length_is_free = kernel.needs_length_scale
    amplitude_is_free = not (kernel.is_scaled or data.is_exact(noises))
    if not (length_is_free or amplitude_is_free):
        return kernel
    spread = np.sqrt(2.0 * data.sites.x.var(axis=0).sum())
    if length_is_free and spread == 0.0:
        raise InputError(
            "A length scale is learned from at least two different points, found "
            f"n_samples={len(data.sites.x)} without copies: add points, or give a "
            "length scale, as in kernel=Matern52(length_scale=1.0)."
        )

    def with_parameters(logarithms):
        trial = clone(kernel)
        if length_is_free:
            # A Python float: parameters should print and compare as plain numbers.
            length = float(spread * np.exp(logarithms[0]))
            trial = kernel.with_length_scale(length)
        if amplitude_is_free:
            amplitude = data.amplitude(trial) * np.exp(logarithms[-1])
            trial = Scaled(trial, amplitude=float(amplitude))
        return trial

    def cost(logarithms):
        try:
            return -condition(with_parameters(logarithms), data, noises).log_likelihood
        except InputError:
            return np.inf

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
