import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from kforce.data import read_frames, reorder_atoms
from kforce.data.reorder import bond_graph
from kforce.datasets import load_methanol_ccsdt
from kforce.errors import InputError
from kforce.labels import Labels

METHANOL = load_methanol_ccsdt()


def shuffled(frame, rng):
    """Permute atoms and labels, rotate, and keep the old number of every atom."""
    order = rng.permutation(len(frame))
    forces = frame.get_forces()[order]
    mixed = frame[order]
    mixed.arrays["old"] = order
    mixed.calc = SinglePointCalculator(
        mixed, energy=frame.get_potential_energy(), forces=forces
    )
    return mixed


def assert_follows(result, reference, frames):
    bonds = bond_graph(reference)
    for new, old in zip(result, frames, strict=True):
        np.testing.assert_array_equal(new.numbers, reference.numbers)
        np.testing.assert_array_equal(bond_graph(new), bonds)
        order = new.arrays["old"]
        np.testing.assert_array_equal(new.positions, old.positions[order])
        np.testing.assert_array_equal(new.get_forces(), old.get_forces()[order])
        assert new.get_potential_energy() == old.get_potential_energy()


def test_methanol():
    rng = np.random.default_rng(0)
    result = reorder_atoms([shuffled(f, rng) for f in METHANOL], METHANOL[0])
    assert_follows(result, METHANOL[0], METHANOL)


@pytest.mark.parametrize("name", ["ethanol", "aspirin", "toluene", "uracil"])
def test_shared_molecules(shared, name):
    path = shared / "data" / "rmd17" / f"rmd17_{name}_train_01.npz"
    frames = read_frames(path)[::20]
    bonds = bond_graph(frames[0])
    frames = [f for f in frames if np.array_equal(bond_graph(f), bonds)]
    assert len(frames) > 40
    rng = np.random.default_rng(1)
    result = reorder_atoms([shuffled(f, rng) for f in frames], frames[0])
    assert_follows(result, frames[0], frames)


def test_matching_is_the_best_one():
    """A rotated copy of the reference itself comes back atom by atom."""
    rng = np.random.default_rng(2)
    for name in ("CH3CH2OH", "C6H6", "isobutane", "CH3COCH3", "C60"):
        reference = molecule(name)
        reference.rattle(0.02, seed=5)
        order = rng.permutation(len(reference))
        mixed = reference[order]
        mixed.rotate(50, "z")
        (result,) = reorder_atoms([mixed], reference)
        np.testing.assert_allclose(
            result.get_all_distances(), reference.get_all_distances(), atol=1e-9
        )


def test_frames_in_order_are_left_alone(caplog):
    with caplog.at_level("INFO", "kforce.data"):
        result = reorder_atoms(METHANOL)
    assert all(a is b for a, b in zip(result, METHANOL, strict=True))
    assert not caplog.text


def test_swapped_hydrogens_are_noticed(caplog):
    frame = METHANOL[3]
    order = np.arange(6)
    hydroxyl = np.flatnonzero(bond_graph(frame)[1] & (frame.numbers == 1))[0]
    methyl = np.flatnonzero(bond_graph(frame)[0] & (frame.numbers == 1))[0]
    order[[hydroxyl, methyl]] = order[[methyl, hydroxyl]]
    with caplog.at_level("INFO", "kforce.data"):
        result = reorder_atoms([METHANOL[0], frame[order]])
    np.testing.assert_array_equal(bond_graph(result[1]), bond_graph(METHANOL[0]))
    assert "re-ordered the atoms of 1 of 2 frames (the first ones: 1)" in caplog.text


def test_labels_that_are_missing_stay_missing():
    reference = METHANOL[0]
    mixed = reference[::-1]
    mixed.calc = SinglePointCalculator(mixed, energy=3.0)
    bare = reference[::-1]
    result = reorder_atoms([mixed, bare], reference)
    labels = Labels.from_frames(result)
    np.testing.assert_array_equal(labels.energy, [3.0, np.nan])
    assert not labels.has_forces.any()


def test_periodic_crystal_keeps_its_bonds():
    bulk = Atoms(
        "NaCl", scaled_positions=[[0, 0, 0], [0.5] * 3], cell=[4] * 3, pbc=True
    )
    (result,) = reorder_atoms([bulk[::-1]], bulk)
    assert str(result.symbols) == "NaCl"


def test_shared_proton_is_no_objection():
    reference = Atoms("FHF", [[0, 0, 0], [0.95, 0, 0], [2.5, 0, 0]])
    shared_proton = Atoms("FFH", [[0, 0, 0], [2.3, 0, 0], [1.15, 0, 0]])
    (result,) = reorder_atoms([shared_proton], reference)
    assert str(result.symbols) == "FHF"


def test_proton_transfer_keeps_its_order():
    reference = Atoms("FHF", [[0, 0, 0], [0.95, 0, 0], [2.7, 0, 0]])
    transferred = Atoms("FHF", [[0, 0, 0], [1.75, 0, 0], [2.7, 0, 0]])
    (result,) = reorder_atoms([transferred], reference)
    assert result is transferred


def broken():
    frame = METHANOL[0].copy()
    frame.positions[-1] += 5 * (frame.positions[-1] - frame.positions[:2].mean(axis=0))
    return frame


@pytest.mark.parametrize(
    ("frames", "reference", "match"),
    [
        ([METHANOL[0], molecule("H2O")], None, "Frame 1 .* it is H2O .* is CH4O"),
        ([broken()], METHANOL[0], "Frame 0 .* lacks bonds"),
        ([molecule("CH3CH2OH"), molecule("CH3OCH3")], None, "Frame 1 .* lacks bonds"),
        ([], None, "empty list"),
        (METHANOL[:1], Atoms(), "holds no atoms"),
    ],
)
def test_errors(frames, reference, match):
    with pytest.raises(InputError, match=match):
        reorder_atoms(frames, reference)
