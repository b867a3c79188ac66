"""Derivatives of SOAP vectors: differences, both ways of computing them, strain."""

import numpy as np
import pytest
from ase import Atoms
from soap_twin import CASES, environments, rattled
from toys import assert_second_order, rotation

from kforce.descriptors.local import Environments
from kforce.descriptors.soap.environments import SoapEnvironments
from kforce.descriptors.soap.soap import SOAP

KINDS = [
    "no species",
    "one species, not at the centre",
    "two species",
    "a species that is not there",
    "not normalised",
    "diagonal",
    "damped",
    "gto",
    "poly",
    "scalar",
    "sharp",
]


def pulled(found, g, n_atoms):
    """Gradient and strain derivative of Σ g·x."""
    gradient, strain = np.zeros((n_atoms, 3)), np.zeros((n_atoms, 3, 3))
    found.pull(g, np.zeros(len(g)), gradient, strain)
    return gradient, strain.sum(axis=0)


def total(g, found):
    """Σ g·x without the last feature, a constant that would only add rounding."""
    return np.array([np.vdot(g[:, :-1], found.x[:, :-1])])


def weights(soap, atoms):
    shape = environments(soap, atoms).x.shape
    return np.random.default_rng(5).normal(size=shape)


@pytest.mark.parametrize("name", KINDS)
def test_pull_is_the_derivative(name):
    soap, atoms = SOAP(**CASES[name]), rattled()
    g = weights(soap, atoms)
    direction = np.random.default_rng(6).normal(size=atoms.positions.shape)
    direction /= np.linalg.norm(direction)

    def value(positions):
        moved = atoms.copy()
        moved.positions = positions
        return total(g, environments(soap, moved))

    gradient, _ = pulled(environments(soap, atoms), g, len(atoms))
    derivative = np.array([np.vdot(gradient, direction)])
    # Steps must not carry a neighbour across an edge, where f'' jumps.
    assert_second_order(value, derivative, atoms.positions, direction, 2e-3, 1e-7)


@pytest.mark.parametrize("name", KINDS)
def test_strain_is_the_derivative_with_respect_to_the_cell(name):
    soap, atoms = SOAP(**CASES[name]), rattled()
    g = weights(soap, atoms)
    direction = np.random.default_rng(7).normal(size=(3, 3))
    direction /= np.linalg.norm(direction)

    def value(strain):
        # The derivative is Σ D_a ∂/∂D_b: D changes by D·strain.
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        return total(g, environments(soap, moved))

    _, strain = pulled(environments(soap, atoms), g, len(atoms))
    derivative = np.array([np.vdot(strain, direction)])
    assert_second_order(value, derivative, np.zeros((3, 3)), direction, 5e-4, 1e-7)


@pytest.mark.parametrize("name", KINDS)
def test_dense_derivatives_agree_with_pull(name):
    soap, atoms = SOAP(**CASES[name]), rattled()
    found = environments(soap, atoms)
    g = weights(soap, atoms)
    for one, two in zip(
        pulled(found, g, len(atoms)), dense(found, g, len(atoms)), strict=True
    ):
        np.testing.assert_allclose(one, two, atol=1e-12 * np.abs(two).max())


def dense(found, g, n_atoms):
    """The same from dense derivatives, by the method that all descriptors inherit."""
    gradient, strain = np.zeros((n_atoms, 3)), np.zeros((n_atoms, 3, 3))
    Environments.pull(found, g, np.zeros(len(g)), gradient, strain)
    return gradient, strain.sum(axis=0)


def test_dense_blocks_are_small_and_cover_all_members(monkeypatch):
    monkeypatch.setattr(
        "kforce.descriptors.soap.environments._BLOCK_BYTES", 40 * 24 * 79
    )
    soap = SOAP(**CASES["two species"])
    atoms = rattled().repeat((3, 1, 1))
    found = environments(soap, atoms)
    assert isinstance(found, SoapEnvironments)
    blocks = list(found.jacobians())
    assert len(blocks) > 1
    sizes = np.bincount(np.concatenate([b.environments for b in blocks]))
    assert len(sizes) == len(found.x)
    assert all(len(b.dx) <= max(40, sizes.max()) for b in blocks)
    assert all((b.df_cut == 0.0).all() and b.dx.shape[1] == 3 for b in blocks)
    whole = np.concatenate([b.environments for b in blocks])
    assert (np.diff(whole) >= 0).all()
    for block in blocks:
        assert (block.central_atoms == found.central_atoms[block.environments]).all()


def test_gradients_rotate_with_the_structure():
    soap, atoms = SOAP(**CASES["two species"]), rattled()
    g = weights(soap, atoms)
    gradient, strain = pulled(environments(soap, atoms), g, len(atoms))
    Q = rotation(8)
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ Q.T)
    moved.positions = atoms.positions @ Q.T
    turned, turned_strain = pulled(environments(soap, moved), g, len(atoms))
    np.testing.assert_allclose(turned, gradient @ Q.T, atol=1e-12)
    np.testing.assert_allclose(turned_strain, Q @ strain @ Q.T, atol=1e-12)


def test_derivatives_at_the_poles():
    # A neighbour on the z axis, where angles are undefined, as for any other.
    soap = SOAP(cutoff=3.0, n_max=4, l_max=5, atom_sigma=0.5)
    atoms = Atoms("SiCH", [[0, 0, 0], [0, 0, 1.6], [1.1, 0.2, 0.3]])
    g = weights(soap, atoms)
    gradient, _ = pulled(environments(soap, atoms), g, 3)
    Q = rotation(9)
    turned = Atoms(atoms.numbers, atoms.positions @ Q.T)
    expected, _ = pulled(environments(soap, turned), g, 3)
    np.testing.assert_allclose(gradient @ Q.T, expected, atol=1e-12)


def test_gradients_go_to_zero_at_the_cutoff():
    soap = SOAP(cutoff=3.0, n_max=4, l_max=3, atom_sigma=0.5)
    size = []
    for gap in (1e-1, 1e-2, 1e-3):
        pair = Atoms("Si2", [[0, 0, 0], [0, 0, 3.0 - gap]])
        gradient, _ = pulled(environments(soap, pair), weights(soap, pair), 2)
        size.append(np.abs(gradient).max())
    assert 8 < size[0] / size[1] < 12
    assert 8 < size[1] / size[2] < 12


def test_forces_of_a_cell_with_one_atom_vanish():
    atoms = Atoms("Si", cell=[[2.0, 0.1, 0], [0.3, 2.2, 0], [0, 0.4, 1.9]], pbc=True)
    soap = SOAP(cutoff=4.0, n_max=4, l_max=3, atom_sigma=0.5)
    gradient, strain = pulled(environments(soap, atoms), weights(soap, atoms), 1)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-13)
    assert np.abs(strain).max() > 1e-3
