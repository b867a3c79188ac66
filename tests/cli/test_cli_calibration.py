"""Standard deviations on the command line: `kforce test` and `kforce predict`."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from ase.io import read, write

import kforce
from kforce.cli import predict
from kforce.cli import test as evaluate
from kforce.cli.main import main
from kforce.errors import InputError
from kforce.evaluation import calibration
from kforce.evaluation.conformal import conformal_factor
from kforce.labels import Labels

FIGURES = ["calibration.png", "error-std.png", "parity.png"]


class WithStd:
    """A model with standard deviations that depend on the frame."""

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        return getattr(self._model, name)

    def evaluate(self, frames, properties=("energy", "forces"), return_std=False):
        mean = self._model.evaluate(frames, properties)
        if not return_std:
            return mean
        spread = [np.ptp(frame.positions) for frame in frames]
        stds = [0.03 * s * np.ones_like(f) for s, f in zip(spread, mean.forces)]  # noqa: B905
        return replace(mean, energy_std=0.01 * np.array(spread), forces_std=stds)


class WithoutStd(WithStd):
    """A model that cannot give any."""

    def evaluate(self, frames, properties=("energy", "forces"), return_std=False):
        if return_std:
            raise InputError("This model keeps no variance.")
        return self._model.evaluate(frames, properties)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, methanol, methanol_model):
    path = tmp_path_factory.mktemp("calibration")
    methanol_model.save(path / "model.npz")
    write(path / "test.xyz", methanol[30:60])
    write(path / "more.xyz", methanol[60:100])
    write(path / "few.xyz", methanol[60:70])
    write(path / "bare.xyz", [frame.copy() for frame in methanol[60:100]])
    (path / "full").mkdir()
    (path / "full" / "parity.png").write_text("old")
    return path


@pytest.fixture
def with_std(folder, monkeypatch):
    """Go to the folder, where models have standard deviations."""
    monkeypatch.chdir(folder)
    model = WithStd(kforce.load("model.npz"))
    for module in (evaluate, predict):
        monkeypatch.setattr(module, "load_model", lambda path: model)
    return model


@pytest.fixture
def without_std(folder, monkeypatch):
    monkeypatch.chdir(folder)
    model = WithoutStd(kforce.load("model.npz"))
    for module in (evaluate, predict):
        monkeypatch.setattr(module, "load_model", lambda path: model)


def run(call):
    return main(call.split())


def pairs(model, file):
    frames = read(file, ":")
    labels, found = Labels.from_frames(frames), model.evaluate(frames, return_std=True)
    return {
        "energy": (labels.energy - found.energy, found.energy_std),
        "forces": (np.subtract(labels.forces, found.forces), found.forces_std),
    }


def test_calibration_is_that_of_the_library(with_std, capsys):
    assert run("test model.npz test.xyz --conformal more.xyz --json") == 0
    found = json.loads(capsys.readouterr().out)
    tested, held_out = pairs(with_std, "test.xyz"), pairs(with_std, "more.xyz")
    for name, measures in found["calibration"].items():
        factor = measures.pop("conformal_factor_95")
        assert factor == pytest.approx(conformal_factor(*held_out[name]))
        assert measures == pytest.approx(calibration.summary(*tested[name]))
    assert set(found["calibration"]) == {"energy", "forces"}
    assert "forces_mae" in found["test"]


def test_the_table_is_compact(with_std, capsys):
    assert run("test model.npz test.xyz --conformal more.xyz") == 0
    table = capsys.readouterr().out.partition("calibration ")[2].splitlines()
    assert len(table) == 12
    assert table[0].split() == ["energy", "forces"]
    assert table[-2].startswith("  conformal factor, 95 %")
    assert table[-1].startswith("  coverage: ")
    for line in table[1:-1]:
        assert re.search(r" -?\d+\.\d+ +-?\d+\.\d+$", line), line


def test_what_does_not_vary_is_null(with_std, monkeypatch, capsys):
    def constant(frames, properties, return_std):
        found = WithStd.evaluate(with_std, frames, properties, return_std)
        return replace(found, energy_std=np.full(len(frames), 0.01))

    monkeypatch.setattr(with_std, "evaluate", constant, raising=False)
    assert run("test model.npz test.xyz --json") == 0
    found = json.loads(capsys.readouterr().out)["calibration"]
    assert found["energy"]["spearman"] is None
    assert run("test model.npz test.xyz") == 0
    assert re.search(r"rank corr.* - +-?0\.\d+\n", capsys.readouterr().out)


def test_calibration_is_left_out_on_request(with_std, capsys):
    assert run("test model.npz test.xyz --no-std") == 0
    out = capsys.readouterr().out
    assert "errors of 30 structures" in out
    assert "calibration" not in out


def test_models_without_variance_are_tested_without(without_std, tmp_path, capsys):
    call = ["test", "model.npz", "test.xyz", "--report", str(tmp_path / "report")]
    assert main(call) == 0
    out = capsys.readouterr().out
    assert "the calibration is left out: This model keeps no variance." in out
    assert "errors of 30 structures" in out
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["parity.png"]


def test_stds_that_cannot_be_measured_are_said(with_std, monkeypatch, capsys):
    def certain(frames, properties, return_std=False):
        found = WithStd.evaluate(with_std, frames, properties, return_std)
        if return_std:
            found.energy_std[2] = 0.0
        return found

    monkeypatch.setattr(with_std, "evaluate", certain, raising=False)
    assert run("test model.npz test.xyz") == 0
    out = capsys.readouterr().out
    assert "the calibration is left out: Standard deviations must be positive" in out


def test_a_report_is_drawn(with_std, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    call = ["test", "model.npz", "test.xyz", "--report", str(tmp_path / "report")]
    assert main([*call, "--json"]) == 0
    drawn = sorted((tmp_path / "report").iterdir())
    assert [path.name for path in drawn] == FIGURES
    found = json.loads(capsys.readouterr().out)["report"]
    assert sorted(found) == [str(path) for path in drawn]
    assert main(call) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*call, "--overwrite"]) == 0


def test_predictions_carry_their_std(with_std, tmp_path, capsys):
    path = tmp_path / "predicted.xyz"
    assert main(["predict", "model.npz", "bare.xyz", "--std", "-o", str(path)]) == 0
    assert "with standard deviations" in capsys.readouterr().out
    frames = read(path, ":")
    expected = with_std.evaluate(frames, return_std=True)
    found = [frame.info["energy_std"] for frame in frames]
    np.testing.assert_allclose(found, expected.energy_std)
    found = [frame.arrays["forces_std"] for frame in frames]
    np.testing.assert_allclose(found, expected.forces_std, atol=1e-7)
    assert main(["predict", "model.npz", "bare.xyz", "-o", str(path)]) == 1
    call = ["predict", "model.npz", "bare.xyz", "-o", str(path), "--overwrite"]
    assert main(call) == 0
    assert "energy_std" not in read(path).info


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("test model.npz test.xyz --conformal few.xyz", "at least 19 .* found 10"),
        ("test model.npz test.xyz --conformal bare.xyz", "bare.xyz has neither"),
        ("test model.npz test.xyz --conformal none.xyz", "no none.xyz"),
        ("test model.npz test.xyz --conformal more.xyz --no-std", "leave --no-std out"),
        ("test model.npz bare.xyz", "bare.xyz has neither"),
        ("test model.npz test.xyz --report full", "parity.png exists"),
        ("test model.npz test.xyz --report test.xyz", "is not a folder"),
        ("test model.npz test.xyz --report no/report", "does not exist"),
        ("test model.npz few.xyz --report new --conformal few.xyz", "at least 19"),
    ],
)
def test_mistakes_end_in_one_sentence(with_std, folder, capsys, call, message):
    before = sorted(folder.rglob("*"))
    assert run(call) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(message, last), last
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "call",
    [
        "test model.npz test.xyz --conformal more.xyz",
        "predict model.npz test.xyz --std",
    ],
)
def test_what_takes_a_variance_says_so(without_std, capsys, call):
    assert run(call) == 1
    assert "This model keeps no variance." in capsys.readouterr().err


def test_a_report_takes_matplotlib(with_std, folder, monkeypatch, capsys):
    monkeypatch.setattr("kforce.evaluation.plots.find_spec", lambda _: None)
    assert run("test model.npz test.xyz --report new") == 1
    assert 'pip install "kforce[report]"' in capsys.readouterr().err
    assert not (folder / "new").exists()
