"""Derivatives of the covariance by scales and amplitudes."""

import numpy as np
import pytest
from evidence_toys import moved, problem
from toys import (
    KERNELS,
    assert_second_order,
    name_of,
    shaken,
    symmetric_group,
    toy_frames,
)

from kforce.gdml.covariance import covariance, sensitivity
from kforce.gdml.prior import Prior
from kforce.kernels.base import Sum

#: Matérn-3/2 is left out: its φ''' diverges at distance zero.
SMOOTH = [kernel for kernel in KERNELS if name_of(kernel) != "Matern32"]
NOISES = {"forces": None, "energies too": 0.1}
MIRROR = np.array([[0, 1, 2, 3], [1, 0, 3, 2]])
CASES = {
    "ammonia": ("NH3", symmetric_group(4, 3)),
    "peroxide": ("H2O2", MIRROR),
    "acetylene": ("C2H2", MIRROR),
    "no symmetry": ("H2O2", np.arange(4)[None]),
}


def check_sensitivity(frames, group, *args, **kwargs):
    features, observations, kernel, G = problem(frames, group, *args, **kwargs)
    scales, terms = sensitivity(Prior(kernel, group), features, observations, G)
    shape, n_terms = kernel.scales.shape, len(kernel.scales)
    assert scales.shape == shape
    assert terms.shape == (n_terms,)
    assert not scales[kernel.scales == 0].any()

    def product(point):
        log_scales, log_amplitudes = np.split(point, [kernel.scales.size])
        other = moved(kernel, log_scales.reshape(shape), log_amplitudes)
        K = covariance(Prior(other, group), features, observations).to_dense()
        return np.sum(G * K)

    start = np.zeros(kernel.scales.size + n_terms)
    np.testing.assert_allclose(terms.sum(), product(start), rtol=1e-9)
    derivative = np.concatenate([scales.ravel(), 2.0 * terms])
    rng = np.random.default_rng(0)
    # Directions that respect the symmetry of the kernel, as only these do leave it one.
    orbit = features.coordinates.images(group)[0].min(axis=0)
    kind = np.unique(kernel.amplitudes, return_inverse=True)[1]
    for what in ("scales", "amplitudes", "both"):
        by_scale = rng.normal(size=(n_terms, len(orbit)))[kind][:, orbit]
        by_term = rng.normal(size=n_terms)[kind]
        direction = np.concatenate(
            [
                by_scale.ravel() * (what != "amplitudes"),
                by_term * (what != "scales"),
            ]
        )
        direction /= np.linalg.norm(direction)
        assert_second_order(product, derivative @ direction, start, direction)


@pytest.mark.parametrize("noise_energy", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("case", CASES)
def test_molecules(case, noise_energy):
    name, group = CASES[case]
    check_sensitivity(shaken(name, 4), group, noise_energy)


@pytest.mark.parametrize("kernel", SMOOTH, ids=name_of)
def test_every_profile(kernel):
    check_sensitivity(shaken("H2O", 4), symmetric_group(3, 2), 0.1, kernel)


@pytest.mark.parametrize("noise_energy", NOISES.values(), ids=NOISES)
def test_frames_that_miss_labels(noise_energy):
    frames = shaken("NH3", 5)
    for s, atoms in ((1, [0]), (3, [1, 2]), (4, [0, 1, 2, 3])):
        frames[s].calc.results["forces"][atoms] = np.nan
    del frames[2].calc.results["energy"]
    check_sensitivity(frames, symmetric_group(4, 3), noise_energy)


def test_more_frames_than_fit_side_by_side():
    frames = shaken("H2O", 68) + toy_frames([8, 1, 1], 3, linear=(0, 1))
    check_sensitivity(frames, symmetric_group(3, 2), bonds=[(0, 1), (0, 2)])


def test_each_scale_by_itself():
    # Without symmetries every scale and every amplitude is free.
    group = np.arange(3)[None]
    features, observations, kernel, G = problem(shaken("H2O", 3), group)
    scales, terms = sensitivity(Prior(kernel, group), features, observations, G)

    def product(t, k, step):
        log_scales = np.zeros(kernel.scales.shape)
        log_scales[t, k] = step
        other = moved(kernel, log_scales, np.zeros(len(kernel.scales)))
        return np.sum(
            G * covariance(Prior(other, group), features, observations).to_dense()
        )

    found = np.zeros(kernel.scales.shape)
    for t, k in np.argwhere(kernel.scales):
        found[t, k] = (product(t, k, 1e-4) - product(t, k, -1e-4)) / 2e-4
    np.testing.assert_allclose(scales, found, atol=1e-6 * np.abs(found).max())
    for t, (row, amplitude) in enumerate(
        zip(kernel.scales, kernel.amplitudes, strict=True)
    ):
        alone = Sum(kernel.kernel, row[None], [amplitude])
        K = covariance(Prior(alone, group), features, observations).to_dense()
        np.testing.assert_allclose(terms[t], np.sum(G * K), rtol=1e-9)


def test_the_lower_triangle_is_what_is_read():
    group = symmetric_group(3, 2)
    features, observations, kernel, G = problem(shaken("H2O", 4), group)
    whole = sensitivity(Prior(kernel, group), features, observations, G)
    G[np.triu_indices(len(G), 1)] = np.nan
    lower = sensitivity(Prior(kernel, group), features, observations, G)
    for a, b in zip(whole, lower, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_number_of_threads_changes_nothing_but_rounding(monkeypatch):
    group = symmetric_group(4, 3)
    features, observations, kernel, G = problem(shaken("NH3", 20), group)
    found = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(sensitivity(Prior(kernel, group), features, observations, G)[0])
    scale = np.abs(found[0]).max()
    np.testing.assert_allclose(found[1], found[0], atol=1e-12 * scale)
    np.testing.assert_allclose(found[2], found[0], atol=1e-12 * scale)
