"""What a write leaves behind: modes, folders and the files of killed processes."""

import os
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest

from kforce.errors import InputError
from kforce.storage import npz
from kforce.storage.npz import (
    read_arrays,
    replaced_file,
    require_writable,
    write_arrays,
)

ONES, ZEROS = {"x": np.ones(2)}, {"x": np.zeros(2)}
LONG = "a" * 251 + ".npz"

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes, locks are POSIX")


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "a.npz"
    write_arrays(path, ONES)
    path.chmod(mode)
    with replaced_file(path) as temporary:
        assert mode_of(temporary) == mode
        temporary.write_text("new")
    assert (mode_of(path), path.read_text()) == (mode, "new")


@posix
def test_a_new_file_has_the_mode_of_the_system(tmp_path):
    before = os.umask(0o027)
    try:
        write_arrays(tmp_path / "a.npz", ONES)
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a.npz") == 0o640


def test_a_protected_file_is_not_replaced(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, ONES)
    path.chmod(0o444)
    with pytest.raises(InputError, match="protected from writing: change its"):
        write_arrays(path, ZEROS)
    np.testing.assert_array_equal(read_arrays(path)["x"], np.ones(2))


def test_what_is_no_file_is_not_replaced(tmp_path):
    if os.path.exists(os.devnull):
        with pytest.raises(InputError, match="not a regular file"):
            write_arrays(os.devnull, ONES)
    with pytest.raises(InputError, match="it is a folder"):
        write_arrays(tmp_path, ONES)


@posix
def test_the_folder_is_synchronised_after_the_renaming(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        done.append("folder" if folder else "file")
        fsync(descriptor)

    def record_replace(*paths):
        done.append("renamed")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write_arrays(tmp_path / "a.npz", ONES)
    assert done == ["file", "renamed", "folder"]


#: Writes until it is killed; says when it has begun.
WRITER = """
import sys, time
from kforce.storage.npz import replaced_file
with replaced_file(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path):
    """A process that is in the middle of a write of a.npz."""
    call = [sys.executable, "-c", WRITER, str(tmp_path / "a.npz")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


@posix
def test_the_next_write_removes_what_a_killed_process_left(tmp_path, writer, caplog):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    (left,) = tmp_path.iterdir()
    write_arrays(tmp_path / "other.npz", ONES)
    assert left.exists()
    write_arrays(tmp_path / "a.npz", ONES)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "other.npz"]
    assert f"removed {left}" in caplog.text


@posix
def test_the_next_write_leaves_a_living_process_alone(tmp_path, writer):
    (busy,) = tmp_path.iterdir()
    write_arrays(tmp_path / "a.npz", ONES)
    assert busy.exists()


@posix
def test_locks_of_other_machines_are_not_trusted(tmp_path, writer, monkeypatch):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    (left,) = tmp_path.iterdir()
    monkeypatch.setattr(npz.platform, "node", lambda: "another machine")
    write_arrays(tmp_path / "a.npz", ONES)
    assert left.exists()


@posix
def test_a_file_that_is_taken_for_a_leftover_is_made_again(tmp_path, monkeypatch):
    """Another process may find it before it is locked."""
    lock, path = npz.fcntl.flock, tmp_path / "a.npz"

    def steal(*arguments):
        monkeypatch.setattr(npz.fcntl, "flock", lock)
        npz._remove_leftovers(path)
        lock(*arguments)

    monkeypatch.setattr(npz.fcntl, "flock", steal)
    write_arrays(path, ONES)
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_name_can_be_written(tmp_path):
    write_arrays(tmp_path / LONG, ONES)
    assert [p.name for p in tmp_path.iterdir()] == [LONG]


@posix
def test_names_of_many_bytes_can_be_written(tmp_path):
    name = "Å" * 125 + ".npz"
    write_arrays(tmp_path / name, ONES)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_trial_changes_nothing(tmp_path):
    write_arrays(tmp_path / "a.npz", ONES)
    before = (tmp_path / "a.npz").read_bytes()
    for name in ("a.npz", "b.npz", LONG):
        require_writable(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    assert (tmp_path / "a.npz").read_bytes() == before


def test_a_trial_refuses_what_a_write_would(tmp_path):
    (tmp_path / "folder").mkdir()
    for name, match in (
        ("folder", "it is a folder"),
        (f"a{LONG}", "too long"),
        ("nowhere/a.npz", "No such file"),
    ):
        with pytest.raises(InputError, match=match):
            require_writable(tmp_path / name)


@posix
def test_another_users_file_in_a_sticky_folder_is_refused(tmp_path, monkeypatch):
    write_arrays(tmp_path / "a.npz", ONES)
    tmp_path.chmod(0o1777)
    require_writable(tmp_path / "a.npz")
    monkeypatch.setattr(os, "geteuid", lambda: 65533)
    with pytest.raises(InputError, match="belongs to another user"):
        require_writable(tmp_path / "a.npz")
    tmp_path.chmod(0o777)
    require_writable(tmp_path / "a.npz")
