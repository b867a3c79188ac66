"""Cached forces belong to structures of their size, or they are not used."""

import logging

import numpy as np
import pytest
from baseline_calculators import Spring
from toys import AMMONIA, WATER, toy_frames

from kforce.baselines.baseline import as_baseline
from kforce.storage.npz import read_arrays, write_arrays


@pytest.mark.parametrize("swap", [[0, -1], [1, 2]])
def test_numbers_of_atoms_that_are_swapped(monkeypatch, tmp_path, caplog, swap):
    monkeypatch.setenv("KFORCE_CACHE", str(tmp_path))
    frames = toy_frames(WATER, 2) + toy_frames(AMMONIA, 2)
    first = as_baseline(Spring()).evaluate_training(frames)
    (path,) = tmp_path.iterdir()
    arrays = read_arrays(path)
    n_atoms = arrays["n_atoms"]
    n_atoms[swap] = n_atoms[swap[::-1]]
    write_arrays(path, arrays)
    with caplog.at_level(logging.WARNING):
        second = as_baseline(Spring()).evaluate_training(frames)
    assert "numbers of atoms are not those" in caplog.text
    np.testing.assert_array_equal(first[0], second[0])
    for a, b in zip(first[1], second[1], strict=True):
        np.testing.assert_array_equal(a, b)
    as_baseline(Spring()).evaluate_training(frames)
    assert sorted(read_arrays(path)["n_atoms"]) == [3, 3, 4, 4]
