"""Calculators by name and settings, and what a file may build from them."""

import json
import logging
import sys

import numpy as np
import pytest
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.harmonic import HarmonicCalculator, HarmonicForceField
from ase.calculators.lj import LennardJones
from ase.calculators.tip3p import TIP3P
from baseline_calculators import Spring
from toys import WATER, toy_frames

from kforce.baselines.baseline import as_baseline, restore
from kforce.baselines.settings import RESTORABLE, settings_of
from kforce.errors import InputError


@pytest.fixture(scope="module")
def frames():
    return toy_frames(WATER, 3)


def harmonic(frames):
    field = HarmonicForceField(frames[0], np.eye(9), ref_energy=1.0)
    return HarmonicCalculator(field)


class Plain(Calculator):
    """Parameters that no text describes."""

    implemented_properties = ("energy", "forces")


described = [
    ("EMT", lambda f: EMT(), True),
    ("Lennard-Jones", lambda f: LennardJones(sigma=np.float64(1.5)), True),
    ("own class", lambda f: Spring(k=2.0), True),
    ("constructor keeps it elsewhere", lambda f: TIP3P(rc=6.0), False),
    ("an object", harmonic, False),
    ("a function", lambda f: Plain(charges=np.cos), False),
    ("not finite", lambda f: Spring(k=np.inf), False),
    ("keys", lambda f: Plain(radii={1: 0.3}), False),
]


@pytest.mark.parametrize(
    ("make", "is_described"), [r[1:] for r in described], ids=[r[0] for r in described]
)
def test_which_calculators_settings_describe(frames, make, is_described):
    assert (settings_of(make(frames)) is not None) == is_described


def test_calculators_without_settings_work(frames):
    baseline = as_baseline(harmonic(frames))
    calculator = harmonic(frames)
    energy = baseline.evaluate_training(frames).energy
    assert energy[2] == calculator.get_property("energy", frames[2])
    (description,) = baseline.describe()
    assert description["settings"] is None
    with pytest.raises(InputError, match=r"give it when loading, kforce.load\(path"):
        restore([description])


@pytest.mark.parametrize(
    "calculator",
    [
        EMT(),
        LennardJones(sigma=1.5, smooth=True),
        LennardJones(sigma=np.float64(1.5), epsilon=np.array(0.3)),
    ],
)
def test_a_restored_calculator_is_the_same(calculator):
    frames = toy_frames(WATER, 3)
    for frame in frames:
        frame.numbers[:] = 1, 6, 8  # EMT knows them
    baseline = as_baseline(calculator)
    again = restore(json.loads(json.dumps(baseline.describe())))
    found, wanted = again.evaluate(frames), baseline.evaluate(frames)
    np.testing.assert_array_equal(found.energy, wanted.energy)
    np.testing.assert_array_equal(found.forces, wanted.forces)


LENNARD_JONES = {"calculator": "ase.calculators.lj:LennardJones"}
not_restored = [
    ({"calculator": "os:system", "settings": {}}, "os:system cannot be built from a"),
    (
        as_baseline(Spring()).describe()[0],
        "baseline_calculators:Spring cannot be built",
    ),
    (
        {"calculator": "ase.calculators.dftb:Dftb", "settings": {"command": "rm x"}},
        "Dftb cannot be built from a file: .*baseline=your_calculator",
    ),
    (
        LENNARD_JONES | {"settings": {"restart": "x"}, "version": "1.2"},
        "has no setting 'restart': install version 1.2",
    ),
]


@pytest.mark.parametrize(("description", "match"), not_restored)
def test_what_a_file_may_not_build(description, match):
    with pytest.raises(InputError, match=match):
        restore([description])


@pytest.mark.parametrize(
    "damaged", [[], [{}], [{"model": 1}], [LENNARD_JONES], [{"calculator": []}]]
)
def test_damaged_descriptions(damaged):
    with pytest.raises((LookupError, TypeError, ValueError)):
        restore(damaged)


def test_another_version_is_logged(caplog):
    (description,) = as_baseline(EMT()).describe()
    with caplog.at_level(logging.WARNING, "kforce.baseline"):
        restore([description])
        assert not caplog.messages
        restore([description | {"version": "0.1"}])
    assert "was of version 0.1, found version" in caplog.text


def test_a_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tblite", None)
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(InputError, match=r'pip install "kforce\[baseline\]"'):
        as_baseline("GFN2-xTB")
    with pytest.raises(InputError, match=r'pip install "kforce\[baseline\]"'):
        restore([{"calculator": "tblite.ase:TBLite", "settings": {}}])


def test_settings_of_tblite_survive_a_file(methanol):
    tblite = pytest.importorskip("tblite.ase")
    settings = {"solvation": ("alpb", "water"), "charge": np.int64(1)}
    baseline = as_baseline(tblite.TBLite(**settings, multiplicity=2, verbosity=0))
    again = restore(json.loads(json.dumps(baseline.describe())))
    for frame in methanol[:2]:
        found, wanted = again.evaluate_one(frame), baseline.evaluate_one(frame)
        assert found.energy == wanted.energy
        np.testing.assert_array_equal(found.forces, wanted.forces)


def test_restorable_calculators_compute_in_the_process():
    """No class that runs programs or reads files may get into the list."""
    assert set(RESTORABLE) == {
        "tblite.ase:TBLite",
        "kforce.baselines.zbl:ZBL",
        "ase.calculators.emt:EMT",
        "ase.calculators.lj:LennardJones",
    }
