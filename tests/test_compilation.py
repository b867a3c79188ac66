"""Where compiled functions are kept, in a process in which Numba finds no place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: An empty list is what Numba is left with where it can write to no folder.
NO_PLACE = """
from numba.core import caching
caching.CacheImpl._locator_classes = []
"""

LOOK = """
import sys
from pathlib import Path
from numba.core.dispatcher import Dispatcher
import {module}
found = [value for name, module in list(sys.modules.items())
         if name.startswith("kforce") for value in vars(module).values()
         if isinstance(value, Dispatcher)]
folders = {{Path(function._cache.cache_path).parent for function in found}}
print(len(found), *folders)
print(*{{oct(folder.stat().st_mode & 0o777) for folder in folders}})
"""

FORK = """
import os
child = os.fork()
if child == 0:
    sys.exit()
os.waitpid(child, 0)
print(all(folder.is_dir() for folder in folders))
"""


def run(code, folder):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ
        | {"TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("module", ["kforce", "kforce.cli.main"])
def test_a_private_folder_stands_in_until_the_process_ends(tmp_path, module):
    found = run(NO_PLACE + LOOK.format(module=module), tmp_path)
    assert found.returncode == 0, found.stderr
    (count, folder), (mode,) = map(str.split, found.stdout.splitlines())
    assert int(count) > 20
    assert Path(folder).parent == tmp_path
    assert mode == "0o700"
    assert found.stderr.count("NUMBA_CACHE_DIR") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_fork_leaves_the_folder_to_its_parent(tmp_path):
    found = run(NO_PLACE + LOOK.format(module="kforce") + FORK, tmp_path)
    assert found.stdout.splitlines()[-1] == "True", found.stderr
    assert not list(tmp_path.iterdir())


def test_nothing_changes_where_there_is_a_place(tmp_path):
    cache = tmp_path / "mine"
    code = f"import os; os.environ['NUMBA_CACHE_DIR'] = {str(cache)!r}\n"
    found = run(code + LOOK.format(module="kforce"), tmp_path)
    assert found.stdout.split()[1] == str(cache)
    assert found.stderr == ""
    assert list(tmp_path.iterdir()) == [cache]


def test_no_folder_at_all_is_said_in_a_sentence(tmp_path):
    code = "import tempfile\ntempfile.tempdir = '/no/such/folder'\nimport kforce"
    found = run(NO_PLACE + code, tmp_path)
    assert "set NUMBA_CACHE_DIR to one that can be written" in found.stderr
