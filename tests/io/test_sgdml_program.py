"""Files written by kforce in the sGDML program itself, where it is installed.

The environment variable KFORCE_SGDML_PYTHON names the Python that has it.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from sgdml_files import DATA, MODEL, in_cell

import kforce
from kforce import GDMLRegressor, Matern52, Scaled
from kforce.io import read_sgdml, write_sgdml
from kforce.storage.npz import write_arrays

PYTHON = os.environ.get("KFORCE_SGDML_PYTHON")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="KFORCE_SGDML_PYTHON names no Python with sgdml"
)

#: Loads with the program's own check of the file, and predicts.
PREDICT = """
import sys
import numpy as np
from sgdml.predict import GDMLPredict
from sgdml.utils.io import is_file_type
_, model = is_file_type(sys.argv[1], "model")
R = np.load(sys.argv[2])
predictor = GDMLPredict(model, max_processes=1)
energy, forces = predictor.predict(R.reshape(len(R), -1))
np.savez(sys.argv[3], energy=energy, forces=forces.reshape(R.shape))
"""

METHANOL = kforce.datasets.load_methanol_ccsdt()


def fit(frames=METHANOL[:15], **parameters):
    return GDMLRegressor(**{"kernel": Matern52()} | parameters).fit(frames)


CASES = {
    "learned": lambda: (fit(), METHANOL[-20:]),
    "scaled, energies": lambda: (
        fit(
            kernel=Scaled(Matern52(length_scale=10.0), amplitude=3.0),
            noise_forces=1e-3,
            noise_energy=1e-3,
        ),
        METHANOL[-20:],
    ),
    "periodic": lambda: (fit(in_cell(METHANOL[:15])), in_cell(METHANOL[:20])),
    "read": lambda: (read_sgdml(MODEL), kforce.read_frames(DATA / "sgdml_ethanol.npz")),
}


def run(*command, cwd):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_the_program_predicts_the_same(tmp_path, make):
    model, frames = make()
    write_sgdml(model, tmp_path / "model.npz")
    np.save(tmp_path / "R.npy", [frame.positions for frame in frames])
    run(PYTHON, "-c", PREDICT, "model.npz", "R.npy", "out.npz", cwd=tmp_path)
    found = model.evaluate(frames)
    with np.load(tmp_path / "out.npz") as out:
        np.testing.assert_allclose(out["energy"], found.energy, rtol=0, atol=1e-6)
        np.testing.assert_allclose(out["forces"], found.forces, rtol=0, atol=1e-6)


def test_the_program_shows_and_tests_it(tmp_path):
    program = Path(PYTHON).with_name("sgdml")
    forces = np.array([frame.get_forces() for frame in METHANOL[-20:]])
    data_set = {
        "type": np.array("d"),
        "name": np.array("methanol"),
        "theory": np.array("CCSD(T)"),
        "md5": np.array(b"0" * 32),
        "z": METHANOL[0].numbers,
        "R": np.array([frame.positions for frame in METHANOL[-20:]]),
        "E": np.array([frame.get_potential_energy() for frame in METHANOL[-20:]]),
        "F": forces,
    }
    write_arrays(tmp_path / "test.npz", data_set)
    model = fit(kernel=Matern52(length_scale=10.0))
    write_sgdml(model, tmp_path / "model.npz")
    shown = run(program, "show", "model.npz", cwd=tmp_path)
    assert "Length scale:    10" in shown
    assert "Trained on:        15 points" in shown
    tested = run(program, "test", "--cpu", "model.npz", "test.npz", cwd=tmp_path)
    error = model.evaluate(METHANOL[-20:]).forces - forces
    mae, rmse = np.abs(error).mean(), np.sqrt(np.mean(error**2))
    assert f"Forces:            {mae:.4f}/{rmse:.4f}" in tested
    # It has written the errors into the file, which is still read.
    read_sgdml(tmp_path / "model.npz")
