"""Search for one length scale: the best leave-one-out density of a subset."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.base import clone

from kforce.descriptors.base import Features
from kforce.errors import InputError
from kforce.gdml.covariance import covariance
from kforce.gdml.observations import Observations
from kforce.gdml.prior import RELATIVE_NOISE, Prior
from kforce.kernels.base import Kernel, Scaled
from kforce.progress import progress_bar
from kforce.solvers.cholesky import Cholesky, blocks_of, leave_out
from kforce.solvers.tiles import TiledMatrix

_log = logging.getLogger("kforce.gdml.length_scale")

#: Noise of forces that bring none, over their rms, beside others that do.
_NOISE_BESIDE_NOISY = 1e-3

#: Directions of less prior variance than this, over the largest, have none.
_NO_VARIANCE = 1e-9


@dataclass(frozen=True)
class Score:
    """How well a kernel predicts structures that are left out.

    The `kernel` is `Scaled` if its amplitude was learned; `density` is the logarithm of
    the leave-one-out density, −inf where K cannot be factored, and `rmse` the root mean
    square of the residuals, in the unit of the rows.
    """

    kernel: Kernel
    density: float
    rmse: float


def score(
    prior: Prior,
    features: Features,
    observations: Observations,
    free_amplitude: bool = False,
) -> Score:
    """Leave out each structure in turn.

    With `free_amplitude` the kernel is scaled by the amplitude of largest likelihood.
    A noise of None (of forces alone) grows with the prior, whose amplitude is free
    then: the density is the largest over all amplitudes.
    """
    kernel = prior.kernel
    K = covariance(prior, features, observations).to_dense()
    directions, sizes = _informative(K, observations)
    is_relative = prior.noise.forces is None and not observations.is_given.any()
    y, variance = observations.y, _variance(prior, observations, K, free_amplitude)
    if directions.shape[1] < len(K):
        K = directions.T @ K @ directions
        y, variance = directions.T @ y, variance @ directions**2
    if is_relative:
        variance = np.full(len(K), RELATIVE_NOISE**2 * np.trace(K) / len(K))
    scale = 1.0
    try:
        if free_amplitude and not is_relative:
            scale = _likely_scale(K, y, variance)
        solution = Cholesky().solve(TiledMatrix.from_dense(scale * K), y, variance)
    except (InputError, np.linalg.LinAlgError):
        return Score(kernel, -np.inf, np.inf)
    if free_amplitude and is_relative:
        scale = float(y @ solution.coef / len(y))
    if free_amplitude:
        kernel = Scaled(kernel, amplitude=float(np.sqrt(scale)))
    left_out = leave_out(solution.factor, solution.coef, blocks_of(sizes))
    rmse = float(np.sqrt(np.mean(np.concatenate(left_out.residuals) ** 2)))
    return Score(kernel, left_out.log_density(free_amplitude=is_relative), rmse)


def learn_length_scale(
    prior: Prior, features: Features, observations: Observations, free_amplitude: bool
) -> Score:
    """Find the length scale, where it is None, of the best leave-one-out density.

    `observations` are a subset of the training data; for the amplitude see `score`. The
    score has the kernel that was found.
    """

    def evaluate(kernel):
        candidate = replace(prior, kernel=kernel)
        result = score(candidate, features, observations, free_amplitude)
        advance(1)
        return result

    def of_length_scale(length):
        # A Python float: parameters should print and compare as plain numbers.
        return evaluate(prior.kernel.with_length_scale(float(length)))

    with progress_bar(19, "choosing the length scale") as advance:
        if prior.kernel.needs_length_scale:
            best = _search(of_length_scale, features)
        else:
            best = evaluate(clone(prior.kernel))
    _log.info(
        "%s: leave-one-out log density %.1f of %d structures",
        best.kernel,
        best.density,
        len(features.x),
    )
    return best


def _search(evaluate, features):
    """Look on a grid and then around its best point."""
    spread = np.log(np.sqrt(2.0 * features.x.var(axis=0).sum()))
    # Longer scales only cost digits: the prior amplitude grows with their square, and
    # predictions become differences of ever larger numbers.
    grid = np.linspace(spread - 1.0, spread + 3.5, 7)
    tried = [evaluate(np.exp(point)) for point in grid]
    best = int(np.argmax([result.density for result in tried]))

    def cost(point):
        tried.append(evaluate(np.exp(point)))
        return -tried[-1].density

    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    options = {"xatol": 0.05, "maxiter": 12}
    minimize_scalar(cost, bounds=bounds, method="bounded", options=options)
    return max(tried, key=lambda result: result.density)


def _variance(prior, observations, K, free_amplitude):
    """Noise variances of the rows; noises of the frames' own are absolute.

    So are the others beside them.
    """
    if prior.noise.forces is not None:
        return prior.noise.variance(observations)
    is_given = observations.is_given
    least = RELATIVE_NOISE**2 * np.trace(K) / len(K)
    if free_amplitude and not is_given.all():
        least = _NOISE_BESIDE_NOISY**2 * np.mean(observations.y[~is_given] ** 2)
    return np.where(is_given, observations.label_variance, least)


def _informative(K, observations):
    """Return directions with prior variance, and how many each structure has.

    Rotations of a molecule in a periodic box, bending of a linear molecule and some
    motions beside atoms without forces change no distance to first order. Their forces
    are zero with certainty: predicting them says nothing about the kernel.
    """
    columns, sizes = [], []
    for block in blocks_of(observations.sizes):
        rows = np.arange(block.start, block.stop)
        of_forces = rows[observations.is_force[rows]]
        variance, vectors = np.linalg.eigh(K[np.ix_(of_forces, of_forces)])
        kept = vectors[:, variance > _NO_VARIANCE * variance.max(initial=0.0)]
        directions = np.zeros((len(K), kept.shape[1] + len(rows) - len(of_forces)))
        directions[of_forces, : kept.shape[1]] = kept
        energies = rows[~observations.is_force[rows]]
        directions[energies, kept.shape[1] + np.arange(len(energies))] = 1.0
        columns.append(directions)
        sizes.append(directions.shape[1])
    return np.hstack(columns), sizes


def _likely_scale(K, y, variance):
    """Return the most likely s for the covariance s K + Σ."""
    sigma = np.sqrt(variance)
    eigenvalues, vectors = np.linalg.eigh(K / np.outer(sigma, sigma))
    eigenvalues = np.maximum(eigenvalues, 0.0)
    squares = (vectors.T @ (y / sigma)) ** 2

    def cost(log_scale):
        total = np.exp(log_scale) * eigenvalues + 1.0
        return np.log(total).sum() + (squares / total).sum()

    middle = np.log(squares.sum() / eigenvalues.sum())
    # Beyond this the noise would no longer keep the matrix regular.
    most = -np.log(RELATIVE_NOISE**2 * eigenvalues.mean())
    best = minimize_scalar(cost, bounds=(min(middle, most) - 10.0, most))
    return float(np.exp(best.x))
