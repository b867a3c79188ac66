import itertools
import logging
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st

from kforce.datasets import load_methanol_ccsdt
from kforce.errors import InputError
from kforce.symmetry.groups import closure, cycles, generators, validate_permutations
from kforce.symmetry.recovery import _fit_group, find_permutations

HERE = Path(__file__).parents[1]


def rmd17(shared, name):
    with np.load(shared / "data" / "rmd17" / f"rmd17_{name}_train_01.npz") as data:
        return [Atoms(data["nuclear_charges"], x) for x in data["coords"]]


def rattled(atoms, n_frames, size, seed=0):
    rng = np.random.default_rng(seed)
    frames = [atoms.copy() for _ in range(n_frames)]
    for frame in frames:
        frame.positions += rng.normal(scale=size, size=(len(atoms), 3))
    return frames


def subset(frames, n_frames, seed=0):
    order = np.random.default_rng(seed).permutation(len(frames))
    return [frames[k] for k in order[:n_frames]]


def two_flipping_rings(n_frames, seed=0, flips=(True, True)):
    """Two phenyl rings (biphenyl) at 40° on average, each flipped now and then."""
    ring = np.pi / 3 * np.arange(6)
    flat = np.stack([np.cos(ring), np.sin(ring), 0 * ring], axis=1)
    half = np.concatenate([1.39 * flat, 2.48 * flat[1:]])
    half[:, 0] -= 2.13
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n_frames):
        halves = []
        for sign, flip in zip((1, -1), flips, strict=True):
            angle = np.radians(rng.normal(20 * sign, 8))
            angle += np.pi * rng.integers(2) if flip else 0
            c, s = np.cos(angle), np.sin(angle)
            turned = half @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
            halves.append(turned * [sign, 1, 1])
        positions = np.concatenate(halves)
        positions += rng.normal(scale=0.04, size=positions.shape)
        frames.append(Atoms("C6H5C6H5", positions))
    return frames


@pytest.mark.parametrize("n_frames", [50, 100, 200, 1000])
@pytest.mark.parametrize(
    ("name", "n_perms"),
    [
        ("ethanol", 6),
        ("benzene", 12),
        ("toluene", 12),
        ("malonaldehyde", 4),
        ("aspirin", 6),
        ("uracil", 1),
    ],
)
def test_rmd17(shared, name, n_perms, n_frames):
    frames = rmd17(shared, name)
    group = find_permutations(subset(frames, n_frames))
    assert len(group) == n_perms
    validate_permutations(group, frames[0].numbers)


@pytest.mark.parametrize(("name", "n_perms"), [("benzene", 12), ("uracil", 1)])
def test_ten_frames_are_enough_for_rigid_molecules(shared, name, n_perms):
    assert len(find_permutations(subset(rmd17(shared, name), 10))) == n_perms


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize(
    ("name", "n_perms"),
    [("ethanol", 6), ("benzene", 12), ("toluene", 12), ("aspirin", 6), ("uracil", 1)],
)
def test_rmd17_any_subset_and_seed(shared, name, n_perms, seed):
    for n_frames in (100, 1000):
        frames = subset(rmd17(shared, name), n_frames, seed)
        assert len(find_permutations(frames, seed=seed)) == n_perms


@pytest.mark.parametrize("n_frames", [50, 200, 1000])
@pytest.mark.parametrize(
    ("path", "n_perms"),
    [
        ("h2co/h2co_ccsdt.extxyz", 2),
        ("methane_qm22/methane_stride2.extxyz", 24),
        ("water_monomer_1k/water_monomers_1k.extxyz", 2),
        ("botnet/dataset_acac/train_300K.xyz", 72),
    ],
)
def test_other_published_molecules(shared, path, n_perms, n_frames):
    frames = read(shared / "data" / path, ":1000")
    assert len(find_permutations(subset(frames, n_frames))) == n_perms


@pytest.mark.parametrize("n_frames", [25, 50, 100, 204])
def test_methanol(n_frames):
    frames = subset(load_methanol_ccsdt(), n_frames)
    group = find_permutations(frames)
    # The hydroxyl hydrogen (atom 3) never joins the methyl group.
    assert {cycles(p) for p in group} == {
        "()",
        "(2 4)",
        "(2 5)",
        "(4 5)",
        "(2 4 5)",
        "(2 5 4)",
    }


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        # Exchange of the methyls and their rotations; a mirror image of one methyl
        # alone changes only distances between the two, which the data may not resolve.
        ("acetone", (36, 72)),
        ("isobutane", (162,)),  # of the 1296 exchanges of equal atoms
        ("azobenzene", (8,)),
    ],
)
def test_dynamics_at_500_kelvin(name, sizes):
    frames = read(HERE / "data" / f"{name}_500K.xyz", ":")
    group = find_permutations(frames)
    assert len(group) in sizes
    validate_permutations(group, frames[0].numbers)


@pytest.mark.parametrize(
    ("flips", "n_perms"),
    # Without flips: the exchange of the two rings by the twofold axes.
    [((True, True), 8), ((False, False), 4)],
)
@pytest.mark.parametrize("n_frames", [50, 100, 200])
def test_two_rings(flips, n_perms, n_frames):
    frames = two_flipping_rings(n_frames, flips=flips)
    assert len(find_permutations(frames)) == n_perms


def test_one_jump_of_a_methyl_group_is_enough():
    frames = rattled(molecule("CH3CH2OH"), 60, 0.06)
    assert len(find_permutations(frames)) == 2
    carbon = next(i for i in range(9) if _bonded_hydrogens(frames[0], i) == 3)
    methyl = np.argsort(frames[0].get_distances(carbon, range(9)))
    methyl = [i for i in methyl if frames[0].numbers[i] == 1][:3]
    jump = np.arange(9)
    jump[methyl] = np.roll(methyl, 1)
    jumped = [f[jump] if k < 15 else f for k, f in enumerate(frames)]
    assert len(find_permutations(jumped)) == 6


def _bonded_hydrogens(atoms, i):
    near = atoms.get_distances(i, range(len(atoms))) < 1.4
    return np.count_nonzero(near & (atoms.numbers == 1) & (atoms.numbers[i] == 6))


@pytest.mark.parametrize(
    ("name", "n_perms"),
    [
        ("CO", 1),
        ("N2", 2),
        ("CO2", 2),
        ("H2O", 2),
        ("NH3", 6),
        ("CH4", 24),
        ("C2H4", 4),
        ("C2H6", 12),
        ("C6H6", 12),
        ("CH3CH2OH", 2),
        ("isobutane", 6),
    ],
)
@pytest.mark.parametrize("n_frames", [1, 40])
def test_rigid_molecules(name, n_perms, n_frames):
    atoms = molecule(name)
    frames = [atoms] if n_frames == 1 else rattled(atoms, n_frames, 0.04)
    group = find_permutations(frames)
    assert len(group) == n_perms
    validate_permutations(group, atoms.numbers)


@pytest.mark.slow
def test_buckminsterfullerene():
    assert len(find_permutations([molecule("C60")])) == 120


def test_one_atom():
    assert find_permutations([Atoms("H")]).tolist() == [[0]]


def test_an_asymmetric_single_frame_has_the_identity_only():
    assert len(find_permutations([load_methanol_ccsdt()[3]])) == 1


def test_copies_of_a_frame_add_nothing():
    atoms = molecule("H2O")
    assert len(find_permutations([atoms, atoms.copy(), atoms.copy()])) == 2
    frames = load_methanol_ccsdt()[:60]
    twice = find_permutations([*frames, *frames])
    np.testing.assert_array_equal(twice, find_permutations(frames))


def test_periodic_frames_use_nearest_images():
    # Min-image distances of the cube: every cation has three near anions and a far one.
    frames = rattled(bulk("NaCl", "rocksalt", a=5.6, cubic=True), 40, 0.05)
    moved = [f.copy() for f in frames]
    for k, frame in enumerate(moved):
        frame.positions[k % 8] += frame.cell[k % 3]
    assert len(find_permutations(frames)) == 24
    assert len(find_permutations(moved)) == 24


def test_same_answer_twice_and_in_any_order():
    frames = load_methanol_ccsdt()
    group = find_permutations(frames)
    np.testing.assert_array_equal(group, find_permutations(frames))
    for seed in range(3):
        shuffled = subset(frames, len(frames), seed)
        np.testing.assert_array_equal(group, find_permutations(shuffled, seed=seed))


def test_sorted_with_the_identity_first():
    group = find_permutations(load_methanol_ccsdt())
    assert group[0].tolist() == list(range(6))
    assert group.tolist() == sorted(group.tolist())
    assert np.issubdtype(group.dtype, np.integer)


@given(order=st.permutations(range(6)))
@settings(max_examples=5, deadline=None)
def test_another_atom_order_gives_the_conjugate_group(order):
    frames = load_methanol_ccsdt()[:80]
    order = np.array(order)
    group = find_permutations(frames)
    renamed = find_permutations([f[order] for f in frames])
    conjugate = {tuple(np.argsort(order)[p[order]]) for p in group}
    assert {tuple(p) for p in renamed} == conjugate


def test_a_larger_group_is_cut_to_a_subgroup_with_a_warning(caplog):
    frames = rattled(molecule("CH4"), 40, 0.05)
    whole = {tuple(p) for p in find_permutations(frames)}
    with caplog.at_level(logging.WARNING, "kforce.symmetry.recovery"):
        group = find_permutations(frames, max_permutations=10)
    assert 1 < len(group) <= 10
    assert {tuple(p) for p in group} < whole
    validate_permutations(group, frames[0].numbers)
    assert "max_permutations=10" in caplog.text
    assert "mismatch" in caplog.text


def test_more_than_a_hundred_elements_are_kept():
    frames = read(HERE / "data" / "isobutane_500K.xyz", ":")
    assert len(find_permutations(frames)) > 100


def test_log_shows_size_and_generators(caplog):
    with caplog.at_level(logging.INFO, "kforce.symmetry.recovery"):
        find_permutations(rattled(molecule("H2O"), 30, 0.05))
    assert "2 atom permutations" in caplog.text
    assert "(1 2) mismatch" in caplog.text


def test_frames_are_left_alone():
    frames = rattled(molecule("H2O"), 5, 0.05)
    before = [f.positions.copy() for f in frames]
    find_permutations(frames)
    np.testing.assert_array_equal(before, [f.positions for f in frames])


def _not_finite():
    atoms = molecule("H2O")
    atoms.positions[0, 0] = np.nan
    return atoms


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        ([], {}, "at least one structure"),
        (molecule("H2O"), {}, "list of ase.Atoms"),
        ([molecule("H2O"), molecule("CO2")], {}, "frame 1 is OCO|frame 1 is CO2"),
        ([molecule("H2O"), molecule("H2O")[::-1]], {}, "one order"),
        ([molecule("H2O"), _not_finite()], {}, "frame 1 holds NaN"),
        ([bulk("Si", a=5.4), bulk("Si", a=5.5)], {}, "need one cell"),
        ([bulk("Si", a=5.4), Atoms("Si2", np.eye(3)[:2])], {}, "need one cell"),
        ([molecule("H2O")], {"max_permutations": 0}, "≥ 1, found 0"),
        ([molecule("H2O")], {"max_permutations": "x"}, "whole number ≥ 1, found 'x'"),
        ([molecule("H2O")], {"max_permutations": 2.5}, "whole number ≥ 1, found 2.5"),
        ([molecule("H2O")], {"seed": -1}, "seed must be a whole number ≥ 0, found -1"),
    ],
)
def test_find_permutations_refuses(frames, options, message):
    with pytest.raises(InputError, match=message):
        find_permutations(frames, **options)


@pytest.mark.parametrize(
    ("permutations", "message"),
    [
        ([0, 1, 2, 3], "shape"),
        ([[0, 1, 2]], "shape"),
        (np.empty((0, 4), dtype=int), "shape"),
        ([[0, 1, 2, 3], [0, 1]], "equal length"),
        ([[0.0, 1.0, 2.0, 3.0]], "integers"),
        ([[1, 2, 3, 4]], "start at 0"),
        ([[0, 1, 1, 3]], "once"),
        ([[0, 1, 2, 3], [1, 0, 2, 3]], "equal elements"),
        ([[0, 2, 1, 3]], "identity"),
        ([[0, 1, 2, 3], [0, 1, 2, 3]], "repeated"),
        ([[0, 1, 2, 3], [0, 2, 3, 1]], "missing"),
        ([[0, 1, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2]], "missing"),
    ],
)
def test_validate_permutations_refuses(permutations, message):
    with pytest.raises(InputError, match=message):
        validate_permutations(permutations, [7, 1, 1, 1])


def test_validate_permutations_keeps_the_order_of_rows():
    rows = [[0, 2, 1], [0, 1, 2]]
    assert validate_permutations(rows, [8, 1, 1]).tolist() == rows


def test_thousands_of_permutations_are_quick():
    group = np.array(list(itertools.permutations(range(7))))
    start = time.perf_counter()
    validate_permutations(group, [1] * 7)
    middle = time.perf_counter()
    found, _ = _fit_group({tuple(p): 0.9 for p in group.tolist()}, 7, 5040)
    assert middle - start < 0.2
    assert time.perf_counter() - middle < 0.5
    np.testing.assert_array_equal(found, group)


@given(st.lists(st.permutations(range(5)), max_size=3), st.randoms())
def test_generators_generate_the_group(factors, random):
    group = closure(factors, 5, 120)
    rows = group[random.sample(range(len(group)), len(group))]
    assert np.array_equal(validate_permutations(rows, [1] * 5), rows)
    np.testing.assert_array_equal(closure(generators(rows), 5, 120), group)
    assert 2 ** len(generators(rows)) <= len(group)
    assert closure(factors, 5, len(group) - 1) is None


@given(permutation=st.permutations(range(9)))
def test_cycles_tell_the_permutation(permutation):
    rebuilt = list(range(9))
    for cycle in cycles(permutation).strip("()").split(")("):
        atoms = [int(i) for i in cycle.split()]
        for i, image in zip(atoms, atoms[1:] + atoms[:1], strict=True):
            rebuilt[i] = image
    assert rebuilt == list(permutation)
