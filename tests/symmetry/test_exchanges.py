from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read

from kforce.datasets import load_methanol_ccsdt
from kforce.symmetry.exchanges import exchanged_atoms, extended_groups

DATA = Path(__file__).parents[1] / "data"


def distances(frames):
    return np.array([frame.get_all_distances() for frame in frames])


def exchanged(frames):
    return exchanged_atoms(frames[0].numbers, distances(frames))


def test_no_atoms_are_exchanged_where_bonds_last():
    assert exchanged(load_methanol_ccsdt()[:50]) == []


def test_a_hopping_proton_is_exchanged_with_those_at_its_partners():
    assert exchanged(read(DATA / "hydroxide_water_300-900K.xyz", ":")) == [[2, 3]]


def test_atoms_that_a_proton_hops_between_keep_their_places():
    """The oxygens of malonaldehyde change partners, but are held by their carbons."""
    assert exchanged(read(DATA / "malonaldehyde_300-900K.xyz", ":")) == []


def test_a_lost_atom_is_exchanged_with_those_beside_it():
    methane = molecule("CH4")
    broken = methane.copy()
    broken.positions[1] *= 3.0
    assert exchanged([methane, broken]) == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("group", "most", "sizes"),
    [
        ([[0, 1, 2, 3, 4]], 100, [12, 6, 2]),
        ([[0, 1, 2, 3, 4]], 11, [6, 2]),
        ([[0, 1, 2, 3, 4], [1, 0, 2, 4, 3]], 100, [12, 4]),
        ([[0, 1, 2, 3, 4], [0, 1, 3, 2, 4]], 6, [6, 4]),
        ([[0, 1, 2, 3, 4]], 1, []),
    ],
)
def test_groups_are_extended_by_all_exchanges_within_sets(group, most, sizes):
    found = extended_groups(np.array(group), [[0, 1], [2, 3, 4]], most)
    assert [len(larger) for larger in found] == sizes
    for larger in found:
        rows = {tuple(p) for p in larger}
        assert {tuple(p) for p in group} <= rows
        assert {tuple(p[q]) for p in larger for q in larger} == rows
