"""Baselines in other units, and baselines that do not help."""

import numpy as np
import pytest
from ase import units
from sparse_toys import mixed_frames

from kforce import GAPRegressor, Term, TwoBody
from kforce.baselines.baseline import unit_complaint
from kforce.errors import InputError

UNITS = [
    (units.Hartree / units.Bohr, "baseline gives them in Hartree/Bohr"),
    (units.Hartree, "baseline gives them in Hartree/Å"),
    (units.kcal / units.mol, "baseline gives them in kcal/mol/Å"),
    (units.kJ / units.mol, "baseline gives them in kJ/mol/Å"),
    (units.Bohr / units.Hartree, "labels are in Hartree/Bohr"),
    (1.0 / units.Hartree, "labels are in Hartree/Å"),
    (units.mol / units.kcal, "labels are in kcal/mol/Å"),
    (units.mol / units.kJ, "labels are in kJ/mol/Å"),
]


@pytest.mark.parametrize(("factor", "match"), UNITS)
def test_other_units(methanol, factor, match):
    labels = [f.get_forces() for f in methanol]
    labels[0] = labels[0] * np.nan
    baseline = [f.arrays["gfn2_forces"] for f in methanol]
    assert unit_complaint(labels, baseline) is None
    with pytest.raises(InputError, match=match):
        unit_complaint(labels, [f / factor for f in baseline])


@pytest.mark.parametrize("factor", [-1.0, 4.0])
def test_a_baseline_that_does_not_help(methanol, factor):
    labels = [f.get_forces() for f in methanol]
    complaint = unit_complaint(labels, [factor * f for f in labels])
    assert "to be learned, more than" in complaint
    assert unit_complaint(labels, [0.0 * f for f in labels]) is None


def test_local_models_are_checked_too(monkeypatch, tmp_path):
    monkeypatch.setenv("KFORCE_CACHE", str(tmp_path))
    frames = mixed_frames(4, stress=False)
    terms = [Term(TwoBody(cutoff=3.9), n_inducing=5)]
    low = GAPRegressor(terms, optimize=False).fit(frames)
    for frame in frames:
        for name in ("energy", "forces"):
            frame.calc.results[name] = frame.calc.results[name] * units.mol / units.kcal
    with pytest.raises(InputError, match="labels are in kcal/mol/Å"):
        GAPRegressor(terms, baseline=low, optimize=False).fit(frames)


def test_labels_without_forces_are_not_compared():
    nothing = [np.full((3, 3), np.nan)]
    assert unit_complaint(nothing, [np.ones((3, 3))]) is None
