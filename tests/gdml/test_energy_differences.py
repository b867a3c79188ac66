"""Differences of energies keep their digits, however large the prior deviation."""

import numpy as np
import pytest
from toys import KERNELS, WATER, name_of, toy_frames
from uncertainty_toys import build, features_of

from kforce.gdml.energy_differences import variogram
from kforce.kernels.base import Scaled
from kforce.kernels.stationary import RBF, Matern32, Matern52, Matern72


@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
def test_the_variogram_is_what_is_missing_to_the_prior(kernel):
    u = np.linspace(0.0, 30.0, 301).reshape(7, 43)
    expected = kernel(0.0) - kernel(u)
    np.testing.assert_allclose(variogram(kernel, u), expected, atol=1e-15 * kernel(0.0))


@pytest.mark.parametrize(
    ("kernel", "series"),
    [
        # In a = √(2ν) r/ℓ.
        (Matern32(1.0), lambda a: a**2 / 2 - a**3 / 3 + a**4 / 8 - a**5 / 30),
        (Matern52(1.0), lambda a: a**2 / 6 - a**4 / 24 + a**5 / 45),
        (Matern72(1.0), lambda a: a**2 / 10 - a**4 / 120),
        (RBF(1.0), lambda a: a**2 / 2 - a**4 / 8),
        (Scaled(RBF(1.0), 1e4), lambda a: 1e8 * (a**2 / 2 - a**4 / 8)),
    ],
    ids=["Matern32", "Matern52", "Matern72", "RBF", "Scaled"],
)
def test_the_variogram_keeps_its_digits(kernel, series):
    r = np.array([1e-8, 1e-5, 1e-4, 3e-4])
    nu = {"Matern32": 3, "Matern52": 5, "Matern72": 7}.get(type(kernel).__name__, 1)
    a = np.sqrt(nu) * r
    np.testing.assert_allclose(variogram(kernel, r**2), series(a), rtol=1e-11)


def test_a_large_amplitude_loses_no_digits():
    # The prior variance is 1e12 eV², φ is 1 − O(1e-6), and only differences count.
    frames = toy_frames(WATER, 8)
    kernel = Scaled(Matern72(1e3), 1e6)
    known = np.ones(6, dtype=bool)
    uncertainty = build(frames[:6], kernel=kernel, known=known)
    queries = features_of(frames)
    energy, _ = uncertainty.deviations(queries)
    alone, _ = uncertainty.deviations(queries, with_forces=False)
    np.testing.assert_allclose(alone, energy, rtol=1e-3)
    C = uncertainty.energy_covariance(queries)
    np.testing.assert_allclose(np.sqrt(np.diag(C)), energy, rtol=1e-3)
