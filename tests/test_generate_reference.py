"""The example script that makes CCSD(T) labels; its chemistry only where PySCF is."""

import importlib.util
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import read, write

SCRIPT = Path(__file__).parents[1] / "examples" / "generate_reference.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("generate_reference", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def water(n):
    frames = [molecule("H2O") for _ in range(n)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.05, seed=seed)
    return frames


def emt_energy(atoms):
    atoms.calc = EMT()
    return atoms.get_potential_energy()


@pytest.mark.parametrize("name", ["H2O", "CH4", "CH3OH"])
def test_check_forces_finds_wrong_gradients(script, name):
    atoms = molecule(name)
    atoms.calc = EMT()
    forces = atoms.get_forces()
    script.check_forces(atoms, forces, emt_energy)
    stretch = 0.01 * (atoms.positions - atoms.positions.mean(axis=0))
    with pytest.raises(script.UserError, match="not the gradient"):
        script.check_forces(atoms, forces + stretch, emt_energy)
    with pytest.raises(script.UserError, match="not the gradient"):
        script.check_forces(atoms, forces * np.nan, emt_energy)


def test_resume_follows_the_last_frame(script, tmp_path):
    frames, out = water(5), tmp_path / "out.xyz"
    assert script.resume(out, frames, "m") == 0
    for i in (0, 2):  # frame 1 had been left out
        frame = frames[i].copy()
        frame.info["method"] = "m"
        script.save(frame, out, append=True)
    assert script.resume(out, frames, "m") == 3
    with pytest.raises(script.UserError, match="holds m, not other"):
        script.resume(out, frames, "other")
    with pytest.raises(script.UserError, match=r"Frame 1 of .* not in the input"):
        script.resume(out, frames[:2], "m")
    out.write_text(out.read_text()[:-40])
    with pytest.raises(script.UserError, match="cannot be continued"):
        script.resume(out, frames, "m")


def test_residuals_of_a_rigid_free_force_vanish(script):
    atoms = molecule("CH3OH")
    atoms.calc = EMT()
    assert max(script.residuals(atoms, atoms.get_forces())) < 1e-12
    assert script.residuals(atoms, np.ones((6, 3)))[0] == pytest.approx(6 * 3**0.5)


def periodic():
    return Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], cell=[9, 9, 9], pbc=True)


@pytest.mark.parametrize(
    ("frames", "extra", "message"),
    [
        ([molecule("NO2")], [], "only closed shells"),
        ([molecule("H2O")], ["--charge", "1"], "only closed shells"),
        ([molecule("H2O"), molecule("CH4")], [], "frame 1: other atoms"),
        ([periodic()], [], "periodic"),
        ([Atoms("He")], [], "two atoms or more"),
        ([Atoms("H2", np.zeros((2, 3)))], [], "0.00 Å apart"),
        ([Atoms("H2", [[0, 0, 0], [0, 0, np.nan]])], [], "finite"),
        ([Atoms("HI", [[0, 0, 0], [0, 0, 1.6]])], [], "from H to Kr"),
        ([molecule("H2O")], ["--sample", "0"], "1 or more"),
        ([molecule("H2O")], ["-o", "labels.json"], "must end in .xyz"),
        ([molecule("H2O")], ["-o", "in.traj"], "must end in .xyz"),
        ([molecule("H2O")], ["-o", "none/out.xyz"], "no folder none"),
        ("", [], "is not a file of geometries"),
        (None, [], "No such file"),
    ],
)
def test_mistakes_end_in_one_sentence(
    script, tmp_path, monkeypatch, capsys, frames, extra, message
):
    monkeypatch.chdir(tmp_path)
    if isinstance(frames, list):
        write("in.traj", frames)
    elif frames is not None:
        Path("in.traj").write_text(frames)
    assert script.main(["in.traj", "-o", "out.xyz", *extra]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("out.xyz").exists()


def test_missing_pyscf_is_said(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyscf", None)
    write(tmp_path / "in.traj", water(1))
    out = tmp_path / "out.xyz"
    assert script.main([str(tmp_path / "in.traj"), "-o", str(out)]) == 1
    assert "pip install pyscf" in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_labels_of_water(script, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyscf")
    monkeypatch.chdir(tmp_path)
    frames = water(3)
    write("in.traj", frames)
    command = ["in.traj", "-o", "out.xyz", "--basis", "6-31G"]
    compute = script.compute

    def interrupted(atoms, args, gradient=True):
        if np.array_equal(atoms.positions, frames[1].positions):
            raise KeyboardInterrupt
        return compute(atoms, args, gradient)

    monkeypatch.setattr(script, "compute", interrupted)
    assert script.main(command) == 130
    assert len(read("out.xyz", index=":")) == 1
    monkeypatch.setattr(script, "compute", compute)
    assert script.main(command) == 0
    assert "continuing out.xyz at geometry 1" in capsys.readouterr().out
    labelled = read("out.xyz", index=":")
    assert len(labelled) == 3
    args = Namespace(basis="6-31G", charge=0, frozen_core=False)
    for atoms, frame in zip(frames, labelled, strict=True):
        result = script.single_point(atoms, args)
        assert frame.get_potential_energy() == pytest.approx(result["energy"], abs=1e-7)
        np.testing.assert_allclose(frame.get_forces(), result["forces"], atol=1e-7)
        assert max(script.residuals(frame, frame.get_forces())) < 1e-4


@pytest.mark.filterwarnings("default")
def test_lambda_equations_without_triples_are_refused(script, tmp_path, capsys):
    pytest.importorskip("pyscf")
    from pyscf.cc import ccsd_lambda

    ccsd_t_lambda = pytest.importorskip("pyscf.cc.ccsd_t_lambda")
    write(tmp_path / "in.traj", water(1))
    command = [str(tmp_path / "in.traj"), "-o", str(tmp_path / "out.xyz")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ccsd_t_lambda, "kernel", ccsd_lambda.kernel)
        assert script.main(command) == 1
    assert "not the gradient" in capsys.readouterr().err
    assert not (tmp_path / "out.xyz").exists()
