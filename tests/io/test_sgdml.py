"""Against files and predictions of sGDML itself; see data/README_sgdml.md."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from sgdml_files import (
    DATA,
    FIELDS,
    MODEL,
    REFERENCE,
    assert_predicts,
    assert_reference,
    changed,
    frames_of,
    in_cell,
    layout_of_2018,
)
from sklearn.exceptions import NotFittedError

import kforce
from kforce import (
    RBF,
    GAPRegressor,
    GDMLRegressor,
    InputError,
    Matern32,
    Matern52,
    Scaled,
    read_frames,
)
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.io import read_sgdml, write_sgdml
from kforce.kernels.base import Sum
from kforce.storage.npz import read_arrays, write_arrays
from kforce.units import energy_unit

KCAL = energy_unit("kcal/mol")
METHANOL = kforce.datasets.load_methanol_ccsdt()


@pytest.fixture(scope="module")
def methanol():
    """A model with an amplitude, energies, permutations and a whole length scale."""
    model = GDMLRegressor(
        kernel=Scaled(Matern52(length_scale=8.0), amplitude=3.0),
        noise_forces=1e-3,
        noise_energy=1e-3,
    )
    return model.fit(METHANOL[:12])


def test_predictions_of_the_program():
    assert_reference(read_sgdml(MODEL))


def test_what_is_known_of_the_model():
    model = read_sgdml(MODEL)
    assert model.molecule_.formula == "C2H6O"
    assert model.kernel_.length_scale == 12.5
    assert model.noise_forces_ == pytest.approx(1e-4)
    assert model.noise_energy_ is None
    assert model.log_marginal_likelihood_ is None
    assert model.training_.n_frames == 40
    assert model.training_.hash == "9ee4b3d2f61f726d9643674ad2e61a28"
    assert model.training_.versions == {"sgdml": "1.0.3"}
    np.testing.assert_array_equal(model.permutations_, FIELDS["perms"])


def test_refit_of_what_was_read():
    frames = read_frames(DATA / "sgdml_ethanol.npz")
    model = read_sgdml(MODEL)
    known = model.grade_
    model.fit(frames[:40])
    assert_reference(model)
    for name in ("low", "high"):
        found = getattr(model.grade_, name)
        np.testing.assert_allclose(getattr(known, name), found, rtol=1e-12)


def test_calculator_and_save(tmp_path):
    model = read_sgdml(MODEL)
    model.save(tmp_path / "model.npz")
    atoms = frames_of(REFERENCE)[0]
    atoms.calc = kforce.load(tmp_path / "model.npz").calculator()
    np.testing.assert_allclose(atoms.get_forces(), REFERENCE["F_pred"][0], atol=1e-6)


def test_layout_of_2018(tmp_path):
    write_arrays(tmp_path / "old.npz", layout_of_2018())
    model = read_sgdml(tmp_path / "old.npz", unit="eV")
    assert_reference(model)
    assert model.noise_forces_ is None
    write_arrays(
        tmp_path / "byte.npz", layout_of_2018() | {"sig": np.array(200, np.uint8)}
    )
    assert read_sgdml(tmp_path / "byte.npz").kernel_.length_scale == 200.0


@pytest.mark.parametrize(
    ("fields", "unit", "energy", "length"),
    [
        ({"e_unit": None, "r_unit": None}, None, KCAL, 1.0),
        ({"e_unit": np.array(b"kcal/mol")}, None, KCAL, 1.0),
        ({"r_unit": np.array("bohr")}, None, 1.0, kforce.units.length_unit("bohr")),
        ({"r_unit": np.array("nm")}, "kcal/mol", KCAL, 10.0),
        (
            {"e_unit": np.array("au"), "r_unit": np.array("a.u.")},
            None,
            energy_unit("Hartree"),
            kforce.units.length_unit("Bohr"),
        ),
        ({"e_unit": np.array("bananas")}, "kJ/mol,nm", energy_unit("kJ/mol"), 10.0),
    ],
)
def test_units(tmp_path, fields, unit, energy, length, caplog):
    in_unit = {k: FIELDS[k] * length for k in ("R_desc", "R_d_desc_alpha", "sig")}
    with caplog.at_level("INFO", "kforce.io"):
        model = read_sgdml(changed(tmp_path, **fields, **in_unit), unit=unit)
    assert f"converted to eV (× {energy:.10g}) and Å (× {length:.10g})" in caplog.text
    forces = REFERENCE["F_pred"] * energy
    energies = REFERENCE["E_pred"] * energy
    assert_predicts(model, frames_of(REFERENCE), energies, forces)


@pytest.mark.parametrize(
    "name", ["eth40", "eth100", "eth100_Ecstr", "eth200", "asp100"]
)
def test_reference_models(shared, name):
    folder = shared / "reference" / "sgdml"
    d = read_arrays(folder / f"{name}.npz")
    model = read_sgdml(folder / f"{name}_model.npz")
    assert_predicts(model, frames_of(d), d["E_pred"], d["F_pred"])


def test_published_model_of_2018(shared):
    folder = shared / "reference" / "sgdml_models"
    d = read_arrays(folder / "ethanol_pred20.npz")
    model = read_sgdml(folder / "ethanol.npz")
    frames = [Atoms(d["z"], r) for r in d["R"]]
    assert_predicts(model, frames, d["E"] * KCAL, d["F"] * KCAL, 1e-4 * KCAL)


def test_model_of_another_program(shared):
    model = read_sgdml(shared / "reference/sgdml_models/1h2o-model-gdml.npz")
    water = molecule("H2O")
    forces = model.evaluate([water]).forces[0]
    assert np.abs(forces).max() < 1.0  # close to the equilibrium
    # Its coefficients are so large that energies are only good to some 1e-7 eV.
    step = 5e-3
    for a, c in np.ndindex(3, 3):
        moved = [water.copy(), water.copy()]
        moved[0].positions[a, c] += step
        moved[1].positions[a, c] -= step
        numeric = np.diff(model.predict(moved))[0] / (2 * step)
        assert numeric == pytest.approx(forces[a, c], abs=1e-3)


@pytest.mark.parametrize("unit", ["eV", "kcal/mol", "Hartree,Bohr"])
def test_round_trip(tmp_path, methanol, unit):
    write_sgdml(methanol, tmp_path / "model.npz", unit=unit)
    again = read_sgdml(tmp_path / "model.npz")
    frames = METHANOL[-10:]
    found = methanol.evaluate(frames)
    assert_predicts(again, frames, found.energy, found.forces)
    # The amplitude is folded into the coefficients, so noises are relative to it.
    assert again.noise_forces_ == pytest.approx(methanol.noise_forces_ / 3.0)
    grades = methanol.evaluate(frames).extrapolation
    np.testing.assert_allclose(again.evaluate(frames).extrapolation, grades, rtol=1e-6)
    assert again.training_.n_frames == 12
    assert again.training_.hash == methanol.training_.hash


def test_periodic_round_trip(tmp_path):
    frames = in_cell(METHANOL[:8])
    model = GDMLRegressor(kernel=Matern52(length_scale=8.0)).fit(frames)
    write_sgdml(model, tmp_path / "model.npz")
    columns = read_arrays(tmp_path / "model.npz")["lattice"]
    np.testing.assert_allclose(columns, frames[0].cell.array.T)
    again = read_sgdml(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.molecule_.pbc, True)
    found = model.evaluate(frames)
    assert_predicts(again, frames, found.energy, found.forces)


def test_fields_that_the_program_wants(tmp_path, methanol):
    write_sgdml(methanol, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=True) as written:
        assert set(written) >= set(FIELDS) - {"alphas_F"}
        assert written["sig"].dtype.kind == "i"
        assert written["f_err"].item().keys() == {"mae", "rmse"}


def test_fractional_length_scale_is_pointed_out(tmp_path, caplog):
    write_sgdml(read_sgdml(MODEL), tmp_path / "model.npz")
    assert "kernel=Matern52(length_scale=12)" in caplog.text
    assert_reference(read_sgdml(tmp_path / "model.npz"))


def test_full_disk_leaves_the_old_file(tmp_path, methanol, monkeypatch):
    path = tmp_path / "model.npz"
    path.write_text("old")

    def full(*args, **kwargs):
        args[0].write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_sgdml(methanol, path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


class OtherDescriptor(InverseDistances):
    pass


@pytest.mark.parametrize(
    ("fitted", "match"),
    [
        ({"kernel_": Matern32(length_scale=9.0)}, r"Matern52, found .*Matern32"),
        ({"kernel_": Scaled(RBF(length_scale=2.0))}, "found one with RBF"),
        ({"kernel_": Sum(RBF(length_scale=2.0), np.eye(15))}, "found one with Sum"),
        ({"descriptor_": OtherDescriptor()}, "found one with OtherDescriptor"),
        ({"baseline": "xtb"}, "holds no baseline"),
    ],
)
def test_models_that_it_does_not_know(tmp_path, fitted, match):
    model = read_sgdml(MODEL)._restore(**fitted)
    with pytest.raises(InputError, match=match):
        write_sgdml(model, tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())


def test_slab(tmp_path):
    model = GDMLRegressor(kernel=Matern52(length_scale=9.0))
    model.fit(in_cell(METHANOL[:3], pbc=[True, True, False]))
    with pytest.raises(InputError, match="periodic in all directions or in none"):
        write_sgdml(model, tmp_path / "model.npz")


def test_not_fitted(tmp_path):
    with pytest.raises(NotFittedError):
        write_sgdml(GDMLRegressor(), tmp_path / "model.npz")


def test_a_local_model(tmp_path):
    with pytest.raises(InputError, match="a GDMLRegressor, found GAPRegressor"):
        write_sgdml(GAPRegressor(), tmp_path / "model.npz")
