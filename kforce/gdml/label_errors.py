"""Which labels are wrong? Each as all others that can be trusted predict it.

With A = K + Σ, α = A⁻¹ y and some rows s out of trust, the rows b of one label that is
in trust have, given all others in trust, the residual and the covariance

    C_b α'_b,   C_b = (P_bb − P_bs P_ss⁻¹ P_sb)⁻¹,   α'_b = α_b − P_bs P_ss⁻¹ α_s

with P = A⁻¹, and those of the labels out of trust together P_ss⁻¹ α_s and P_ss⁻¹: no
fit is repeated. A label is the energy of a structure or its forces, so that of two that
contradict each other, the one that the other structures contradict is found.

Wrong labels spoil the predictions of others around them, and hide one another: labels
that are far off go out of trust, all are looked at again, and those come back that only
looked bad. How far off is typical follows from the labels in trust, not from the noise
of the model, which learned it from wrong ones, too.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtri

from kforce.data.worst_frames import LARGEST_Z, WorstFrames
from kforce.gdml.posterior import Posterior
from kforce.solvers.cholesky import blocks_of, left_out_blocks

_log = logging.getLogger("kforce.gdml.label_errors")

#: Rows of which all diagonal blocks of the inverse take a fraction of a second.
_ROWS_OF_ALL = 1500

#: Share of a fit that they may take, and evaluations that learn a kernel.
_SHARE, _EVALUATIONS = 0.2, 40

#: Samples that estimate the blocks elsewhere: at least so many, and so many for a row
#: of the largest block. Labels beyond this share of the limit are looked at exactly.
_SAMPLES, _SAMPLES_PER_ROW, _SURE = 256, 4, 0.6

#: Rounds of looking.
_ROUNDS = 10

#: Where some labels are out of trust from the start, those beyond so many standard
#: deviations stay there: wrong ones that came back would hide the others again.
DISTRUSTED = 3.5

#: Labels that are out of trust at first: beyond so many standard deviations. Never are
#: more than this share of all; a smaller one of many, for they cost 2 n² a row.
_SUSPICIOUS, _MOST_SUSPICIOUS, _MOST_OF_MANY = 2.0, 0.12, 0.02

#: Quantiles that the typical deviation and its tail follow from: one label in seven may
#: be wrong.
_QUANTILES = 0.5, 0.85

#: Labels of about the same predicted deviation, as a share of all, and least number.
_ALIKE, _LEAST_ALIKE = 0.25, 30

#: Digits of labels in files, in eV and eV/Å.
_DIGITS = 1e-6


def find_label_errors(
    posterior: Posterior,
    energy: np.ndarray,
    learned_from: np.ndarray,
    start: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[WorstFrames, np.ndarray]:
    """Return how far labels are off, the farthest first, and their z.

    `posterior` holds coefficients and factor, and energies (n_structures,), in eV up to
    a constant, are for a model that was fitted to forces alone. The kernel was learned
    from the structures `learned_from`, which says what the fit has cost. Of energies
    and of forces, (n_structures, 2), `start` is a mask of those out of trust at first,
    and z is how far they are off in standard deviations, 0 where there is no label.
    """
    search = _Search(posterior, learned_from, seed)
    outside, limit = [], LARGEST_Z
    if start is not None:
        outside = [k for k, label in enumerate(search.labels) if start[label.place]]
        limit = DISTRUSTED
    seen = []
    error, z = search.look(outside)
    # Wrong labels that hide one another are the worst, but not by far.
    most = _MOST_SUSPICIOUS if search.is_exact else _MOST_OF_MANY
    outside = sorted({*outside, *_beyond(z, _SUSPICIOUS, most)})
    error, z = search.look(outside)
    for _ in range(_ROUNDS):
        seen.append(outside)
        outside = _beyond(z, limit, most)
        if outside == seen[-1]:
            break
        error, z = search.look(outside)
        if outside in seen:
            break
    n = len(energy)
    errors, zs = np.full((n, 2), np.nan), np.full((n, 2), np.nan)
    for label, one_error, one_z in zip(search.labels, error, z, strict=True):
        errors[label.place], zs[label.place] = one_error, one_z
    if not len(posterior.observations.energy_rows):
        errors[:, 0], zs[:, 0] = search.energies(energy, outside)
    return WorstFrames.of(np.arange(n), errors, zs), np.nan_to_num(zs)


def suspicious(z: np.ndarray) -> np.ndarray:
    """Return which labels may be wrong, by z (n_structures, 2): the worst of each kind.

    Examples
    --------
    >>> suspicious(np.array([[0.5, 3.0], [1.0, 0.9]]))
    array([[False,  True],
           [False, False]])
    """
    limit = np.quantile(z, 1.0 - _MOST_SUSPICIOUS, axis=0, method="lower")
    return z > np.maximum(limit, _SUSPICIOUS)


def _beyond(z, limit, most):
    """Return the labels beyond a limit, in order, but at most a share of all."""
    largest = np.sort(z)[-1 - int(most * len(z))]
    return np.flatnonzero(z > max(limit, largest)).tolist()


@dataclass(frozen=True)
class _Label:
    """The rows of one energy, or of the forces of one structure."""

    structure: int
    is_energy: bool
    rows: np.ndarray

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands among energies and forces of the structures."""
        return self.structure, 0 if self.is_energy else 1


class _Search:
    """Looks at all labels, whichever of them are in trust."""

    def __init__(self, posterior, learned_from, seed):
        self.posterior = posterior
        self.observations = observations = posterior.observations
        self.seed = seed
        self.labels = []
        for structure, rows in enumerate(observations.rows):
            for is_energy, own in (False, rows[:-1]), (True, rows[-1:]):
                if (own >= 0).any():
                    self.labels.append(_Label(structure, is_energy, own[own >= 0]))
        self.blocks = blocks_of(observations.sizes)
        n = float(observations.n_rows)
        learned = float(observations.sizes[learned_from].sum())
        cost = n**3 / 3.0 + _EVALUATIONS * learned**3
        self.is_exact = n <= _ROWS_OF_ALL or n**3 <= _SHARE * cost
        self.precision = {}

    def look(self, outside: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return errors and z (n_labels,) given the labels in trust.

        These are all but the ones `outside`.
        """
        without = _Without(self, outside)
        self._exactly({self.labels[k].structure for k in outside})
        looks = [without.look(label) for label in self.labels]
        z = self._calibrated(looks, outside)
        unsure = (z > _SURE * LARGEST_Z).nonzero()[0]
        structures = {self.labels[k].structure for k in unsure}
        if not self.is_exact and structures - self.precision.keys():
            self._exactly(structures)
            for k in unsure:
                looks[k] = without.look(self.labels[k])
            z = self._calibrated(looks, outside)
        return np.array([error for error, _, _ in looks]), z

    def _calibrated(self, looks, outside):
        """Return z with the deviations that labels in trust have."""
        z, std = np.array([[z, std] for _, z, std in looks]).T
        is_energy = np.array([label.is_energy for label in self.labels])
        trusted = np.ones(len(z), dtype=bool)
        trusted[list(outside)] = False
        for kind in (is_energy, ~is_energy):
            if kind.any():
                sizes = [len(self.labels[k].rows) for k in kind.nonzero()[0]]
                z[kind] = calibrated(z[kind], std[kind], trusted[kind], max(sizes))
        return z

    def _exactly(self, structures):
        """Keep exact blocks of P of some structures; of all where that is cheap."""
        if self.is_exact:
            structures = range(len(self.blocks))
        new = sorted(set(structures) - self.precision.keys())
        blocks = [self.blocks[s] for s in new]
        factor, coef = self.posterior.factor, self.posterior.coef
        left_out = left_out_blocks(factor, coef, blocks)
        for s, C in zip(new, left_out.covariances, strict=True):
            self.precision[s] = np.linalg.inv(C) if len(C) else C

    @cached_property
    def samples(self) -> np.ndarray:
        """Samples x of N(0, P), (n_rows, n_samples): x = L⁻ᵀ g with g of N(0, 1)."""
        n = self.observations.n_rows
        largest = int(self.observations.sizes.max())
        count = max(_SAMPLES, _SAMPLES_PER_ROW * largest)
        g = np.random.default_rng(self.seed).normal(size=(count, n)).T
        return self.posterior.factor.solve_transposed(np.asfortranarray(g))

    def energies(self, energy, outside):
        """Return errors and z of energies that are no rows, (n_structures,) each.

        The forces in trust predict them up to a constant.
        """
        posterior = self.posterior
        known = np.isfinite(energy)
        errors, zs = np.full(len(energy), np.nan), np.full(len(energy), np.nan)
        if known.sum() < 2 or posterior.reference is None:
            return errors, zs
        predicted, _ = posterior.expanded(_Without(self, outside).alpha).jet(
            posterior.features.x
        )
        residual = (energy - predicted)[known]
        residual -= np.median(residual)
        std, _ = posterior.deviations(
            posterior.features.take(known.nonzero()[0]), False
        )
        std = np.hypot(std, _DIGITS)
        trusted = np.ones(len(residual), dtype=bool)
        for _ in range(_ROUNDS):
            z = calibrated(np.abs(residual) / std, std, trusted, 1)
            before, trusted = trusted, z <= LARGEST_Z
            if (before == trusted).all():
                break
        errors[known], zs[known] = residual, z
        return errors, zs


class _Without:
    """All labels as those in trust predict them."""

    def __init__(self, search, outside):
        self.search = search
        posterior = search.posterior
        labels = [search.labels[k] for k in outside]
        rows = [label.rows for label in labels]
        self.rows = np.concatenate([np.empty(0, dtype=int), *rows])
        self.place = {
            label.place: block
            for label, block in zip(
                labels, blocks_of(list(map(len, rows))), strict=True
            )
        }
        self.alpha, self.samples = posterior.coef, None
        if not search.is_exact:
            self.samples = search.samples
        if outside:
            units = np.zeros((search.observations.n_rows, len(self.rows)), order="F")
            units[self.rows, np.arange(len(self.rows))] = 1.0
            self.columns = posterior.factor.solve(units)
            self.covariance = np.linalg.inv(self.columns[self.rows])
            self.residual = self.covariance @ self.alpha[self.rows]
            self.alpha = self.alpha - self.columns @ self.residual
            # Zero but for rounding: these coefficients are out of the model.
            self.alpha[self.rows] = 0.0
            if self.samples is not None:
                gain = self.covariance @ self.samples[self.rows]
                self.samples = self.samples - self.columns @ gain

    def look(self, label) -> tuple[float, float, float]:
        """Return the error of a label, its z, and the predicted deviation.

        Of forces the error is that of the component of the largest z, and the deviation
        the root mean square.
        """
        residual, C = self._prediction(label)
        if label.is_energy:
            variance = C.diagonal()
        else:
            Q = self.search.observations.cartesian(label.structure)
            residual, variance = Q @ residual, np.einsum("er,rs,es->e", Q, C, Q)
        std = np.sqrt(np.maximum(variance, 0.0) + _DIGITS**2)
        z = np.abs(residual) / std
        worst = int(np.argmax(z))
        return residual[worst], z[worst], float(np.sqrt(np.mean(std**2)))

    def _prediction(self, label):
        """Return residual and covariance of the rows of a label."""
        place = self.place.get(label.place)
        if place is not None:
            return self.residual[place], self.covariance[place, place]
        exact = self.search.precision.get(label.structure)
        if exact is None:
            x = self.samples[label.rows]
            # The mean of inverses of estimates is larger than the inverse.
            count = x.shape[1] - len(x) - 1
            C = np.linalg.inv(x @ x.T) * count
        else:
            own = label.rows - self.search.blocks[label.structure].start
            P = exact[np.ix_(own, own)]
            if len(self.rows):
                columns = self.columns[label.rows]
                P = P - columns @ self.covariance @ columns.T
            C = np.linalg.inv(P)
        return C @ self.alpha[label.rows], C


def calibrated(
    z: np.ndarray, std: np.ndarray, trusted: np.ndarray, n_components: int
) -> np.ndarray:
    """Return z as if those of the labels in trust were normal.

    z (n_labels,) are errors over predicted standard deviations `std`, the largest of
    `n_components` each. Models are too sure of some labels and not sure enough of
    others: z are taken over the median of labels of about the same std. Where their
    tail is heavier than the normal one, as it is at the edge of reactive data, they
    are a power of normal ones. Both follow from quantiles, to which a few wrong labels
    do not count.

    Examples
    --------
    >>> z = np.abs(np.random.default_rng(0).normal(scale=3.0, size=1000))
    >>> trusted = np.ones(1000, dtype=bool)
    >>> bool(calibrated(z, np.ones(1000), trusted, 1).max() < 5.0)
    True
    """
    middle, upper = (ndtri(0.5 + 0.5 * q ** (1.0 / n_components)) for q in _QUANTILES)
    order = np.argsort(std, kind="stable")
    places = np.flatnonzero(trusted[order])
    width = min(len(places), max(_LEAST_ALIKE, int(_ALIKE * len(z))))
    ends = np.searchsorted(places, np.arange(len(z))) - width // 2
    starts = np.clip(ends, 0, len(places) - width)
    near = order[places[starts[:, None] + np.arange(width)]]
    relative = np.empty(len(z))
    typical = np.median(z[near], axis=1)
    relative[order] = z[order] / np.maximum(typical, np.finfo(float).tiny)
    a, b = np.quantile(relative[trusted], _QUANTILES)
    if not 0.0 < a < b:
        return z
    power = min(1.0, np.log(upper / middle) / np.log(b / a))
    return middle * (relative / a) ** power
