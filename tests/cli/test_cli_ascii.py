"""Messages hold letters and signs that not every terminal has."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict"])
def test_letters_are_spelled_where_there_is_ascii_alone(encoding):
    """Those of a message, and then those of a help."""
    code = (
        "import sys\n"
        "from kforce.cli.main import main\n"
        "print('code', main(['info', sys.argv[1]]))\n"
        "main(['train', '--help'])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, "Å\udcff…漢.xyz"],
        env={"PYTHONIOENCODING": encoding, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
    )
    text = (found.stdout + found.stderr).decode("latin-1")
    assert "Traceback" not in text
    angstrom = "Å" if encoding == "latin-1" else "A"
    assert f"there is no {angstrom}?...?.xyz" in text
    assert "code 1" in text
    assert f"eV/{angstrom}" in text
    assert found.returncode == 0
