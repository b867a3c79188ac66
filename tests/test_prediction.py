"""What predictions of several structures hold, and in which order."""

import numpy as np

from kforce.prediction import Prediction


def test_values_of_atoms_go_back_to_the_given_order():
    rng = np.random.default_rng(0)
    orders = [rng.permutation(4), rng.permutation(3)]
    forces = [rng.normal(size=(len(order), 3)) for order in orders]
    grades = [rng.normal(size=len(order)) for order in orders]
    energy = np.array([1.0, 2.0])
    numbered = Prediction(
        energy,
        [f[order] for f, order in zip(forces, orders, strict=True)],
        extrapolation=[g[order] for g, order in zip(grades, orders, strict=True)],
    )
    given = numbered.in_given_order(orders)
    np.testing.assert_array_equal(given.energy, energy)
    for k in range(2):
        np.testing.assert_array_equal(given.forces[k], forces[k])
        np.testing.assert_array_equal(given.extrapolation[k], grades[k])
    assert given.forces_std is None
    assert numbered.in_given_order(None) is numbered
