import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from kforce.data import split, split_indices
from kforce.data.splits import isolated_among
from kforce.datasets import load_methanol_ccsdt
from kforce.errors import InputError

FRAMES = load_methanol_ccsdt()
ENERGY = np.array([f.get_potential_energy() for f in FRAMES])
HOW = ["random", "stratified", "time"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("n_train", "n_test"), [(100, 60), (204, 0), (1, 203), (1, 0)])
def test_sizes_and_no_overlap(how, n_train, n_test):
    train, test = split_indices(FRAMES, n_train, n_test, how)
    assert (len(train), len(test)) == (n_train, n_test)
    assert len({*train, *test}) == n_train + n_test
    assert {*train, *test} <= set(range(len(FRAMES)))


@pytest.mark.parametrize("how", HOW)
def test_seed_decides(how):
    a = np.concatenate(split_indices(FRAMES, 50, 50, how, seed=1))
    b = np.concatenate(split_indices(FRAMES, 50, 50, how, seed=1))
    c = np.concatenate(split_indices(FRAMES, 50, 50, how, seed=2))
    np.testing.assert_array_equal(a, b)
    assert np.array_equal(a, c) == (how == "time")


@pytest.mark.parametrize("how", HOW)
def test_frames_of_the_indices(how):
    train, test = split(FRAMES, 20, 10, how, seed=3)
    i, j = split_indices(FRAMES, 20, 10, how, seed=3)
    assert all(a is FRAMES[k] for a, k in zip(train, i, strict=True))
    assert all(a is FRAMES[k] for a, k in zip(test, j, strict=True))


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    split(FRAMES, 20, 10)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_time_takes_first_and_last():
    train, test = split_indices(FRAMES, 3, 2, "time")
    assert train.tolist() == [0, 1, 2]
    assert test.tolist() == [202, 203]


def test_stratified_draws_one_of_each_stratum():
    train, test = split_indices(FRAMES, 51, 51, "stratified")
    rank = np.argsort(np.argsort(ENERGY))
    assert sorted(rank[train] // 4) == list(range(51))
    rest = np.setdiff1d(np.arange(204), train)
    order = rest[np.argsort(ENERGY[rest])]
    position = {frame: k for k, frame in enumerate(order)}
    assert sorted(position[i] // 3 for i in test) == list(range(51))


def test_stratified_follows_the_energies_better():
    levels = np.linspace(0, 1, 21)
    target = np.quantile(ENERGY, levels)

    def misfit(how):
        draws = [split_indices(FRAMES, 20, 0, how, seed)[0] for seed in range(20)]
        return np.mean([np.abs(np.quantile(ENERGY[d], levels) - target) for d in draws])

    assert misfit("stratified") < 0.5 * misfit("random")


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ((200, 5), r"at least 200 \+ 5 = 205 frames to split, found 204"),
        ((-1, 5), "n_train must be a whole number ≥ 1, found -1"),
        ((0, 5), "n_train .* ≥ 1, found 0"),
        ((5, -2), "n_test .* ≥ 0, found -2"),
        ((5.5, 2), r"n_train .* found 5\.5"),
        ((5, 2, "sobol"), "'random', 'stratified' or 'time', found 'sobol'"),
    ],
)
def test_errors(args, match):
    with pytest.raises(InputError, match=match):
        split(FRAMES, *args)


def test_stratified_needs_energies():
    frames = [*FRAMES[:9], Atoms("H")]
    with pytest.raises(InputError, match="1 of 10 have none"):
        split(frames, 2, 2, "stratified")


def test_empty_list():
    with pytest.raises(InputError, match="empty list"):
        split([], 1, 0)


def test_isolated_atoms_among_other_frames():
    atom, crystal = Atoms("Cu"), bulk("Cu")
    assert len(crystal) == 1
    assert isolated_among([crystal, atom, molecule("H2O"), atom]) == [1, 3]
    assert isolated_among([crystal]) == isolated_among([atom, atom]) == []
