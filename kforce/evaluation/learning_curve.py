"""Test errors of one model on training sets of several sizes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.stats import linregress
from sklearn.base import clone

from kforce.data.findings import plural
from kforce.data.splits import isolated_among, split_indices
from kforce.errors import InputError, check_count
from kforce.evaluation import metrics
from kforce.labels import Labels
from kforce.structures import as_frames

_log = logging.getLogger("kforce.evaluation.learning_curve")

#: Where not given: a fifth of the frames, but not more than this, is for testing, and
#: sizes are the powers of two from the first to the second that fit into the rest.
#: Models that leave wrong labels out take more frames.
_MAX_TEST_FRAMES = 1000
_SMALLEST, _LARGEST = 8, 1024
_SMALLEST_ROBUST = 16


@dataclass(frozen=True)
class LearningCurve:
    """Test errors of models of growing training sets.

    Attributes
    ----------
    sizes : ndarray of int, shape (n_sizes,)
        Training frames.
    energy_mae, energy_rmse : ndarray of shape (n_sizes,)
        In eV; NaN where the test frames have no energies.
    forces_mae, forces_rmse : ndarray of shape (n_sizes,)
        Over components, in eV/Å.
    n_test : int
        Test frames, the same for all sizes.
    """

    sizes: np.ndarray
    energy_mae: np.ndarray
    energy_rmse: np.ndarray
    forces_mae: np.ndarray
    forces_rmse: np.ndarray
    n_test: int

    def slope(self) -> tuple[float, float]:
        """Return the slope of ln(forces_mae) over ln(size), and its standard error.

        Both are NaN for less than three sizes. The standard error knows of the scatter
        around the line only, not of the choice of the frames.

        Examples
        --------
        >>> sizes = np.array([10, 20, 40])
        >>> error = 1.0 / sizes
        >>> curve = LearningCurve(sizes, error, error, error, error, n_test=60)
        >>> curve.slope()[0].__round__(6)
        -1.0
        """
        if len(self.sizes) < 3:
            return np.nan, np.nan
        fit = linregress(np.log(self.sizes), np.log(self.forces_mae))
        return float(fit.slope), float(fit.stderr)


def learning_curve(
    model,
    frames: Sequence[Atoms],
    sizes: Sequence[int] | None = None,
    test: Sequence[Atoms] | None = None,
    seed: int = 0,
) -> LearningCurve:
    """Train on nested random subsets and return the errors on the same test frames.

    Parameters
    ----------
    model : ForceField
        Clones of it are trained; it stays as it is.
    frames : list of ase.Atoms
        Labelled frames. Isolated atoms among others are in every training set, and do
        not count.
    sizes : sequence of int, optional
        Training frames, ascending; each training set holds all smaller ones. Powers of
        two from 8 (16 if the model is robust) up to what is there, at most 1024, if not
        given.
    test : list of ase.Atoms, optional
        Frames with forces. If not given, a random fifth of `frames`, at most 1000, is
        left out of the training.
    seed : int
        Of the random order of the frames.

    Returns
    -------
    LearningCurve
        The test errors at every size.

    Raises
    ------
    InputError
        If sizes are not ascending whole numbers above 0 or larger than what is there,
        or no test frame has forces.

    Examples
    --------
    >>> import kforce
    >>> frames = kforce.datasets.load_methanol_ccsdt()
    >>> model = kforce.GDMLRegressor(kernel=kforce.Matern52())
    >>> curve = kforce.learning_curve(model, frames, sizes=[5, 10])
    >>> curve.n_test
    40
    >>> bool(curve.forces_mae[1] < curve.forces_mae[0])
    True
    """
    frames = as_frames(frames)
    alone = isolated_among(frames)
    if alone:
        _log.info("isolated atoms are in all training sets: %d", len(alone))
    isolated = [frames[s] for s in alone]
    frames = [frames[s] for s in np.setdiff1d(np.arange(len(frames)), alone)]
    n_test = 0 if test is not None else min(max(1, len(frames) // 5), _MAX_TEST_FRAMES)
    room = len(frames) - n_test
    smallest = _SMALLEST_ROBUST if getattr(model, "robust", False) else _SMALLEST
    sizes = _default_sizes(room, smallest) if sizes is None else _checked(sizes, room)
    # In random order, any first part of the training frames is a random subset.
    train, held_out = split_indices(frames, room, n_test, "random", seed)
    test = as_frames(test) if n_test == 0 else [frames[i] for i in held_out]
    labels = Labels.from_frames(test)
    if not labels.has_forces.any():
        raise InputError("A learning curve needs test frames with forces: add them.")
    rows = []
    for size in sizes:
        fitted = clone(model).fit(isolated + [frames[i] for i in train[:size]])
        rows.append(_errors(fitted.evaluate(test), labels))
        count = plural(size, "frame")
        _log.info("%s: mean absolute force error %.4g eV/Å", count, rows[-1][2])
    return LearningCurve(np.array(sizes), *np.transpose(rows), n_test=len(test))


def _default_sizes(room, smallest):
    sizes = [2**k for k in range(20) if smallest <= 2**k <= min(room, _LARGEST)]
    if not sizes:
        raise InputError(
            f"Expected at least {smallest} frames to train on, found {room}: add "
            "frames or give the sizes (--sizes)."
        )
    return sizes


def _checked(sizes, room):
    sizes = np.ravel(sizes).tolist()
    if not sizes:
        raise InputError("Expected at least one size of a training set, found none.")
    for size in sizes:
        check_count("A size of a training set", size)
    if sizes != sorted(set(sizes)):
        raise InputError(
            "Sizes of training sets must ascend, each above the one before, found "
            f"{', '.join(map(str, sizes))}."
        )
    if sizes[-1] > room:
        raise InputError(
            f"A training set of {sizes[-1]} frames does not fit into the {room} that "
            "are not for testing: leave that size out or add frames."
        )
    return sizes


def _errors(prediction, labels):
    """Return the errors in the order of the fields of `LearningCurve`."""
    pairs = labels.pairs(prediction)
    return [
        error(*pairs[name]) if name in pairs else np.nan
        for name in ("energy", "forces")
        for error in (metrics.mae, metrics.rmse)
    ]
