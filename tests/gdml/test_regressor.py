import logging

import numpy as np
import pytest
from ase import Atoms
from toys import (
    AMMONIA,
    CO2,
    H2,
    KERNELS,
    WATER,
    geometry,
    labelled,
    name_of,
    regressor,
    rigid_complement,
    shaken,
    slow_covariance,
    symmetric_group,
    toy_frames,
)

from kforce.gdml.regressor import GDMLRegressor
from kforce.kernels.base import Scaled
from kforce.kernels.stationary import Matern52

NOISES = {
    "forces": {"noise_forces": 0.05},
    "forces and energies": {"noise_forces": 0.05, "noise_energy": 0.02},
}
noises = pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)


def brute_force(frames, new, kernel, permutations, noise_forces, noise_energy=None):
    """A Gaussian process without any of the package's tricks: energies and forces."""
    x, n = [f.positions for f in frames], 3 * len(frames[0])
    energies = np.array([f.get_potential_energy() for f in frames])
    y = [
        [*f.get_forces().ravel(), e]
        for f, e in zip(frames, energies - energies.mean(), strict=True)
    ]
    y, is_energy = np.ravel(y), np.arange(len(frames) * (n + 1)) % (n + 1) == n
    used = ~is_energy if noise_energy is None else np.full(len(y), True)
    noise = np.where(is_energy, (noise_energy or 0) * np.sqrt(n / 3), noise_forces)
    K = slow_covariance(x, x, kernel, permutations)
    alpha = np.linalg.solve((K + np.diag(noise**2))[np.ix_(used, used)], y[used])
    left = energies - (K[:, used] @ alpha)[is_energy]
    constant = left.mean() if noise_energy is None else energies.mean()
    x_new = [f.positions for f in new]
    predicted = slow_covariance(x_new, x, kernel, permutations)[:, used] @ alpha
    predicted = predicted.reshape(len(new), n + 1)
    return predicted[:, -1] + constant, predicted[:, :-1].reshape(len(new), -1, 3)


@noises
@pytest.mark.parametrize(
    ("numbers", "linear", "equal"),
    [
        (H2, range(20), 2),
        (WATER, (), 2),
        (CO2, range(20), 1),
        (CO2, (1, 2, 8), 1),
        (AMMONIA, (), 3),
        (AMMONIA, (0,), 1),
    ],
    ids=["H2", "water", "linear CO2", "CO2 linear at times", "NH3", "no permutations"],
)
def test_against_a_brute_force_gaussian_process(numbers, linear, equal, noise):
    frames = toy_frames(numbers, 10, linear=linear)
    train, new = frames[:6], frames[6:]
    kernel, group = Matern52(length_scale=1.3), symmetric_group(len(numbers), equal)
    model = regressor(kernel, group, **noise).fit(train)
    energies, forces = brute_force(train, new, kernel, group, **noise)
    predicted = model.evaluate(new)
    # The condition number of K + Σ is about 1e4.
    np.testing.assert_allclose(predicted.energy, energies, atol=1e-10)
    np.testing.assert_allclose(predicted.forces, forces, atol=1e-10)
    np.testing.assert_array_equal(model.predict(new), predicted.energy)


@noises
@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
def test_every_kernel_against_brute_force(kernel, noise):
    frames = toy_frames(WATER, 9)
    group = symmetric_group(3, 2)
    model = regressor(kernel, group, **noise).fit(frames[:6])
    energies, forces = brute_force(frames[:6], frames[6:], kernel, group, **noise)
    predicted = model.evaluate(frames[6:])
    np.testing.assert_allclose(predicted.energy, energies, atol=1e-10)
    np.testing.assert_allclose(predicted.forces, forces, atol=1e-10)


@noises
def test_the_marginal_likelihood_is_that_of_the_projected_data(noise):
    frames = toy_frames(WATER, 6)
    kernel, group = Matern52(length_scale=1.3), symmetric_group(3, 2)
    model = regressor(kernel, group, **noise).fit(frames)
    positions = [f.positions for f in frames]
    K = slow_covariance(positions, positions, kernel, group)
    mean = np.mean([f.get_potential_energy() for f in frames])
    with_energy = "noise_energy" in noise
    blocks, y, variance = [], [], []
    for f in frames:
        Q = rigid_complement(f.positions)
        block = np.zeros((10, Q.shape[1] + with_energy))
        block[:9, : Q.shape[1]] = Q
        y.extend(Q.T @ f.get_forces().ravel())
        variance.extend([0.05**2] * Q.shape[1])
        if with_energy:
            block[9, -1] = 1.0
            y.append(f.get_potential_energy() - mean)
            variance.append(0.02**2 * 3)
        blocks.append(block)
    width = blocks[0].shape[1]
    P = np.zeros((60, 6 * width))
    for s, block in enumerate(blocks):
        P[10 * s : 10 * s + 10, width * s : width * (s + 1)] = block
    A = P.T @ K @ P + np.diag(variance)
    chi2, log_det = y @ np.linalg.solve(A, y), np.linalg.slogdet(A)[1]
    expected = -0.5 * (chi2 + log_det + len(y) * np.log(2 * np.pi))
    np.testing.assert_allclose(model.log_marginal_likelihood_, expected, rtol=1e-10)


def test_the_constant_of_a_fit_of_forces():
    # Energies shift with their labels, and their mean residual is zero.
    frames = toy_frames(WATER, 6)
    model = regressor(noise_forces=0.01).fit(frames)
    energies = np.array([f.get_potential_energy() for f in frames])
    np.testing.assert_allclose(np.mean(model.predict(frames) - energies), 0, atol=1e-13)
    shifted = [
        labelled(WATER, f.positions, e + 100.0, f.get_forces())
        for f, e in zip(frames, energies, strict=True)
    ]
    again = regressor(noise_forces=0.01).fit(shifted)
    np.testing.assert_allclose(again.constant_, model.constant_ + 100.0, rtol=1e-13)
    forces, forces_again = model.evaluate(frames).forces, again.evaluate(frames).forces
    np.testing.assert_array_equal(forces, forces_again)


def test_the_constant_of_a_fit_of_energies_is_their_mean():
    frames = toy_frames(WATER, 6)
    model = regressor(**NOISES["forces and energies"]).fit(frames)
    mean = np.mean([f.get_potential_energy() for f in frames])
    np.testing.assert_allclose(model.constant_, mean, rtol=1e-14)


def test_without_energies_the_constant_is_zero():
    frames = toy_frames(WATER, 6)
    bare = [labelled(WATER, f.positions, forces=f.get_forces()) for f in frames]
    model = regressor(noise_forces=0.01).fit(bare)
    assert model.constant_ == 0.0
    np.testing.assert_array_equal(
        model.evaluate(frames).forces,
        regressor(noise_forces=0.01).fit(frames).evaluate(frames).forces,
    )


def test_learning_the_amplitude_scales_the_prior_and_not_the_mean():
    frames = toy_frames(WATER, 12)
    kernel = Matern52(length_scale=1.3)
    plain = regressor(kernel, optimize=False).fit(frames[:8])
    learned = regressor(kernel, optimize=True).fit(frames[:8])
    assert isinstance(learned.kernel_, Scaled)
    assert plain.kernel_.get_params() == kernel.get_params()
    amplitude = learned.kernel_.amplitude
    np.testing.assert_allclose(
        learned.noise_forces_, amplitude * plain.noise_forces_, rtol=1e-12
    )
    a, b = plain.evaluate(frames), learned.evaluate(frames)
    # Both sums run over the same terms, of other sizes; nothing else differs.
    np.testing.assert_allclose(b.energy, a.energy, rtol=1e-11)
    np.testing.assert_allclose(b.forces, a.forces, atol=1e-10)

    def likelihood(factor):
        other = Scaled(kernel, amplitude=factor * amplitude)
        noise = factor * learned.noise_forces_
        return regressor(other, noise_forces=noise).fit(frames[:8])

    best = learned.log_marginal_likelihood_
    np.testing.assert_allclose(
        likelihood(1.0).log_marginal_likelihood_, best, rtol=1e-9
    )
    assert likelihood(0.9).log_marginal_likelihood_ < best
    assert likelihood(1.1).log_marginal_likelihood_ < best


@pytest.mark.parametrize(
    "given",
    [
        {"noise_forces": 0.1},
        {"kernel": Scaled(Matern52(length_scale=1.3), amplitude=2.0)},
        {"optimize": False},
    ],
    ids=str,
)
def test_an_amplitude_or_a_noise_that_is_given_is_kept(given):
    kernel = given.get("kernel", Matern52(length_scale=1.3))
    model = regressor(**{"kernel": kernel, **given}).fit(toy_frames(WATER, 5))
    assert repr(model.kernel_) == repr(kernel)
    if "noise_forces" in given:
        assert model.noise_forces_ == given["noise_forces"]


def test_without_a_noise_labels_are_reproduced():
    frames = toy_frames(WATER, 5)
    model = regressor().fit(frames)
    scale = np.std([f.get_forces() for f in frames])
    for forces, frame in zip(model.evaluate(frames).forces, frames, strict=True):
        # The noise is 1e-5 of the prior standard deviation.
        np.testing.assert_allclose(forces, frame.get_forces(), atol=1e-5 * scale)


def test_one_frame_with_a_given_length_scale():
    (frame,) = toy_frames(WATER, 1)
    model = regressor().fit([frame])
    predicted = model.evaluate([frame])
    scale = np.abs(frame.get_forces()).max()
    np.testing.assert_allclose(
        predicted.forces[0], frame.get_forces(), atol=1e-4 * scale
    )
    np.testing.assert_allclose(predicted.energy[0], frame.get_potential_energy())


def test_a_cell_twice_as_wide_is_no_cell():
    # The posterior does not depend on how rigid motions are taken out: in a cell only
    # translations are, yet these labels have no torque.
    frames = toy_frames(WATER, 10)
    cell = {"cell": [5.0] * 3, "pbc": True}  # nearest images are those of the molecule
    in_cell = [
        labelled(WATER, f.positions, f.get_potential_energy(), f.get_forces(), **cell)
        for f in frames
    ]
    free = regressor(noise_forces=0.05).fit(frames[:6]).evaluate(frames[6:])
    model = regressor(noise_forces=0.05).fit(in_cell[:6])
    assert model.molecule_.pbc.all()
    periodic = model.evaluate(in_cell[6:])
    np.testing.assert_allclose(periodic.energy, free.energy, atol=1e-10)
    np.testing.assert_allclose(periodic.forces, free.forces, atol=1e-10)


def test_two_fits_are_the_same():
    frames, queries = shaken("NH3", 12), shaken("NH3", 9, seed=1)
    a, b = (GDMLRegressor(seed=3).fit(frames) for _ in range(2))
    assert repr(a.kernel_) == repr(b.kernel_)
    assert a.constant_ == b.constant_
    assert a.log_marginal_likelihood_ == b.log_marginal_likelihood_
    np.testing.assert_array_equal(a.permutations_, b.permutations_)
    np.testing.assert_array_equal(a.expansion_.directions, b.expansion_.directions)
    np.testing.assert_array_equal(a.predict(queries), b.predict(queries))


def test_the_order_of_the_frames_does_not_matter():
    frames = toy_frames(WATER, 9)
    a = regressor(**NOISES["forces and energies"]).fit(frames[:6])
    b = regressor(**NOISES["forces and energies"]).fit(frames[:6][::-1])
    np.testing.assert_allclose(a.predict(frames), b.predict(frames), atol=1e-10)


def test_the_learned_length_scale_is_as_good_as_the_best(methanol, methanol_model):
    # The labels are converged CCSD(T); a grid in steps of √2 has no better entry by
    # more than the test error's own uncertainty with 60 frames.
    def error(model):
        p = np.array(model.evaluate(methanol[-60:]).forces)
        return np.abs(p - [f.get_forces() for f in methanol[-60:]]).mean()

    group = methanol_model.permutations_
    grid = [
        error(regressor(Matern52(length_scale=2.0**k), group).fit(methanol[:30]))
        for k in (2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7)
    ]
    assert error(methanol_model) < 1.05 * min(grid)


def test_copies_of_some_frames_do_not_spoil_the_length_scale(methanol):
    # A frame that is left out is predicted by its copy, however short the length scale.
    models = (
        GDMLRegressor(kernel=Matern52()).fit(frames)
        for frames in (methanol[:30] + methanol[:3], methanol[:30])
    )
    learned, expected = (np.log(m.kernel_.kernel.length_scale) for m in models)
    assert abs(learned - expected) < np.log(2.0)


def test_more_data_is_better_and_errors_are_those_of_the_method(
    methanol, methanol_model
):
    models = GDMLRegressor().fit(methanol[:10]), methanol_model
    scores = [model.score(methanol[-60:]) for model in models]
    # 30 frames of methanol are enough for an error of 5 % of the forces' spread.
    assert scores[0] < scores[1]
    assert scores[1] > 1 - 0.05**2


def test_frames_without_forces_are_left_out(caplog):
    frames = toy_frames(WATER, 6)
    unlabelled = Atoms(WATER, geometry(3, 77))
    energy_only = labelled(WATER, geometry(3, 78), energy=1.0)
    mixed = [*frames[:2], unlabelled, *frames[2:], energy_only]
    expected = regressor(noise_forces=0.05).fit(frames)
    with caplog.at_level(logging.WARNING, logger="kforce"):
        model = regressor(noise_forces=0.05).fit(mixed)
    assert "2 of 8 frames have no forces and are left out" in caplog.text
    assert model.training_.n_frames == 6
    np.testing.assert_array_equal(model.predict(frames), expected.predict(frames))


def test_forces_on_some_atoms_are_used_as_they_are():
    # The brute-force process with the rows of the missing components left out.
    frames = toy_frames(WATER, 6)
    kernel, group = Matern52(length_scale=1.3), symmetric_group(3, 2)
    x = [f.positions for f in frames]
    y = np.array([f.get_forces() for f in frames])
    y[1, 0] = y[4, [1, 2]] = np.nan
    used = np.isfinite(y).ravel()
    is_force = np.arange(60) % 10 < 9
    K = slow_covariance(x, x, kernel, group)[np.ix_(is_force, is_force)]
    A = K[np.ix_(used, used)] + 0.05**2 * np.eye(used.sum())
    expected = K[:, used] @ np.linalg.solve(A, y.ravel()[used])
    partial = [labelled(WATER, r, forces=f) for r, f in zip(x, y, strict=True)]
    model = regressor(kernel, group, noise_forces=0.05).fit(partial)
    predicted = np.ravel(model.evaluate(partial).forces)
    np.testing.assert_allclose(predicted, expected, atol=1e-10)
