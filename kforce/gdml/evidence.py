"""The marginal likelihood of the observations, with its gradient."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri

from kforce.descriptors.base import Features
from kforce.gdml.covariance import covariance, sensitivity
from kforce.gdml.observations import Observations
from kforce.gdml.prior import Prior
from kforce.parallel import single_threaded_blas

#: Fewer rows than this are factored by one thread: the threads of BLAS gain little on
#: small matrices, and wait for one another very long where other programs run.
_ONE_THREAD_ROWS = 4000


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
    scales : ndarray of shape (n_components, n_features)
        ∂ log p / ∂ log s of the scales of the kernel's components.
    amplitudes : ndarray of shape (n_components,)
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
    prior: Prior,
    features: Features,
    observations: Observations,
    relative_noise: np.ndarray | None = None,
    variance: float | None = 1.0,
) -> Evidence:
    """Return the marginal likelihood of the observations, with its gradient.

    With C = v (K + R) + Σ and G = C⁻¹ y yᵀ C⁻¹ − C⁻¹::

        log p    = −½ (yᵀ C⁻¹ y + log det C + n log 2π)
        ∂ log p  = ½ ⟨G, ∂C⟩

    Parameters
    ----------
    prior : Prior
        Kernel and noise; Σ holds the variances of this, but where R is not zero.
    features, observations : Features, Observations
        Where and what is observed.
    relative_noise : ndarray of shape (n_observations,), optional
        The roots of R over the prior standard deviation: that of all forces, or of all
        energies, in the root mean square. NaN where the noise is that of the prior.
    variance : float or None, default=1.0
        v; None takes v (K + R + Σ) with the most likely v, yᵀ (K + R + Σ)⁻¹ y / n.

    Raises
    ------
    numpy.linalg.LinAlgError
        If C is not positive definite in double precision.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning, eqs. 5.8 and 5.9.
    """
    small = observations.n_rows < _ONE_THREAD_ROWS
    with single_threaded_blas if small else nullcontext():
        return _evidence(prior, features, observations, relative_noise, variance)


def _evidence(prior, features, observations, relative_noise, variance):
    n, y = observations.n_rows, observations.y
    # One tile is the lower triangle in the layout that LAPACK works on in place.
    K = covariance(prior, features, observations, tile_rows=n)
    of_forces, prior_variance = observations.is_force, K.diagonal()
    kinds = [rows for rows in (of_forces, ~of_forces) if rows.any()]
    noise = prior.noise.variance(observations)
    if variance is not None:
        noise /= variance
    relative = np.zeros(n)
    if relative_noise is not None:
        relative = np.nan_to_num(relative_noise) ** 2
        for rows in kinds:
            learned = rows & (relative > 0.0)
            noise[learned] = relative[learned] * prior_variance[rows].mean()
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
        G[rows, rows] += (relative * G.diagonal())[rows].sum() / rows.sum()
    scales, amplitudes = sensitivity(prior, features, observations, G)
    return Evidence(float(value), variance, noise, 0.5 * scales, amplitudes, noises)
