"""One frame is no 'frames'."""

import re

import pytest
from ase.io import write

import kforce
from kforce.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("plurals")
    frames = kforce.datasets.load_methanol_ccsdt()
    write(path / "train.xyz", frames[:6])
    write(path / "one.xyz", frames[:1])
    call = f"train {path}/train.xyz -o {path}/m.npz --n-train 5 --kernel matern52 -q"
    assert main(call.split()) == 0
    return path


@pytest.mark.parametrize(
    "call",
    [
        "info one.xyz",
        "test m.npz one.xyz --with-training",
        "predict m.npz one.xyz -o {}/p.xyz",
        "train train.xyz --n-train 4 --n-test 1 --kernel matern52 -o {}/m.npz",
        "learning-curve train.xyz --sizes 1,2 --n-test 1 --kernel matern52 "
        "--length-scale 10",
    ],
)
def test_one_frame_is_singular(folder, tmp_path, monkeypatch, capsys, call):
    monkeypatch.chdir(folder)
    assert main(call.format(tmp_path).split()) == 0
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert re.search(r"\b1 (test )?(frame|structure)\b", text)
    assert not re.search(r"\b1 (test )?(frames|structures|atoms|terms)\b", text)
