"""The command line takes a molecule in boxes and without, in any mixture."""

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

import kforce
from kforce.cli.main import main

LINE = "the frames show one molecule with vacuum around it: boxes are left out"


def in_box(frames, length):
    rng, out = np.random.default_rng(0), []
    for frame in frames:
        atoms = frame.copy()
        atoms.positions += rng.uniform(0, length, 3)
        atoms.set_cell([length] * 3)
        atoms.pbc = True
        atoms.wrap()
        results = {name: frame.calc.results[name] for name in ("energy", "forces")}
        atoms.calc = SinglePointCalculator(atoms, **results, stress=np.ones(6))
        out.append(atoms)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("boxes")
    frames = kforce.datasets.load_methanol_ccsdt()
    write(path / "free.xyz", frames[:40])
    write(path / "boxed.xyz", in_box(frames[:40], 20.0))
    write(path / "mixed.xyz", [*frames[40:43], *in_box(frames[40:43], 15.0)])
    write(path / "narrow.xyz", [frames[40], *in_box(frames[40:42], 6.0)])
    return path


def train(folder, name):
    quick = ["--kernel", "matern52", "--length-scale", "10", "--n-train", "20"]
    data, model = str(folder / f"{name}.xyz"), str(folder / f"{name}.npz")
    assert main(["train", data, "-o", model, "--overwrite", *quick]) == 0
    return kforce.load(model)


def test_training_says_once_that_boxes_are_left_out(folder, capsys):
    in_boxes = train(folder, "boxed")
    boxed = capsys.readouterr()
    free = train(folder, "free")
    assert boxed.err.count(LINE) == 1
    assert LINE not in capsys.readouterr().err
    frames = kforce.datasets.load_methanol_ccsdt()[-5:]
    wanted = free.evaluate(frames).forces  # files have eight digits
    np.testing.assert_allclose(in_boxes.evaluate(frames).forces, wanted, atol=1e-4)


def test_predictions_of_a_mixture(folder, tmp_path, capsys):
    train(folder, "free")
    model, data = str(folder / "free.npz"), str(folder / "mixed.xyz")
    path = tmp_path / "out.xyz"
    assert main(["predict", model, data, "-o", str(path)]) == 0
    written = read(path, ":")
    for free, boxed in zip(written[:3], written[3:], strict=True):
        np.testing.assert_allclose(free.get_forces(), boxed.get_forces(), atol=1e-4)
        assert "stress" not in boxed.calc.results  # no label to learn from
    capsys.readouterr()
    assert main(["test", model, data]) == 0
    found = capsys.readouterr()
    assert "errors of 6 structures" in found.out
    assert "stress" not in found.out


@pytest.mark.parametrize(
    ("name", "periodic"), [("free", "no"), ("mixed", "no, molecules in boxes with")]
)
def test_info(folder, capsys, name, periodic):
    assert main(["info", str(folder / f"{name}.xyz")]) == 0
    assert f"periodic  {periodic}" in capsys.readouterr().out


def test_info_of_little_vacuum(folder, capsys):
    assert main(["info", str(folder / "narrow.xyz")]) == 0
    assert "periodic  yes" in capsys.readouterr().out


def test_a_box_that_is_too_small(folder, capsys):
    train(folder, "free")
    capsys.readouterr()
    assert main(["test", str(folder / "free.npz"), str(folder / "narrow.xyz")]) == 1
    error = capsys.readouterr().err
    assert "found that periodic images in frame 1 are" in error
    assert "enlarge the box" in error
