"""Files written by kforce in the program itself, where quippy is installed.

The environment variable KFORCE_QUIP_PYTHON names the Python that has it.
"""

import os
import subprocess

import numpy as np
import pytest
from ase.io import write
from quip_files import FRAMES, TERMS, model, soap

from kforce.io import write_quip_xml

PYTHON = os.environ.get("KFORCE_QUIP_PYTHON")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="KFORCE_QUIP_PYTHON names no Python with quippy"
)

PREDICT = """
import sys
import numpy as np
from ase.io import read
from quippy.potential import Potential
for path in sys.argv[1:]:
    out = {}
    for s, frame in enumerate(read("frames.traj", ":")):
        frame.calc = Potential("", param_filename=path)
        out[f"energy_{s}"] = frame.get_potential_energy()
        out[f"energies_{s}"] = frame.get_potential_energies()
        out[f"forces_{s}"] = frame.get_forces()
        if frame.pbc.all():
            out[f"stress_{s}"] = frame.get_stress()
    np.savez(path.replace(".xml", ".npz"), **out)
"""

MODELS = {name: (make,) for name, make in TERMS.items()} | {
    "everything": tuple(TERMS.values()),
    "old rules": (
        lambda: soap(legacy_factor=True, species=(6, 14), central_everywhere=True),
        lambda: soap(legacy_factor=True),
    ),
}


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """Each model, and what the program predicts with it."""
    folder = tmp_path_factory.mktemp("quip")
    models = {
        name: model(*(make() for make in makes)) for name, makes in MODELS.items()
    }
    for i, made in enumerate(models.values()):
        write_quip_xml(made, folder / f"{i}.xml")
    write(folder / "frames.traj", FRAMES)
    done = subprocess.run(
        [PYTHON, "-c", PREDICT, *(f"{i}.xml" for i in range(len(models)))],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [dict(np.load(folder / f"{i}.npz")) for i in range(len(models))]
    return dict(zip(models, zip(models.values(), found, strict=True), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_the_program_predicts_the_same(predicted, name):
    written, out = predicted[name]
    for s, frame in enumerate(FRAMES):
        found = written.evaluate([frame], ("energy", "forces", "energies"))
        pairs = [("energy", found.energy), ("forces", found.forces)]
        pairs.append(("energies", found.energies))
        if frame.pbc.all():
            pairs.append(("stress", written.evaluate([frame], ("stress",)).stress))
        for what, values in pairs:
            np.testing.assert_allclose(
                out[f"{what}_{s}"], values[0], rtol=0, atol=1e-9, err_msg=what
            )
