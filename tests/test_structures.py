import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from toys import labelled

from kforce.errors import InputError
from kforce.labels import Labels
from kforce.structures import Batch, as_frames


def test_a_batch_is_the_frames_one_after_another():
    frames = [molecule("H2O"), molecule("CH4")]
    frames[1].cell = [5.0, 6.0, 7.0]
    frames[1].pbc = [True, False, True]
    batch = Batch.from_frames(frames)
    assert batch.n_structures == 2
    for s, frame in enumerate(frames):
        mine = slice(batch.offsets[s], batch.offsets[s + 1])
        np.testing.assert_array_equal(batch.numbers[mine], frame.numbers)
        np.testing.assert_array_equal(batch.positions[mine], frame.positions)
        np.testing.assert_array_equal(batch.cells[s], frame.cell.array)
        np.testing.assert_array_equal(batch.pbc[s], frame.pbc)


def test_frames_may_be_any_iterable():
    frames = [molecule("H2O"), molecule("H2O")]
    assert as_frames(iter(frames)) == frames
    assert as_frames(tuple(frames)) == frames


@pytest.mark.parametrize(
    ("frames", "match"),
    [
        ([], "at least one structure, found an empty list"),
        (molecule("H2O"), r"single Atoms: write \[atoms\]"),
        (3, "Expected a list of ase.Atoms, found int"),
        (None, "Expected a list of ase.Atoms, found NoneType"),
        ([molecule("H2O"), "x.xyz"], "found str at position 1"),
        (np.zeros((2, 3)), "found ndarray at position 0"),
        ([molecule("H2O"), Atoms()], "Frame 1 holds no atoms: remove it"),
        (
            [molecule("H2O"), Atoms("He", [(0, np.nan, 0)]), molecule("H2O")],
            "frame 1 holds NaN or infinity",
        ),
        (
            [molecule("H2O"), Atoms("H2", [(0, 0, 0), (0, 0, np.inf)])],
            "frame 1 holds NaN or infinity",
        ),
    ],
)
def test_what_is_not_a_list_of_frames(frames, match):
    with pytest.raises(InputError, match=match):
        Batch.from_frames(frames)


def test_labels_are_read_from_the_calculators():
    water = molecule("H2O")
    forces = np.arange(9.0).reshape(3, 3)
    partial = np.where(np.arange(3)[:, None] == 1, np.nan, forces)
    frames = [
        labelled(water.numbers, water.positions, 1.5, forces),
        labelled(water.numbers, water.positions, energy=2.5),
        labelled(water.numbers, water.positions, forces=partial),
        water,
    ]
    labels = Labels.from_frames(frames)
    np.testing.assert_array_equal(labels.energy, [1.5, 2.5, np.nan, np.nan])
    np.testing.assert_array_equal(labels.forces[0], forces)
    np.testing.assert_array_equal(labels.forces[2], partial)
    assert all(np.isnan(labels.forces[s]).all() for s in (1, 3))
    np.testing.assert_array_equal(labels.has_forces, [True, False, True, False])


def test_one_force_component_alone_is_no_force_on_an_atom():
    forces = np.full((2, 3), np.nan)
    forces[0, 0] = 1.0
    frame = labelled([1, 1], np.eye(3)[:2], forces=forces)
    assert not Labels.from_frames([frame]).has_forces.any()


@pytest.mark.parametrize("key", ["energy", "forces"])
def test_infinite_labels_are_refused(key):
    good = labelled([1, 1], np.eye(3)[:2], 0.0, np.zeros((2, 3)))
    bad = {"energy": 0.0, "forces": np.zeros((2, 3))}
    bad[key] = np.full(np.shape(bad[key]), np.inf)
    frames = [good, labelled([1, 1], np.eye(3)[:2], **bad)]
    with pytest.raises(InputError, match="frame 1 holds infinity"):
        Labels.from_frames(frames)


def test_forces_of_a_wrong_shape_are_refused():
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms)
    atoms.calc.results["forces"] = np.zeros((2, 3))
    with pytest.raises(InputError, match=r"frame 0 must have shape \(3, 3\), found"):
        Labels.from_frames([atoms])
