from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from kforce.errors import InputError
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

SKEWED = [[4.0, 0.3, -0.2], [2.5, 3.6, 0.4], [-1.5, 1.9, 4.4]]


def atoms_in(cell, pbc, n_atoms=4, seed=0, low=0.0, high=1.0):
    """Atoms with random fractional coordinates; zero vectors count as 5 Å."""
    rng = np.random.default_rng(seed)
    box = np.array(cell, dtype=float).reshape(3, -1)
    box = np.diag(box[:, 0]) if box.shape[1] == 1 else box
    empty = ~box.any(axis=1)
    full = np.where(empty[:, None], 5.0 * np.eye(3), box)
    positions = rng.uniform(low, high, (n_atoms, 3)) @ full
    return Atoms(numbers=[14] * n_atoms, positions=positions, cell=box, pbc=pbc)


def thin_and_long():
    """A flat molecule of which one atom has flown away."""
    positions = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (3e5, 4e5, 0)]
    return Atoms("C4", positions)


CASES = {
    "molecule": (molecule("CH3OH"), 2.5),
    "two far molecules": (thin_and_long(), 2.0),
    "flat molecule": (molecule("C6H6"), 3.0),
    "molecule with a cell": (atoms_in([5, 6, 7], False), 4.0),
    "cubic": (atoms_in([5, 5, 5], True), 3.0),
    "skewed": (atoms_in(SKEWED, True), 3.5),
    "left-handed": (atoms_in(np.array(SKEWED)[[1, 0, 2]], True), 3.5),
    "smaller than the cutoff": (atoms_in([2.2, 3.0, 2.6], True, 2), 6.0),
    "skewed and small": (atoms_in(0.6 * np.array(SKEWED), True, 2), 6.0),
    "slab": (atoms_in([4, 4.5, 0], [True, True, False]), 5.0),
    "skewed slab": (atoms_in([*SKEWED[:2], [0, 0, 0]], [True, True, False]), 5.0),
    "slab with a cell": (atoms_in([4, 4.5, 9], [True, True, False]), 5.0),
    "slab along b, c": (atoms_in([0, 3, 4], [False, True, True]), 5.0),
    "wire along a": (atoms_in([3, 0, 0], [True, False, False]), 5.0),
    "skewed wire": (atoms_in([[0] * 3, SKEWED[1], [0] * 3], [False, True, False]), 5.0),
    "long wire": (atoms_in([40, 0, 0], [True, False, False], 30), 4.0),
    "atoms outside the cell": (atoms_in(SKEWED, True, low=-3, high=4), 3.5),
    "outside a slab": (atoms_in([4, 4, 0], [1, 1, 0], low=-3, high=4), 3.5),
    "one atom in one cell": (bulk("Cu"), 4.0),
    "lone atom": (Atoms("H"), 5.0),
    "many": (atoms_in([12, 14, 0], [True, True, False], 120), 2.5),
}


def slow_neighbours(atoms, cutoff):
    """(centre, neighbour, shift) -> vector, by all images that may be close."""
    # Cells along one direction that the cutoff and the atoms' extent reach over.
    cell, pbc = atoms.cell.array, atoms.pbc
    n = np.zeros(3, dtype=int)
    if pbc.any():
        dual = np.linalg.pinv(cell[pbc])
        along = atoms.positions @ dual
        n[pbc] = np.ceil(cutoff * np.linalg.norm(dual, axis=0) + np.ptp(along, axis=0))
    found = {}
    for shift in product(*(range(-m, m + 1) for m in n)):
        D = atoms.positions + np.array(shift) @ cell - atoms.positions[:, None]
        for i, j in np.argwhere(np.linalg.norm(D, axis=2) < cutoff).tolist():
            if i != j or any(shift):
                found[i, j, *shift] = D[i, j]
    return found


def as_dictionary(neighbours):
    keys = np.column_stack(
        [
            neighbours.central_atoms[neighbours.owners],
            neighbours.atoms,
            neighbours.shifts,
        ]
    )
    return dict(zip(map(tuple, keys.tolist()), neighbours.vec, strict=True))


def assert_same(found, expected):
    assert set(found) == set(expected)
    for key, D in found.items():
        np.testing.assert_allclose(D, expected[key], rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_against_all_images(name):
    atoms, cutoff = CASES[name]
    neighbours = find_neighbours(Batch.from_frames([atoms]), cutoff)
    expected = slow_neighbours(atoms, cutoff)
    found = as_dictionary(neighbours)
    assert len(found) == len(neighbours.atoms)
    assert_same(found, expected)
    lengths = np.linalg.norm(neighbours.vec, axis=1)
    np.testing.assert_allclose(neighbours.dist, lengths, rtol=1e-14)
    assert len(found) > 0 or name == "lone atom"


@pytest.mark.parametrize("seed", range(40))
def test_random_cells(seed):
    rng = np.random.default_rng(seed)
    pbc = rng.random(3) < 0.6
    cell = np.diag(rng.uniform(2.5, 8.0, 3)) + rng.normal(scale=0.8, size=(3, 3))
    cell[~pbc] *= rng.integers(2)
    atoms = atoms_in(cell, pbc, int(rng.integers(1, 6)), seed, low=-1.0, high=2.0)
    cutoff = rng.uniform(1.0, 5.0)
    neighbours = find_neighbours(Batch.from_frames([atoms]), cutoff)
    assert_same(as_dictionary(neighbours), slow_neighbours(atoms, cutoff))


def test_frames_of_a_batch_do_not_see_each_other():
    names = ["cubic", "molecule", "lone atom", "slab", "one atom in one cell"]
    frames = [CASES[name][0] for name in names]
    batch = Batch.from_frames(frames)
    neighbours = find_neighbours(batch, 4.0)
    np.testing.assert_array_equal(
        neighbours.central_atoms, np.arange(len(batch.numbers))
    )
    for s, frame in enumerate(frames):
        first, last = batch.offsets[s], batch.offsets[s + 1]
        part = neighbours.take(first, last)
        alone = find_neighbours(Batch.from_frames([frame]), 4.0)
        np.testing.assert_array_equal(part.offsets, alone.offsets)
        np.testing.assert_array_equal(part.atoms - first, alone.atoms)
        np.testing.assert_array_equal(part.vec, alone.vec)
        np.testing.assert_array_equal(part.shifts, alone.shifts)


def test_a_neighbour_at_the_cutoff_is_none():
    # Both distances are exact in binary.
    batch = Batch.from_frames([Atoms("H3", [(0, 0, 0), (1.5, 0, 0), (0, 1.25, 0)])])
    neighbours = find_neighbours(batch, 1.5)
    np.testing.assert_array_equal(neighbours.dist, [1.25, 1.25])
    # Along a cell of 3 Å, in both directions.
    batch = Batch.from_frames([Atoms("H", cell=[3.0, 9.0, 9.0], pbc=True)])
    assert len(find_neighbours(batch, 3.0).dist) == 0
    assert len(find_neighbours(batch, 3.0 + 1e-12).dist) == 2


def test_parts_of_a_list():
    batch = Batch.from_frames([CASES["cubic"][0], CASES["molecule"][0]])
    whole = find_neighbours(batch, 4.0)
    closer = whole.within(2.5)
    assert_same(as_dictionary(closer), as_dictionary(find_neighbours(batch, 2.5)))
    assert whole.within(4.0) is whole
    chosen = np.arange(len(batch.numbers)) % 3 == 1
    part = whole.of(chosen)
    np.testing.assert_array_equal(part.central_atoms, np.flatnonzero(chosen))
    expected = {k: v for k, v in as_dictionary(whole).items() if chosen[k[0]]}
    assert_same(as_dictionary(part), expected)
    assert len(whole.of(np.zeros(len(chosen), dtype=bool)).offsets) == 1
    long = whole.keep(whole.dist > 2.0)
    np.testing.assert_array_equal(long.dist, whole.dist[whole.dist > 2.0])
    assert long.offsets[-1] == len(long.atoms)


@pytest.mark.parametrize("shift", [0, 3])
def test_shifts_lead_back_to_the_atoms(shift):
    atoms = CASES["skewed"][0].copy()
    atoms.positions[1] += shift * atoms.cell[0] - 2 * shift * atoms.cell[2]
    n = find_neighbours(Batch.from_frames([atoms]), 4.0)
    there = atoms.positions[n.atoms] + n.shifts @ atoms.cell.array
    vec = there - atoms.positions[n.owners]
    np.testing.assert_allclose(n.vec, vec, rtol=0.0, atol=1e-13)


def stacked(periodic):
    atoms = atoms_in([5, 5, 5], periodic, 4)
    atoms.positions[3] = atoms.positions[1] + [5.0 * periodic, 0, 0]
    return atoms


REFUSED = {
    "no cell": (Atoms("H2", [(0, 0, 0), (1, 0, 0)], pbc=True), "does not span them"),
    "flat cell": (
        Atoms("H", cell=[(3, 0, 0), (0, 3, 0), (3, 3, 0)], pbc=True),
        "Frame 1 is periodic along 3 directions.* does not span them",
    ),
    "parallel": (
        Atoms("H", cell=[(3, 0, 0), (6, 0, 0), (0, 0, 0)], pbc=[1, 1, 0]),
        "periodic along 2 directions",
    ),
    "cell of NaN": (Atoms("H", cell=[np.nan, 3, 3], pbc=True), "does not span them"),
    "same place": (stacked(False), "Atoms 1 and 3 of frame 1 are at the same place"),
    "image": (stacked(True), "Atoms 1 and 3 of frame 1 are at the same place"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_structures_that_are_refused(name):
    atoms, match = REFUSED[name]
    with pytest.raises(InputError, match=match):
        find_neighbours(Batch.from_frames([molecule("H2O"), atoms]), 3.0)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan, np.inf])
def test_cutoffs_that_are_refused(cutoff):
    with pytest.raises(InputError, match="positive length"):
        find_neighbours(Batch.from_frames([molecule("H2O")]), cutoff)


def test_a_cell_without_meaning_is_not_looked_at():
    free = molecule("H2O")
    flat = free.copy()
    flat.cell = [[1, 0, 0], [2, 0, 0], [np.nan, 0, 0]]
    one, other = (find_neighbours(Batch.from_frames([a]), 3.0) for a in (free, flat))
    assert_same(as_dictionary(one), as_dictionary(other))
