"""Derivatives of SOAP vectors: differences, both ways of computing them, strain."""

import numpy as np
from ase import Atoms
from conformance import LocalDescriptorConformance
from soap_twin import CASES, environments, rattled
from toys import rotation

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


def weights(soap, atoms):
    shape = environments(soap, atoms).x.shape
    return np.random.default_rng(5).normal(size=shape)


class TestSOAP(LocalDescriptorConformance):
    cases = {name: SOAP(**CASES[name]) for name in KINDS}

    def test_neighbours_leave_smoothly(self, case):
        # A centre without density has a normalised vector that ends in a step.
        if case.central_everywhere is None:
            super().test_neighbours_leave_smoothly(case)


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
