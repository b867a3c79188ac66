"""Benchmarks import what there is, and their counts and scores are right."""

import ast
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from kforce.prediction import Prediction

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


def script(name):
    """A script of the benchmarks as a module."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def structure():
    return script("structure")


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


@pytest.fixture
def trust(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("trust")


#: Three frames of 2, 1 and 1 atoms in which symmetry leaves 2, 0 and 1 components; the
#: last has atoms much nearer than training has.
FOUND = {
    "e": np.array([0.1, -0.1, 4.0]),
    "e_std": np.array([0.2, 0.02, 1.0]),
    "f": np.array([1.0, 0.0, 9.0]),
    "f_std": np.array([2.0, np.nan, 1.0]),
    "f_all": np.array([1.0, -1.0, 9.0]),
    "f_all_std": np.array([2.0, 2.0, 1.0]),
    "frame": np.array([0, 0, 2]),
    "close": np.array([False, False, True]),
    "grade": np.array([3.0, 0.5, 0.9]),
}


def test_close_frames_count_for_the_alarm_alone(trust):
    found = trust.scores(FOUND, e_test=0.5, f_test=0.1)
    assert found["n"] == 3
    assert found["close"] == 1
    assert found["e"] == pytest.approx(0.1)
    assert found["e coverage"] == 0.5
    assert found["e width"] == pytest.approx(1.1)
    assert found["f coverage"] == 1.0
    assert found["f width"] == pytest.approx(2.0)
    assert found["large"] == 2
    assert found["above"] == 0.5
    assert found["below"] == pytest.approx(2 / 3)


def test_areas_leave_frames_without_forces_out(trust):
    found = trust.areas({"a": FOUND, "b": FOUND}, e_test=0.5, f_test=0.1)
    assert np.isnan(found["energy std"])  # no energy is far off but that of close atoms
    assert np.isnan(found["force std"])  # all that are left are large
    assert found["grade"] == 1.0


def test_arrays_are_of_frames_and_components(trust):
    alone = Atoms("H")
    alone.calc = SinglePointCalculator(alone, energy=1.0, forces=np.zeros((1, 3)))
    pair = Atoms("H2", [[0.0] * 3, [0.0, 0.0, 0.7]])
    forces = np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]])
    pair.calc = SinglePointCalculator(pair, energy=2.0, forces=forces)
    prediction = Prediction(
        np.array([1.5, 3.0]),
        [np.zeros((1, 3)), 2 * forces],
        energy_std=np.array([0.1, 0.4]),
        forces_std=[np.ones((1, 3)), np.full((2, 3), 0.5)],
    )
    found = trust.arrays_of([alone, pair], prediction, least=1.0)
    expected = {
        "e": [0.5, 0.5],
        "e_std": [0.1, 0.2],
        "f": [0.0, 1.0],
        "f_std": [np.nan, 0.5],
        "f_all": [-1.0, 1.0],
        "f_all_std": [0.5, 0.5],
        "frame": [1, 1],
        "close": [False, True],
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values)


def test_frames_follow_from_the_seed(trust, tmp_path):
    data = importlib.import_module("_trust_data")
    first, again = (data.make("Al", "dimer", seed=1) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
    kept = data.read("Al", "dimer", tmp_path, seed=1)
    assert [len(atoms) for atoms in kept] == [len(atoms) for atoms in first]
    for one, other in zip(first, kept, strict=True):
        assert other.get_potential_energy() == pytest.approx(one.get_potential_energy())
        np.testing.assert_allclose(other.get_forces(), one.get_forces(), atol=1e-7)


def test_runs_tell_holes_with_an_alarm_from_silent_ones():
    make = script("_trust_dynamics").Run
    times = [(np.inf, np.inf), (5.0, np.inf), (5.0, 9.0), (9.0, 9.0), (np.inf, 9.0)]
    found = [make(300.0, 10.0, *both, 0.0, 0.0) for both in times]
    assert [one.is_silent for one in found] == [False, False, False, True, True]


def test_dynamics_ends_at_a_hole_and_after_an_alarm(methanol, methanol_model):
    dynamics = script("_trust_dynamics")
    model, start = methanol_model, methanol[0]
    # The model itself has no true errors.
    label = model.calculator(on_extrapolation="ignore")
    calm = dynamics.run(model, start, 50.0, 20.0, label, seed=0)
    assert (calm.end, calm.alarm, calm.hole, calm.error) == (20.0, np.inf, np.inf, 0.0)
    assert 0.0 < calm.grade <= 1.0
    hot = dynamics.run(model, start, 20_000.0, 2000.0, label, seed=0, spacing=100)
    assert hot.alarm < np.inf == hot.hole
    assert hot.end == hot.alarm + dynamics.AFTER_ALARM
    assert hot.grade > 1.0

    class Other(type(label)):
        """What is 2 eV higher."""

        def calculate(self, *arguments):
            super().calculate(*arguments)
            self.results["energy"] += 2.0

    label = Other(model, on_extrapolation="ignore")
    hole = dynamics.run(model, start, 50.0, 100.0, label, seed=0, spacing=10)
    assert (hole.end, hole.hole, hole.alarm) == (5.0, 5.0, np.inf)
    assert hole.is_silent
    assert hole.error == pytest.approx(2.0)
