"""Closed-form criteria for hyper-parameters: what the data say about the prior."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri

from kforce.descriptors.base import Features
from kforce.gdml._hessian import squared_distances
from kforce.gdml._hessian_gradient import scale_gradient
from kforce.gdml.covariance import (
    Comparison,
    covariance,
    lanes_that_fit,
    one_by_one,
    side_by_side,
    spans,
)
from kforce.gdml.observations import Observations
from kforce.kernels.base import Kernel
from kforce.parallel import run_parallel, single_threaded_blas

#: Noise of the forces where none is given, over the prior standard deviation of a force
#: component: the labels are taken at their word, and the matrix stays well-conditioned.
RELATIVE_NOISE = 1e-5


#: Fewer rows than this are factored by one thread.
_SMALL = 4000


@dataclass(frozen=True)
class Evidence:
    """The logarithm of the marginal likelihood, and its derivatives.

    Attributes
    ----------
    value : float
        log p(y).
    variance : float
        Factor of the covariance, noise included, that was used.
    noise : ndarray of shape (n_observations,)
        Noise variances that were used, without that factor.
    scales : ndarray of shape (n_terms, n_features)
        ∂ log p / ∂ log s of the scales of the kernel's terms.
    amplitudes : ndarray of shape (n_terms,)
        ∂ log p / ∂ log a of their amplitudes.
    noises : ndarray of shape (n_observations,)
        ∂ log p / ∂ log σ of the noises of the rows.
    """

    value: float
    variance: float
    noise: np.ndarray
    scales: np.ndarray
    amplitudes: np.ndarray
    noises: np.ndarray


def log_evidence(
    features: Features,
    observations: Observations,
    kernel: Kernel,
    permutations: np.ndarray,
    variance: float | None = 1.0,
    relative_noise: np.ndarray | None = None,
) -> Evidence:
    """Return the marginal likelihood of the observations, with its gradient.

    With C = K + Σ and G = C⁻¹ y yᵀ C⁻¹ − C⁻¹::

        log p    = −½ (yᵀ C⁻¹ y + log det C + n log 2π)
        ∂ log p  = ½ ⟨G, ∂C⟩

    Parameters
    ----------
    features, observations : Features, Observations
        Where and what is observed, and with which noise.
    kernel : Kernel
        Prior covariance.
    permutations : ndarray of int, shape (n_perms, n_atoms)
        Symmetries of the kernel.
    variance : float or None, default=1.0
        A factor of C, noise included; None takes the most likely one, yᵀ C⁻¹ y / n.
    relative_noise : ndarray of shape (n_observations,), optional
        Noises that replace those of the observations where they are not NaN, over the
        prior standard deviation: that of all forces, or of all energies, in the root
        mean square.

    Raises
    ------
    numpy.linalg.LinAlgError
        If C is not positive definite in double precision.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning, eqs. 5.8 and 5.9.
    """
    # The threads of BLAS gain little on small matrices, and wait for one another very
    # long where other programs run.
    small = len(observations.y) < _SMALL
    with single_threaded_blas if small else nullcontext():
        return _evidence(
            features, observations, kernel, permutations, variance, relative_noise
        )


def _evidence(features, observations, kernel, permutations, variance, relative_noise):
    n, y, noise = len(observations.y), observations.y, observations.variance.copy()
    # One tile is the lower triangle in the layout that LAPACK works on in place.
    K = covariance(features, observations, kernel, permutations, tile_rows=n)
    of_forces, prior = observations.is_force, K.diagonal()
    kinds = [rows for rows in (of_forces, ~of_forces) if rows.any()]
    share = np.zeros(n)
    if relative_noise is not None:
        share = np.nan_to_num(relative_noise) ** 2
        for rows in kinds:
            learned = rows & (share > 0.0)
            noise[learned] = share[learned] * prior[rows].mean()
    K.add_diagonal(noise)
    factor, _ = cho_factor(
        K.tile(0, 0), lower=True, overwrite_a=True, check_finite=False
    )
    alpha = cho_solve((factor, True), y, check_finite=False)
    quadratic = float(y @ alpha)
    variance = quadratic / n if variance is None else float(variance)
    log_det = 2.0 * np.log(factor.diagonal()).sum() + n * np.log(variance)
    value = -0.5 * (quadratic / variance + log_det + n * np.log(2.0 * np.pi))
    G, _ = dpotri(factor, lower=1, overwrite_c=1)
    # The upper triangle was never written: whatever is there is not read either.
    with np.errstate(all="ignore"):
        np.subtract(np.outer(alpha, alpha / variance).T, G, out=G)
    noises = noise * G.diagonal()
    # A relative noise grows with the prior variance, as if all of it were on G.
    for rows in kinds:
        G[rows, rows] += (share * G.diagonal())[rows].sum() / rows.sum()
    scales, terms = sensitivity(features, observations, kernel, permutations, G)
    return Evidence(float(value), variance, noise, 0.5 * scales, terms, noises)


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


def sensitivity(
    features: Features,
    observations: Observations,
    kernel: Kernel,
    permutations: np.ndarray,
    G: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ⟨G, ∂K⟩ for the scales and amplitudes of the terms of a kernel.

    Parameters
    ----------
    features, observations, kernel, permutations
        As in `kforce.gdml.covariance.covariance`, which gives K.
    G : ndarray of shape (n_observations, n_observations)
        A symmetric matrix, of which the lower triangle is read.

    Returns
    -------
    scales : ndarray of shape (n_terms, n_features)
        ⟨G, ∂K/∂log s_tk⟩.
    terms : ndarray of shape (n_terms,)
        ⟨G, K_t⟩, of which their sum is ⟨G, K⟩.
    """
    comparison = Comparison.of(kernel, features.coordinates, permutations)
    topology, images = comparison.topology, comparison.images
    single = one_by_one(features, observations)
    n_lanes = lanes_that_fit(observations.rows.shape[1])
    lanes = side_by_side(single, np.arange(len(features.x)), n_lanes)

    def part(span):
        start, stop = span
        u = np.empty((stop - start, len(lanes.frame), len(images.term), n_lanes))
        squared_distances(start, stop, single, lanes, topology, images, u)
        phi, dphi, ddphi, dddphi = comparison.weighted(u, orders=(0, 1, 2, 3))
        weights = (-2.0 * dphi, 4.0 * ddphi, 4.0 * dddphi, phi)
        scales, terms = np.zeros(images.metric.shape), np.zeros(len(images.metric))
        scale_gradient(
            start, stop, single, lanes, topology, images, *weights, G,
            scales, terms,
        )  # fmt: skip
        return scales, terms

    parts = run_parallel(part, spans(0, len(features.x)))
    return sum(scales for scales, _ in parts), sum(terms for _, terms in parts)
