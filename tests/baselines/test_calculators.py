"""Calculators by name and settings, and what a file may build from them."""

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
from stored import through_file
from toys import WATER, toy_frames

from kforce.baselines.baseline import as_baseline
from kforce.baselines.calculators import RESTORABLE, rebuild, settings_of, version_of
from kforce.errors import InputError
from kforce.storage.codec import DAMAGE, decode


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
    with pytest.raises(InputError, match=r"give it when loading, kforce.load\(path"):
        through_file(baseline)


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
    found, wanted = through_file(baseline).evaluate(frames), baseline.evaluate(frames)
    np.testing.assert_array_equal(found.energy, wanted.energy)
    np.testing.assert_array_equal(found.forces, wanted.forces)


not_restored = [
    (("os:system", {}), "os:system cannot be built from a"),
    (("baseline_calculators:Spring", {}), "Spring cannot be built"),
    (
        ("ase.calculators.dftb:Dftb", {"command": "rm x"}),
        "Dftb cannot be built from a file: .*baseline=your_calculator",
    ),
    (
        ("ase.calculators.lj:LennardJones", {"restart": "x"}, "1.2"),
        "has no setting 'restart': install version 1.2",
    ),
]


@pytest.mark.parametrize(("description", "match"), not_restored)
def test_what_a_file_may_not_build(description, match):
    with pytest.raises(InputError, match=match):
        rebuild(*description)


LENNARD_JONES = {"class": "CalculatorMember"}
LENNARD_JONES |= {"calculator": "ase.calculators.lj:LennardJones", "version": ""}


@pytest.mark.parametrize(
    "members",
    [
        [],
        [1],
        [{}],
        [{"class": "ModelMember", "model": 1}],
        [{"class": "ModelMember", "model": {"class": "RBF", "length_scale": 1.0}}],
        [LENNARD_JONES],
        [LENNARD_JONES | {"settings": 3}],
        [LENNARD_JONES | {"settings": {"items": []}, "calculator": []}],
        {"class": "RBF", "length_scale": 1.0},
    ],
)
def test_damaged_descriptions(members):
    with pytest.raises(DAMAGE):
        decode({"class": "Baseline", "members": members}, {})


def test_another_version_is_logged(caplog):
    name = "ase.calculators.emt:EMT"
    with caplog.at_level(logging.WARNING, "kforce.baseline"):
        rebuild(name, {}, version_of(name))
        assert not caplog.messages
        rebuild(name, {}, "0.1")
    assert "was of version 0.1, found version" in caplog.text


def test_a_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tblite", None)
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(InputError, match=r'pip install "kforce\[baseline\]"'):
        as_baseline("GFN2-xTB")
    with pytest.raises(InputError, match=r'pip install "kforce\[baseline\]"'):
        rebuild("tblite.ase:TBLite", {})


def test_settings_of_tblite_survive_a_file(methanol):
    tblite = pytest.importorskip("tblite.ase")
    settings = {"solvation": ("alpb", "water"), "charge": np.int64(1)}
    baseline = as_baseline(tblite.TBLite(**settings, multiplicity=2, verbosity=0))
    restored = through_file(baseline)
    for frame in methanol[:2]:
        found, wanted = restored.evaluate_one(frame), baseline.evaluate_one(frame)
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
