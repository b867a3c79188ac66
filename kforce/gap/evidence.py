"""Variational free energy of a sparse model, and its gradient.

    L = log N(ỹ | 0, Q̃ + 1) − Σ log σ_n − ½ tr(K̃_nn − Q̃),   Q̃ = Ψ K_mm⁻¹ Ψᵀ

with rows Ψ and targets ỹ divided by the noises: a lower bound of the log marginal
likelihood, which the trace keeps from explaining by noise-free surprise what the
inducing variables cannot represent. It is differentiated with respect to K_mm, Ψ and
ỹ; what these depend on is the caller's affair.

References
----------
Titsias, AISTATS 2009, eq. 9.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular


@dataclass(frozen=True)
class FreeEnergy:
    """The bound and its derivatives.

    Attributes
    ----------
    value : float
        L without the Σ log σ_n and the prior's trace −½ tr K̃_nn, which the caller
        knows.
    by_prior : ndarray of shape (m, m)
        ∂L/∂K_mm, symmetric.
    by_rows : ndarray of shape (n, m)
        ∂L/∂Ψ.
    by_targets : ndarray of shape (n,)
        ∂L/∂ỹ.
    """

    value: float
    by_prior: np.ndarray
    by_rows: np.ndarray
    by_targets: np.ndarray


def free_energy(
    K_mm: np.ndarray,
    rows: np.ndarray,
    y: np.ndarray,
    share: np.ndarray,
    counted: np.ndarray | None = None,
) -> FreeEnergy:
    """Compute the bound.

    Parameters
    ----------
    K_mm : ndarray of shape (m, m)
        Covariance of the inducing variables, positive definite.
    rows : ndarray of shape (n, m)
        Ψ = Λ^−½ K_nm.
    y : ndarray of shape (n,)
        ỹ = Λ^−½ y.
    share : ndarray of shape (n, p)
        Motions along which the trace is probed: tr Q̃ is Σ_p s_pᵀ Q̃ s_p. The unit
        matrix gives the trace itself; an array of shape (n, 0) leaves it out.
    counted : ndarray of bool, shape (m,), optional
        Inducing variables that the trace is about, uncorrelated with all others.

    Raises
    ------
    numpy.linalg.LinAlgError
        If K_mm is not positive definite.
    """
    n = len(y)
    prior = cholesky(K_mm, lower=True, check_finite=False)
    # Whitened rows V = Ψ L⁻ᵀ: their Gram matrix plus one is well conditioned.
    V = solve_triangular(prior, rows.T, lower=True, check_finite=False).T
    B = V.T @ V
    np.einsum("mm->m", B)[:] += 1.0
    factor = cho_factor(B, lower=True, check_finite=False)
    beta = cho_solve(factor, V.T @ y)
    left = y - V @ beta
    probes = V.T @ share
    if counted is not None:
        probes[~counted] = 0.0
    value = -0.5 * (
        n * np.log(2.0 * np.pi)
        + 2.0 * np.log(np.diag(factor[0])).sum()
        + y @ left
        - np.sum(probes**2)
    )
    # In terms of V: ∂L/∂V, then V = Ψ L⁻ᵀ, K_mm = L Lᵀ.
    by_v = -cho_solve(factor, V.T).T + np.outer(left, beta) + share @ probes.T
    by_rows = solve_triangular(prior, by_v.T, lower=True, trans="T").T
    inner = -0.5 * (V.T @ by_v)
    by_prior = solve_triangular(prior, inner, lower=True, trans="T")
    by_prior = solve_triangular(prior, by_prior.T, lower=True, trans="T").T
    return FreeEnergy(value, 0.5 * (by_prior + by_prior.T), by_rows, -left)
