"""Variational free energy of a sparse model, and its gradient.

    L = log N(ỹ | 0, Q̃ + 1) − Σ log σ_n − ½ tr(K̃_nn − Q̃),   Q̃ = Ψ K_mm⁻¹ Ψᵀ = V Vᵀ

with rows Ψ and targets ỹ divided by the noises: a lower bound of the log marginal
likelihood, which the trace keeps from explaining by noise-free surprise what the
inducing variables cannot represent. Of the whitened rows V = Ψ L⁻ᵀ, with L Lᵀ = K_mm,
it needs but products: an amplitude or a noise, which multiplies columns or rows of V,
does not ask for the rows again.

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
from scipy.linalg import cho_factor, cho_solve, lapack

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
    knows. Of a change dV of the whitened rows, dL is the sum over all elements of
    `slopes` (m, m + 1 + p) times dVᵀ [V, ỹ, S].
    """

    value: float
    slopes: np.ndarray


def free_energy(products: np.ndarray, square: float, n: int) -> FreeEnergy:
    """Compute the bound of the products Vᵀ [V, ỹ, S], (m, m + 1 + p), and of ỹᵀ ỹ.

    V (n, m) are whitened rows, ỹ (n,) their targets, and the columns of S (n, p)
    motions along which the trace is probed: tr Q̃ is Σ_p s_pᵀ Q̃ s_p. The unit matrix
    gives the trace itself, without columns it is left out. Rows of Vᵀ S may be zero for
    inducing variables that the trace is not about. Raises `numpy.linalg.LinAlgError` if
    the products are none.
    """
    m = len(products)
    gram, right, probed = products[:, :m], products[:, m], products[:, m + 1 :]
    # The Gram matrix plus one is well conditioned.
    B = np.array(gram, order="F")
    np.einsum("mm->m", B)[:] += 1.0
    factor, is_lower = cho_factor(B, lower=True, overwrite_a=True, check_finite=False)
    beta = cho_solve((factor, is_lower), right, check_finite=False)
    value = -0.5 * (
        n * np.log(2.0 * np.pi)
        + 2.0 * np.log(np.diag(factor)).sum()
        + square
        - right @ beta
        - np.sum(probed**2)
    )
    inverse, _ = lapack.dpotri(factor, lower=True, overwrite_c=True)
    lower = np.tril(inverse, -1)
    slopes = products.copy()
    slopes[:, m] = beta
    by_gram = slopes[:, :m]
    np.outer(beta, -beta, out=by_gram)
    by_gram -= lower
    by_gram -= lower.T
    np.einsum("mm->m", by_gram)[:] -= np.diag(inverse)
    return FreeEnergy(value, slopes)


class Probe(NamedTuple):
    """A combination of labels of a frame, in units of their noise.

    `kind` is ENERGY, with a number as `motion`, or FORCES, along a motion (n_atoms, 3).
    `is_learned` says whether the noise is.
    """

    frame: int
    kind: int
    is_learned: bool
    motion: float | np.ndarray


class Probes:
    """The probes of the `chosen` frames, whose rows start at `first_rows`.

    `columns` (n_rows, n_probes) are the combinations, times `weights` (n_probes,) with
    which those that are probed stand for all energies and force components.
    `is_learned` (n_rows,) says of which rows the noise is learned. Neighbours are those
    within the largest `cutoff` of all terms, in Å.
    """

    def __init__(
        self,
        training: TrainingSet,
        cutoff: float,
        chosen: np.ndarray,
        first_rows: np.ndarray,
        is_learned: np.ndarray,
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
                columns.append(np.zeros(len(is_learned)))
                columns[-1][rows] = signs
                self.probes.append(Probe(s, kind, bool(is_learned[rows[0]]), motion))
                n_probed[kind] += n_all
        observed = np.concatenate([training.observations[s].kind for s in chosen])
        counts = np.bincount(observed, minlength=3)[:2]
        weight = np.sqrt(counts / np.maximum(n_probed, 1))
        self.weights = np.array([weight[probe.kind] for probe in self.probes])
        self.is_learned = np.array([p.is_learned for p in self.probes], dtype=bool)
        self.columns = np.reshape(columns, (-1, len(is_learned))).T * self.weights

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
