"""Terms that are chosen by the bond lengths of elements."""

import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from kforce.descriptors.soap.soap import SOAP
from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError
from kforce.gap.terms_from_data import bond_lengths, default_terms


def soaps(frames):
    """The two-body descriptor, and the near and far SOAP by central element."""
    pair, *others = [term.descriptor for term in default_terms(frames)]
    assert isinstance(pair, TwoBody)
    assert all(isinstance(soap, SOAP) for soap in others)
    near, far = others[::2], others[1::2]
    assert [soap.centre for soap in near] == [soap.centre for soap in far]
    return pair, {a.centre: (a, b) for a, b in zip(near, far, strict=True)}


def test_methanol(methanol):
    pair, by_element = soaps(methanol)
    assert list(by_element) == [1, 6, 8]
    # C-O is 1.42 Å, C-H 1.10 Å: the shortest cutoffs, and the sharpest Gaussians.
    for near, far in by_element.values():
        assert (near.cutoff, near.atom_sigma) == (2.8, 0.3)
        assert far.atom_sigma == 0.4
        assert (near.n_max, near.l_max, far.n_max, far.l_max) == (8, 6, 8, 6)
        assert near.damping is None
        assert far.cutoff == pair.cutoff == 4.5
    assert by_element[8][1].damping == (2, 1.99, 1.0)
    assert by_element[1][1].transition_width == pytest.approx(0.92, abs=0.02)
    assert by_element[8][0].transition_width == pytest.approx(0.71, abs=0.02)
    assert pair.transition_width == by_element[6][1].transition_width


def test_bulk_silicon():
    atoms, bond = bulk("Si"), np.sqrt(3) / 4 * 5.43
    pair, by_element = soaps([atoms])
    assert list(by_element) == [14]
    near, far = by_element[14]
    assert far.cutoff == pair.cutoff == round(2.55 * bond, 2)
    assert near.cutoff == round(1.7 * bond, 2)
    assert (near.atom_sigma, far.atom_sigma) == (0.35, 0.49)
    assert far.transition_width == round(0.85 * bond, 2)
    assert (near.n_max, near.l_max, far.n_max, far.l_max) == (8, 8, 10, 8)
    assert near.damping is far.damping is None
    # Elements of the densities are those of the training set.
    (descriptor,) = far.for_species((14, 6))
    assert (descriptor.species, descriptor.centre) == ((14, 6), 14)


def test_rock_salt():
    atoms = bulk("NaCl", "rocksalt", a=5.0)
    pair, by_element = soaps([atoms])
    assert list(by_element) == [11, 17]
    for near, far in by_element.values():
        assert (near.cutoff, far.cutoff) == (4.25, 6.38)
        assert far.atom_sigma == 0.53
    assert pair.cutoff == 6.38
    longer = bulk("NaCl", "rocksalt", a=6.0)
    assert soaps([longer])[0].cutoff == 6.5


def test_each_element_has_lengths_of_its_own():
    # Silicon is 2.35 Å from silicon, hydrogen 1.48 Å from silicon.
    frames = [bulk("Si"), molecule("Si2H6")]
    pair, by_element = soaps(frames)
    for k in (0, 1):
        assert by_element[1][k].cutoff < by_element[14][k].cutoff
        assert by_element[1][k].transition_width < by_element[14][k].transition_width
    assert by_element[14][1].cutoff == pair.cutoff > 5.9


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
    assert lines == [
        "two-body terms: cutoff 4.50 Å",
        "H: bond length 1.09 Å",
        "    SOAP with cutoff 2.80 Å, transition 0.54 Å, Gaussians of 0.30 Å",
        "    SOAP with cutoff 4.50 Å, transition 0.93 Å, Gaussians of 0.40 Å",
        "C: bond length 1.09 Å",
        "    SOAP with cutoff 2.80 Å, transition 0.54 Å, Gaussians of 0.30 Å",
        "    SOAP with cutoff 4.50 Å, transition 0.93 Å, Gaussians of 0.40 Å",
    ]


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
