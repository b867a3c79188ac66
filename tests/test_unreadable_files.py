"""Files and folders that may not be read: they are not damaged, nor written to."""

import builtins
import os
from pathlib import Path

import pytest
from ase.io import write

import kforce
from kforce.cli.main import main
from kforce.errors import InputError
from kforce.storage.npz import read_arrays, write_arrays


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """Files that exist and may not be read, as for a user without the permission."""
    write_arrays(tmp_path / "model.npz", {"x": [1.0]})
    write(tmp_path / "frames.xyz", kforce.datasets.load_methanol_ccsdt()[:2])
    whole = builtins.open

    def refuse(path, *args, **kwargs):
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", refuse)
    return tmp_path


@pytest.fixture
def locked_folder(tmp_path, monkeypatch):
    """A folder that may not be entered."""
    whole = os.stat

    def refuse(path, *args, **kwargs):
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", refuse)
    return tmp_path


@pytest.mark.parametrize("place", ["locked", "locked_folder"])
@pytest.mark.parametrize("name", ["model.npz", "frames.xyz"])
def test_an_unreadable_file_is_called_so(request, place, name):
    path = request.getfixturevalue(place) / name
    read = read_arrays if name == "model.npz" else kforce.read_frames
    with pytest.raises(
        InputError, match=r"Could not read .*: Permission denied; check"
    ):
        read(path)


@pytest.mark.parametrize("name", ["model.npz", "frames.xyz"])
def test_commands_name_the_file_that_cannot_be_read(locked_folder, capsys, name):
    path = locked_folder / name
    assert main(["info", str(path)]) == 1
    heard = capsys.readouterr().err
    assert f"Could not read {path}: Permission denied" in heard


def test_other_failures_of_the_system_name_the_file(tmp_path, monkeypatch, capsys):
    def fail(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", fail)
    assert main(["test", str(tmp_path / "m.npz"), "data.xyz"]) == 1
    heard = capsys.readouterr().err
    assert "Permission denied" in heard
    assert "m.npz" in heard
    assert "output" not in heard
