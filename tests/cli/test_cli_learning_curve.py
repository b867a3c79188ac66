"""`kforce learning-curve`: what it prints, draws and refuses."""

import json
import re

import numpy as np
import pytest
from ase.io import write

import kforce
from kforce.cli.main import main

#: A model that is trained in no time.
QUICK = ["--kernel", "matern52", "--length-scale", "10", "--permutations", "none"]


@pytest.fixture
def data(tmp_path, monkeypatch, methanol):
    monkeypatch.chdir(tmp_path)
    write("methanol.xyz", methanol[:60])
    return methanol[:60]


def call(*options):
    return ["learning-curve", "methanol.xyz", *QUICK, *options]


def model():
    kernel = kforce.Matern52(length_scale=10.0)
    return kforce.GDMLRegressor(kernel=kernel, permutations=None)


def test_errors_are_those_of_the_library(data, capsys):
    assert main(call("--sizes", "6,12,24", "--seed", "2", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    curve = kforce.learning_curve(model(), data, [6, 12, 24], seed=2)
    assert found["sizes"] == [6, 12, 24]
    assert found["n_test"] == 12
    np.testing.assert_allclose(found["forces_mae"], curve.forces_mae, rtol=1e-6)
    np.testing.assert_allclose(found["energy_rmse"], curve.energy_rmse, rtol=1e-6)
    assert (found["slope"], found["slope_error"]) == pytest.approx(curve.slope())


def test_test_frames_can_be_numbered(data, capsys):
    assert main(call("--sizes", "6,12", "--n-test", "30", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_test"] == 30
    assert found["slope"] is None


def test_people_read_a_table(data, capsys):
    assert main(call()) == 0
    heard = capsys.readouterr()
    lines = heard.out.splitlines()
    assert "errors of 12 test frames" in lines
    first = next(k for k, line in enumerate(lines) if line.split()[0] == "8")
    assert [line.split()[0] for line in lines[first:][:3]] == ["8", "16", "32"]
    assert re.search(r"forces MAE ∝ n\^\(-\d\.\d\d ± \d\.\d\d\)", lines[-1])
    assert "16 frames: mean absolute force error" in heard.err


def test_the_curve_is_drawn(data, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    options = ["--sizes", "6,12,24", "--plot", "curve.png"]
    assert main(call(*options)) == 0
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert main(call(*options)) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(call(*options, "--overwrite", "-q")) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--sizes 12,6", "must ascend"),
        ("--sizes 6,50", "50 frames does not fit into the 48"),
        ("--n-test 60", "--n-test 60 leaves none of the 60 frames"),
        ("--n-test 55", "at least 8 frames to train on, found 5"),
        ("--plot curve.pdf", r"ends in \.png"),
        ("--plot no/curve.png", "does not exist"),
        ("--seed -1", "seed must be"),
    ],
)
def test_mistakes_end_in_one_sentence(data, tmp_path, capsys, options, message):
    assert main(call(*options.split())) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("kforce: error: ")
    assert re.search(message, last), last
    assert [path.name for path in tmp_path.iterdir()] == ["methanol.xyz"]


@pytest.mark.parametrize("sizes", ["", "0,8", "8,x", "8,,16", "2.5"])
def test_unreadable_sizes_exit_with_two(data, sizes, capsys):
    with pytest.raises(SystemExit) as stop:
        main(call("--sizes", sizes))
    assert stop.value.code == 2
    assert "--sizes" in capsys.readouterr().err


def test_matplotlib_is_asked_for_before_the_work(data, monkeypatch, capsys):
    monkeypatch.setattr("kforce.evaluation.plots.find_spec", lambda _: None)
    monkeypatch.setattr(kforce.GDMLRegressor, "fit", lambda *_: 1 / 0)
    assert main(call("--plot", "curve.png")) == 1
    assert 'pip install "kforce[report]"' in capsys.readouterr().err
