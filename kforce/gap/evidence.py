"""Variational free energy of a sparse model, and its gradient.

    L = log N(ỹ | 0, Q̃ + 1) − Σ log σ_n − ½ tr(K̃_nn − Q̃),   Q̃ = Ψ K_mm⁻¹ Ψᵀ

with rows Ψ and targets ỹ divided by the noises: a lower bound of the log marginal
likelihood, which the trace keeps from explaining by noise-free surprise what the
inducing variables cannot represent. It is differentiated with respect to K_mm, Ψ and
ỹ; what these depend on is the caller's affair.

The trace would need the prior variance of every label. Those of some energies, and of
forces along random signs (Hutchinson), the `Probes`, stand for all.

References
----------
Titsias, AISTATS 2009, eq. 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from kforce.gap.covariance import (
    ENERGY,
    FORCES,
    derivative_covariance,
    energy_variance,
)
from kforce.gap.sparse_term import SparseTerm
from kforce.gap.training_set import TrainingSet


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


class Probe(NamedTuple):
    """A combination of labels of a frame, in units of their noise.

    `kind` is ENERGY, with a number as `motion`, or FORCES, along a motion (n_atoms, 3).
    `noise` is the kind of noise that is learned for it, or -1.
    """

    frame: int
    kind: int
    noise: int
    motion: float | np.ndarray


class Probes:
    """The probes of the `chosen` frames, whose rows start at `first_rows`.

    `columns` (n_rows, n_probes) are the combinations, times `weights` (n_probes,) with
    which those that are probed stand for all energies and force components. `kinds` are
    the kinds of noise of all rows, -1 for those that are not learned. Neighbours are
    those within the largest `cutoff` of all terms, in Å.
    """

    def __init__(
        self,
        training: TrainingSet,
        cutoff: float,
        chosen: np.ndarray,
        first_rows: np.ndarray,
        kinds: np.ndarray,
        rng: np.random.Generator,
        n_frames: int = 6,
    ):
        self._training, self._cutoff = training, cutoff
        self.probes, columns, n_probed = [], [], np.zeros(2)
        # Some of the smaller half of frames, but single atoms.
        sizes = np.array([len(training.frames[s]) for s in chosen])
        places = np.argsort(sizes, kind="stable")
        places = places[sizes[places] > 1]
        for p in places[: len(places) // 2 + 1][:n_frames]:
            s = chosen[p]
            observed, noise = training.observations[s], training.noise(s)
            for kind, n_all in ((ENERGY, 1), (FORCES, 3 * sizes[p])):
                rows = observed.of(kind)
                if len(rows) < n_all:
                    continue
                signs = np.ones(1) if kind == ENERGY else rng.choice([-1.0, 1.0], n_all)
                motion = signs / noise[rows]
                motion = motion[0] if kind == ENERGY else motion.reshape(-1, 3)
                rows = first_rows[p] + rows
                columns.append(np.zeros(len(kinds)))
                columns[-1][rows] = signs
                self.probes.append(Probe(s, kind, int(kinds[rows[0]]), motion))
                n_probed[kind] += n_all
        observed = np.concatenate([training.observations[s].kind for s in chosen])
        counts = np.bincount(observed, minlength=3)[:2]
        weight = np.sqrt(counts / np.maximum(n_probed, 1))
        self.weights = np.array([weight[probe.kind] for probe in self.probes])
        self.noise_kinds = np.array([probe.noise for probe in self.probes], dtype=int)
        self.columns = np.reshape(columns, (-1, len(kinds))).T * self.weights

    def n_environments(self, term: SparseTerm) -> int:
        """Return how many environments of a term a probed frame has, at most."""
        frames = {probe.frame for probe in self.probes}
        return max((len(self._environments(term, s).x) for s in frames), default=0)

    def prior_variances(self, term: SparseTerm) -> np.ndarray:
        """Return the prior variance of each probe by one term, (n_probes,)."""
        return np.array([self._variance(term, probe) for probe in self.probes])

    def _environments(self, term, s):
        batch, neighbours = self._training.neighbours.of(s, self._cutoff)
        return term.descriptor(batch.numbers, neighbours)

    def _variance(self, term, probe):
        environments = self._environments(term, probe.frame)
        f_cut = environments.f_cut * environments.multiplicity
        if len(f_cut) == 0:
            return 0.0
        if probe.kind == ENERGY:
            return probe.motion**2 * energy_variance(term, environments.x, f_cut)
        tangents, df_cut = environments.push(probe.motion)
        df_cut = environments.multiplicity * df_cut
        return derivative_covariance(
            term, environments.x, f_cut, tangents[None], df_cut[None]
        )[0, 0]
