"""The command line with local models: options, stresses, conversion."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from local_frames import cells, clusters, isolated

import kforce
from kforce.cli.main import main
from kforce.errors import InputError
from kforce.io import read_quip_xml

TERMS = """
- descriptor: two_body
  cutoff: 4.5
  n_inducing: 8
  kernel: rbf
  amplitude: 1.0
  length_scales: 0.5
- descriptor: soap
  cutoff: 3.5
  n_max: 3
  l_max: 2
  atom_sigma: 0.6
  n_inducing: 8
  zeta: 4
  amplitude: 1.0
"""

#: A model of which nothing is learned.
QUICK = ["--model", "gap", "--terms", "terms.yaml", "--noise-energy", "0.01"]
QUICK += ["--noise-forces", "0.1", "--noise-virial", "0.1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with data sets, terms and a model."""
    path = tmp_path_factory.mktemp("cli_gap")
    write(path / "mixed.xyz", cells(14) + clusters(6) + isolated())
    write(path / "clusters.xyz", clusters(3, seed=1))
    write(path / "gold.xyz", isolated()[1])
    (path / "terms.yaml").write_text(TERMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert main(["train", "mixed.xyz", "-o", "model.npz", *QUICK, "-q"]) == 0
        assert main(["convert", "model.npz", "model.xml", "-q"]) == 0
    return path


@pytest.fixture(autouse=True)
def _inside(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    capsys.readouterr()


def test_training_reports_and_saves(tmp_path, capsys):
    path = tmp_path / "model.npz"
    call = ["train", "mixed.xyz", "-o", str(path), *QUICK, "--n-test", "6"]
    assert main(call) == 0
    heard = capsys.readouterr()
    assert "2 isolated atoms kept for the training" in heard.out
    assert "training on 16 frames, testing on 6" in heard.out
    assert re.search(r"energy +meV/atom +\d", heard.out)
    assert re.search(r"stress +meV/Å³ +\d", heard.out)
    assert "other atoms" not in heard.err
    model = kforce.load(path)
    assert model.training_.n_frames == 16
    noises = (model.noise_energy_, model.noise_forces_, model.noise_virial_)
    assert noises == (0.01, 0.1, 0.1)
    atoms = {z: atom for z, atom in zip((29, 79), isolated(), strict=True)}
    for z, energy in model.reference_energies_.items():
        assert energy == pytest.approx(atoms[z].get_potential_energy())


def test_a_crystal_of_one_atom_is_not_isolated(tmp_path, capsys):
    crystal = bulk("Cu")
    crystal.calc = SinglePointCalculator(crystal, energy=0.0, forces=np.zeros((1, 3)))
    write(tmp_path / "data.xyz", [*cells(6), *isolated(), crystal])
    call = ["train", str(tmp_path / "data.xyz"), "-o", str(tmp_path / "m.npz")]
    assert main([*call, *QUICK]) == 0
    assert "2 isolated atoms kept for the training" in capsys.readouterr().out


def test_json_has_everything_to_repeat_the_run(tmp_path, capsys):
    call = ["train", "mixed.xyz", "-o", str(tmp_path / "m.npz"), *QUICK, "--json"]
    assert main(call) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n_inducing"] == [8, 8, 8, 8, 8]
    assert result["noise_virial"] == 0.1
    assert len(result["training_hash"]) == 64
    assert {"energy_per_atom_mae", "stress_rmse"} <= result["test"].keys()


def test_a_file_apart_and_all_frames(tmp_path, capsys):
    call = ["train", "mixed.xyz", "--test", "clusters.xyz", *QUICK, "--json"]
    assert main([*call, "-o", str(tmp_path / "m.npz")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["n_train"], result["test"]["n_structures"]) == (22, 3)
    assert "stress_mae" not in result["test"]


def test_testing_agrees_with_the_model(capsys):
    call = ["test", "model.npz", "mixed.xyz", "--with-training", "--json"]
    assert main(call) == 0
    found = json.loads(capsys.readouterr().out)
    frames = read("mixed.xyz", ":")
    model = kforce.load("model.npz")
    prediction = model.evaluate(frames, return_std=True)
    off = [p - f.get_forces() for p, f in zip(prediction.forces, frames, strict=True)]
    assert found["test"]["forces_mae"] == pytest.approx(
        np.abs(np.concatenate(off)).mean()
    )
    sizes = np.array([len(frame) for frame in frames])
    energies = np.array([frame.get_potential_energy() for frame in frames])
    assert found["test"]["energy_per_atom_mae"] == pytest.approx(
        np.abs((prediction.energy - energies) / sizes).mean()
    )
    periodic = [frame for frame in frames if frame.pbc.all()]
    stress = model.evaluate(periodic, "stress").stress
    assert found["test"]["stress_mae"] == pytest.approx(
        np.abs(stress - [frame.get_stress() for frame in periodic]).mean()
    )
    assert 0.0 <= found["calibration"]["forces"]["coverage_90"] <= 1.0


def test_predictions_are_written_with_stress_where_periodic(tmp_path, capsys):
    path = tmp_path / "predicted.xyz"
    frames = read("mixed.xyz", ":")
    frames = [frames[k] for k in (20, 0, 15, 3)]  # periodic ones between others
    write(tmp_path / "some.xyz", frames)
    call = ["predict", "model.npz", str(tmp_path / "some.xyz"), "--std"]
    assert main([*call, "-o", str(path)]) == 0
    assert "energies, forces and stresses" in capsys.readouterr().out
    model = kforce.load("model.npz")
    expected = model.evaluate(frames, return_std=True)
    written = read(path, ":")
    for s, frame in enumerate(written):
        np.testing.assert_allclose(frame.get_forces(), expected.forces[s], atol=1e-7)
        assert frame.get_potential_energy() == pytest.approx(expected.energy[s])
        assert frame.info["energy_std"] == pytest.approx(expected.energy_std[s])
    known = ["stress" in frame.calc.results for frame in written]
    assert known == [False, True, False, True]
    np.testing.assert_allclose(
        written[3].get_stress(), model.evaluate(frames[3:], "stress").stress[0]
    )


def test_info(capsys):
    assert main(["info", "model.npz"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"model +GAPRegressor of Cu, Au, 40 inducing environments", out)
    assert "species=(29, 79)), RBF of length 0.5, amplitude 1 eV, 8 inducing" in out
    assert re.search(r"energies of atoms +Cu 3.51", out)
    assert re.search(r"noise of the virials +0.1 eV per atom", out)
    assert re.search(r"standard deviations +stored", out)
    assert main(["info", "model.xml"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"training frames +not known", out)
    assert re.search(r"standard deviations +not stored", out)
    assert main(["info", "mixed.xyz"]) == 0
    assert re.search(r"stresses +on 14 frames", capsys.readouterr().out)


def test_training_frames_are_recognised(tmp_path, capsys):
    """One by one, in any order and among others."""
    path = str(tmp_path / "m.npz")
    call = ["train", "clusters.xyz", "--n-train", "2", "--seed", "1", "-o", path]
    assert main([*call, *QUICK]) == 0
    capsys.readouterr()
    assert main(["test", path, "clusters.xyz"]) == 0
    out = capsys.readouterr().out
    assert "2 of 3 frames of clusters.xyz are training data of this model and" in out
    assert "errors of 1 structure" in out
    assert main(["test", path, "mixed.xyz"]) == 1
    assert "which the model has never seen" in capsys.readouterr().err


def test_learning_curve(capsys):
    call = ["learning-curve", "mixed.xyz", *QUICK, "--sizes", "6,12", "--json"]
    assert main(call) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sizes"] == [6, 12]
    assert len(found["forces_mae"]) == 2


def test_models_convert_to_gap_and_back(tmp_path, capsys):
    assert main(["convert", "model.xml", str(tmp_path / "back.npz")]) == 0
    frames = read("mixed.xyz", ":")
    models = [kforce.load("model.npz"), kforce.load(tmp_path / "back.npz")]
    models.append(read_quip_xml("model.xml"))
    first, *others = (model.predict(frames) for model in models)
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-8)


def test_a_model_of_gap_is_tested_and_corrected(tmp_path, capsys):
    assert main(["test", "model.xml", "mixed.xyz"]) == 0
    heard = capsys.readouterr()
    assert "the calibration is left out: This model holds no posterior" in heard.out
    path = tmp_path / "m.npz"
    call = ["train", "mixed.xyz", *QUICK, "--baseline", "model.xml", "-o", str(path)]
    assert main(call) == 0
    assert kforce.load(path).baseline_ is not None
    assert "stress" in capsys.readouterr().out


def test_the_sample_data(tmp_path, capsys):
    path = tmp_path / "m.npz"
    assert main(["train", *QUICK, "--n-train", "10", "-o", str(path)]) == 0
    assert "errors of 60 structures" in capsys.readouterr().out
    assert kforce.load(path).species_ == (6, 8, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            "train mixed.xyz --model gap --kernel rbf",
            "--kernel belongs to --model gdml",
        ),
        ("train mixed.xyz --model gap --length-scale 1", "--length-scale belongs to"),
        ("train mixed.xyz --model gap --permutations none", "--permutations belongs"),
        ("train mixed.xyz --model gap --max-permutations 9", "--max-permutations bel"),
        ("train mixed.xyz --model gap --keep-factor", "--keep-factor belongs"),
        ("train mixed.xyz --model gap --reorder", "--reorder belongs"),
        ("train mixed.xyz --terms terms.yaml", "--terms belongs to --model gap"),
        ("learning-curve mixed.xyz --noise-virial 1", "--noise-virial belongs to"),
        ("learning-curve mixed.xyz --model gap --kernel rq", "--kernel belongs to"),
        ("train mixed.xyz --model gap --terms no.yaml", "there is no no.yaml"),
        ("train mixed.xyz --model gap --terms model.npz", "is not YAML"),
        (
            "train mixed.xyz --model gap --terms gold.xyz",
            "Expected a list of terms|YAML",
        ),
        ("train gold.xyz --model gap --n-train 1", "no two atoms .* within"),
        ("train mixed.xyz --n-train 5", "knows one molecule only"),
        ("convert model.npz other.npz", r"ends in \.xml"),
        ("convert model.xml other.xyz", r"ends in \.npz"),
        ("convert model.npz other.xml --units eV", "--units .* is a model"),
        ("convert model.xml other.npz --reorder", "--reorder .* is a model"),
        ("convert nothing.xml other.npz", "there is no nothing.xml"),
        ("info nothing.xml", "there is no nothing.xml"),
        ("test terms.yaml mixed.xyz", "npz"),
    ],
)
def test_mistakes_end_in_one_sentence(folder, capsys, call, message):
    before = sorted(folder.iterdir())
    assert main(call.split()) == 1
    err = capsys.readouterr().err
    last = err.strip().splitlines()[-1]
    assert last.startswith("kforce: error: ")
    assert "Traceback" not in err
    assert "bug" not in err
    assert re.search(message, last), last
    assert sorted(folder.iterdir()) == before


def test_mistakes_in_a_file_of_terms_end_in_one_sentence(tmp_path, capsys):
    path = tmp_path / "wrong.yaml"
    path.write_text("- {descriptor: two_body, cutof: 4}")
    call = ["train", "mixed.xyz", "--model", "gap", "--terms", str(path)]
    assert main(call) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"kforce: error: {path}, entry 1 (two_body): unknown key")


def test_elements_of_test_frames_are_looked_at_first(tmp_path, capsys):
    call = ["train", "gold.xyz", "--test", "mixed.xyz", *QUICK, "--n-train", "1"]
    assert main([*call, "-o", str(tmp_path / "m.npz")]) == 1
    assert "Frame 0 of the test set holds Cu, which no training" in (
        capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())


def test_a_model_is_saved_before_it_is_tested(tmp_path, capsys, monkeypatch):
    def fail(*args):
        raise InputError("the sun is in the way.")

    path = tmp_path / "m.npz"
    with monkeypatch.context() as patch:
        patch.setattr(kforce.GAPRegressor, "evaluate", fail)
        assert main(["train", "mixed.xyz", *QUICK, "-o", str(path)]) == 0
    heard = capsys.readouterr()
    assert "is saved, but could not be tested: the sun is in the way." in heard.err
    assert kforce.load(path).score(read("clusters.xyz", ":")) > 0.0


def test_one_frame_is_too_few(tmp_path, capsys):
    write("one.xyz", clusters(1))
    call = ["train", "one.xyz", *QUICK, "-o", str(tmp_path / "m.npz")]
    assert main(call) == 1
    assert "1 frame in one.xyz, too few to train and to test on 1: add frames" in (
        capsys.readouterr().err
    )
    assert main([*call, "--n-train", "1"]) == 0


def test_arguments_in_the_wrong_order(capsys):
    assert main(["predict", "mixed.xyz", "model.npz", "-o", "new.xyz"]) == 1
    assert "the model comes first, then the structures" in capsys.readouterr().err


def test_isolated_atoms_are_in_all_sets_of_a_learning_curve(capsys):
    call = ["learning-curve", "mixed.xyz", *QUICK, "--sizes", "6,12", "--json"]
    assert main(call) == 0
    assert json.loads(capsys.readouterr().out)["energy_mae"][1] < 0.2


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "kforce", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert kforce.__version__ in done.stdout


def test_pairs_that_no_training_frame_has(tmp_path, capsys):
    """Elements that never met, and atoms that are closer than they ever were."""
    path = tmp_path / "m.npz"
    assert (
        main(["train", "clusters.xyz", *QUICK, "--n-train", "3", "-o", str(path)]) == 0
    )
    capsys.readouterr()
    atoms = read("clusters.xyz")
    atoms.positions[1] = atoms.positions[0] + [0.9, 0.0, 0.0]
    write(tmp_path / "close.xyz", atoms)
    out = ["-o", str(tmp_path / "new.xyz")]
    assert main(["predict", str(path), str(tmp_path / "close.xyz"), *out]) == 0
    assert re.search(
        r"not reliable \(frame 0: It holds \w\w–\w\w pairs at 0.90 Å, and the training "
        r"set from [12]\.\d\d Å on\)",
        capsys.readouterr().err,
    )
    assert main(["predict", str(path), "clusters.xyz", *out, "--overwrite"]) == 0
    assert "not reliable" not in capsys.readouterr().err


def test_grades_are_written_and_warned_of(tmp_path, capsys):
    frames = [f for f in cells(3, seed=4) if f.pbc.all()]
    frames[1].set_cell(0.75 * frames[1].cell, scale_atoms=True)
    write(tmp_path / "new.xyz", frames)
    out = tmp_path / "predicted.xyz"
    call = ["predict", "model.npz", str(tmp_path / "new.xyz"), "-o", str(out), "--std"]
    assert main([*call, "--json"]) == 0
    heard = capsys.readouterr()
    grades = json.loads(heard.out)["extrapolation"]
    expected = kforce.load("model.npz").extrapolation(frames)
    np.testing.assert_allclose(grades, [g.max() for g in expected], rtol=1e-5)
    assert "1 of 3 structures leaves the range of the training data" in heard.err
    assert "extrapolation grades up to" in heard.err
    for frame, of_atoms in zip(read(out, ":"), expected, strict=True):
        np.testing.assert_allclose(frame.arrays["extrapolation"], of_atoms, rtol=1e-5)
        assert frame.info["extrapolation"] == pytest.approx(of_atoms.max(), rel=1e-5)


def test_deviations_that_are_off_are_pointed_out(tmp_path, capsys):
    frames = cells(6, seed=4)
    for frame in frames:
        results = dict(frame.calc.results)
        results["forces"] = results["forces"] + 5.0
        frame.calc = SinglePointCalculator(frame, **results)
    write(tmp_path / "wrong.xyz", frames)
    assert main(["test", "model.npz", str(tmp_path / "wrong.xyz")]) == 0
    heard = capsys.readouterr()
    assert "standard deviations of forces are too small" in heard.err
    assert "coverage: labels within the interval" in heard.out


def test_training_says_what_deviations_and_grades_are(tmp_path, capsys):
    call = [
        "train",
        "mixed.xyz",
        "-o",
        str(tmp_path / "m.npz"),
        *QUICK,
        "--n-test",
        "2",
    ]
    assert main(call) == 0
    heard = capsys.readouterr().out
    assert "95 % of the errors of left-out frames are within 1.96" in heard
    assert "extrapolation grade: 1 is where" in heard
