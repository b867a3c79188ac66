"""The noises of a sparse model that predict frames best that are left out.

The free energy asks for more noise than that: it is a bound, far from tight where
inducing environments are few, and what a sparse model cannot represent is not white.
Errors of left-out frames need no belief in the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from scipy.linalg import eigh, solve_triangular

from kforce.gap.sparse_term import SparseTerm
from kforce.gap.training_set import GatheredRows, observed, whitened_rows
from kforce.gap.uncertainty import frames_to_leave_out, left_out
from kforce.labels import LocalLabels

#: Errors where there is too little noise to tell.
_HOPELESS = 1e50

#: Errors of fewer frames say too little.
_FEW = 5

#: The largest noise is taken whose squared errors are above the least ones by less than
#: this share of the standard error of the difference, or than this share of them.
_SLACK, _HARDLY = 0.3, 0.04

#: Factors that are tried, in descending order.
_FACTORS = 2.0 ** np.arange(2.0, -6.5, -0.5)


def best_noise(
    gathered: GatheredRows,
    terms: Sequence[SparseTerm],
    frames: Sequence[Atoms],
    labels: LocalLabels,
    rng: np.random.Generator,
) -> float:
    """Return by what all noises are to be multiplied.

    What is least are the errors of forces (of energies or virials where there are none)
    of frames that are predicted from all others. Of factors that are about as good the
    largest is taken: little noise makes large weights.

    Parameters
    ----------
    gathered : GatheredRows
        All rows, as they are with the noises of the labels.
    terms : sequence of SparseTerm
        The model.
    frames : sequence of ase.Atoms
        Training set.
    labels : LocalLabels
        Its labels.
    rng : numpy.random.Generator
        Chooses the frames.
    """
    chosen = frames_to_leave_out(frames, labels, rng)
    if len(chosen) < _FEW:
        return 1.0
    gram, right = gathered.system.whitened()
    # With it, all factors are one matrix product each.
    strength, axes = eigh(gram, overwrite_a=True, check_finite=False, driver="evd")
    strength, right = np.maximum(strength, 0.0), axes.T @ right
    kinds = [observed(labels, s)[2] for s in chosen]
    # Forces, if there are any, else energies, else virials.
    (deciding, *_) = [k for k in (1, 0, 2) if any((own == k).any() for own in kinds)]
    squares = np.zeros((len(chosen), len(_FACTORS)))
    for i, (s, kind) in enumerate(zip(chosen, kinds, strict=True)):
        rows, y, _ = whitened_rows(terms, frames[s], labels, s)
        rows = solve_triangular(gathered.system.prior, rows.T, trans="T").T @ axes
        for k, factor in enumerate(_FACTORS):
            shares = rows / (strength + factor**2)
            found = left_out(shares @ rows.T, y - shares @ right)
            error = np.full(len(y), _HOPELESS) if found is None else found[0]
            squares[i, k] = np.sum(error[kind == deciding] ** 2)
    return float(_FACTORS[_largest_good(squares)])


def _largest_good(squares):
    """Return the first column whose sum is hardly above the least one.

    squares : (n_frames, n_factors), sums of squares of errors.
    """
    total = squares.sum(axis=0)
    excess = squares - squares[:, [np.argmin(total)]]
    spread = np.sqrt(np.square(excess - excess.mean(axis=0)).sum(axis=0))
    allowed = np.maximum(_SLACK * spread, _HARDLY * total.min())
    return np.argmax(excess.sum(axis=0) <= allowed)
