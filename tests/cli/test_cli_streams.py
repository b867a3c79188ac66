"""Standard streams that are closed, full, or know ASCII alone."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ase.io import write

import kforce

pytestmark = pytest.mark.skipif(os.name != "posix", reason="shells are POSIX")

TRAIN = "train data.xyz --n-train 5 --n-test 5 --kernel matern52 -o model.npz"

full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


@pytest.fixture
def shell(tmp_path):
    """Run the program in a shell, in a folder with a data set."""
    write(tmp_path / "data.xyz", kforce.datasets.load_methanol_ccsdt()[:12])

    def run(call):
        return subprocess.run(
            f"{shlex.quote(sys.executable)} -m kforce {call}",
            shell=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_a_model_is_trained_without_streams(shell, tmp_path, closed):
    found = shell(f"{TRAIN} {closed}")
    assert found.returncode == 0, found.stderr
    assert kforce.load(tmp_path / "model.npz").training_.n_frames == 5
    if closed == "2>&-":
        assert "saved as model.npz" in found.stdout
        assert "warning" not in found.stdout


def test_errors_without_a_stream_have_their_exit_code(shell):
    found = shell("info nothing.xyz 2>&-")
    assert (found.returncode, found.stdout, found.stderr) == (1, "", "")


@full
def test_a_model_is_trained_where_nothing_can_be_printed(shell, tmp_path):
    found = shell(f"{TRAIN} > /dev/full")
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1] == (
        "kforce: error: The result could not be printed: No space left on device."
    )
    assert kforce.load(tmp_path / "model.npz").training_.n_frames == 5


@full
def test_full_errors_are_no_failure(shell):
    found = shell(f"{TRAIN} 2> /dev/full")
    assert found.returncode == 0
    assert "saved as model.npz" in found.stdout


def test_a_reader_that_leaves_is_no_error(shell, tmp_path):
    found = shell(f"{TRAIN} | true")
    assert "kforce: error" not in found.stderr
    assert (tmp_path / "model.npz").exists()
