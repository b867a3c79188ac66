"""Reproducible splits of a data set into training and test frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from kforce.errors import InputError, check_count, check_seed
from kforce.labels import Labels
from kforce.structures import as_frames, is_isolated


def split(
    frames: Sequence[Atoms],
    n_train: int,
    n_test: int,
    how: str = "random",
    seed: int = 0,
) -> tuple[list[Atoms], list[Atoms]]:
    """Split frames into a training and a test set that do not overlap.

    Parameters
    ----------
    frames : list of ase.Atoms
        The data set.
    n_train, n_test : int
        How many frames to take. `n_test` may be 0.
    how : {'random', 'stratified', 'time'}
        'stratified' cuts the frames, sorted by energy, into as many strata as frames
        are wanted and draws one of each; the test set is drawn so from the rest.
        'time' takes the first frames for training and the last ones for testing.
    seed : int
        The same seed gives the same split.

    Returns
    -------
    train, test : list of ase.Atoms
        Random and stratified sets are in random order, so that any first part of the
        training set is a smaller training set of the same kind.

    Raises
    ------
    InputError
        If there are too few frames, a count or the seed is negative, `how` is unknown,
        or energies are missing in a stratified split.

    Examples
    --------
    >>> from kforce.datasets import load_methanol_ccsdt
    >>> train, test = split(load_methanol_ccsdt(), 100, 60, how="time")
    >>> len(train), len(test)
    (100, 60)
    """
    frames = as_frames(frames)
    train, test = split_indices(frames, n_train, n_test, how, seed)
    return [frames[i] for i in train], [frames[i] for i in test]


def split_indices(
    frames: Sequence[Atoms],
    n_train: int,
    n_test: int,
    how: str = "random",
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the frames that `split` would take, as two arrays."""
    frames = as_frames(frames)
    n = len(frames)
    check_count("n_train", n_train)
    check_count("n_test", n_test, least=0)
    if n_train + n_test > n:
        raise InputError(
            f"Expected at least {n_train} + {n_test} = {n_train + n_test} frames to "
            f"split, found {n}: ask for fewer."
        )
    check_seed(seed)
    rng = np.random.default_rng(seed)
    if how == "time":
        return np.arange(n_train), np.arange(n - n_test, n)
    if how == "random":
        order = rng.permutation(n)
        return order[:n_train], order[n_train : n_train + n_test]
    if how == "stratified":
        order = np.argsort(_energies(frames), kind="stable")
        train = _one_of_each_stratum(order, n_train, rng)
        rest = order[~np.isin(order, train)]
        return train, _one_of_each_stratum(rest, n_test, rng)
    raise InputError(
        f"Expected a split 'random', 'stratified' or 'time', found {how!r}."
    )


def isolated_among(frames: Sequence[Atoms]) -> list[int]:
    """Return the indices of isolated atoms among other frames.

    They belong into every training set: their energies are those of atoms, and no other
    frame tells them. Where there is nothing else, there are none.
    """
    alone = [s for s, frame in enumerate(frames) if is_isolated(frame)]
    return alone if len(alone) < len(frames) else []


def _energies(frames) -> np.ndarray:
    energy = Labels.from_frames(frames).energy
    missing = np.count_nonzero(np.isnan(energy))
    if missing:
        raise InputError(
            f"A stratified split needs the energy of every frame, and {missing} of "
            f"{len(frames)} have none: use how='random' (--split random) or add "
            "them."
        )
    return energy


def _one_of_each_stratum(order, n, rng) -> np.ndarray:
    if n == 0:
        return order[:0]
    return rng.permutation([rng.choice(part) for part in np.array_split(order, n)])
