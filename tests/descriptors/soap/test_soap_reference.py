"""SOAP against vectors and derivatives that the program GAP computed."""

import numpy as np
import pytest
from ase.io import read
from soap_twin import environments

from kforce.descriptors.soap.soap import SOAP

_A = {"cutoff": 5.0, "transition_width": 1.0, "n_max": 8, "l_max": 6, "atom_sigma": 0.5}
_B = {"cutoff": 3.5, "n_max": 5, "l_max": 4, "atom_sigma": 0.35}
_B |= {"central_weight": 0.5, "sigma0": 0.1}
_ONE = {"species": (14,), "centre": 14}
_SIC = {"species": (6, 14), "centre": 14}
_L12 = _A | {"n_max": 10, "l_max": 12}
_METHANOL = {"cutoff": 5.0, "n_max": 12, "l_max": 12, "atom_sigma": 0.3}

#: Parameters, and how far vectors may be apart: the fits of powers are ill-conditioned.
CASES = {
    "Si8__A": (_A | _ONE, 1e-13),
    "Si8__B": (_B | _ONE, 1e-13),
    "SiC8__A_Z14": (_A | _SIC, 1e-13),
    "SiC8__B_Z6": (_B | _SIC | {"centre": 6}, 1e-13),
    "SiC8__B_all": (_B | _SIC | {"centre": (6, 14)}, 1e-13),
    "methanol__A_Z6": (_A | {"species": (1, 6, 8), "centre": 6}, 1e-13),
    "methanol__B_all": (_B | {"species": (1, 6, 8), "centre": (1, 6, 8)}, 1e-13),
    "SiC8__wildcard": (_B, 1e-13),
    "SiC8__single_species_only_C": (_B | {"species": (6,)}, 1e-13),
    "SiC8__unnormalised": (_B | _SIC | {"normalise": False}, 1e-13),
    "SiC8__central_ref_all": (_B | _SIC | {"central_everywhere": True}, 1e-13),
    "SiC8__species_order": (_B | _SIC | {"species": (14, 6)}, 1e-13),
    "Si8__poly": (_A | _ONE | {"radial_basis": "poly"}, 2e-6),
    "Si8__gto": (_A | _ONE | {"radial_basis": "gto"}, 1e-11),
    "SiC8__gto2": (_B | _SIC | {"radial_basis": "gto"}, 1e-13),
    "Si8__dexp": (_A | _ONE | {"damping": (2.0, 3.0, 0.7)}, 1e-13),
    "Si8__poly4": (_A | _ONE | {"n_max": 4, "radial_basis": "poly"}, 1e-11),
    "Si8__bee": (_A | _ONE | {"basis_error_exponent": 6.0}, 1e-13),
    "Si8__old_xml": (_A | {"legacy_factor": True}, 1e-13),
    "Si8__l12": (_L12, 1e-13),
    "methanol__l12": (_METHANOL | {"species": (1, 6, 8), "centre": 6}, 1e-13),
    "Si8__diag": (_B | {"diagonal_radial": True}, 1e-13),
}


@pytest.fixture(scope="module")
def reference(shared):
    folder = shared / "reference" / "gap"
    if not folder.is_dir():
        pytest.skip("no reference data of GAP")
    with np.load(folder / "soap.npz") as stored:
        return folder, dict(stored)


def of_structure(reference, case):
    folder, _ = reference
    atoms = read(folder / f"{case.partition('__')[0]}.xyz")
    return environments(SOAP(**CASES[case][0]), atoms), len(atoms)


def close(found, expected, digits):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=digits * scale)


@pytest.mark.parametrize("case", CASES)
def test_vectors(reference, case):
    found, _ = of_structure(reference, case)
    stored = reference[1]
    assert (found.central_atoms == stored[f"{case}__centres"]).all()
    x = stored[f"{case}__x"]
    close(found.x[:, :-1], x[:, :-1], CASES[case][1])
    assert (found.x[:, -1] == x[:, -1]).all()


DERIVATIVES = [
    "Si8__A",
    "Si8__B",
    "SiC8__A_Z14",
    "SiC8__B_Z6",
    "SiC8__B_all",
    "methanol__A_Z6",
    "methanol__B_all",
]


@pytest.mark.parametrize("case", DERIVATIVES)
def test_derivatives(reference, case):
    found, n_atoms = of_structure(reference, case)
    n_env, n_features = found.x.shape
    dx = np.zeros((n_env, n_atoms, 3, n_features))
    strain = np.zeros((n_env, 3, 3, n_features))
    for block in found.jacobians():
        np.add.at(dx, (block.environments, block.atoms), block.dx)
        np.subtract.at(dx, (block.environments, block.central_atoms), block.dx)
        np.add.at(
            strain, block.environments, block.vec[:, :, None, None] * block.dx[:, None]
        )
    stored = reference[1]
    few = len(stored[f"{case}__dx"])
    close(dx[:few], stored[f"{case}__dx"], 1e-13)
    close(strain[:few], stored[f"{case}__strain"], 1e-13)


@pytest.mark.parametrize("case", DERIVATIVES)
def test_pulled_derivatives(reference, case):
    found, n_atoms = of_structure(reference, case)
    stored = reference[1]
    dx, strain = stored[f"{case}__dx"], stored[f"{case}__strain"]
    g = np.zeros_like(found.x)
    g[: len(dx)] = np.random.default_rng(0).normal(size=g[: len(dx)].shape)
    gradient, strains = np.zeros((n_atoms, 3)), np.zeros((n_atoms, 3, 3))
    found.pull(g, np.zeros(len(g)), gradient, strains)
    close(gradient, np.einsum("eacd,ed->ac", dx, g[: len(dx)]), 1e-12)
    close(strains.sum(axis=0), np.einsum("eabd,ed->ab", strain, g[: len(dx)]), 1e-12)
