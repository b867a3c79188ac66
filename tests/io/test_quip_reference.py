"""Models made and evaluated by the program itself, where the reference data are."""

import numpy as np
import pytest
from ase.io import read
from ase.stress import voigt_6_to_full_3x3_stress

from kforce.io import read_quip_xml, write_quip_xml

FITTED = ["si_2b_soap", "benzene_2b_3b_soap"]
HANDWRITTEN = ["handwritten", "handwritten_perm_pp", "handwritten_old_version"]


def assert_predicts(model, frame, energy, forces, virial, energies):
    found = model.evaluate([frame], ("energy", "forces", "energies"))
    tolerance = {"rtol": 0, "atol": 1e-8}
    np.testing.assert_allclose(found.energy[0], energy, **tolerance)
    np.testing.assert_allclose(found.forces[0], forces, **tolerance)
    np.testing.assert_allclose(found.energies[0], energies, **tolerance)
    if frame.pbc.all():
        stress = model.evaluate([frame], ("stress",)).stress[0]
        found = -frame.get_volume() * voigt_6_to_full_3x3_stress(stress)
        np.testing.assert_allclose(found, virial, **tolerance)


@pytest.mark.parametrize("name", FITTED)
def test_models_of_gap_fit(shared, tmp_path, name):
    folder = shared / "reference" / "gap" / name
    model = read_quip_xml(folder / "gap.xml")
    write_quip_xml(model, tmp_path / "again.xml")
    again = read_quip_xml(tmp_path / "again.xml")
    expected = np.load(folder / "predictions.npz")
    for k, frame in enumerate(read(folder / "test.xyz", ":")):
        names = ("energy", "forces", "virial", "energies")
        assert_predicts(model, frame, *(expected[f"{k}__{name}"] for name in names))
        assert again.predict([frame]) == model.predict([frame])
    assert set(model.species_) == set(frame.numbers)
    assert again.species_ == model.species_


@pytest.mark.parametrize("name", HANDWRITTEN)
def test_models_written_by_hand(shared, name):
    folder = shared / "reference" / "gap"
    model = read_quip_xml(folder / "handwritten" / f"{name}.xml")
    expected = np.load(folder / "handwritten" / f"{name}.npz")
    frame = read(folder / "SiC8.xyz")
    assert_predicts(model, frame, *(expected[name] for name in ("e", "f", "v", "le")))


def test_a_model_of_water(shared):
    folder = shared / "reference" / "gap_quip_tests"
    model = read_quip_xml(folder / "GAP.xml")
    assert model.species_ == (1, 8)
    frame = read(folder / "gap_sample.xyz")
    found = model.evaluate([frame])
    # Its weights of 4e6 eV⁻¹ magnify rounding; the forces have eight decimals.
    energy = frame.get_potential_energy()
    np.testing.assert_allclose(found.energy[0], energy, rtol=0, atol=2e-7)
    forces = frame.arrays["force"]
    np.testing.assert_allclose(found.forces[0], forces, rtol=0, atol=5e-8)
