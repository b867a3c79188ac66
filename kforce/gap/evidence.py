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

    `value` is L without Σ log σ_n and the prior's trace −½ tr K̃_nn, which the caller
    knows; `by_prior` (m, m) is ∂L/∂K_mm, symmetric, `by_rows` (n, m) is ∂L/∂Ψ, and
    `by_targets` (n,) is ∂L/∂ỹ.
    """

    value: float
    by_prior: np.ndarray
    by_rows: np.ndarray
    by_targets: np.ndarray


def free_energy(
    K_mm: np.ndarray,
    rows: np.ndarray,
    y: np.ndarray,
    probes: np.ndarray,
    is_probed: np.ndarray | None = None,
) -> FreeEnergy:
    """Compute the bound of K_mm (m, m), whitened rows Ψ (n, m) and targets ỹ (n,).

    `probes` (n, p) are motions along which the trace is probed: tr Q̃ is Σ_p s_pᵀ Q̃
    s_p. The unit matrix gives the trace itself; an array of shape (n, 0) leaves it out.
    The trace is about the inducing variables `is_probed` (m,), uncorrelated with all
    others. Raises `numpy.linalg.LinAlgError` if K_mm is not positive definite.
    """
    n = len(y)
    prior = cholesky(K_mm, lower=True, check_finite=False)
    # Whitened rows V = Ψ L⁻ᵀ: their Gram matrix plus one is well conditioned.
    V = solve_triangular(prior, rows.T, lower=True, check_finite=False).T
    B = V.T @ V
    np.einsum("mm->m", B)[:] += 1.0
    factor = cho_factor(B, lower=True, check_finite=False)
    beta = cho_solve(factor, V.T @ y)
    residual = y - V @ beta
    probed = V.T @ probes
    if is_probed is not None:
        probed[~is_probed] = 0.0
    value = -0.5 * (
        n * np.log(2.0 * np.pi)
        + 2.0 * np.log(np.diag(factor[0])).sum()
        + y @ residual
        - np.sum(probed**2)
    )
    # In terms of V: ∂L/∂V, then V = Ψ L⁻ᵀ, K_mm = L Lᵀ.
    by_v = -cho_solve(factor, V.T).T + np.outer(residual, beta) + probes @ probed.T
    by_rows = solve_triangular(prior, by_v.T, lower=True, trans="T").T
    inner = -0.5 * (V.T @ by_v)
    by_prior = solve_triangular(prior, inner, lower=True, trans="T")
    by_prior = solve_triangular(prior, by_prior.T, lower=True, trans="T").T
    return FreeEnergy(value, 0.5 * (by_prior + by_prior.T), by_rows, -residual)
