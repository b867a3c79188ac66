"""Derivatives of the covariance and of the evidence by scales, amplitudes, noises."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from toys import (
    KERNELS,
    additive_kernel,
    assert_second_order,
    name_of,
    shaken,
    symmetric_group,
    toy_frames,
)

from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.gdml.covariance import covariance
from kforce.gdml.evidence import log_evidence, sensitivity
from kforce.gdml.observations import Observations
from kforce.kernels.base import Scaled, Sum
from kforce.kernels.stationary import Matern52, Matern72
from kforce.labels import Labels
from kforce.structures import Batch

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


def problem(frames, group, noise_energy=0.1, profile=None, bonds=None):
    """Features, observations, kernel and a random symmetric matrix."""
    batch, labels = Batch.from_frames(frames), Labels.from_frames(frames)
    descriptor = InternalCoordinates(bonds).bind(batch)
    observations = Observations.build(batch, labels, 0.1, noise_energy, 1.0)
    profile = Matern72(length_scale=1.0) if profile is None else profile
    kernel = additive_kernel(profile, descriptor, group, len(frames[0]))
    G = np.random.default_rng(7).normal(size=2 * [len(observations.y)])
    return descriptor(batch), observations, kernel, G + G.T


def moved(kernel, log_scales, log_amplitudes):
    """The kernel with factors on its scales and amplitudes."""
    return Sum(
        kernel.kernel,
        kernel.scales * np.exp(log_scales),
        kernel.amplitudes * np.exp(log_amplitudes),
    )


def check_sensitivity(frames, group, *args, **kwargs):
    features, observations, kernel, G = problem(frames, group, *args, **kwargs)
    scales, terms = sensitivity(features, observations, kernel, group, G)
    shape, n_terms = kernel.scales.shape, len(kernel.scales)
    assert scales.shape == shape
    assert terms.shape == (n_terms,)
    assert not scales[kernel.scales == 0].any()

    def product(point):
        log_scales, log_amplitudes = np.split(point, [kernel.scales.size])
        other = moved(kernel, log_scales.reshape(shape), log_amplitudes)
        K = covariance(features, observations, other, group).to_dense()
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
    scales, terms = sensitivity(features, observations, kernel, group, G)

    def product(t, k, step):
        log_scales = np.zeros(kernel.scales.shape)
        log_scales[t, k] = step
        other = moved(kernel, log_scales, np.zeros(len(kernel.scales)))
        return np.sum(G * covariance(features, observations, other, group).to_dense())

    found = np.zeros(kernel.scales.shape)
    for t, k in np.argwhere(kernel.scales):
        found[t, k] = (product(t, k, 1e-4) - product(t, k, -1e-4)) / 2e-4
    np.testing.assert_allclose(scales, found, atol=1e-6 * np.abs(found).max())
    for t, (row, amplitude) in enumerate(
        zip(kernel.scales, kernel.amplitudes, strict=True)
    ):
        alone = Sum(kernel.kernel, row[None], [amplitude])
        K = covariance(features, observations, alone, group).to_dense()
        np.testing.assert_allclose(terms[t], np.sum(G * K), rtol=1e-9)


def test_the_lower_triangle_is_what_is_read():
    group = symmetric_group(3, 2)
    features, observations, kernel, G = problem(shaken("H2O", 4), group)
    whole = sensitivity(features, observations, kernel, group, G)
    G[np.triu_indices(len(G), 1)] = np.nan
    lower = sensitivity(features, observations, kernel, group, G)
    for a, b in zip(whole, lower, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_number_of_threads_changes_nothing_but_rounding(monkeypatch):
    group = symmetric_group(4, 3)
    features, observations, kernel, G = problem(shaken("NH3", 20), group)
    found = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(sensitivity(features, observations, kernel, group, G)[0])
    scale = np.abs(found[0]).max()
    np.testing.assert_allclose(found[1], found[0], atol=1e-12 * scale)
    np.testing.assert_allclose(found[2], found[0], atol=1e-12 * scale)


def evidence_problem(noise_energy, name="NH3", n_frames=4):
    group = symmetric_group(4, 3)
    frames = shaken(name, n_frames)
    frames[1].calc.results["forces"][2] = np.nan
    *found, _ = problem(frames, group, noise_energy)
    return *found, group


@pytest.mark.parametrize("variance", [1.0, 0.3])
@pytest.mark.parametrize("noise_energy", NOISES.values(), ids=NOISES)
def test_the_evidence_is_a_gaussian_density(noise_energy, variance):
    features, observations, kernel, group = evidence_problem(noise_energy)
    K = covariance(features, observations, kernel, group).to_dense()
    C = variance * (K + np.diag(observations.variance))
    found = log_evidence(features, observations, kernel, group, variance)
    density = multivariate_normal(cov=C).logpdf(observations.y)
    np.testing.assert_allclose(found.value, density, rtol=1e-10)
    assert found.variance == variance


def test_one_is_the_default_factor():
    features, observations, kernel, group = evidence_problem(0.1)
    default = log_evidence(features, observations, kernel, group)
    given = log_evidence(features, observations, kernel, group, 1.0)
    assert default.value == given.value


@pytest.mark.parametrize("noise_energy", NOISES.values(), ids=NOISES)
def test_the_free_factor_is_the_most_likely_one(noise_energy):
    features, observations, kernel, group = evidence_problem(noise_energy)
    found = log_evidence(features, observations, kernel, group, None)
    y = observations.y
    K = covariance(features, observations, kernel, group).to_dense()
    C = K + np.diag(observations.variance)
    np.testing.assert_allclose(
        found.variance, y @ np.linalg.solve(C, y) / len(y), rtol=1e-9
    )
    density = multivariate_normal(cov=found.variance * C).logpdf(y)
    np.testing.assert_allclose(found.value, density, rtol=1e-10)
    for factor in (0.9, 1.1):
        other = factor * found.variance
        less = log_evidence(features, observations, kernel, group, other)
        assert less.value < found.value


@pytest.mark.parametrize("what", ["scales", "amplitudes", "noises"])
@pytest.mark.parametrize("variance", [1.0, 0.3, None], ids=str)
@pytest.mark.parametrize("noise_energy", NOISES.values(), ids=NOISES)
def test_the_gradient_of_the_evidence(noise_energy, variance, what):
    features, observations, kernel, group = evidence_problem(noise_energy)
    found = log_evidence(features, observations, kernel, group, variance)
    assert found.scales.shape == kernel.scales.shape
    assert found.amplitudes.shape == (len(kernel.scales),)
    assert found.noises.shape == observations.y.shape
    rng = np.random.default_rng(1)
    orbit = features.coordinates.images(group)[0].min(axis=0)
    kind = np.unique(kernel.amplitudes, return_inverse=True)[1]
    n_terms = len(kernel.scales)
    steps = {
        "scales": rng.normal(size=(n_terms, len(orbit)))[kind][:, orbit],
        "amplitudes": rng.normal(size=n_terms)[kind],
        "noises": rng.normal(size=len(observations.y)),
    }
    steps = {k: v * (k == what) / np.linalg.norm(v) for k, v in steps.items()}

    def value(t):
        factors = np.exp(2.0 * t * steps["noises"])
        return log_evidence(
            features,
            replace(observations, variance=factors * observations.variance),
            moved(kernel, t * steps["scales"], t * steps["amplitudes"]),
            group,
            variance,
        ).value

    derivative = np.sum(getattr(found, what) * steps[what])
    # Rounding of log det limits how small the step may be.
    assert_second_order(value, derivative, 0.0, np.array(1.0), step=0.05)


def test_an_amplitude_around_the_kernel_is_one_of_all_terms():
    features, observations, kernel, group = evidence_problem(0.1)
    plain = moved(kernel, 0.0, np.log(1.7))
    found = [
        log_evidence(features, observations, k, group)
        for k in (plain, Scaled(kernel, amplitude=1.7))
    ]
    for name in ("value", "scales", "amplitudes", "noises"):
        a, b = (getattr(f, name) for f in found)
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


def test_a_matrix_that_is_not_positive_definite():
    features, observations, kernel, group = evidence_problem(0.1)
    bad = replace(observations, variance=-np.ones_like(observations.variance) * 1e4)
    with pytest.raises(np.linalg.LinAlgError):
        log_evidence(features, bad, kernel, group)


def test_a_plain_kernel_has_one_term():
    features, observations, _, group = evidence_problem(0.1)
    n = features.x.shape[1]
    plain = log_evidence(features, observations, Matern52(1.0), group)
    kernel = Sum(Matern52(1.0), np.ones((1, n)))
    one = log_evidence(features, observations, kernel, group)
    assert plain.value == one.value
    np.testing.assert_array_equal(plain.scales, one.scales)


@pytest.mark.parametrize("what", ["scales", "amplitudes", "relative"])
@pytest.mark.parametrize("variance", [1.0, None], ids=str)
@pytest.mark.parametrize("noise_energy", NOISES.values(), ids=NOISES)
def test_the_gradient_with_noises_relative_to_the_prior(noise_energy, variance, what):
    features, observations, kernel, group = evidence_problem(noise_energy)
    of_forces = observations.is_force
    # Some rows keep the noise of the observations.
    log_share = np.where(of_forces, np.log(0.05), np.log(0.01))
    log_share[::4] = np.nan

    def evidence(kernel, log_share):
        args = (features, observations, kernel, group, variance)
        return log_evidence(*args, np.exp(log_share))

    found = evidence(kernel, log_share)
    K = covariance(features, observations, kernel, group).to_dense()
    expected = observations.variance.copy()
    for rows, share in ((of_forces, 0.05), (~of_forces, 0.01)):
        if rows.any():
            learned = rows & ~np.isnan(log_share)
            expected[learned] = share**2 * np.mean(np.diag(K)[rows])
    np.testing.assert_allclose(found.noise, expected, rtol=1e-10)
    C = found.variance * (K + np.diag(expected))
    density = multivariate_normal(cov=C).logpdf(observations.y)
    np.testing.assert_allclose(found.value, density, rtol=1e-10)
    rng = np.random.default_rng(1)
    orbit = features.coordinates.images(group)[0].min(axis=0)
    kind = np.unique(kernel.amplitudes, return_inverse=True)[1]
    n_terms = len(kernel.scales)
    by_scale = rng.normal(size=(n_terms, len(orbit)))[kind][:, orbit]
    by_term, by_row = rng.normal(size=n_terms)[kind], rng.normal(size=len(log_share))
    by_scale *= (what == "scales") / np.linalg.norm(by_scale)
    by_term *= (what == "amplitudes") / np.linalg.norm(by_term)
    by_row *= (what == "relative") / np.linalg.norm(by_row)
    by_row[np.isnan(log_share)] = 0.0
    derivative = np.sum(found.scales * by_scale) + np.sum(found.amplitudes * by_term)
    derivative += np.sum(found.noises * by_row)
    assert_second_order(
        lambda t: (
            evidence(
                moved(kernel, t * by_scale, t * by_term), log_share + t * by_row
            ).value
        ),
        derivative,
        0.0,
        np.array(1.0),
        step=0.05,
    )
