"""Benchmarks import what there is, and the counts of the source are right."""

import ast
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def of_kforce(path):
    """Names that a script imports from kforce, as module and attribute."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("kforce."):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_benchmarks_import_what_there_is(path):
    for module, name in of_kforce(path):
        found = importlib.import_module(module)
        if not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")


@pytest.fixture(scope="module")
def structure():
    spec = importlib.util.spec_from_file_location("structure", FOLDER / "structure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOURCE = '''"""Of two lines,
of the module."""

import math


def half(x):
    """Return the half."""
    # A comment.
    return (
        x / 2
    )
'''


def test_lines_of_code_are_counted(structure):
    assert structure.code_lines(SOURCE) == 5
    assert structure.code_lines(SOURCE, imports=False) == 4


def test_circles_are_groups_of_modules(structure):
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"f"}, "f": {"e"}}
    assert structure.circles(graph) == [("a", "b", "c"), ("e", "f")]


def test_a_package_is_counted(tmp_path):
    package = tmp_path / "toy"
    package.mkdir()
    files = {
        "__init__.py": "from toy.model import Model\n",
        "base.py": "class Kernel:\n    pass\n",
        "model.py": "from toy.base import Kernel\n\n\n"
        "class RBF(Kernel):\n    pass\n\n\n"
        "class Model:\n    def predict(self, kernel):\n"
        "        assert isinstance(kernel, RBF | Kernel)\n"
        "        return self.baseline_.add_to(kernel)\n",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    command = [sys.executable, FOLDER / "structure.py", package]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    counts = {
        line.split(None, 1)[1]: int(line.split()[0])
        for line in lines.split("\n")
        if line
    }
    assert counts == {
        "files": 3,
        "lines": 14,
        "lines of code": 10,
        "lines of code without imports": 8,
        "modules on the top level": 2,
        "modules with exactly one importer": 2,
        "import circles": 0,
        "isinstance on kernels, descriptors, terms, models": 1,
        "calls of a fitted model's baseline": 1,
    }
