"""Predictions of sparse models: energies of atoms, gradients and strains."""

import numpy as np
import pytest
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from sparse_toys import (
    DENSITY,
    PAIRS,
    SORTS,
    STRUCTURES,
    TRIPLETS,
    clear_of_kinks,
    cluster,
    crystal,
    lone,
    moved,
    own_neighbour,
    predicted,
    relative,
    rows_of,
    several_terms,
    slow_energy,
    sort_of_term,
    strained,
)
from toys import assert_second_order, rotation

from kforce.gap import prediction

MOVING = [name for name in SORTS if name != "elements"]


def weights_of(terms):
    return np.concatenate([term.weights for term in terms])


@pytest.mark.parametrize("name", SORTS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_predictions_are_rows_times_weights(name, structure):
    term, atoms = sort_of_term(name), STRUCTURES[structure](6)
    found = predicted([term], [atoms])
    rows = rows_of([term], [atoms], with_virials=True)
    energy = found.energies.sum()
    np.testing.assert_allclose(energy, rows.energies[0] @ term.weights, rtol=1e-10)
    np.testing.assert_allclose(energy, slow_energy([term], atoms), rtol=1e-10)
    forces = rows.forces @ term.weights
    scale = max(np.abs(forces).max(), 1.0)
    np.testing.assert_allclose(-found.gradient, forces, rtol=0, atol=1e-11 * scale)
    strain = found.strain.sum(axis=0)
    expected = full_3x3_to_voigt_6_stress(-strain)
    virial = rows.virials[0] @ term.weights
    np.testing.assert_allclose(virial, expected, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("name", MOVING)
def test_gradient_and_strain_by_differences(name):
    term = sort_of_term(name)
    atoms = clear_of_kinks(crystal, [term])
    found = predicted([term], [atoms])
    rng = np.random.default_rng(2)
    direction = rng.normal(size=atoms.positions.shape)

    def energy(positions):
        energies = predicted([term], [moved(atoms, positions)], with_gradient=False)
        return energies.energies.sum(keepdims=True)

    derivative = np.array([np.sum(found.gradient * direction)])
    assert_second_order(energy, derivative, atoms.positions, direction, 1e-3, 1e-7)
    direction = rng.normal(size=(3, 3))

    def deformed(epsilon):
        energies = predicted([term], [strained(atoms, epsilon)], with_gradient=False)
        return energies.energies.sum(keepdims=True)

    derivative = np.array([np.sum(found.strain * direction)])
    start = np.zeros((3, 3))
    assert_second_order(deformed, derivative, start, direction, 4e-4, 1e-7)


def test_without_gradient():
    terms = several_terms()
    found = predicted(terms, [crystal(1)], with_gradient=False)
    assert found.gradient is None
    assert found.strain is None
    whole = predicted(terms, [crystal(1)])
    np.testing.assert_array_equal(found.energies, whole.energies)


def test_energies_of_atoms_belong_to_them():
    """Those of a batch are those of its frames, and those far away do not matter."""
    terms = several_terms()
    frames = [crystal(1), lone(), cluster(2), own_neighbour(4)]
    whole = predicted(terms, frames)
    alone = [predicted(terms, [frame]) for frame in frames]
    for name in ("energies", "gradient", "strain"):
        joined = np.concatenate([getattr(part, name) for part in alone])
        np.testing.assert_allclose(getattr(whole, name), joined, rtol=0, atol=1e-12)
    far = cluster(2)
    far.positions += [60.0, 0.0, 0.0]
    both = predicted(terms, [cluster(2) + far]).energies.reshape(2, -1)
    np.testing.assert_allclose(both[0], alone[2].energies, rtol=1e-11)
    np.testing.assert_allclose(both[1], alone[2].energies, rtol=1e-11)


@pytest.mark.parametrize("make", [crystal, cluster])
def test_symmetries(make):
    terms, atoms = several_terms(), make(3)
    expected = predicted(terms, [atoms])
    order = np.random.default_rng(0).permutation(len(atoms))
    found = predicted(terms, [atoms[order]])
    scale = np.abs(expected.gradient).max()
    np.testing.assert_allclose(found.energies, expected.energies[order], rtol=1e-11)
    np.testing.assert_allclose(
        found.gradient, expected.gradient[order], rtol=0, atol=1e-11 * scale
    )
    turn = rotation(1)
    turned = atoms.copy()
    turned.positions = atoms.positions @ turn + [1.0, -20.0, 3.0]
    turned.set_cell(atoms.cell.array @ turn, scale_atoms=False)
    found = predicted(terms, [turned])
    np.testing.assert_allclose(found.energies, expected.energies, rtol=1e-10)
    gradient, strain = expected.gradient @ turn, turn.T @ expected.strain @ turn
    np.testing.assert_allclose(found.gradient, gradient, rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(found.strain, strain, rtol=0, atol=1e-10 * scale)
    mirrored = moved(atoms, -atoms.positions)
    mirrored.set_cell(-atoms.cell.array, scale_atoms=False)
    found = predicted(terms, [mirrored])
    np.testing.assert_allclose(found.energies, expected.energies, rtol=1e-10)


def test_images_of_atoms():
    """Nothing depends on the image of an atom, nor on the cell vectors of a lattice."""
    terms, atoms = several_terms(), crystal(3)
    expected = predicted(terms, [atoms])
    other = atoms.copy()
    other.positions[1] += 2 * atoms.cell[0] - atoms.cell[2]
    same = atoms.copy()
    cell = atoms.cell.array
    same.set_cell([cell[0], cell[1] + cell[0], cell[2] - cell[1]], scale_atoms=False)
    for frame in (other, same):
        found = predicted(terms, [frame])
        np.testing.assert_allclose(found.energies, expected.energies, rtol=1e-10)
        assert relative(found.gradient, expected.gradient) < 1e-10
        total = found.strain.sum(axis=0)
        assert relative(total, expected.strain.sum(axis=0)) < 1e-10


def test_a_supercell_has_eight_times_the_energy():
    terms = several_terms()
    one, eight = (predicted(terms, [a]) for a in (crystal(2), crystal(2).repeat(2)))
    total = one.energies.sum()
    np.testing.assert_allclose(eight.energies.sum(), 8 * total, rtol=1e-10)
    np.testing.assert_allclose(eight.energies, np.tile(one.energies, 8), rtol=1e-10)
    assert relative(eight.gradient, np.tile(one.gradient, (8, 1))) < 1e-10
    strain = eight.strain.sum(axis=0)
    assert relative(strain, 8.0 * one.strain.sum(axis=0)) < 1e-10


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_threads_and_chunks_do_not_matter(monkeypatch, threads, chunk):
    terms, atoms = several_terms(), crystal(2).repeat((2, 2, 1))
    expected = predicted(terms, [atoms])
    monkeypatch.setattr(prediction, "n_threads", lambda: threads)
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    found = predicted(terms, [atoms], chunk=chunk)
    np.testing.assert_allclose(found.energies, expected.energies, rtol=1e-12)
    assert relative(found.gradient, expected.gradient) < 1e-12
    assert relative(found.strain, expected.strain) < 1e-12


@pytest.mark.parametrize(
    ("name", "cutoff"),
    [
        ("few features", PAIRS.cutoff),
        ("constant", TRIPLETS.cutoff),
        ("product", DENSITY.cutoff),
    ],
)
def test_smooth_where_an_atom_crosses_the_cutoff(name, cutoff):
    """Energy and slope go to what they are without the neighbour, not with a jump."""
    term = sort_of_term(name)

    def at(distance):
        # A third atom, so that there are triplets on both sides of the cutoff.
        positions = [(0, 0, 0), (distance, 0, 0), (0, 2.4, 0), (0, -0.3, 2.5)]
        return predicted([term], [Atoms([29, 79, 29, 29], positions)], cutoff=6.0)

    inside, outside = at(cutoff - 1e-6), at(cutoff + 1e-6)
    np.testing.assert_allclose(inside.energies, outside.energies, rtol=0, atol=1e-9)
    np.testing.assert_allclose(inside.gradient, outside.gradient, rtol=0, atol=1e-4)
    # The slope goes to zero in proportion to the way that is left.
    nearer, far = at(cutoff - 1e-5), at(cutoff - 1e-3)
    slopes = [
        np.abs(found.gradient - outside.gradient).max()
        for found in (inside, nearer, far)
    ]
    assert slopes[0] < slopes[1] < slopes[2]
    assert slopes[1] < 0.03 * slopes[2]


def test_a_list_that_reaches_farther_changes_nothing():
    terms, atoms = several_terms(), crystal(8)
    expected = predicted(terms, [atoms])
    found = predicted(terms, [atoms], cutoff=7.0)
    np.testing.assert_allclose(found.energies, expected.energies, rtol=1e-12)
    assert relative(found.gradient, expected.gradient) < 1e-11


def test_an_atom_alone_feels_nothing():
    found = predicted(several_terms(), [lone()])
    assert found.energies.shape == (1,)
    assert not found.gradient.any()
    assert not found.strain.any()
    only_pairs = predicted([sort_of_term("few features")], [lone()])
    assert not only_pairs.energies.any()
