import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from kforce.data import read_frames
from kforce.data.duplicates import find_duplicates
from kforce.datasets import load_methanol_ccsdt

FRAMES = load_methanol_ccsdt()


def moved(frame):
    frame = frame[np.random.default_rng(0).permutation(len(frame))]
    frame.rotate(77, (1, 2, 3))
    frame.positions += [3, -40, 2]
    return frame


def test_none():
    assert find_duplicates(FRAMES) == []


def test_moved_rotated_mirrored_permuted():
    mirrored = FRAMES[5].copy()
    mirrored.positions *= [1, 1, -1]
    frames = [*FRAMES, moved(FRAMES[3]), mirrored, FRAMES[5].copy()]
    assert find_duplicates(frames) == [(3, 204), (5, 205), (5, 206)]


@pytest.mark.parametrize(("shift", "same"), [(4e-7, True), (1e-5, False)])
def test_tolerance(shift, same):
    other = FRAMES[0].copy()
    other.positions[0] += shift
    assert bool(find_duplicates([FRAMES[0], other])) == same


def test_many_copies_and_other_elements():
    frames = [molecule("H2O")] * 3 + [molecule("CO")] * 2
    nearly = molecule("CO")
    nearly.numbers = [7, 8]
    assert find_duplicates([*frames, nearly]) == [(0, 1), (0, 2), (3, 4)]


def test_cells():
    stretched = bulk("Si")
    stretched.set_cell(stretched.cell * 1.01)
    frames = [bulk("Si"), stretched, bulk("Si"), Atoms("H"), Atoms("H", [[1, 0, 0]])]
    assert find_duplicates(frames) == [(0, 2), (3, 4)]


def test_positions_that_are_not_finite():
    bad = molecule("CO")
    bad.positions[0] = np.nan
    assert find_duplicates([bad, bad.copy()]) == []


def test_shared_ethanol(shared):
    """Two data sets of ethanol are known to share 8 frames and 12 frames."""
    data = shared / "data"
    first = read_frames(data / "botnet" / "dataset_ethanol" / "train.xyz")
    for half, count in (("train", 8), ("test", 12)):
        second = read_frames(data / "rmd17" / f"rmd17_ethanol_{half}_01.npz")
        assert len(find_duplicates(first + second)) == count
