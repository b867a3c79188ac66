"""Messages hold letters and signs that not every terminal has."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict"])
@pytest.mark.parametrize("call", [["train", "--help"], ["info", "Å\udcff…漢.xyz"]])
def test_letters_are_spelled_where_there_is_ascii_alone(encoding, call):
    code = "import sys; from kforce.cli.main import main; sys.exit(main(sys.argv[1:]))"
    found = subprocess.run(
        [sys.executable, "-c", code, *call],
        env={"PYTHONIOENCODING": encoding, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
    )
    text = (found.stdout + found.stderr).decode("latin-1")
    assert "Traceback" not in text
    if call[0] == "train":
        assert found.returncode == 0
        assert ("eV/Å" if encoding == "latin-1" else "eV/A") in text
    else:
        assert found.returncode == 1
        first = "Å" if encoding == "latin-1" else "A"
        assert f"there is no {first}?...?.xyz" in text
