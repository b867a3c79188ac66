"""Closed-form criteria for hyper-parameters: what the data say about the prior."""

from __future__ import annotations

import logging

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar
from sklearn.base import clone

from kforce.covariance import covariance
from kforce.descriptors.base import Features
from kforce.kernels import Kernel
from kforce.observations import Observations

_log = logging.getLogger("kforce.evidence")

#: Rows of the subset that a length scale is learned from: a second or two.
_SUBSET_ROWS = 1000


def leave_one_out(
    K: np.ndarray, y: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return what a Gaussian process predicts for each block of rows from the others.

    With α = K⁻¹ y the residual of block b is (K⁻¹)_bb⁻¹ α_b and its predictive
    covariance (K⁻¹)_bb⁻¹, without any refitting.

    Parameters
    ----------
    K : ndarray of shape (n, n)
        Covariance of the observations, noise included; up to a factor.
    y : ndarray of shape (n,)
        Observations.
    sizes : ndarray of int
        Rows of each block (structure).

    Returns
    -------
    residuals : ndarray of shape (n,)
        Observed minus predicted.
    density : float
        Sum of the logarithms of the predictive densities, with the factor of K that
        makes it largest.

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
    n = len(y)
    density = 0.5 * log_det - 0.5 * n * (np.log(2.0 * np.pi * chi2 / n) + 1.0)
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


def learn_length_scale(
    kernel: Kernel,
    features: Features,
    observations: Observations,
    permutations: np.ndarray,
    relative_noise: float | None,
) -> tuple[Kernel, float]:
    """Find the length scale of the best leave-one-out density.

    Parameters
    ----------
    kernel : Kernel
        A kernel with a `length_scale`.
    features, observations : Features, Observations
        A subset of the training data.
    permutations : ndarray of int, shape (n_perms, n_atoms)
        Symmetries of the kernel.
    relative_noise : float or None
        Noise variance over the mean prior variance of the observations; None takes the
        observations' own.

    Returns
    -------
    kernel : Kernel
        With the length scale.
    density : float
        Logarithm of the leave-one-out density.
    """
    spread = np.sqrt(2.0 * features.x.var(axis=0).sum())

    def with_scale(log_length):
        # A Python float: parameters should print and compare as plain numbers.
        return clone(kernel).set_params(length_scale=float(np.exp(log_length)))

    def cost(log_length):
        K = covariance(features, observations, with_scale(log_length), permutations)
        K = K.to_dense()
        if relative_noise is None:
            K[np.diag_indices(len(K))] += observations.variance
        else:
            K[np.diag_indices(len(K))] += relative_noise * np.trace(K) / len(K)
        try:
            return -leave_one_out(K, observations.y, observations.sizes)[1]
        except np.linalg.LinAlgError:
            return np.inf

    # Longer scales only cost digits: the prior amplitude grows with their square, and
    # predictions become differences of ever larger numbers.
    grid = np.linspace(np.log(spread) - 1.0, np.log(spread) + 3.5, 7)
    costs = [cost(g) for g in grid]
    best = int(np.argmin(costs))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    found = minimize_scalar(
        cost, bounds=bounds, method="bounded", options={"xatol": 0.05, "maxiter": 12}
    )
    better = found.fun <= costs[best]
    chosen = with_scale(found.x if better else grid[best])
    density = -(found.fun if better else costs[best])
    _log.info(
        "%s: leave-one-out log density %.1f of %d structures",
        chosen,
        density,
        len(features.x),
    )
    return chosen, density


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
