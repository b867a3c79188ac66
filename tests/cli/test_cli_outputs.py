"""Outputs that cannot be written are refused before the work, not after it."""

import pytest

from kforce.cli import convert, learning_curve, predict, splitting
from kforce.cli.main import main


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """Fail as soon as data are read."""

    def fail(*args):
        raise AssertionError("the output was not looked at first")

    for module in (convert, learning_curve, predict, splitting):
        monkeypatch.setattr(module, "read_data", fail)


CALLS = [
    "train data.xyz --overwrite -o {}.npz",
    "train data.xyz --overwrite -o new.npz --write-test {}.xyz",
    "learning-curve data.xyz --overwrite --plot {}.png",
    "convert data.cfg {}.xyz --overwrite",
    "predict model.npz data.xyz --overwrite -o {}.xyz",
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("name", "message"), [("folder", "is a folder"), ("a" * 252, "too long")]
)
def test_outputs_are_tried_first(tmp_path, monkeypatch, capsys, call, name, message):
    monkeypatch.chdir(tmp_path)
    for suffix in ("npz", "png", "xyz"):
        (tmp_path / f"folder.{suffix}").mkdir()
    assert main(call.format(name).split()) == 1
    err = capsys.readouterr().err
    assert message in err
    assert "--overwrite" not in err
