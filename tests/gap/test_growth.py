"""Standard deviations that grow where the training set ends."""

import numpy as np
import pytest
from sparse_toys import DENSITY, PAIRS, crystal, mixed_frames

from kforce.gap.growth import (
    BOND_ENERGY,
    BOND_FORCE,
    OF_ENERGIES,
    OF_FORCES,
    ONSET,
    grown,
    growth_of_energies,
    growth_of_forces,
    growth_of_structure,
)
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import Term


def test_within_the_training_set_nothing_changes():
    std = np.array([0.1, 0.02])
    for growth in (growth_of_energies, growth_of_forces):
        assert growth(np.array([0.0, ONSET])).tolist() == [0.0, 0.0]
    assert growth_of_structure(np.array([0.0, ONSET])) == 0.0
    found = grown(std, np.zeros(2), 1e3)
    np.testing.assert_allclose(found, std, rtol=1e-7)
    # A posterior that says more than a limit is believed.
    assert grown(np.array([7.0]), np.array([0.0]), 3.0).tolist() == [7.0]


def test_growth_far_out_until_the_limit():
    std, grades = 1e-3, np.array([10.5, 100.5])
    found = grown(std, growth_of_forces(grades), 1e3)
    expected = std * OF_FORCES * (grades - ONSET) ** 0.75
    np.testing.assert_allclose(found, expected, rtol=0.01)
    energies = growth_of_energies(grades)
    np.testing.assert_allclose(energies, OF_ENERGIES * np.sqrt(grades - ONSET))
    assert grown(std, np.array([1e9]), 3.0) == pytest.approx(3.0)


def test_one_atom_of_many_counts():
    of_one = growth_of_energies(np.array([ONSET + 2.0]))[0]
    assert growth_of_structure(np.full(7, ONSET + 2.0)) == pytest.approx(of_one)
    grades = np.zeros(10_000)
    grades[7] = ONSET + 2.0
    assert growth_of_structure(grades) == pytest.approx(np.sqrt(0.1) * of_one)


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
