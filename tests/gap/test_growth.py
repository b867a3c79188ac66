"""Standard deviations that grow where the training set ends."""

import numpy as np
import pytest
from sparse_toys import DENSITY, PAIRS, crystal, mixed_frames

from kforce.gap.growth import (
    BOND_ENERGY,
    BOND_FORCE,
    ONSET,
    SLOPE,
    grown,
    growth,
    growth_of_structure,
)
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import Term


def test_within_the_training_set_nothing_changes():
    std = np.array([0.1, 0.02])
    assert growth(np.array([0.0, ONSET])).tolist() == [0.0, 0.0]
    found = grown(std, np.zeros(2), 1e3)
    np.testing.assert_allclose(found, std, rtol=1e-7)
    # A posterior that says more than a limit is believed.
    assert grown(np.array([7.0]), np.array([0.0]), 3.0).tolist() == [7.0]


def test_growth_is_linear_far_out_until_the_limit():
    std, grades = 1e-3, np.array([10.5, 100.5])
    found = grown(std, growth(grades), 1e3)
    np.testing.assert_allclose(found, std * SLOPE * (grades - ONSET), rtol=1e-3)
    assert grown(std, np.array([1e9]), 3.0) == pytest.approx(3.0)


def test_one_atom_of_many_counts():
    assert growth_of_structure(np.full(7, ONSET + 2.0)) == pytest.approx(2.0 * SLOPE)
    grades = np.zeros(10_000)
    grades[7] = ONSET + 2.0
    assert growth_of_structure(grades) == pytest.approx(0.1 * 2.0 * SLOPE)


def test_deviations_of_a_model_grow_up_to_what_bonds_are_worth():
    terms = [Term(PAIRS, n_inducing=20), Term(DENSITY, n_inducing=40)]
    model = GAPRegressor(terms).fit(mixed_frames(12))
    stds = []
    for scale in (1.0, 1.1, 1.3, 2.0):
        atoms = crystal(80)
        atoms.set_cell(scale * atoms.cell, scale_atoms=True)
        stds.append(model.evaluate([atoms], return_std=True))
    per_atom = [found.energy_epistemic[0] / len(atoms) for found in stds]
    of_forces = [found.forces_epistemic[0].max() for found in stds]
    assert per_atom == sorted(per_atom)
    assert per_atom[-1] < BOND_ENERGY * 1.001
    assert max(of_forces) < BOND_FORCE * 1.001
