"""Search for one length scale: the best leave-one-out density of a subset."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar
from sklearn.base import clone

from kforce.descriptors.base import Features
from kforce.gdml.covariance import covariance
from kforce.gdml.evidence import RELATIVE_NOISE, leave_one_out
from kforce.gdml.observations import Observations
from kforce.kernels.base import Kernel, Scaled
from kforce.progress import progress_bar

_log = logging.getLogger("kforce.gdml.length_scale")

#: Noise of forces that bring none, over their rms, beside others that do.
_SMALL = 1e-3

#: Rows of the subset that a length scale is learned from: a second or two.
_SUBSET_ROWS = 1000


def subset_of(sizes: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Choose different points for the search of hyper-parameters, at random.

    Copies are left out: a point whose copy is in the subset would be predicted from it.

    Parameters
    ----------
    sizes : ndarray of int, shape (n,)
        Observations at each point.
    x : ndarray of shape (n, n_features)
        The points; equal rows are copies.
    rng : numpy.random.Generator
        Source of the choice.

    Returns
    -------
    ndarray of int
        Indices in ascending order.
    """
    count = max(2, int(_SUBSET_ROWS // max(1.0, float(np.mean(sizes)))))
    _, different = np.unique(x, axis=0, return_index=True)
    return np.sort(rng.permutation(np.sort(different))[:count])


@dataclass(frozen=True)
class Score:
    """How well a kernel predicts structures that are left out.

    Attributes
    ----------
    kernel : Kernel
        The kernel, `Scaled` if its amplitude was learned.
    density : float
        Logarithm of the leave-one-out density; −inf where K cannot be factored.
    rmse : float
        Root mean square of the leave-one-out residuals, in the unit of the rows.
    """

    kernel: Kernel
    density: float
    rmse: float


def score(
    kernel: Kernel,
    features: Features,
    observations: Observations,
    permutations: np.ndarray,
    relative_noise: float | None,
    free_amplitude: bool,
) -> Score:
    """Leave out each structure in turn; parameters as in `learn_kernel`."""
    K = covariance(features, observations, kernel, permutations).to_dense()
    directions, sizes = _informative(K, observations)
    y, variance = observations.y, observations.variance
    given = observations.is_given
    if relative_noise is not None and given.any():
        # Noises of the frames' own are absolute, and so are the others beside them.
        least = relative_noise * np.trace(K) / len(K)
        if free_amplitude:
            least = _SMALL**2 * np.mean(y[~given] ** 2) if not given.all() else 0.0
        variance = np.where(given, variance, least)
        relative_noise = None
    if directions.shape[1] < len(K):
        K = directions.T @ K @ directions
        y, variance = directions.T @ y, variance @ directions**2
    is_relative = relative_noise is not None
    if is_relative:
        variance = np.full(len(K), relative_noise * np.trace(K) / len(K))
    try:
        if free_amplitude:
            scale = _likely_scale(K, y, variance, is_relative)
            kernel = Scaled(kernel, amplitude=float(np.sqrt(scale)))
            K *= 1.0 if is_relative else scale
        # A relative noise leaves the factor of K and noise together free.
        residuals, density = leave_one_out(K + np.diag(variance), y, sizes, is_relative)
    except np.linalg.LinAlgError:
        return Score(kernel, -np.inf, np.inf)
    return Score(kernel, density, float(np.sqrt(np.mean(residuals**2))))


def learn_kernel(
    kernel: Kernel,
    features: Features,
    observations: Observations,
    permutations: np.ndarray,
    relative_noise: float | None,
    free_amplitude: bool,
) -> Score:
    """Find the length scale, where it is None, of the best leave-one-out density.

    Parameters
    ----------
    kernel : Kernel
        A kernel with a `length_scale`, or a `Scaled` one.
    features, observations : Features, Observations
        A subset of the training data.
    permutations : ndarray of int, shape (n_perms, n_atoms)
        Symmetries of the kernel.
    relative_noise : float or None
        Noise variance over the mean prior variance of the observations; None takes the
        observations' own.
    free_amplitude : bool
        Whether the amplitude is learned, too: the kernel is then returned `Scaled`.

    Returns
    -------
    Score
        With the kernel that was found.
    """

    def evaluate(candidate):
        found = score(
            candidate,
            features,
            observations,
            permutations,
            relative_noise,
            free_amplitude,
        )
        advance(1)
        return found

    with progress_bar(19, "choosing the length scale") as advance:
        if kernel.needs_length_scale:
            # A Python float: parameters should print and compare as plain numbers.
            found = _search(
                lambda length: evaluate(kernel.with_length_scale(float(length))),
                features,
            )
        else:
            found = evaluate(clone(kernel))
    _log.info(
        "%s: leave-one-out log density %.1f of %d structures",
        found.kernel,
        found.density,
        len(features.x),
    )
    return found


def _search(evaluate, features):
    """Look on a grid and then around its best point."""
    spread = np.log(np.sqrt(2.0 * features.x.var(axis=0).sum()))
    # Longer scales only cost digits: the prior amplitude grows with their square, and
    # predictions become differences of ever larger numbers.
    grid = np.linspace(spread - 1.0, spread + 3.5, 7)
    tried = [evaluate(np.exp(point)) for point in grid]
    best = int(np.argmax([found.density for found in tried]))

    def cost(point):
        tried.append(evaluate(np.exp(point)))
        return -tried[-1].density

    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    options = {"xatol": 0.05, "maxiter": 12}
    minimize_scalar(cost, bounds=bounds, method="bounded", options=options)
    return max(tried, key=lambda found: found.density)


def _informative(K, observations):
    """Return directions with prior variance, and how many each structure has.

    Rotations of a molecule in a periodic box, bending of a linear molecule and some
    motions beside atoms without forces change no distance to first order. Their forces
    are zero with certainty: predicting them says nothing about the kernel.
    """
    columns, sizes = [], []
    ends = np.cumsum(observations.sizes)
    for start, stop in zip(ends - observations.sizes, ends, strict=True):
        rows = np.arange(start, stop)
        of_forces = rows[observations.is_force[rows]]
        variance, vectors = np.linalg.eigh(K[np.ix_(of_forces, of_forces)])
        kept = vectors[:, variance > 1e-9 * variance.max(initial=0.0)]
        block = np.zeros((len(K), kept.shape[1] + len(rows) - len(of_forces)))
        block[of_forces, : kept.shape[1]] = kept
        energies = rows[~observations.is_force[rows]]
        block[energies, kept.shape[1] + np.arange(len(energies))] = 1.0
        columns.append(block)
        sizes.append(block.shape[1])
    return np.hstack(columns), sizes


def _likely_scale(K, y, variance, is_relative):
    """Return the most likely s for the covariance s K + Σ, or s (K + Σ)."""
    if is_relative:
        factor = cho_factor(K + np.diag(variance), lower=True)
        return float(y @ cho_solve(factor, y) / len(y))
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
    found = minimize_scalar(cost, bounds=(min(middle, most) - 10.0, most))
    return float(np.exp(found.x))
