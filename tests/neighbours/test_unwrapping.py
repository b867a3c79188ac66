"""Molecules in boxes, against the molecules that were put there."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.geometry import find_mic
from scipy.spatial.transform import Rotation

from kforce import InputError
from kforce.neighbours.unwrapping import NotAloneError, unwrap, unwrap_all

CELLS = {
    "wide": [20.0] * 3,
    "narrow": [9.5] * 3,
    "skewed": [[12.0, 0, 0], [6.0, 11.0, 0], [-3.0, 5.0, 12.0]],
    "sheared": [[14.0, 0, 0], [95.0, 13.0, 0], [0.0, 0.0, 15.0]],
}


def water_dimer(distance, axis=(0.0, 0.0, 1.0)):
    """Two molecules whose nearest atoms are about that far apart, in Å."""
    first, second = molecule("H2O"), molecule("H2O")
    second.positions += np.array(axis) * (distance + np.ptp(first.positions[:, 2]))
    return first + second


def chain(length, spacing):
    """Hydrogen atoms along a line."""
    return Atoms(f"H{length}", [(spacing * k, 0.0, 0.0) for k in range(length)])


MOLECULES = {
    "acetic acid": molecule("CH3COOH"),
    "complex": water_dimer(3.2),
    "one atom": Atoms("He"),
}


def in_box(atoms, cell, seed=0, pbc=True, wrap=True):
    """Rotate and move a molecule, and cut it at the boundaries of a box."""
    rng = np.random.default_rng(seed)
    turned = atoms.copy()
    turned.positions = Rotation.random(random_state=seed).apply(atoms.positions)
    turned.positions += rng.uniform(-50, 50, 3)
    boxed = turned.copy()
    boxed.set_cell(cell)
    boxed.pbc = pbc
    if wrap:
        boxed.wrap()
        boxed.positions += rng.integers(-2, 3, (len(atoms), 3)) @ (
            boxed.cell.array * boxed.pbc[:, None]
        )
    return boxed, turned


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("atoms", MOLECULES.values(), ids=MOLECULES)
def test_the_molecule_comes_back(atoms, cell, seed):
    boxed, turned = in_box(atoms, cell, seed)
    before = boxed.copy()
    whole = unwrap(boxed)
    np.testing.assert_allclose(
        whole.positions - whole.positions[0],
        turned.positions - turned.positions[0],
        atol=1e-9,
    )
    assert not whole.pbc.any()
    assert not whole.cell.array.any()
    assert boxed == before
    moved = np.linalg.solve(boxed.cell.array.T, (whole.positions - boxed.positions).T)
    np.testing.assert_allclose(moved, moved.round(), atol=1e-9)


@pytest.mark.parametrize("pbc", [(1, 1, 0), (0, 0, 1), (1, 0, 1)], ids=str)
def test_other_directions_stay(pbc):
    boxed, turned = in_box(molecule("CH3COOH"), CELLS["skewed"], 1, np.array(pbc) > 0)
    whole = unwrap(boxed)
    np.testing.assert_allclose(
        whole.get_all_distances(), turned.get_all_distances(), atol=1e-9
    )


def test_a_molecule_longer_than_half_of_the_box():
    # Nearest images alone would fold it.
    boxed, turned = in_box(chain(17, 1.0), [21.5, 21.5, 21.5], 3)
    folded = find_mic(boxed.positions - boxed.positions[0], boxed.cell, True)[1]
    assert folded.max() < 15.0
    np.testing.assert_allclose(
        unwrap(boxed).get_all_distances(), turned.get_all_distances(), atol=1e-9
    )


def test_a_whole_molecule_is_left_in_place():
    boxed, turned = in_box(molecule("CH3COOH"), CELLS["wide"], 5, wrap=False)
    np.testing.assert_array_equal(unwrap(boxed).positions, turned.positions)
    assert unwrap(turned) is turned


def test_charges_and_magnetic_moments_are_kept():
    boxed, _ = in_box(molecule("CH3COOH"), CELLS["wide"])
    boxed.set_initial_charges(np.arange(8.0))
    np.testing.assert_array_equal(unwrap(boxed).get_initial_charges(), np.arange(8.0))


@pytest.mark.parametrize("distance", [4.0, 5.5, 7.0, 9.0])
def test_fragments_are_put_together_where_that_is_clear(distance):
    atoms = water_dimer(distance)
    boxed, turned = in_box(atoms, [2.5 * distance + 6.0] * 3, 2)
    np.testing.assert_allclose(
        unwrap(boxed).get_all_distances(), turned.get_all_distances(), atol=1e-9
    )


def in_cell(atoms, *lengths):
    atoms = atoms.copy()
    atoms.set_cell(lengths)
    atoms.pbc = True
    return atoms


NOT_ALONE = {
    "crystal": (bulk("Si", cubic=True), False),
    "layers": (graphene(vacuum=10.0), False),
    "polymer": (in_cell(chain(4, 1.0), 4.0, 20.0, 20.0), False),
    "molecular crystal": (in_cell(molecule("CO2"), 5.6, 5.6, 5.6), False),
    "little vacuum": (in_cell(molecule("CH3COOH"), 8.0, 8.0, 8.0), False),
    "two molecules": (in_cell(water_dimer(7.0), 16.0, 16.0, 16.0), True),
    "many": (in_cell(Atoms("He4", 7.0 * np.eye(4, 3)), 14.0, 14.0, 14.0), True),
    "two planes": (in_cell(chain(2, 30.0), 60.0, 10.0, 10.0), True),
}
NOT_ALONE["layers"][0].pbc = True


@pytest.mark.parametrize(("atoms", "is_ambiguous"), NOT_ALONE.values(), ids=NOT_ALONE)
def test_what_is_no_molecule_alone(atoms, is_ambiguous):
    with pytest.raises(NotAloneError, match="periodic images in frame 3 are") as found:
        unwrap(atoms, 3)
    assert found.value.is_ambiguous == is_ambiguous
    reason = "open which of them" if is_ambiguous else "less than the 5 Å of vacuum"
    assert reason in str(found.value)


@pytest.mark.parametrize(("box", "found"), [(16.5, "8.75 .* up to 7.75"), (8.9, "4.")])
def test_the_gap_is_measured(box, found):
    atoms = in_cell(chain(2, 7.75 if box > 10 else 4.2), box, 20.0, 20.0)
    with pytest.raises(NotAloneError, match=found):
        unwrap(atoms)


def test_all_or_none():
    alone = in_cell(molecule("H2O"), 15.0, 15.0, 15.0)
    free, crystal = molecule("H2O"), bulk("Si")
    frames, reason = unwrap_all([alone, free])
    assert reason is None
    assert frames[1] is free
    assert not frames[0].pbc.any()
    given = [alone, free, crystal]
    frames, reason = unwrap_all(given)
    assert frames is given
    assert "in frame 2 are 2.35 Å apart" in str(reason)


@pytest.mark.parametrize(
    ("atoms", "match"),
    [
        (Atoms("H2", np.eye(2, 3), pbc=True), "Frame 0 is periodic .* does not span"),
        (in_cell(Atoms("H2", np.ones((2, 3))), 4, 4, 4), "0 and 1 of frame 0 are at"),
        (in_cell(Atoms("H", [[np.nan, 0, 0]]), 9, 9, 9), "finite numbers; frame 0"),
    ],
    ids=["no cell", "coincident", "not a number"],
)
def test_structures_that_are_refused(atoms, match):
    with pytest.raises(InputError, match=match):
        unwrap(atoms)
