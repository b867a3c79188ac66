"""Rows of energies, forces and virials with inducing environments."""

import numpy as np
import pytest
from ase.io import read
from sparse_toys import (
    SORTS,
    STRUCTURES,
    clear_of_kinks,
    cluster,
    crystal,
    lone,
    moved,
    own_neighbour,
    relative,
    rows_of,
    several_terms,
    slab,
    slow_row,
    sort_of_term,
    strained,
)
from toys import assert_second_order

from kforce.gap.covariance import VIRIAL_COMPONENTS, prior_covariance

#: Without the one whose rows of forces are zero.
MOVING = [name for name in SORTS if name != "elements"]


@pytest.mark.parametrize("name", SORTS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_energies(name, structure):
    term, atoms = sort_of_term(name), STRUCTURES[structure](3)
    found = rows_of([term], [atoms], with_forces=False)
    assert found.forces.size == found.virials.size == 0
    np.testing.assert_array_equal(found.of(0), found.energies)
    slow = slow_row([term], atoms)
    np.testing.assert_allclose(found.energies[0], slow, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("structure", ["crystal", "cluster", "slab"])
def test_forces(name, structure):
    term = sort_of_term(name)
    atoms = clear_of_kinks(STRUCTURES[structure], [term])
    forces = rows_of([term], [atoms]).forces
    rng = np.random.default_rng(1)
    direction = rng.normal(size=(len(atoms), 3))

    def energies(positions):
        changed = moved(atoms, positions)
        return rows_of([term], [changed], with_forces=False).energies[0]

    derivative = -np.einsum("acm,ac->m", forces, direction)
    assert_second_order(energies, derivative, atoms.positions, direction, 1e-3, 1e-7)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-12)


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_virials(name, structure):
    term = sort_of_term(name)
    atoms = clear_of_kinks(STRUCTURES[structure], [term])
    virials = rows_of([term], [atoms], with_virials=True).virials[0]
    scale = np.abs(virials).max()
    for t, (a, b) in enumerate(VIRIAL_COMPONENTS):
        epsilon = np.zeros((3, 3))
        # A symmetric strain whose work is that of the component.
        epsilon[a, b] += 0.5
        epsilon[b, a] += 0.5

        def energies(e):
            changed = strained(atoms, e)
            return rows_of([term], [changed], with_forces=False).energies[0]

        errors = [
            np.abs(
                (energies(h * epsilon) - energies(-h * epsilon)) / (2 * h) + virials[t]
            ).max()
            for h in (1e-3, 1e-4)
        ]
        assert errors[1] < 1e-5 * scale
        # Second order, unless rounding is all that is left.
        assert errors[0] > 60 * errors[1] or errors[1] < 1e-9 * scale


def test_virials_of_a_cluster_are_moments_of_forces():
    terms, atoms = several_terms(), cluster(5)
    found = rows_of(terms, [atoms], with_virials=True)
    moments = np.einsum("ia,ibm->abm", atoms.positions, found.forces)
    moments = 0.5 * (moments + moments.transpose(1, 0, 2))
    for t, (a, b) in enumerate(VIRIAL_COMPONENTS):
        np.testing.assert_allclose(found.virials[0, t], moments[a, b], atol=1e-12)


def test_elements_do_not_push():
    term = sort_of_term("elements")
    found = rows_of([term], [crystal(0)], with_virials=True)
    np.testing.assert_allclose(found.energies[0], [18.0, 18.0], rtol=1e-13)
    assert not found.forces.any()
    assert not found.virials.any()


def test_a_batch_is_its_frames_one_by_one():
    terms = several_terms(("many features", "few features", "elements", "constant"))
    frames = [crystal(1), lone(), cluster(2), own_neighbour(3), slab(4)]
    whole = rows_of(terms, frames, with_virials=True)
    first = 0
    for s, frame in enumerate(frames):
        own = rows_of(terms, [frame], with_virials=True)
        last = first + len(frame)
        np.testing.assert_allclose(whole.energies[s], own.energies[0], rtol=1e-12)
        forces = whole.forces[first:last]
        np.testing.assert_allclose(forces, own.forces, rtol=0, atol=1e-12)
        virials = whole.virials[s]
        np.testing.assert_allclose(virials, own.virials[0], rtol=0, atol=1e-12)
        first = last
    assert first == len(whole.forces)


def test_terms_follow_one_another_in_the_columns():
    terms = several_terms()
    whole = rows_of(terms, [crystal(7)], with_virials=True)
    parts = [rows_of([term], [crystal(7)], with_virials=True) for term in terms]
    for name in ("energies", "forces", "virials"):
        joined = np.concatenate([getattr(part, name) for part in parts], axis=-1)
        # A list that reaches farther changes nothing but the order of sums.
        np.testing.assert_allclose(getattr(whole, name), joined, rtol=0, atol=1e-12)


def test_an_atom_alone():
    """Pairs and triplets have no environments, densities have one that is at rest."""
    terms = several_terms(("few features", "constant", "product"))
    found = rows_of(terms, [lone()], with_virials=True)
    assert not found.energies[0, :14].any()
    np.testing.assert_allclose(found.energies[0], slow_row(terms, lone()), rtol=1e-12)
    assert found.energies[0, 14:].all()
    assert not found.forces.any()
    assert not found.virials.any()


@pytest.mark.parametrize("name", ["few features", "constant", "product"])
def test_no_force_on_an_atom_among_its_own_images(name):
    term, atoms = sort_of_term(name), own_neighbour(2)
    found = rows_of([term], [atoms], with_virials=True)
    np.testing.assert_allclose(found.forces, 0.0, atol=1e-13)
    assert np.abs(found.virials).max() > 1e-3


def test_a_supercell():
    """Energies and virials are eight times as large, forces of each atom the same."""
    terms = several_terms()
    small = rows_of(terms, [crystal(9)], with_virials=True)
    large = rows_of(terms, [crystal(9).repeat(2)], with_virials=True)
    assert relative(large.energies, 8.0 * small.energies) < 1e-12
    assert relative(large.virials, 8.0 * small.virials) < 1e-12
    assert relative(large.forces, np.tile(small.forces, (8, 1, 1))) < 1e-12


@pytest.mark.parametrize("name", ["si_2b_soap", "benzene_2b_3b_soap"])
def test_against_the_linear_system_of_gap_fit(shared, name):
    """Signs differ: its rows of forces and virials are derivatives, ours minus them."""
    from kforce.io import read_quip_xml

    folder = shared / "reference" / "gap" / name
    if not folder.is_dir():
        pytest.skip(f"no reference data: {folder} is missing")
    terms = read_quip_xml(folder / "gap.xml").terms_
    frames = read(folder / "train.xyz", ":")
    stored = np.load(folder / "linear_system.npz")
    found = [rows_of(terms, [frame], with_virials=True) for frame in frames]
    rows = [part.energies for part in found]
    for frame, part in zip(frames, found, strict=True):
        rows.append(-part.forces.reshape(3 * len(frame), -1))
        if "ref_virial" in frame.info:
            # xx, xy, xz, yy, yz, zz
            rows.append(-part.virials[0, [0, 5, 4, 1, 3, 2]])
    rows = np.concatenate(rows)
    assert relative(rows, stored["Kmn"]) < 1e-11
    # The same for each kind of rows and each term.
    n, first = len(frames), 0
    for term in terms:
        own = slice(first, first + term.n_inducing)
        assert relative(rows[:n, own], stored["Kmn"][:n, own]) < 1e-11
        if np.abs(stored["Kmn"][n:, own]).max() > 0:
            assert relative(rows[n:, own], stored["Kmn"][n:, own]) < 1e-11
        first += term.n_inducing
    prior = prior_covariance(terms) + 1e-8 * np.eye(first)
    assert relative(prior, stored["Kmm_with_jitter"]) < 1e-11
