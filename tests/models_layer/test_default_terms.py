"""Terms that are chosen by the bond lengths of elements."""

import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from kforce.descriptors.soap import SOAP
from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError
from kforce.models.default_terms import bond_lengths, default_terms


def soaps(frames):
    """The two-body descriptor, and those of SOAP by central element."""
    pair, *others = [term.descriptor for term in default_terms(frames)]
    assert isinstance(pair, TwoBody)
    assert all(isinstance(soap, SOAP) for soap in others)
    return pair, {soap.centre: soap for soap in others}


def test_methanol(methanol):
    pair, by_element = soaps(methanol)
    assert list(by_element) == [1, 6, 8]
    # C-O is 1.42 Å, C-H 1.10 Å: the cutoff is the shortest one for all elements.
    assert [soap.cutoff for soap in by_element.values()] == [3.5, 3.5, 3.5]
    assert [soap.atom_sigma for soap in by_element.values()] == [0.4, 0.4, 0.4]
    assert by_element[1].transition_width == pytest.approx(0.65, abs=0.02)
    assert by_element[8].transition_width == pytest.approx(0.855, abs=0.02)
    assert pair.cutoff == 3.5
    assert (by_element[1].n_max, by_element[1].l_max) == (8, 6)
    assert pair.transition_width == by_element[6].transition_width


def test_bulk_silicon():
    atoms, bond = bulk("Si"), np.sqrt(3) / 4 * 5.43
    pair, by_element = soaps([atoms])
    assert list(by_element) == [14]
    assert by_element[14].cutoff == pair.cutoff == round(2.2 * bond, 2)
    assert by_element[14].atom_sigma == 0.4
    assert by_element[14].transition_width == round(0.6 * bond, 2)
    assert (by_element[14].n_max, by_element[14].l_max) == (10, 8)
    # Elements of the densities are those of the training set.
    (descriptor,) = by_element[14].for_species((14, 6))
    assert (descriptor.species, descriptor.centre) == ((14, 6), 14)


def test_rock_salt():
    atoms = bulk("NaCl", "rocksalt", a=5.0)
    pair, by_element = soaps([atoms])
    assert list(by_element) == [11, 17]
    for soap in by_element.values():
        assert (soap.cutoff, soap.atom_sigma) == (5.5, 0.43)
    assert pair.cutoff == 5.5
    longer = bulk("NaCl", "rocksalt", a=6.0)
    assert soaps([longer])[0].cutoff == 6.5


def test_each_element_has_lengths_of_its_own():
    # Silicon is 2.35 Å from silicon, hydrogen 1.48 Å from silicon.
    frames = [bulk("Si"), molecule("Si2H6")]
    pair, by_element = soaps(frames)
    assert by_element[1].cutoff == 3.5
    assert by_element[14].cutoff == pair.cutoff > 5.1
    assert by_element[1].transition_width < by_element[14].transition_width


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CH4", {1: 1.09, 6: 1.09}),
        ("H2", {1: 0.74}),
        ("H2O", {1: 0.97, 8: 0.97}),
        ("C2H6", {1: 1.09, 6: 1.53}),
    ],
)
def test_hydrogen_counts_where_there_is_nothing_else(name, expected):
    found = bond_lengths([molecule(name)])
    assert found == pytest.approx(expected, abs=0.01)
    assert list(found) == list(expected)


def test_bond_lengths_are_medians():
    pairs = [Atoms("C2", [[0, 0, 0], [0, 0, r]]) for r in (1.2, 1.3, 1.6, 5.0, 7.0)]
    assert bond_lengths(pairs) == {6: pytest.approx(1.45)}


def test_an_element_in_one_of_many_frames_has_a_term():
    frames = [molecule("CH4") for _ in range(997)]
    frames[501] = molecule("CO")
    assert list(soaps(frames)[1]) == [1, 6, 8]


def test_single_atoms_do_not_count(caplog):
    frames = [Atoms("C"), Atoms("He"), *[Atoms("H")] * 300, molecule("CH4")]
    with caplog.at_level(logging.INFO, "kforce.gap"):
        assert list(soaps(frames)[1]) == [1, 6]
    lines = [record.message for record in caplog.records]
    assert [line.split(":")[0] for line in lines] == ["two-body terms", "H", "C"]
    assert lines[1] == (
        "H: bond length 1.09 Å; SOAP with cutoff 3.50 Å, transition 0.65 Å, Gaussians "
        "of 0.40 Å"
    )


@pytest.mark.parametrize(
    "frames",
    [
        [Atoms("C"), Atoms("O")],
        [Atoms("Si", cell=[9, 9, 9], pbc=True)],
        [Atoms("C2", [[0, 0, 0], [0, 0, 6.1]])],
    ],
)
def test_nothing_but_single_atoms(frames):
    with pytest.raises(InputError, match="no two atoms of the training set are within"):
        default_terms(frames)
