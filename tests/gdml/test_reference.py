"""The linear system of sGDML gives its predictions; see data/README_sgdml.md."""

from pathlib import Path

import numpy as np
import pytest
from toys import labelled

from kforce import GDMLRegressor, Matern52
from kforce.storage.npz import read_arrays

DATA = Path(__file__).parents[1] / "data"


def frames_of(reference, which):
    return [
        labelled(
            reference["z"],
            reference["R"][s],
            reference["E"][s],
            reference["F"][s],
        )
        for s in reference[which]
    ]


def assert_same_as(reference, energy_tolerance=1e-6):
    """Fit what sGDML fitted and compare; in eV and Å."""
    deviation = np.sqrt(reference["lam"])
    n_atoms = len(reference["z"])
    with_energies = bool(reference.get("E_cstr", False))
    model = GDMLRegressor(
        kernel=Matern52(length_scale=float(reference["sigma"])),
        noise_forces=float(deviation),
        noise_energy=float(deviation / np.sqrt(n_atoms)) if with_energies else None,
        permutations=reference["perms"],
        optimize=False,
    )
    model.fit(frames_of(reference, "train"))
    found = model.evaluate(frames_of(reference, "test"))
    np.testing.assert_allclose(found.forces, reference["F_pred"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        found.energy, reference["E_pred"], rtol=0, atol=energy_tolerance
    )


def test_shipped_reference():
    assert_same_as(read_arrays(DATA / "sgdml_ethanol.npz"))


@pytest.mark.parametrize(
    ("name", "energy_tolerance"),
    [
        ("eth40", 1e-6),
        ("eth100", 1e-6),
        ("eth100_Ecstr", 1e-5),
        pytest.param("eth200", 1e-6, marks=pytest.mark.slow),
        pytest.param("asp100", 1e-6, marks=pytest.mark.slow),
    ],
)
def test_reference_models(shared, name, energy_tolerance):
    reference = read_arrays(shared / "reference" / "sgdml" / f"{name}.npz")
    assert_same_as(reference, energy_tolerance)
