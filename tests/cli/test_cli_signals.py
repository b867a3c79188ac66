"""The program ends cleanly where a signal asks it to."""

import os
import signal
import subprocess
import sys

import pytest

from kforce.cli.main import main

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")

#: The program, in the middle of writing a file.
CODE = """
import sys, time
from kforce.cli import info
from kforce.cli.main import main
from kforce.storage.npz import replaced_file

def run(args, output):
    with replaced_file("model.npz") as temporary:
        temporary.write_text("half")
        print("begun", flush=True)
        time.sleep(60)

info.run = run
sys.exit(main(["info"]))
"""


def start(folder, code=CODE):
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (signal.SIGTERM, "Terminated"),
        (signal.SIGHUP, "Hangup"),
        (signal.SIGINT, "Interrupted"),
    ],
)
def test_a_signal_leaves_no_temporary_files(tmp_path, number, word):
    with start(tmp_path) as process:
        process.send_signal(number)
        err = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + number
    assert err == f"kforce: error: {word}.\n"
    assert not list(tmp_path.iterdir())


def test_an_ignored_hangup_stays_ignored(tmp_path):
    """As under nohup."""
    ignore = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with start(tmp_path, ignore + CODE) as process:
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM


def test_signals_are_left_as_they_were(capsys):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)]
    assert main(["info", "nothing.xyz"]) == 1
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)] == before
