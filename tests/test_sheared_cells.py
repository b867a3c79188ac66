"""The same lattice in sheared cells: neighbours do not depend on the choice."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from kforce.data import check_frames
from kforce.errors import InputError
from kforce.neighbours.search import find_neighbours
from kforce.neighbours.verlet import SkinList
from kforce.structures import Batch

SHEARS = [
    [[1, 0, 0], [40, 1, 0], [0, -60, 1]],
    [[1, 0, 0], [7, 1, 0], [0, 0, 1]],
    [[1, 900, 0], [0, 1, 0], [-2000, 0, 1]],
]


def silicon():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def sheared(atoms, shear):
    atoms = atoms.copy()
    atoms.set_cell(np.array(shear) @ atoms.cell.array)
    return atoms


def pairs(neighbours):
    rows = np.column_stack([neighbours.owners, neighbours.atoms, neighbours.vec])
    return rows[np.lexsort(rows.round(6).T)]


def assert_same(found, expected, atoms):
    np.testing.assert_allclose(pairs(found), pairs(expected), rtol=0.0, atol=1e-9)
    r = atoms.positions
    vec = r[found.atoms] - r[found.owners] + found.shifts @ atoms.cell.array
    np.testing.assert_allclose(vec, found.vec, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("shear", SHEARS)
def test_a_crystal(shear):
    plain = silicon()
    atoms = sheared(plain, shear)
    expected = find_neighbours(Batch.from_frames([plain]), 5.0)
    assert_same(find_neighbours(Batch.from_frames([atoms]), 5.0), expected, atoms)


@pytest.mark.parametrize("free", [0, 1, 2])
def test_a_slab(free):
    plain = silicon()
    plain.pbc[free] = False
    shear = np.eye(3, dtype=int)
    a, b = (d for d in range(3) if d != free)
    shear[a, b] = 500
    atoms = sheared(plain, shear)
    atoms.cell[free] = [1e9, 0.0, 0.0]  # it means nothing
    expected = find_neighbours(Batch.from_frames([plain]), 5.0)
    found = find_neighbours(Batch.from_frames([atoms]), 5.0)
    assert_same(found, expected, atoms)
    assert not found.shifts[:, free].any()


def test_a_trajectory():
    plain, rng = silicon(), np.random.default_rng(0)
    atoms = sheared(plain, SHEARS[0])
    skin_list = SkinList(4.0)
    for _ in range(3):
        plain.positions += rng.normal(scale=0.02, size=(8, 3))
        atoms.positions[:] = plain.positions
        found = skin_list.neighbours(Batch.from_frames([atoms]))
        assert_same(found, find_neighbours(Batch.from_frames([plain]), 4.0), atoms)
    assert skin_list.n_builds == 1


def test_ordinary_cells_are_searched_as_they_are(monkeypatch):
    def never(*_):
        raise AssertionError("reduced")

    monkeypatch.setattr("kforce.neighbours.search.minkowski_reduce", never)
    for atoms in (bulk("Si"), bulk("Fe"), bulk("Mg"), silicon()):
        find_neighbours(Batch.from_frames([atoms]), 5.0)


def test_a_flat_cell_is_refused_however_it_is_sheared():
    flat = Atoms("H", cell=np.diag([4.0, 4.0, 1e-4]), pbc=True)
    for atoms in (flat, sheared(flat, SHEARS[0]), sheared(flat, SHEARS[2])):
        with pytest.raises(InputError, match="does not span them"):
            find_neighbours(Batch.from_frames([atoms]), 3.0)


def test_checks_of_the_data_take_no_images_for_near():
    atoms = sheared(silicon(), SHEARS[0])
    assert "closer" not in str(check_frames([atoms]))
    atoms.positions[1] = atoms.positions[0] + atoms.cell[1] + [0.2, 0.0, 0.0]
    assert "closer than 0.3 Å, down to 0.2 Å" in str(check_frames([atoms]))
