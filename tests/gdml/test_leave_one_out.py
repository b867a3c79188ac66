"""Leave-one-structure-out prediction of the posterior, against fits without it."""

from dataclasses import replace

import numpy as np
import pytest
from toys import CO2, WATER, rigid_complement, symmetric_group, toy_frames

from kforce.descriptors.inverse_distances import InverseDistances
from kforce.gdml.leave_one_out import LeaveOneOut, structures_to_leave_out
from kforce.gdml.observations import Observations
from kforce.gdml.posterior import condition
from kforce.gdml.prior import Noise, Prior
from kforce.kernels.base import Scaled
from kforce.kernels.stationary import Matern52
from kforce.labels import Labels
from kforce.structures import Batch

MODES = {"forces": None, "energies too": 0.01}
NOISE = 0.02


def features_of(frames):
    return InverseDistances()(Batch.from_frames(frames))


def posterior_of(frames, noise_energy, kernel=None, learn=False, noise=NOISE):
    batch, labels = Batch.from_frames(frames), Labels.from_frames(frames)
    observations = Observations.build(batch, labels, noise_energy is not None)
    kernel = Matern52(1.3) if kernel is None else kernel
    group = symmetric_group(len(frames[0]), 2)
    prior = Prior(kernel, group, Noise(noise, noise_energy))
    fitted = condition(prior, features_of(frames), observations, learn)
    if noise_energy is None:
        fitted = fitted.relative_to_mean(np.ones(len(frames), dtype=bool))
    return fitted


@pytest.mark.parametrize("noise_energy", MODES.values(), ids=MODES)
@pytest.mark.parametrize("learn", [False, True], ids=["given", "learned amplitude"])
def test_against_fits_without_the_structure(noise_energy, learn):
    frames = toy_frames(WATER, 7)
    fitted = posterior_of(frames, noise_energy, learn=learn)
    left_out = fitted.leave_one_out()
    np.testing.assert_array_equal(left_out.structures, np.arange(7))
    sizes = fitted.observations.sizes
    ends = np.cumsum(sizes)
    errors = []
    for s, frame in enumerate(frames):
        rest = [f for t, f in enumerate(frames) if t != s]
        # The amplitude that all structures gave.
        noises = fitted.prior.noise.forces, fitted.prior.noise.energy
        refit = posterior_of(rest, noises[1], fitted.prior.kernel, noise=noises[0])
        query = features_of([frame])
        f, gradient = refit.mean.jet(query.x)
        error = frame.get_forces() + query.pull(gradient)[0]
        errors.append(error)
        rows = slice(ends[s] - sizes[s], ends[s])
        residual, variance = left_out.residual[rows], left_out.variance[rows]
        forces = left_out.is_force[rows]
        np.testing.assert_allclose(
            np.sum(residual[forces] ** 2), np.sum(error**2), rtol=1e-7
        )
        (C,) = refit.forces_covariance(query)
        basis = rigid_complement(frame.positions)
        inner = basis.T @ C @ basis
        expected = np.trace(inner) + forces.sum() * noises[0] ** 2
        np.testing.assert_allclose(variance[forces].sum(), expected, rtol=1e-7)
        if noise_energy is not None:
            energy, _ = refit.deviations(query)
            np.testing.assert_allclose(
                residual[-1], frame.get_potential_energy() - f[0], atol=1e-9
            )
            np.testing.assert_allclose(
                variance[-1], energy[0] ** 2 + 3 * noises[1] ** 2, rtol=1e-6
            )
    rmse = np.sqrt(np.mean(np.square(errors)))
    np.testing.assert_allclose(left_out.forces_rmse, rmse, rtol=1e-8)
    forces = left_out.is_force
    ratio = np.mean(left_out.residual[forces] ** 2) / np.mean(left_out.variance[forces])
    np.testing.assert_allclose(left_out.calibration, np.sqrt(ratio))
    dependent = replace(left_out, is_independent=False)
    np.testing.assert_allclose(dependent.calibration, max(1.0, np.sqrt(ratio)))


def test_some_of_the_structures():
    fitted = posterior_of(toy_frames(WATER, 9), 0.01)
    some = LeaveOneOut.of(
        fitted.factor, fitted.coef, fitted.observations, np.array([2, 5, 8])
    )
    rows = np.concatenate([np.arange(4 * s, 4 * s + 4) for s in (2, 5, 8)])
    everything = fitted.leave_one_out()
    np.testing.assert_allclose(some.residual, everything.residual[rows], atol=1e-9)
    np.testing.assert_allclose(some.variance, everything.variance[rows], rtol=1e-9)
    assert some.n_components == 27


def test_components_of_frames_that_miss_forces():
    frames = toy_frames(CO2, 6, linear=(2,))
    frames[4].calc.results["forces"][0] = np.nan
    left_out = posterior_of(frames, None).leave_one_out()
    assert left_out.n_components == 5 * 9 + 6
    assert len(left_out.residual) == 4 * 3 + 4 + 6


def test_without_errors_nothing_is_calibrated():
    frames = toy_frames(WATER, 4)
    for frame in frames:
        frame.calc.results["forces"][:] = 0.0
    assert posterior_of(frames, None).leave_one_out().calibration == 1.0


def test_how_many_are_left_out():
    def count(n_structures, size):
        sizes = np.full(n_structures, size)
        chosen = structures_to_leave_out(sizes, [], 0)
        assert (np.diff(chosen) > 0).all()
        assert chosen[-1] < n_structures
        np.testing.assert_array_equal(chosen, structures_to_leave_out(sizes, [], 0))
        return len(chosen)

    assert count(70, 21) == 70
    assert count(90, 21) == 15
    assert count(30, 57) == 10
    assert count(5, 900) == 5
    assert count(5000, 21) == 100
    assert count(1, 3000) == 1


@pytest.mark.parametrize(
    "kernel", [Matern52(1.3), Scaled(Matern52(1.3), 2.0)], ids=repr
)
@pytest.mark.parametrize("noise", [None, NOISE], ids=["noise-free", "noise"])
def test_the_posterior_keeps_the_factor_of_what_it_scaled(kernel, noise):
    frames = toy_frames(WATER, 8)
    kept = posterior_of(frames, None, kernel, learn=noise is None, noise=noise)
    again = replace(kept, factor=None)
    queries = features_of(toy_frames(WATER, 4, seed=1))
    for a, b in zip(kept.deviations(queries), again.deviations(queries), strict=True):
        # The noise-free matrix has a condition number of 1e11.
        np.testing.assert_allclose(a, b, rtol=1e-5 if noise is None else 1e-9)
