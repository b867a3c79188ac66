"""An interruption while the program imports is no traceback."""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")


@pytest.fixture
def run(tmp_path):
    """Run Python where the import of Numba is interrupted."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "numba.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)\n"
    )
    (tmp_path / "kforce").write_text("from kforce.cli.main import main\nmain()\n")
    path = os.pathsep.join([str(tmp_path / "first"), *sys.path])

    def run(*call):
        return subprocess.run(
            [sys.executable, *(str(part).format(tmp_path) for part in call)],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize(
    "call",
    [
        ("-m", "kforce"),
        ("-mkforce",),
        ("-m", "kforce.cli", "info"),
        ("{}/kforce", "info"),
    ],
)
def test_an_early_interruption_of_the_program(run, call):
    found = run(*call)
    assert found.stderr == "kforce: error: Interrupted.\n"
    assert found.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    "call", [("-c", "import kforce"), ("-m", "timeit", "import kforce")]
)
def test_other_programs_have_their_traceback(run, call):
    found = run(*call)
    assert "Traceback" in found.stderr
    assert "kforce: error" not in found.stderr
