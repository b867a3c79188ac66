"""Posterior covariances against a Gaussian process written out with dense matrices."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from toys import (
    AMMONIA,
    CO2,
    KERNELS,
    WATER,
    name_of,
    rotation,
    slow_covariance,
    symmetric_group,
    toy_frames,
)
from uncertainty_toys import (
    MODES,
    NOISE,
    NOISE_ENERGY,
    build,
    compare,
    features_of,
)

from kforce.errors import InputError
from kforce.kernels.stationary import Matern52
from kforce.solvers import resources as forecast


@pytest.mark.parametrize("noise_energy", MODES.values(), ids=MODES)
@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
def test_every_kernel(kernel, noise_energy):
    frames = toy_frames(AMMONIA, 8)
    uncertainty = build(frames[:5], noise_energy, symmetric_group(4, 3), kernel)
    compare(uncertainty, frames[:5], frames[4:])


@pytest.mark.parametrize("known", [[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 1, 0, 0]])
def test_energies_of_a_fit_of_forces_are_relative_to_the_known_ones(known):
    frames = toy_frames(AMMONIA, 8)
    known = np.array(known, dtype=bool)
    uncertainty = build(frames[:5], known=known)
    compare(uncertainty, frames[:5], frames[4:], known)
    if known.sum() == 1:
        (s,) = np.flatnonzero(known)
        energy, _ = uncertainty.deviations(features_of([frames[s]]))
        assert energy[0] < 1e-6


@pytest.mark.parametrize("noise_energy", MODES.values(), ids=MODES)
def test_frames_that_miss_labels_and_linear_ones(noise_energy):
    frames = toy_frames(CO2, 9, linear=(2, 3, 6))
    for s, atoms in ((1, [0]), (3, [1, 2]), (6, [2])):
        frames[s].calc.results["forces"][atoms] = np.nan
    del frames[5].calc.results["energy"]
    group = np.array([[0, 1, 2], [2, 1, 0]])
    compare(build(frames[:7], noise_energy, group), frames[:7], frames[5:])


def test_observations_may_have_different_noises():
    frames = toy_frames(WATER, 6)
    uncertainty = build(frames[:4], NOISE_ENERGY)
    rng = np.random.default_rng(0)
    variance = rng.uniform(1e-4, 1e-2, uncertainty.observations.n_rows)
    observations = replace(uncertainty.observations, label_variance=variance)
    compare(replace(uncertainty, observations=observations), frames[:4], frames[3:])


def test_parts_of_bounded_memory_give_the_same():
    frames = toy_frames(WATER, 12)
    uncertainty = build(frames[:5])
    queries = features_of(frames)
    energy, forces = uncertainty.deviations(queries)
    alone, _ = uncertainty.deviations(queries, with_forces=False)
    C, blocks = (
        uncertainty.energy_covariance(queries),
        uncertainty.forces_covariance(queries),
    )
    uncertainty.max_bytes = 5e3
    assert len(list(uncertainty._batches(12, 10))) > 4
    again = uncertainty.deviations(queries)
    # Matrix products of other shapes round in another order.
    close = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(again[0], energy, **close)
    np.testing.assert_allclose(again[1], forces, **close)
    alone_again, _ = uncertainty.deviations(queries, with_forces=False)
    np.testing.assert_allclose(alone_again, alone, **close)
    np.testing.assert_allclose(uncertainty.energy_covariance(queries), C, **close)
    np.testing.assert_allclose(uncertainty.forces_covariance(queries), blocks, **close)


def test_at_a_training_structure_the_noise_is_left():
    frames = toy_frames(AMMONIA, 6)
    uncertainty = build(frames)
    C = uncertainty.forces_covariance(features_of(frames))
    # Less than the noise, as neighbours help; zero along the rigid motions.
    assert np.linalg.eigvalsh(C).max() < NOISE**2
    assert np.linalg.eigvalsh(C)[:, 6:].min() > 0.1 * NOISE**2
    assert np.abs(np.linalg.eigvalsh(C)[:, :6]).max() < 1e-12


@pytest.mark.parametrize("factor", [3.0, 30.0])
def test_far_from_the_data_the_prior_is_left(factor):
    frames = toy_frames(AMMONIA, 7)
    short = Matern52(0.05)
    uncertainty = build(frames[:6], kernel=short)
    frames[6].positions[1] *= factor
    (C,) = uncertainty.forces_covariance(features_of(frames[6:]))
    prior = slow_covariance(
        [frames[6].positions],
        [frames[6].positions],
        short,
        uncertainty.prior.permutations,
    )
    scale = np.abs(prior).max()
    np.testing.assert_allclose(C, prior[:-1, :-1], atol=1e-4 * scale)


@pytest.mark.parametrize("seed", range(5))
def test_variances_are_between_zero_and_the_prior(seed):
    frames = toy_frames(WATER, 30, seed)
    # A tiny noise: what is known exactly must not come out negative.
    uncertainty = build(frames[:20], kernel=Matern52(20.0))
    variance = np.full(uncertainty.observations.n_rows, 1e-14)
    uncertainty = replace(
        uncertainty,
        observations=replace(uncertainty.observations, label_variance=variance),
    )
    queries = features_of(frames)
    energy, forces = uncertainty.deviations(queries)
    assert (energy >= 0).all()
    assert (forces >= 0).all()
    for s, frame in enumerate(frames):
        prior = np.diag(
            slow_covariance(
                [frame.positions],
                [frame.positions],
                uncertainty.prior.kernel,
                uncertainty.prior.permutations,
            )
        )
        deviations = np.append(forces[s], energy[s])
        assert (deviations**2 <= prior * (1 + 1e-12) + 1e-15).all()


def test_rotations_translations_and_symmetries_change_nothing():
    frames = toy_frames(AMMONIA, 8)
    group = symmetric_group(4, 3)
    known = np.ones(7, dtype=bool)
    uncertainty = build(frames[:7], group=group, known=known)
    moved = frames[7].copy()
    Q, p = rotation(3), group[4]
    moved.positions = frames[7].positions[p] @ Q.T + [1.0, -2.0, 0.5]
    both = features_of([frames[7], moved])
    a, b = uncertainty.forces_covariance(both)
    a = a.reshape(4, 3, 4, 3)[np.ix_(p, range(3), p, range(3))]
    turned = np.einsum("ka,iajb,lb->ikjl", Q, a, Q)
    scale = uncertainty.prior.kernel(0.0) * len(group)
    np.testing.assert_allclose(b, turned.reshape(12, 12), atol=1e-12 * scale)
    energy, _ = uncertainty.deviations(both)
    np.testing.assert_allclose(energy[0] ** 2, energy[1] ** 2, atol=1e-12 * scale)
    # They are one random variable: their difference is known to be zero.
    C = uncertainty.energy_covariance(both)
    np.testing.assert_allclose(C[0, 0] + C[1, 1] - 2 * C[0, 1], 0.0, atol=1e-12 * scale)


def test_calibration_scales_all_deviations():
    frames = toy_frames(WATER, 6)
    queries = features_of(frames)
    plain, scaled = build(frames[:4]), build(frames[:4], calibration=2.0)
    for a, b in zip(plain.deviations(queries), scaled.deviations(queries), strict=True):
        np.testing.assert_array_equal(b, 2.0 * a)
    for name in ("energy_covariance", "forces_covariance"):
        a, b = getattr(plain, name)(queries), getattr(scaled, name)(queries)
        np.testing.assert_array_equal(b, 4.0 * a)


def test_the_factor_is_made_once_when_it_is_needed(caplog):
    frames = toy_frames(WATER, 6)
    uncertainty = build(frames)
    assert uncertainty.factor is None
    with caplog.at_level(logging.INFO, "kforce.uncertainty"):
        uncertainty.deviations(features_of(frames))
    assert "18 equations" in caplog.text
    factor = uncertainty.factor
    uncertainty.deviations(features_of(frames))
    assert uncertainty.factor is factor


def test_too_little_memory_for_the_factor(monkeypatch):
    monkeypatch.setattr(forecast, "available_memory", lambda: 1e3)
    frames = toy_frames(WATER, 3)
    with pytest.raises(
        InputError,
        match=r"standard deviation needs .* use a subset of fewer structures",
    ):
        build(frames).deviations(features_of(frames))
