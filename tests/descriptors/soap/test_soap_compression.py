"""SOAP of mixed densities: from the whole power spectrum, derivatives, symmetries."""

import numpy as np
import pytest
from ase import Atoms
from soap_twin import CASES, environments
from stored import through_file
from toys import assert_second_order, rotation

from kforce.descriptors.local import Environments
from kforce.descriptors.soap.soap import SOAP, mixing_matrix
from kforce.errors import InputError
from kforce.io.quip_descriptors import write_descriptor

_BASE = {
    "cutoff": 4.0,
    "n_max": 3,
    "l_max": 3,
    "atom_sigma": 0.5,
    "species": (6, 14, 8, 1),
    "compression": 2,
    "central_weight": 0.4,
}

KINDS = {
    "two": _BASE,
    "one": _BASE | {"compression": 1, "sigma0": 0.1},
    "three, one centre": _BASE | {"compression": 3, "centre": 14},
    "not normalised": _BASE | {"normalise": False},
    "diagonal": _BASE | {"diagonal_radial": True},
    "centre everywhere": _BASE | {"central_everywhere": True},
    "gto": _BASE | {"radial_basis": "gto"},
}


def compound():
    """Five atoms in a cell that is smaller than the cutoff.

    The order of elements is not that of their densities; of the elements that mix there
    is no oxygen, and fluorine is not among them.
    """
    cell = [[4.6, 0.3, 0.0], [0.0, 4.9, 0.4], [0.2, 0.0, 4.4]]
    positions = [[0, 0, 0], [1.9, 0.2, 0.4], [0.3, 2.1, 2.0], [2.6, 2.4, 1.9]]
    return Atoms("SiCHFSi", [*positions, [2.2, 0.9, 3.1]], cell=cell, pbc=True)


def mixed(soap, x):
    """Mix the power spectrum of all densities, (n_env, n_features)."""
    n, n_l = len(soap.species) * soap.n_max, soap.l_max + 1
    W = np.kron(mixing_matrix(soap.species, soap.compression), np.eye(soap.n_max))
    a, b = np.tril_indices(n)
    halves = np.zeros((len(x), n, n, n_l))
    halves[:, a, b] = x[:, :-1].reshape(len(x), len(a), n_l)
    halves[:, a, b] /= np.where(a == b, 1.0, np.sqrt(2.0))[:, None]
    halves[:, b, a] = halves[:, a, b]
    P = np.einsum("ax,exyl,by->eabl", W, halves, W)
    a, b = np.tril_indices(len(W))
    p = P[:, a, b] * np.where(a == b, 1.0, np.sqrt(2.0))[:, None]
    if soap.diagonal_radial:
        p = p[:, (a - b) % soap.n_max == 0]
    p = p.reshape(len(x), -1)
    if soap.normalise:
        p /= np.linalg.norm(p, axis=1, keepdims=True)
    return np.column_stack([p, x[:, -1]])


def pulled(found, g, n_atoms, pull=Environments.pull):
    """Gradient and strain derivative of Σ g·x."""
    gradient, strain = np.zeros((n_atoms, 3)), np.zeros((n_atoms, 3, 3))
    pull(found, g, np.zeros(len(g)), gradient, strain)
    return gradient, strain.sum(axis=0)


def weights(found):
    return np.random.default_rng(5).normal(size=found.x.shape)


def total(g, found):
    """Σ g·x without the last feature, a constant that would only add rounding."""
    return np.array([np.vdot(g[:, :-1], found.x[:, :-1])])


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_mixed_densities(kind):
    soap, atoms = SOAP(**KINDS[kind]), compound()
    plain = {"compression": None, "normalise": False, "diagonal_radial": False}
    whole = environments(SOAP(**KINDS[kind] | plain), atoms).x
    expected = mixed(soap, whole)
    found = environments(soap, atoms).x
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
def test_pull_is_the_derivative(kind):
    soap, atoms = SOAP(**KINDS[kind]), compound()
    found = environments(soap, atoms)
    g = weights(found)
    rng = np.random.default_rng(6)
    gradient, strain = pulled(found, g, len(atoms), type(found).pull)
    direction = rng.normal(size=atoms.positions.shape)
    direction /= np.linalg.norm(direction)

    def value(positions):
        return total(g, environments(soap, Atoms(atoms, positions=positions)))

    along = np.array([np.vdot(gradient, direction)])
    assert_second_order(value, along, atoms.positions, direction, 2e-3, 1e-7)
    direction = rng.normal(size=(3, 3)) / 3.0

    def strained(by):
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array @ (np.eye(3) + by), scale_atoms=True)
        return total(g, environments(soap, moved))

    along = np.array([np.vdot(strain, direction)])
    assert_second_order(strained, along, np.zeros((3, 3)), direction, 5e-4, 1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_dense_derivatives_agree_with_pull(kind):
    soap, atoms = SOAP(**KINDS[kind]), compound()
    found = environments(soap, atoms)
    g = weights(found)
    ways = pulled(found, g, 5, type(found).pull), pulled(found, g, 5)
    for one, two in zip(*ways, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-12 * np.abs(two).max())


def test_push_is_the_derivative_along_a_motion():
    soap, atoms = SOAP(**KINDS["two"]), compound()
    motion = np.random.default_rng(2).normal(size=(5, 3))
    motion /= np.linalg.norm(motion)

    def value(positions):
        return environments(soap, Atoms(atoms, positions=positions)).x

    tangents, fading = environments(soap, atoms).push(motion)
    assert_second_order(value, tangents, atoms.positions, motion, 2e-3, 1e-7)
    assert not fading.any()


@pytest.mark.parametrize("kind", ["two", "three, one centre"])
def test_rotations_translations_and_permutations_change_nothing(kind):
    soap, atoms = SOAP(**KINDS[kind]), compound()
    x, Q = environments(soap, atoms).x, rotation(3)
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ Q.T)
    moved.positions = atoms.positions @ Q.T + [0.3, -1.0, 4.0]
    np.testing.assert_allclose(environments(soap, moved).x, x, atol=1e-13)
    order = [4, 2, 3, 0, 1]
    found = environments(soap, atoms[order])
    central_atoms = np.array(order)[found.central_atoms]
    np.testing.assert_allclose(found.x[np.argsort(central_atoms)], x, atol=1e-13)


def test_the_order_of_species_does_not_matter():
    other = _BASE | {"species": (8, 1, 14, 6)}
    found, expected = (environments(SOAP(**p), compound()).x for p in (other, _BASE))
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_the_number_of_features_shrinks():
    for n in (1, 2, 3):
        found = environments(SOAP(**_BASE | {"compression": n}), compound())
        assert found.x.shape == (5, 3 * n * (3 * n + 1) // 2 * 4 + 1)


def test_weights_are_orthonormal_and_stay_what_they_are():
    for species, n in [((1, 6, 7, 8), 3), (tuple(range(1, 119)), 40)]:
        W = mixing_matrix(species, n)
        np.testing.assert_allclose(W @ W.T, np.eye(n), atol=1e-12)
        assert (W[0] > 0.0).all()
        assert (mixing_matrix(species[::-1], n)[:, ::-1] == W).all()
    # Models on disk depend on these numbers.
    kept = [[0.330549, 0.543934, 0.551638, 0.539044]]
    np.testing.assert_allclose(mixing_matrix((1, 6, 7, 8), 1), kept, atol=1e-6)
    # Where two weights are as large, that of the lighter element is positive.
    expected = np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2.0)
    np.testing.assert_allclose(mixing_matrix((6, 1), 2), expected)


def test_elements_that_are_alike_have_weights_that_are_alike():
    # Alkali metals, halogens, lanthanoids, and hydrogen.
    W = mixing_matrix((11, 19, 17, 35, 58, 59, 1), 3)
    apart = np.linalg.norm(W[:, :, None] - W[:, None], axis=0)
    for a, b in [(0, 1), (2, 3), (4, 5)]:
        others = np.setdiff1d(np.arange(7), [a, b])
        assert apart[a, b] < apart[a, others].min()


def test_parameters_survive_copies_and_files():
    soap = SOAP(**_BASE)
    for again in (
        SOAP(**soap.get_params()),
        through_file(soap),
    ):
        assert again.get_params() == soap.get_params()
        assert (
            environments(again, compound()).x == environments(soap, compound()).x
        ).all()
    assert soap.for_species((1, 6)) == [soap]


@pytest.mark.parametrize("compression", [0, 4, 5, 1.5, True, "2", -1])
def test_bad_numbers_of_densities(compression):
    with pytest.raises(InputError, match="whole number ≥ 1 and below the number 4 of"):
        environments(SOAP(**_BASE | {"compression": compression}), compound())


def test_one_species_has_nothing_to_mix():
    with pytest.raises(InputError, match="below the number 1 of species"):
        environments(SOAP(**CASES["one species"] | {"compression": 1}), compound())


def test_species_must_be_given():
    soap = SOAP(**_BASE | {"species": None})
    with pytest.raises(InputError, match=r"give species, .* or compression=None"):
        environments(soap, compound())
    with pytest.raises(InputError, match="give species"):
        soap.for_species((1, 6, 8))


def test_quip_has_no_such_descriptor():
    with pytest.raises(
        InputError, match=r"compression=2: save the model with model\.s"
    ):
        write_descriptor(SOAP(**_BASE))
