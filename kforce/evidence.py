"""Closed-form criteria for hyper-parameters: what the data say about the prior."""

from __future__ import annotations

import logging

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar
from sklearn.base import clone

from kforce.covariance import covariance
from kforce.descriptors.base import Features
from kforce.kernels import Kernel, Scaled, unscaled
from kforce.observations import Observations
from kforce.progress import progress_bar

_log = logging.getLogger("kforce.evidence")

#: Noise of the forces where none is given, over the prior standard deviation of a force
#: component: the labels are taken at their word, and the matrix stays well-conditioned.
RELATIVE_NOISE = 1e-5

#: Rows of the subset that a length scale is learned from: a second or two.
_SUBSET_ROWS = 1000


def leave_one_out(
    K: np.ndarray, y: np.ndarray, sizes: np.ndarray, free_amplitude: bool = True
) -> tuple[np.ndarray, float]:
    """Return what a Gaussian process predicts for each block of rows from the others.

    With α = K⁻¹ y the residual of block b is (K⁻¹)_bb⁻¹ α_b and its predictive
    covariance (K⁻¹)_bb⁻¹, without any refitting.

    Parameters
    ----------
    K : ndarray of shape (n, n)
        Covariance of the observations, noise included.
    y : ndarray of shape (n,)
        Observations.
    sizes : ndarray of int
        Rows of each block (structure).
    free_amplitude : bool, default=True
        Whether K, noise included, is meant up to a factor: the density is then the
        largest over all factors.

    Returns
    -------
    residuals : ndarray of shape (n,)
        Observed minus predicted.
    density : float
        Sum of the logarithms of the predictive densities.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning, sec. 5.4.2.

    Examples
    --------
    >>> residuals, density = leave_one_out(np.eye(2), np.array([1.0, -1.0]), [1, 1])
    >>> residuals
    array([ 1., -1.])
    """
    inverse = cho_solve(cho_factor(K, lower=True), np.eye(len(K)))
    alpha = inverse @ y
    residuals = np.empty(len(y))
    chi2 = log_det = 0.0
    start = 0
    for size in sizes:
        rows = slice(start, start + size)
        precision = inverse[rows, rows]
        residuals[rows] = np.linalg.solve(precision, alpha[rows])
        chi2 += residuals[rows] @ alpha[rows]
        log_det += np.linalg.slogdet(precision)[1]
        start += size
    factor = chi2 / len(y) if free_amplitude else 1.0
    log_norm = len(y) * np.log(2.0 * np.pi * factor)
    density = 0.5 * (log_det - log_norm - chi2 / factor)
    return residuals, density


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


def learn_kernel(
    kernel: Kernel,
    features: Features,
    observations: Observations,
    permutations: np.ndarray,
    relative_noise: float | None,
    free_amplitude: bool,
) -> tuple[Kernel, float]:
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
    kernel : Kernel
        With the length scale.
    density : float
        Logarithm of the leave-one-out density.
    """
    informative = None

    def evaluate(length):
        """Return density and kernel for a length scale."""
        nonlocal informative
        candidate = _with_length_scale(kernel, length)
        K = covariance(features, observations, candidate, permutations).to_dense()
        if informative is None:
            informative = _informative(K, observations)
        directions, sizes = informative
        y, variance = observations.y, observations.variance
        if directions.shape[1] < len(K):
            K = directions.T @ K @ directions
            y, variance = directions.T @ y, variance @ directions**2
        is_relative = relative_noise is not None
        if is_relative:
            variance = np.full(len(K), relative_noise * np.trace(K) / len(K))
        try:
            if free_amplitude:
                scale = _likely_scale(K, y, variance, is_relative)
                candidate = Scaled(candidate, amplitude=float(np.sqrt(scale)))
                K *= 1.0 if is_relative else scale
            # A relative noise leaves the factor of K and noise together free.
            _, density = leave_one_out(K + np.diag(variance), y, sizes, is_relative)
        except np.linalg.LinAlgError:
            density = -np.inf
        advance(1)
        return density, candidate

    given = unscaled(kernel).length_scale
    with progress_bar(19, "choosing the length scale") as advance:
        if given is not None:
            density, chosen = evaluate(given)
        else:
            density, chosen = _search(evaluate, features)
    _log.info(
        "%s: leave-one-out log density %.1f of %d structures",
        chosen,
        density,
        len(features.x),
    )
    return chosen, density


def _search(evaluate, features):
    """Look on a grid and then around its best point."""
    spread = np.log(np.sqrt(2.0 * features.x.var(axis=0).sum()))
    # Longer scales only cost digits: the prior amplitude grows with their square, and
    # predictions become differences of ever larger numbers.
    grid = np.linspace(spread - 1.0, spread + 3.5, 7)
    tried = [evaluate(np.exp(point)) for point in grid]
    best = int(np.argmax([density for density, _ in tried]))

    def cost(point):
        tried.append(evaluate(np.exp(point)))
        return -tried[-1][0]

    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    options = {"xatol": 0.05, "maxiter": 12}
    minimize_scalar(cost, bounds=bounds, method="bounded", options=options)
    return max(tried, key=lambda found: found[0])


def _with_length_scale(kernel, length):
    kernel = clone(kernel)
    # A Python float: parameters should print and compare as plain numbers.
    unscaled(kernel).set_params(length_scale=float(length))
    return kernel


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


def energy_mismatch(
    kernel: Kernel,
    features: Features,
    observations: Observations,
    permutations: np.ndarray,
) -> float:
    """Return how far energies are from what forces alone predict for them.

    The forces of some structures give a predictive distribution of the energy
    differences of others. If the forces are the gradient of the energies, these
    miss by about one of its standard deviations.

    Parameters
    ----------
    kernel : Kernel
        The kernel in use.
    features : Features
        Descriptors of the structures.
    observations : Observations
        Forces of some of them, energies of others.
    permutations : ndarray of int, shape (n_perms, n_atoms)
        Symmetries of the kernel.

    Returns
    -------
    float
        Root mean square error of the energies, their mean taken out, over its
        expectation.
    """
    K = covariance(features, observations, kernel, permutations).to_dense()
    f = observations.is_force
    factor = cho_factor(K[np.ix_(f, f)] + np.diag(observations.variance[f]), lower=True)
    # The forces say nothing of the common constant: compare deviations from the mean.
    n = len(K) - f.sum()
    centre = np.eye(n) - 1.0 / n
    cross = K[np.ix_(f, ~f)] @ centre
    y = observations.y[f]
    alpha = cho_solve(factor, y)
    residual = centre @ observations.y[~f] - cross.T @ alpha
    spread = centre @ K[np.ix_(~f, ~f)] @ centre - cross.T @ cho_solve(factor, cross)
    # With the amplitude that is most likely for these forces, y α / n in place of 1.
    expected = np.trace(spread) * (y @ alpha / len(y))
    return float(np.sqrt(residual @ residual / max(expected, 1e-300)))
