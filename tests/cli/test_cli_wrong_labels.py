"""Wrong labels on the command line: named with their file and number."""

import json

import ase.io
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from kforce.cli.main import main
from kforce.datasets import load_methanol_ccsdt


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The energy of frame 11 is 5 eV off in one file; the other is right."""
    folder = tmp_path_factory.mktemp("labels")
    frames = load_methanol_ccsdt()
    ase.io.write(folder / "test.xyz", frames[60:80])
    energy, forces = frames[11].get_potential_energy(), frames[11].get_forces()
    frames[11].calc = SinglePointCalculator(
        frames[11], energy=energy + 5.0, forces=forces
    )
    ase.io.write(folder / "train.xyz", frames[:50])
    return folder


def trained(files, *options):
    model = files / "model.npz"
    arguments = [
        "train",
        str(files / "train.xyz"),
        "--test",
        str(files / "test.xyz"),
        "-o",
        str(model),
    ]
    arguments += ["--kernel", "matern52", "--overwrite", *options]
    assert main(arguments) == 0
    return model


def test_train_and_info_name_the_frame(files, capsys):
    model = trained(files)
    said = capsys.readouterr()
    line = f"frame 11 of {files / 'train.xyz'}: energy 5.0"
    assert said.err.count("frame 11 of ") == 1
    assert f"warning: {line}" in said.err
    assert "σ: check this calculation" in said.err
    assert main(["info", str(model)]) == 0
    assert f"suspect labels   {line}" in capsys.readouterr().out


def test_info_names_the_frame_of_a_slice_and_its_file(files, tmp_path, capsys):
    train, test = str(files / "train.xyz"), str(files / "test.xyz")
    model = str(tmp_path / "model.npz")
    options = ["--kernel", "matern52", "--n-test", "5", "-o", model]
    assert main(["train", test, f"{train}@3:40", *options]) == 0
    heard = capsys.readouterr().err
    assert f"frame 11 of {train}: energy" in heard
    assert main(["info", model]) == 0
    assert f"frame 11 of {train}: energy" in capsys.readouterr().out


def test_robust(files, capsys):
    trained(files, "--robust", "--json")
    (suspect,) = json.loads(capsys.readouterr().out)["suspect_labels"]
    assert suspect["frame"] == 11
    assert suspect["label"] == "energy"
    assert suspect["is_left_out"]


def test_robust_belongs_to_models_of_one_molecule(files, capsys):
    arguments = ["train", str(files / "train.xyz"), "--model", "gap", "--robust"]
    assert main([*arguments, "-o", str(files / "gap.npz")]) == 1
    assert "--robust belongs to --model gdml" in capsys.readouterr().err


def test_test_names_its_worst_frames(files, capsys):
    model = trained(files, "--robust")
    capsys.readouterr()
    assert main(["test", str(model), str(files / "test.xyz")]) == 0
    said = capsys.readouterr().out
    assert "largest errors " in said
    assert "farthest in std " in said
    assert main(["test", str(model), str(files / "test.xyz"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    (worst, *_), far = values["largest_errors"], values["farthest_in_std"]
    assert worst["label"] == "forces"
    assert far[0]["z"] >= far[1]["z"] >= far[2]["z"] > 0.0
    assert main(["test", str(model), str(files / "test.xyz"), "--no-std"]) == 0
    assert "farthest in std" not in capsys.readouterr().out
