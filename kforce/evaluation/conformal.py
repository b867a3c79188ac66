"""Intervals that cover as often as they promise, whatever the errors are like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kforce.errors import InputError
from kforce.evaluation.calibration import pairs_of_structures


def conformal_factor(
    residuals: Sequence[np.ndarray], stds: Sequence[np.ndarray], level: float = 0.95
) -> float:
    """Return the half-width, in std, of intervals with a guaranteed coverage.

    Split conformal prediction with the score |residual| / std. With n calibration
    structures the factor is the smallest t with Σ_s F_s(t) / (n + 1) ≥ level, where
    F_s(t) is the fraction of the entries of structure s whose score is at most t. With
    one entry a structure, such as an energy, it is the ⌈level (n + 1)⌉-th smallest.

    Of a further structure, the fraction of the entries that are in prediction ± factor
    × std is then at least `level` on average over calibration sets and structures,
    whatever the distribution of the errors and however they depend on one another
    within a structure. It is assumed that the structures are exchangeable (drawn alike,
    not consecutive steps of a trajectory) and that the model has not seen them. It is
    not promised for every single calibration set, geometry or atom, nor for all entries
    of a structure at once.

    Parameters
    ----------
    residuals, stds : sequence of array_like
        An energy or an array of force components for each calibration structure.
    level : float
        Coverage, between 0 and 1.

    Raises
    ------
    InputError
        If there are less than level / (1 - level) structures (19 for 0.95), shapes
        differ, or a standard deviation is not positive.

    References
    ----------
    Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World (2005); Lei et al.,
    J. Am. Stat. Assoc. 113, 1094 (2018), theorem 2.2; for structures of several entries
    Dunn, Wasserman & Ramdas, J. Am. Stat. Assoc. 118, 2491 (2023) and Lee, Barber &
    Willett, arXiv:2306.06342 (2023).

    Examples
    --------
    >>> conformal_factor(np.arange(1.0, 20.0), np.ones(19), level=0.9)  # 18th of 19
    18.0
    """
    if not 0.0 < level < 1.0:
        raise InputError(f"level must be between 0 and 1, found {level!r}.")
    residuals, stds = pairs_of_structures(residuals, stds)
    # Any symmetric t* of all n + 1 structures with mean F(t*) ≥ level covers each of
    # them alike on average, and dropping the unknown F of the last can only enlarge t.
    weight = [np.full(len(r), 1.0 / len(r)) for r in residuals]
    score = np.abs(np.concatenate(residuals)) / np.concatenate(stds)
    order = np.argsort(score)
    reached = np.cumsum(np.concatenate(weight)[order]) / (len(residuals) + 1)
    enough = np.flatnonzero(reached >= level - 1e-12)
    if not len(enough):
        least = int(np.ceil(level / (1.0 - level) - 1e-9))
        raise InputError(
            f"A conformal factor at {100 * level:g} % takes at least {least} structures"
            f" with references, found {len(residuals)}: add some or lower the level."
        )
    return float(score[order[enough[0]]])
