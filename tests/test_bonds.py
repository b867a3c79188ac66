import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.data import covalent_radii

from kforce.bonds import (
    bond_distances,
    bond_images,
    closed_bonds,
    find_angles,
    find_bonds,
    find_breaking_bonds,
    find_torsions,
)

#: Bonds, angles and torsions of molecules, counted by hand.
COUNTS = {
    "H2": (1, 0, 0),
    "CO2": (2, 1, 0),
    "HCN": (2, 1, 0),
    "C2H2": (3, 2, 1),
    "H2O2": (3, 2, 1),
    "NH3": (3, 3, 0),
    "CH3OH": (5, 7, 3),
    "C2H6": (7, 12, 9),
    "C3H6_D3h": (9, 18, 24),
    "C6H6": (12, 18, 24),
}


def bonds_of(*frames, find=find_bonds):
    distances = np.array([f.get_all_distances() for f in frames])
    return find(frames[0].numbers, distances)


def slow_paths(bonds, n_bonds):
    """Paths of different atoms along bonds, each written in one direction."""
    pairs = [*bonds, *[(b, a) for a, b in bonds]]
    paths = pairs
    for _ in range(n_bonds - 1):
        paths = [(*p, b) for p in paths for a, b in pairs if a == p[-1] and b not in p]
    return sorted({min(p, p[::-1]) for p in paths})


@pytest.mark.parametrize("name", COUNTS)
def test_molecules(name):
    bonds = bonds_of(molecule(name))
    found = (bonds, find_angles(bonds), find_torsions(bonds))
    assert tuple(map(len, found)) == COUNTS[name]
    assert all(a < b for a, b in bonds)
    for paths, length in zip(found, (1, 2, 3), strict=True):
        assert sorted(min(p, p[::-1]) for p in paths) == slow_paths(bonds, length)


@pytest.mark.parametrize("name", COUNTS)
def test_distances_along_bonds_against_paths(name):
    bonds = bonds_of(molecule(name))
    n_atoms = len(molecule(name))
    apart = bond_distances(bonds, n_atoms)
    for length in (1, 2, 3):
        for path in slow_paths(bonds, length):
            assert apart[path[0], path[-1]] <= length
    np.testing.assert_array_equal(apart, apart.T)
    np.testing.assert_array_equal(np.diag(apart), 0.0)
    pairs = {tuple(sorted(pair)) for pair in np.argwhere(apart == 1).tolist()}
    assert pairs == set(bonds)


def test_two_molecules_are_not_connected():
    one, other = molecule("H2O"), molecule("H2O")
    other.translate([4.0, 0, 0])
    bonds = bonds_of(one + other)
    assert bonds == ((0, 1), (0, 2), (3, 4), (3, 5))
    assert find_angles(bonds) == [(1, 0, 2), (4, 3, 5)]
    apart = bond_distances(bonds, 6)
    assert np.isinf(apart[:3, 3:]).all()
    assert apart[4, 5] == 2


def test_a_ring_of_four_has_its_torsions():
    bonds = [(0, 1), (1, 2), (2, 3), (0, 3)]
    assert len(find_angles(bonds)) == 4
    assert len(find_torsions(bonds)) == 4


def test_a_ring_of_three_has_none():
    bonds = [(0, 1), (1, 2), (0, 2)]
    assert len(find_angles(bonds)) == 3
    assert find_torsions(bonds) == []


def test_nothing_is_bonded():
    assert find_angles([]) == find_torsions([]) == []
    assert np.isinf(bond_distances([], 3)[0, 1:]).all()
    assert bonds_of(Atoms("He2", [(0, 0, 0), (0, 0, 5)])) == ()


def stretched(ratio):
    r = ratio * (covalent_radii[8] + covalent_radii[1])
    return Atoms("OHH", [(0, 0, 0), (r, 0, 0), (0, 1.0, 0)])


def test_a_bond_that_breaks_is_told_from_those_that_hold():
    # 19 frames at equilibrium and one far away: the mean is that of a bond.
    frames = [stretched(1.0)] * 19 + [stretched(1.7)]
    assert bonds_of(*frames) == ((0, 2),)
    assert bonds_of(*frames, find=find_breaking_bonds) == ((0, 1),)


@pytest.mark.parametrize(
    ("ratios", "bonded"),
    [([1.24], True), ([1.26], False), ([1.0, 1.45], True), ([1.2, 1.45], False)],
    ids=str,
)
def test_the_mean_decides(ratios, bonded):
    frames = [stretched(ratio) for ratio in ratios]
    assert ((0, 1) in bonds_of(*frames)) == bonded
    assert bonds_of(*frames, find=find_breaking_bonds) == ()


def test_a_pair_that_is_bonded_in_one_structure_breaks_in_the_others():
    frames = [stretched(1.0)] + [stretched(2.0)] * 19
    assert bonds_of(*frames) == ((0, 2),)
    assert bonds_of(*frames, find=find_breaking_bonds) == ((0, 1),)


def test_images_and_closed_sets_under_a_group():
    group = np.array([[0, 1, 2, 3], [0, 2, 3, 1], [0, 3, 1, 2]])
    assert bond_images([(2, 0)], group) == ((0, 1), (0, 2), (0, 3))
    assert bond_images([(2, 0)], None) == ((0, 2),)
    assert bond_images([], group) == ()
    everything = [(0, 1), (0, 2), (0, 3), (1, 2)]
    assert closed_bonds(everything, group) == bond_images([(0, 1)], group)
