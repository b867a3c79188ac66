import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from kforce.errors import InputError
from kforce.neighbours.search import find_neighbours
from kforce.neighbours.verlet import SkinList
from kforce.structures import Batch


def silicon():
    return bulk("Si", cubic=True)


def slab():
    atoms = bulk("Cu", cubic=True)
    atoms.pbc = [True, True, False]
    return atoms


def pairs(neighbours):
    rows = np.column_stack([neighbours.owners, neighbours.atoms, neighbours.shifts])
    order = np.lexsort(rows.T)
    return rows[order], neighbours.vec[order], neighbours.dist[order]


def assert_as_searched(skin_list, atoms):
    batch = Batch.from_frames([atoms])
    found = skin_list.neighbours(batch)
    np.testing.assert_array_equal(found.central_atoms, np.arange(len(atoms)))
    assert found.offsets[-1] == len(found.atoms)
    for one, other in zip(
        pairs(found), pairs(find_neighbours(batch, skin_list.cutoff)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("make", [silicon, slab, lambda: molecule("C6H6")])
def test_a_walk(make):
    atoms, rng = make(), np.random.default_rng(0)
    skin_list = SkinList(3.0, skin=0.6)
    n_steps = 60
    for _ in range(n_steps):
        atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
        assert_as_searched(skin_list, atoms)
    # The atoms moved by more than the skin, but in steps that are much smaller.
    assert 2 <= skin_list.n_builds < n_steps / 2


def test_it_is_built_when_an_atom_moved_by_half_of_the_skin():
    atoms = silicon()
    skin_list = SkinList(3.0, skin=0.5)
    assert_as_searched(skin_list, atoms)
    for moved, n_builds in ((0.24, 1), (-0.48, 1), (0.5, 2), (-0.24, 2), (-0.2, 3)):
        # Positions from the start: 0.24, -0.24, 0.26 (built), 0.02, -0.18 (built).
        atoms.positions[3, 1] += moved
        assert_as_searched(skin_list, atoms)
        assert skin_list.n_builds == n_builds


def with_other_cell(atoms):
    atoms.set_cell(1.01 * atoms.cell, scale_atoms=False)


def with_other_directions(atoms):
    atoms.pbc = [True, False, True]


def with_other_elements(atoms):
    atoms.numbers[2] = 6


def with_another_atom(atoms):
    atoms += Atoms("H", [(1.0, 2.0, 0.5)])


def wrapped_to_another_cell(atoms):
    atoms.positions[1] += atoms.cell[0] - atoms.cell[2]


@pytest.mark.parametrize(
    "change",
    [
        with_other_cell,
        with_other_directions,
        with_other_elements,
        with_another_atom,
        wrapped_to_another_cell,
    ],
)
def test_it_is_built_again_for_another_structure(change):
    atoms = silicon()
    skin_list = SkinList(3.0)
    assert_as_searched(skin_list, atoms)
    change(atoms)
    assert_as_searched(skin_list, atoms)
    assert skin_list.n_builds == 2
    assert_as_searched(skin_list, atoms)
    assert skin_list.n_builds == 2


def test_a_batch_that_is_written_to():
    batch = Batch.from_frames([silicon()])
    skin_list = SkinList(3.0)
    skin_list.neighbours(batch)
    batch.positions[0] += 1.0
    skin_list.neighbours(batch)
    assert skin_list.n_builds == 2


def test_atoms_that_meet():
    positions = np.array([(0, 0, 0), (0.2, 0, 0)])
    skin_list = SkinList(3.0)
    skin_list.neighbours(Batch.from_frames([Atoms("H2", positions)]))
    batch = Batch.from_frames([Atoms("H2", 0.0 * positions)])
    with pytest.raises(InputError, match="Atoms 0 and 1 of frame 0 are at the same"):
        skin_list.neighbours(batch)
    assert skin_list.n_builds == 1


def test_a_failed_search_leaves_no_pairs():
    skin_list = SkinList(3.0)
    atoms = silicon()
    assert_as_searched(skin_list, atoms)
    flat = atoms.copy()
    flat.cell = [5, 5, 0]
    with pytest.raises(InputError, match="does not span"):
        skin_list.neighbours(Batch.from_frames([flat]))
    assert_as_searched(skin_list, atoms)
    assert skin_list.n_builds == 2


@pytest.mark.parametrize(
    ("cutoff", "skin", "match"),
    [
        (0.0, 0.5, "cutoff must be a positive length"),
        (np.nan, 0.5, "cutoff must be a positive length"),
        (3.0, 0.0, "skin must be a positive length"),
        (3.0, -0.1, "skin must be a positive length"),
    ],
)
def test_bad_lengths(cutoff, skin, match):
    with pytest.raises(InputError, match=match):
        SkinList(cutoff, skin)


def test_several_structures():
    batch = Batch.from_frames([silicon(), silicon()])
    with pytest.raises(InputError, match="follows one structure, found a batch of 2"):
        SkinList(3.0).neighbours(batch)
