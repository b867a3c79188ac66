"""Noises that frames and atoms bring with them, against a dense Gaussian process."""

import numpy as np
import pytest
from toys import (
    AMMONIA,
    WATER,
    labelled,
    morse,
    regressor,
    shaken,
    slow_covariance,
    symmetric_group,
    toy_frames,
)

from kforce import load
from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.errors import InputError
from kforce.gdml.regressor import GDMLRegressor
from kforce.kernels.stationary import Matern52
from kforce.labels import Labels
from kforce.storage.files import save
from kforce.structures import Batch

KERNEL = Matern52(length_scale=1.3)
MODES = {"forces": None, "energies too": 0.01}


def noisy(frames, forces=(), atoms=(), energies=()):
    """Copies of frames with noises by number: of forces, of atoms, of energies."""
    copies = []
    for s, frame in enumerate(frames):
        copy = frame.copy()
        copy.calc = frame.calc
        if s in forces:
            copy.info["noise_forces"] = forces[s]
        if s in atoms:
            copy.arrays["noise_forces"] = np.array(atoms[s], dtype=float)
        if s in energies:
            copy.info["noise_energy"] = energies[s]
        copies.append(copy)
    return copies


def slow_predictions(frames, queries, noise_forces, noise_energy, group):
    """A Gaussian process with one noise for each Cartesian component, all observed."""
    left, right = ([f.positions for f in fs] for fs in (frames, queries))
    n = 3 * len(left[0]) + 1
    K = slow_covariance(left, left, KERNEL, group)
    cross = slow_covariance(right, left, KERNEL, group)
    y, sigma = [], []
    mean = np.mean([f.get_potential_energy() for f in frames])
    for s, frame in enumerate(frames):
        y += [*frame.get_forces().ravel(), frame.get_potential_energy() - mean]
        sigma += [*np.repeat(noise_forces[s], 3), noise_energy[s] or np.inf]
    used = np.isfinite(sigma)
    C = K[np.ix_(used, used)] + np.diag(np.array(sigma)[used] ** 2)
    coef = np.linalg.solve(C, np.array(y)[used])
    found = (cross[:, used] @ coef).reshape(len(queries), n)
    prior = slow_covariance(right, right, KERNEL, group)
    variance = np.diag(
        prior - cross[:, used] @ np.linalg.solve(C, cross[:, used].T)
    ).reshape(len(queries), n)
    return found[:, -1] + mean, found[:, :-1], variance[:, :-1]


def compare(numbers, mode, **noises):
    frames, queries = toy_frames(numbers, 6), toy_frames(numbers, 3, seed=1)
    n = len(numbers)
    group = symmetric_group(n, n - 1)
    model = regressor(KERNEL, group, noise_forces=0.02, noise_energy=MODES[mode]).fit(
        noisy(frames, **noises)
    )
    by_frame, by_atom = noises.get("forces", {}), noises.get("atoms", {})
    noise_forces = np.array([np.full(n, by_frame.get(s, 0.02)) for s in range(6)])
    for s, values in by_atom.items():
        own = np.isfinite(values)
        noise_forces[s][own] = np.array(values)[own]
    noise_energy = np.zeros(6)
    if MODES[mode] is not None:
        own = noises.get("energies", {})
        noise_energy = [own.get(s, MODES[mode]) * np.sqrt(n) for s in range(6)]
    energy, forces, variance = slow_predictions(
        frames, queries, noise_forces, noise_energy, group
    )
    found = model.evaluate(queries, return_std=True)
    np.testing.assert_allclose(
        np.array(found.forces).reshape(3, -1), forces, rtol=0, atol=1e-8
    )
    std = np.array(found.forces_epistemic).reshape(3, -1)
    calibration = model.uncertainty_.calibration
    np.testing.assert_allclose(std**2, calibration**2 * variance, rtol=1e-6, atol=1e-10)
    if MODES[mode] is not None:
        np.testing.assert_allclose(found.energy, energy, rtol=0, atol=1e-8)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("numbers", [WATER, AMMONIA], ids=len)
def test_none(numbers, mode):
    compare(numbers, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("numbers", [WATER, AMMONIA], ids=len)
def test_noises_of_frames(numbers, mode):
    compare(numbers, mode, forces={0: 0.5, 3: 1e-3, 5: 0.1})


@pytest.mark.parametrize("mode", MODES)
def test_noises_of_atoms(mode):
    compare(AMMONIA, mode, atoms={1: [0.01, 0.5, 0.02, 0.03], 4: [1.0, 0.1, 0.1, 0.1]})


@pytest.mark.parametrize("mode", MODES)
def test_atoms_come_before_their_frame_and_this_before_the_model(mode):
    nan = np.nan
    atoms = {1: [nan, 0.5, nan, 0.03], 2: [0.3, nan, nan, nan], 3: [nan] * 4}
    compare(AMMONIA, mode, forces={1: 0.1, 4: 0.2}, atoms=atoms)


@pytest.mark.parametrize("atoms", [[0.3] * 4, [0.02] * 4, [0.02, 0.02, 0.02, np.nan]])
def test_atoms_of_equal_noise(atoms):
    compare(AMMONIA, "energies too", atoms={2: atoms})


def test_noises_of_energies():
    compare(WATER, "energies too", energies={0: 1e-3, 2: 1.0})


def test_everything_at_once():
    compare(
        AMMONIA,
        "energies too",
        forces={0: 0.5, 1: 0.1},
        atoms={1: [0.2, np.nan, 0.3, 0.4], 5: [1.0, 2.0, 3.0, 4.0]},
        energies={0: 0.1, 4: 1e-3},
    )


def test_missing_forces_beside_noises_of_atoms():
    # An atom without a force is one of endless noise.
    frames = toy_frames(AMMONIA, 6)
    without = noisy(frames)
    forces = frames[2].get_forces().copy()
    forces[1] = np.nan
    energy = frames[2].get_potential_energy()
    without[2] = labelled(AMMONIA, frames[2].positions, energy, forces)
    endless = noisy(frames, atoms={2: [np.nan, 1e5, np.nan, np.nan]})
    models = [regressor(KERNEL, noise_forces=0.02).fit(f) for f in (without, endless)]
    queries = toy_frames(AMMONIA, 3, seed=1)
    a, b = (model.evaluate(queries).forces for model in models)
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-7)


def test_saved_and_loaded_standard_deviations(tmp_path):
    frames = noisy(
        toy_frames(AMMONIA, 6), forces={0: 0.5}, atoms={1: [0.2, 0.1, 0.3, 0.4]}
    )
    model = regressor(KERNEL, noise_forces=0.02, noise_energy=0.01).fit(frames)
    queries = toy_frames(AMMONIA, 3, seed=1)
    expected = model.evaluate(queries, return_std=True)
    for with_factor in (False, True):
        model_file = tmp_path / f"{with_factor}.npz"
        save(model, model_file, with_factor)
        found = load(model_file).evaluate(queries, return_std=True)
        np.testing.assert_allclose(found.forces, expected.forces, atol=1e-12)
        np.testing.assert_allclose(found.energy_std, expected.energy_std, rtol=1e-6)
        np.testing.assert_allclose(found.forces_std, expected.forces_std, rtol=1e-6)


PRIORS = {
    "default": {},
    "internal coordinates": {"descriptor": InternalCoordinates()},
    "length scale": {"kernel": Matern52()},
    "length scale and noise": {"kernel": Matern52(), "noise_forces": 1e-3},
    "given": {"kernel": Matern52(length_scale=2.0), "noise_forces": 1e-3},
}


@pytest.mark.parametrize("prior", PRIORS)
def test_frames_that_say_that_they_are_noisy_do_no_harm(prior):
    rng = np.random.default_rng(0)
    frames, test = shaken("NH3", 25), shaken("NH3", 10, seed=1)
    spoilt = noisy(frames, forces=dict.fromkeys(range(2, 25, 5), 3.0))
    for s in range(2, 25, 5):
        energy, forces = morse(frames[s].positions, frames[s].numbers)
        forces = forces + rng.normal(scale=3.0, size=forces.shape)
        spoilt[s].calc = labelled(
            frames[s].numbers, frames[s].positions, energy, forces
        ).calc
    good = [frame for s, frame in enumerate(frames) if s % 5 != 2]
    wanted = np.array([f.get_forces() for f in test])

    def error(training):
        model = GDMLRegressor(permutations=None, **PRIORS[prior]).fit(training)
        return np.abs(np.array(model.evaluate(test).forces) - wanted).mean()

    # What is left out is learned from with the others: no more than a hundredth of the
    # noise gets through, however small the error was.
    assert error(spoilt) < 3.0 * error(good) + 1e-3


def test_given_noises_of_all_energies_are_noises_of_energies():
    # Energies that all bring a noise are fitted, as they are where it is learned.
    frames = noisy(shaken("H2O", 12), energies=dict.fromkeys(range(12), 1e-4))
    model = GDMLRegressor(descriptor=InternalCoordinates()).fit(frames)
    assert model.expansion_.weights is not None
    np.testing.assert_allclose(model.noise_energy_, 1e-4, rtol=1e-9)


def test_labels_hold_what_frames_bring():
    nan = np.nan
    frames = noisy(
        toy_frames(WATER, 3),
        forces={0: 0.5},
        atoms={0: [nan, 0.1, nan], 2: [nan, nan, 0.2]},
        energies={1: 0.3},
    )
    labels = Labels.from_frames(frames)
    np.testing.assert_array_equal(labels.noise_energy, [nan, 0.3, nan])
    expected = [[0.5, 0.1, 0.5], [nan] * 3, [nan, nan, 0.2]]
    np.testing.assert_array_equal(labels.noise_forces, expected)
    some = labels.take([2, 0])
    np.testing.assert_array_equal(some.noise_forces, [expected[2], expected[0]])
    np.testing.assert_array_equal(some.noise_energy, [nan, nan])
    none = Labels.from_frames(toy_frames(WATER, 3))
    assert none.noise_energy is None
    assert none.noise_forces is None
    assert none.noise_energy is none.noise_forces is None
    assert none.take([0]).noise_forces is None
    assert Batch.from_frames(frames).n_structures == 3


refused = [
    ({"forces": {1: -0.1}}, "noise_forces of frame 1 must be positive"),
    ({"forces": {1: 0.0}}, "noise_forces of frame 1 must be positive"),
    ({"forces": {0: np.inf}}, "noise_forces of frame 0 must be positive"),
    ({"forces": {2: [0.1, 0.2, 0.3]}}, r"noise_forces of frame 2 .* of shape \(\)"),
    ({"atoms": {1: [0.1, -0.1, 0.1]}}, "noise_forces of frame 1 must be positive"),
    ({"atoms": {1: np.ones((3, 3))}}, r"frame 1 must be .* of shape \(3,\), found"),
    ({"energies": {2: -1e-3}}, "noise_energy of frame 2 must be positive"),
    ({"energies": {0: 0}}, "noise_energy of frame 0 must be positive"),
]


@pytest.mark.parametrize(("noises", "match"), refused)
def test_what_is_no_noise(noises, match):
    with pytest.raises(InputError, match=match):
        GDMLRegressor().fit(noisy(toy_frames(WATER, 3), **noises))
