"""Imports go downward: the layers of the package, read from its source."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import kforce

ROOT = Path(kforce.__file__).parent

#: First parts of the names of the modules below kforce, layer by layer.
LAYERS = [
    {"startup"},
    {"errors", "units", "parallel", "progress", "registry", "storage"},
    {"structures", "labels", "neighbours", "bonds", "symmetry", "kernels", "solvers"},
    {"descriptors"},
    {"data", "datasets"},
    {"prediction", "calculator", "evaluation.metrics"},
    {"baselines"},
    {"force_field"},
    {"gdml", "gap", "vectors"},
    {"evaluation", "io", "cli", "__main__"},
    {"metrics", "calibration", "conformal", ""},
]


def modules():
    """Name and syntax tree of every module."""
    trees = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ["kforce", *path.relative_to(ROOT).with_suffix("").parts]
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        trees[".".join(parts)] = ast.parse(path.read_text())
    return trees


MODULES = modules()


def layer(module):
    whole = module.partition(".")[2]
    first = whole.split(".")[0]
    by_name = {name: n for n, names in enumerate(LAYERS) for name in names}
    return by_name.get(whole, by_name.get(first))


def is_compiled(module):
    """Whether a module holds compiled loops: flat arrays in and out."""
    last = module.rpartition(".")[2]
    return last.startswith("_") and not last.startswith("__")


def imported(name):
    """Modules that a module imports anywhere, functions included."""
    found = set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: write imports in full, without dots"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return found


def ours(name):
    return {m for m in imported(name) if m.split(".")[0] == "kforce"}


def test_the_source_is_found():
    assert {"kforce", "kforce.gdml._hessian", "kforce.gdml.regressor"} <= set(MODULES)
    assert "kforce.gdml._hessian" in imported("kforce.gdml.covariance")
    assert "numpy" in imported("kforce.gdml.covariance")


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_layer(name):
    assert layer(name) is not None, f"{name} is in no layer: add it to LAYERS"


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downward(name):
    upward = {m for m in ours(name) if (layer(m) or 0) > layer(name)}
    assert not upward, f"{name} (layer {layer(name)}) imports {sorted(upward)}"


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: ours(name) - {name} for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("name", [m for m in MODULES if is_compiled(m)])
def test_compiled_modules_import_numpy_and_numba_only(name):
    assert all(map(is_compiled, ours(name)))
    roots = {m.split(".")[0] for m in imported(name)}
    assert roots <= {"kforce", "numpy", "numba"} | sys.stdlib_module_names
