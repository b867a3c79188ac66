"""The marginal likelihood against a Gaussian density, and its gradient."""

from dataclasses import replace

import numpy as np
import pytest
from evidence_toys import moved, problem
from scipy.stats import multivariate_normal
from toys import assert_second_order, shaken, symmetric_group

from kforce.errors import InputError
from kforce.gdml.covariance import covariance
from kforce.gdml.prior import Noise, Prior
from kforce.gdml.relevance import log_evidence
from kforce.kernels.base import Scaled, Sum
from kforce.kernels.stationary import Matern52

NOISES = {"forces": None, "energies too": 0.1}
GROUP = symmetric_group(4, 3)

both = pytest.mark.parametrize("noise_energy", NOISES.values(), ids=NOISES)


def ammonia(noise_energy):
    """A prior, features and observations, of one frame without some forces."""
    frames = shaken("NH3", 4)
    frames[1].calc.results["forces"][2] = np.nan
    features, observations, kernel, _ = problem(frames, GROUP, noise_energy)
    return Prior(kernel, GROUP, Noise(0.1, noise_energy)), features, observations


def matrices(prior, features, observations):
    """The covariance and the noise, dense."""
    K = covariance(prior, features, observations).to_dense()
    return K, np.diag(prior.noise.variance(observations))


def with_noise(observations, variance):
    return replace(observations, label_variance=variance)


def directions(kernel, features, n_rows, seed=1):
    """Random changes of scales, amplitudes and noises that respect the symmetry."""
    rng = np.random.default_rng(seed)
    orbit = features.coordinates.images(GROUP)[0].min(axis=0)
    kind = np.unique(kernel.amplitudes, return_inverse=True)[1]
    n = len(kernel.scales)
    return {
        "scales": rng.normal(size=(n, len(orbit)))[kind][:, orbit],
        "amplitudes": rng.normal(size=n)[kind],
        "noises": rng.normal(size=n_rows),
    }


@pytest.mark.parametrize("variance", [1.0, 0.3])
@both
def test_it_is_a_gaussian_density(noise_energy, variance):
    prior, features, observations = ammonia(noise_energy)
    K, noise = matrices(prior, features, observations)
    evidence = log_evidence(prior, features, observations, variance=variance)
    C = variance * K + noise
    density = multivariate_normal(cov=C).logpdf(observations.y)
    np.testing.assert_allclose(evidence.value, density, rtol=1e-10)
    assert evidence.variance == variance
    if variance == 1.0:
        default = log_evidence(prior, features, observations)
        assert default.value == evidence.value


@both
def test_the_free_factor_is_the_most_likely_one(noise_energy):
    prior, features, observations = ammonia(noise_energy)
    evidence = log_evidence(prior, features, observations, variance=None)
    y = observations.y
    C = sum(matrices(prior, features, observations))
    np.testing.assert_allclose(
        evidence.variance, y @ np.linalg.solve(C, y) / len(y), rtol=1e-9
    )
    density = multivariate_normal(cov=evidence.variance * C).logpdf(y)
    np.testing.assert_allclose(evidence.value, density, rtol=1e-10)
    for factor in (0.9, 1.1):
        other = factor * evidence.variance
        assert multivariate_normal(cov=other * C).logpdf(y) < evidence.value


@pytest.mark.parametrize("what", ["scales", "amplitudes", "noises"])
@pytest.mark.parametrize("variance", [1.0, 0.3, None], ids=str)
@both
def test_the_gradient(noise_energy, variance, what):
    prior, features, observations = ammonia(noise_energy)
    noise = prior.noise.variance(observations)
    evidence = log_evidence(prior, features, observations, variance=variance)
    assert evidence.scales.shape == prior.kernel.scales.shape
    assert evidence.amplitudes.shape == (len(prior.kernel.scales),)
    assert evidence.noises.shape == observations.y.shape
    steps = directions(prior.kernel, features, len(noise))
    steps = {k: v * (k == what) / np.linalg.norm(v) for k, v in steps.items()}

    def value(t):
        kernel = moved(prior.kernel, t * steps["scales"], t * steps["amplitudes"])
        changed = with_noise(observations, np.exp(2.0 * t * steps["noises"]) * noise)
        return log_evidence(
            replace(prior, kernel=kernel), features, changed, variance=variance
        ).value

    derivative = np.sum(getattr(evidence, what) * steps[what])
    # Rounding of log det limits how small the step may be.
    assert_second_order(value, derivative, 0.0, np.array(1.0), step=0.05)


def assert_equal_evidence(first, second, **tolerance):
    for name in ("value", "scales", "amplitudes", "noises"):
        a, b = getattr(first, name), getattr(second, name)
        np.testing.assert_allclose(a, b, **tolerance)


def test_an_amplitude_around_the_kernel_is_one_of_all_components():
    prior, *data = ammonia(0.1)
    kernels = moved(prior.kernel, 0.0, np.log(1.7)), Scaled(prior.kernel, 1.7)
    first, second = (log_evidence(replace(prior, kernel=k), *data) for k in kernels)
    assert_equal_evidence(first, second, rtol=1e-8, atol=1e-9)


def test_a_plain_kernel_has_one_component():
    prior, features, observations = ammonia(0.1)
    n = features.x.shape[1]
    kernels = Matern52(1.0), Sum(Matern52(1.0), np.ones((1, n)))
    first, second = (
        log_evidence(replace(prior, kernel=k), features, observations) for k in kernels
    )
    assert_equal_evidence(first, second, rtol=0)


def test_a_matrix_that_is_not_positive_definite():
    prior, features, observations = ammonia(0.1)
    bad = with_noise(observations, np.full(observations.n_rows, -1e4))
    with pytest.raises(InputError, match="cannot be factored"):
        log_evidence(prior, features, bad)


@pytest.mark.parametrize("what", ["scales", "amplitudes", "noises"])
@pytest.mark.parametrize("variance", [1.0, None], ids=str)
@both
def test_the_gradient_with_noises_relative_to_the_prior(noise_energy, variance, what):
    prior, features, observations = ammonia(noise_energy)
    of_forces = observations.is_force
    # Some rows keep the noise of the prior.
    log_noise = np.where(of_forces, np.log(0.05), np.log(0.01))
    log_noise[::4] = np.nan

    def evidence_of(kernel, log_noise):
        changed = replace(prior, kernel=kernel)
        relative = np.exp(log_noise)
        return log_evidence(changed, features, observations, relative, variance)

    evidence = evidence_of(prior.kernel, log_noise)
    K, noise = matrices(prior, features, observations)
    expected = np.diag(noise).copy()
    for rows, relative in ((of_forces, 0.05), (~of_forces, 0.01)):
        if rows.any():
            learned = rows & ~np.isnan(log_noise)
            expected[learned] = relative**2 * np.mean(np.diag(K)[rows])
    np.testing.assert_allclose(evidence.noise, expected, rtol=1e-10)
    C = evidence.variance * (K + np.diag(expected))
    density = multivariate_normal(cov=C).logpdf(observations.y)
    np.testing.assert_allclose(evidence.value, density, rtol=1e-10)
    steps = directions(prior.kernel, features, len(log_noise))
    steps = {k: v * (k == what) / np.linalg.norm(v) for k, v in steps.items()}
    steps["noises"][np.isnan(log_noise)] = 0.0
    assert_second_order(
        lambda t: (
            evidence_of(
                moved(prior.kernel, t * steps["scales"], t * steps["amplitudes"]),
                log_noise + t * steps["noises"],
            ).value
        ),
        sum(np.sum(getattr(evidence, name) * step) for name, step in steps.items()),
        0.0,
        np.array(1.0),
        step=0.05,
    )
