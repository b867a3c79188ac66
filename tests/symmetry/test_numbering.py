from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from toys import shuffle

from kforce.datasets import load_methanol_ccsdt
from kforce.symmetry.numbering import Numbering, find_numbering

DATA = Path(__file__).parents[1] / "data"


def shuffled(frames, seed=0):
    """The geometries with like atoms numbered at random."""
    rng = np.random.default_rng(seed)
    return [Atoms(f.numbers, f.positions[shuffle(f.numbers, rng)]) for f in frames]


def malonaldehyde():
    return read(DATA / "malonaldehyde_300-900K.xyz", ":")


@pytest.mark.parametrize(
    "frames",
    [
        load_methanol_ccsdt()[:30],
        malonaldehyde(),
        read(DATA / "hydroxide_water_300-900K.xyz", ":"),
    ],
    ids=["bonds last", "a proton hops between two wells", "like atoms exchange"],
)
def test_ordered_frames_need_no_numbering(frames):
    numbering, group = find_numbering(frames, 1000)
    assert numbering is None
    assert len(group) == 1


def test_nothing_is_gained_where_all_like_atoms_exchange():
    frames = shuffled(read(DATA / "hydroxide_water_300-900K.xyz", ":"))
    numbering, group = find_numbering(frames, 1000)
    assert numbering is None
    assert len(group) == 1


def test_a_numbering_that_too_many_permutations_leave_open_is_not_taken(caplog):
    assert find_numbering(shuffled(load_methanol_ccsdt()[:30]), 6)[0] is not None
    assert not caplog.records
    assert find_numbering(shuffled(load_methanol_ccsdt()[:30]), 5)[0] is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "more than 5 permutations open" in record.getMessage()
    assert "reorder_atoms, --reorder" in record.getMessage()


def test_both_wells_stay_and_their_mirror_image_is_in_the_group():
    numbering, group = find_numbering(shuffled(malonaldehyde()), 1000)
    assert len(numbering.skeleton) == 7  # without the hydrogen between the oxygens
    assert len(group) == 2
    mobile = np.setdiff1d(np.arange(9), numbering.skeleton)
    assert numbering.numbers[mobile].tolist() == [1]


def test_numbered_frames_are_the_ordered_ones_up_to_the_group():
    ordered = malonaldehyde()
    numbering, group = find_numbering(shuffled(ordered), 1000)
    pairs = numbering.apply(ordered)[0], numbering.apply(shuffled(ordered, seed=7))[0]
    for frame, other in zip(*pairs, strict=True):
        gap = [np.abs(frame.positions - other.positions[p]).max() for p in group]
        assert min(gap) == 0.0


def test_the_given_order_is_kept_where_it_has_the_bonds():
    frames = malonaldehyde()
    numbering = Numbering(frames[0].numbers, np.array([[0, 1], [1, 3], [0, 6]]))
    assert numbering.order(frames[0].positions).tolist() == list(range(9))
