"""Which descriptor, kernel and noises a fit takes where they are not given."""

import logging
import re

import numpy as np
import pytest
from ase import Atoms
from toys import assert_second_order, labelled, morse, shaken, symmetric_group

from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.errors import InputError
from kforce.gdml.leave_one_out import Score
from kforce.gdml.model_selection import _compare
from kforce.gdml.regressor import GDMLRegressor
from kforce.kernels.base import Scaled, Sum
from kforce.kernels.stationary import RBF, Matern52, Matern72
from kforce.solvers.cholesky import LeftOut

GROUP = symmetric_group(3, 2)
CHOICE = re.compile(
    r"(\d+) structures left out in turn: internal coordinates with learned scales have "
    r"a force error of (\S+) eV/Å and 95 % intervals that cover (\d+) %, inverse "
    r"distances with one scale (\S+) eV/Å and (\d+) %; (.*) are kept: (.*)"
)


def fit(frames, **kwargs):
    return GDMLRegressor(**{"permutations": GROUP} | kwargs).fit(frames)


def force_error(model, frames):
    wanted = np.array([f.get_forces() for f in frames])
    return np.abs(np.array(model.evaluate(frames).forces) - wanted).mean()


def learns_scales(model):
    return isinstance(model.descriptor_, InternalCoordinates) and isinstance(
        model.kernel_.unscaled, Sum
    )


def is_plain(model):
    return isinstance(model.descriptor_, InverseDistances) and not isinstance(
        model.kernel_.unscaled, Sum
    )


@pytest.fixture(scope="module")
def default(methanol):
    """What is kept on methanol, and what the fit says of it."""
    logger, handler, records = logging.getLogger("kforce.choice"), logging.Handler(), []
    handler.emit = records.append
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel("INFO")
    model = GDMLRegressor().fit(methanol[:14])
    logger.setLevel(level)
    logger.removeHandler(handler)
    return model, records


@pytest.fixture(scope="module")
def both(methanol, default):
    """What is kept on methanol, and what is not."""
    frames = methanol[:14]
    return {
        "default": default[0],
        "scales": GDMLRegressor(descriptor=InternalCoordinates()).fit(frames),
        "plain": GDMLRegressor(descriptor=InverseDistances()).fit(frames),
    }


def test_the_better_one_is_kept(both, methanol):
    errors = {name: force_error(m, methanol[-40:]) for name, m in both.items()}
    assert learns_scales(both["default"])
    assert learns_scales(both["scales"])
    assert is_plain(both["plain"])
    assert errors["default"] < 0.5 * errors["plain"]
    np.testing.assert_allclose(errors["default"], errors["scales"], rtol=0.05)


def said(records):
    texts = [r.getMessage() for r in records if r.name == "kforce.choice"]
    (text,) = texts
    count, error, coverage, other_error, other_coverage, kept, reason = CHOICE.search(
        text
    ).groups()
    assert min(int(coverage), int(other_coverage)) > 70
    keeps_scales = kept == "internal coordinates"
    if reason == "their error is lower":
        assert keeps_scales == (float(error) < float(other_error))
    return int(count), float(error), float(other_error), keeps_scales


def scored(errors, variance=1.0, density=0.0):
    """What a kernel of these errors of structures with one force component scores."""
    covariances = [np.array([[v]]) for v in np.broadcast_to(variance, np.shape(errors))]
    return Score(Matern52(1.0), density, LeftOut(list(errors[:, None]), covariances))


def test_the_lower_error_wins():
    errors = np.random.default_rng(0).normal(size=40)
    first, second = scored(errors), scored(1.5 * errors, density=9.0)
    for pair, expected in (((first, second), True), ((second, first), False)):
        is_first, reason = _compare(*pair, np.arange(40))
        assert is_first == expected
        assert reason == "their error is lower"


def test_a_difference_within_its_error_says_nothing():
    rng = np.random.default_rng(1)
    errors = rng.normal(size=(2, 40))
    dense, thin = scored(errors[0], density=2.0), scored(errors[1], density=1.0)
    for pair, expected in (((dense, thin), True), ((thin, dense), False)):
        is_first, reason = _compare(*pair, np.arange(40))
        assert is_first == expected
        assert reason.startswith("their density is higher")


def test_intervals_that_do_not_hold_lose():
    # Deviations that are small where the errors are large cover too few of them.
    errors = np.random.default_rng(2).normal(size=200)
    sizes = np.where(np.abs(errors) > 1.0, 0.01, 3.0)
    wrong, honest = scored(errors, sizes), scored(1.3 * errors)
    assert wrong.coverage_of(np.arange(200)) < 0.88 < honest.coverage_of(np.arange(200))
    is_first, reason = _compare(wrong, honest, np.arange(200))
    assert not is_first
    assert reason.startswith("their error is not lower")
    # Only the structures that are asked for count.
    assert _compare(wrong, honest, np.flatnonzero(np.abs(errors) < 1.0))[0]


def test_a_singular_covariance_loses():
    found, lost = scored(np.ones(10)), Score(Matern52(1.0), -np.inf, None)
    assert _compare(found, lost, np.arange(10))[0]
    assert not _compare(lost, found, np.arange(10))[0]
    assert np.isinf(lost.errors_of(np.arange(10))).all()
    assert lost.coverage_of(np.arange(10)) == 0.0


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", ["H2O", "H2O2"])
def test_what_is_kept_is_what_is_said(name, seed, caplog):
    frames = shaken(name, 14, seed=seed)
    with caplog.at_level("INFO", logger="kforce.choice"):
        model = fit(frames, permutations=None, seed=seed)
    count, _, _, keeps_scales = said(caplog.records)
    assert count == 14
    assert learns_scales(model) == keeps_scales
    assert is_plain(model) != keeps_scales


def test_errors_that_are_said_are_those_of_left_out_structures(default, methanol):
    model, records = default
    count, first, second, keeps_scales = said(records)
    assert (count, keeps_scales) == (14, True)
    assert first < second
    # Forces of new structures are off by as much, to within a factor.
    assert 0.3 < first / force_error(model, methanol[-40:]) < 3.0


def nothing_to_say(caplog):
    return not [r for r in caplog.records if r.name == "kforce.choice"]


given = {
    "kernel": ({"kernel": Matern52()}, is_plain, Matern52),
    "length scale": ({"kernel": RBF(length_scale=2.0)}, is_plain, RBF),
    "distances": ({"descriptor": InverseDistances()}, is_plain, (Matern52, Matern72)),
    "amplitude": ({"kernel": Scaled(Matern72(), amplitude=2.0)}, is_plain, Matern72),
    "nothing learned": ({"kernel": Matern52(), "optimize": False}, is_plain, Matern52),
    "no kernel": ({"optimize": False}, is_plain, (Matern52, Matern72)),
    "coordinates": ({"descriptor": InternalCoordinates()}, learns_scales, Sum),
    "bonds": (
        {"descriptor": InternalCoordinates([(0, 1), (0, 2)])},
        learns_scales,
        Sum,
    ),
    "both": (
        {"descriptor": InternalCoordinates(), "kernel": RBF()},
        learns_scales,
        Sum,
    ),
}


@pytest.mark.parametrize("name", given)
def test_what_is_given_is_not_compared(name, caplog):
    parameters, expected, kind = given[name]
    with caplog.at_level("INFO", logger="kforce.choice"):
        model = fit(shaken("H2O", 12), **parameters)
    assert nothing_to_say(caplog)
    assert expected(model)
    assert isinstance(model.kernel_.unscaled, kind)
    assert force_error(model, shaken("H2O", 5, seed=1)) < 0.1
    # Parameters stay as they were given.
    for key, value in parameters.items():
        assert getattr(model, key) is value
    descriptor = parameters.get("descriptor")
    if isinstance(descriptor, InternalCoordinates):
        assert model.descriptor_.bonds is not None


def test_a_profile_that_is_given_is_kept():
    model = fit(
        shaken("H2O", 12), descriptor=InternalCoordinates(), kernel=RBF(length_scale=2)
    )
    profile = model.kernel_.kernel.kernel
    assert isinstance(profile, RBF)
    assert profile.length_scale == 2


unusual = {
    "amplitude": {"kernel": Scaled(Matern52(length_scale=1.0), amplitude=2.0)},
    "nothing learned": {"kernel": Matern52(length_scale=1.0), "optimize": False},
    "a sum": {"kernel": Sum(Matern52(length_scale=1.0), np.ones((1, 10)))},
    "a sum and a noise": {
        "kernel": Sum(Matern52(length_scale=1.0), np.ones((1, 10))),
        "noise_forces": 1e-3,
    },
}


@pytest.mark.parametrize("name", unusual)
def test_internal_coordinates_without_learned_scales(name):
    parameters = unusual[name]
    model = fit(shaken("H2O", 12), descriptor=InternalCoordinates(), **parameters)
    assert model.descriptor_.bonds == ((0, 1), (0, 2))
    inner = model.kernel_.unscaled
    assert type(inner) is type(parameters["kernel"].unscaled)
    if name == "amplitude":
        assert model.kernel_.amplitude == 2.0
    if name == "nothing learned":
        assert model.kernel_.length_scale == 1.0
    assert force_error(model, shaken("H2O", 5, seed=1)) < 0.1


@pytest.mark.parametrize("noise", [None, 1e-3])
def test_a_sum_over_inverse_distances(noise):
    kernel = Sum(Matern52(length_scale=1.0), np.eye(3) + 0.1)
    model = fit(shaken("H2O", 12), kernel=kernel, noise_forces=noise)
    assert is_plain(model) is False
    np.testing.assert_array_equal(model.kernel_.unscaled.scales, kernel.scales)
    assert force_error(model, shaken("H2O", 5, seed=1)) < 0.3


@pytest.mark.parametrize("n_frames", [2, 9, 10])
def test_few_frames_are_plain(n_frames, caplog):
    with caplog.at_level("INFO", logger="kforce.choice"):
        model = fit(shaken("H2O", n_frames))
    assert nothing_to_say(caplog) == (n_frames < 10)
    if n_frames < 10:
        assert is_plain(model)
        assert model.noise_energy_ is None


def test_periodic_frames_are_plain(caplog):
    frames = [
        labelled(
            f.numbers, f.positions, forces=f.get_forces(), cell=[4.0] * 3, pbc=True
        )
        for f in shaken("H2O", 12)
    ]
    with caplog.at_level("INFO", logger="kforce.choice"):
        model = fit(frames)
    assert is_plain(model)
    assert [r.getMessage() for r in caplog.records if r.name == "kforce.choice"] == [
        "the training frames are taken as periodic: periodic images in frame 0 are "
        "2.55 Å apart, less than the 5 Å of vacuum around a molecule"
    ]
    with pytest.raises(InputError, match="InternalCoordinates are for molecules"):
        fit(frames, descriptor=InternalCoordinates())


@pytest.mark.parametrize("descriptor", [None, InternalCoordinates()], ids=str)
@pytest.mark.parametrize("n_energies", [0, 1, 7])
def test_energies_of_some_frames(n_energies, descriptor):
    frames = shaken("H2O", 14)
    for frame in frames[n_energies:]:
        del frame.calc.results["energy"]
    model = fit(frames, descriptor=descriptor)
    test = shaken("H2O", 6, seed=1)
    assert force_error(model, test) < 0.05
    if learns_scales(model):
        # One energy is the constant; only more of them say anything.
        assert (model.noise_energy_ is not None) == (n_energies > 1)
    wanted = [f.get_potential_energy() for f in test]
    if n_energies:
        np.testing.assert_allclose(model.predict(test), wanted, atol=0.02)
    else:
        error = model.predict(test) - wanted
        assert np.std(error) < 0.02


@pytest.mark.parametrize("descriptor", [None, InternalCoordinates()], ids=str)
def test_forces_of_some_atoms(descriptor):
    frames = shaken("H2O", 20)
    for s in (1, 4, 11):
        frames[s].calc.results["forces"][s % 3] = np.nan
    model = fit(frames, descriptor=descriptor)
    assert force_error(model, shaken("H2O", 6, seed=1)) < 0.05


def test_noises_that_are_given_are_in_use():
    frames = shaken("H2O", 14)
    model = fit(frames, noise_forces=0.01, noise_energy=0.002)
    assert model.noise_forces_ == 0.01
    assert model.noise_energy_ == 0.002
    assert model.expansion_.weights is not None


@pytest.mark.parametrize("descriptor", [None, InternalCoordinates()], ids=str)
@pytest.mark.parametrize("energies", [False, True])
def test_forces_of_zero(descriptor, energies):
    frames = [
        labelled(f.numbers, f.positions, 1.0 if energies else None, np.zeros((3, 3)))
        for f in shaken("H2O", 12)
    ]
    with pytest.raises(InputError, match="All forces are zero, and nothing can be lea"):
        fit(frames, descriptor=descriptor)


@pytest.mark.parametrize("descriptor", [None, InternalCoordinates()], ids=str)
def test_copies_of_one_frame(descriptor):
    with pytest.raises(InputError, match="two different structures"):
        fit(shaken("H2O", 1) * 12, descriptor=descriptor)


def broken(name, atom):
    """Frames in one of which a hydrogen leaves the atom 0."""
    frames = shaken(name, 20)
    positions = frames[7].positions.copy()
    positions[atom] += 1.2 * (positions[atom] - positions[0])
    numbers = frames[7].numbers
    frames[7] = labelled(numbers, positions, *morse(positions, numbers))
    return frames


@pytest.mark.parametrize("descriptor", [None, InternalCoordinates()], ids=str)
@pytest.mark.parametrize("name", ["H2O", "NH3"])
def test_a_bond_that_breaks_takes_its_images_with_it(name, descriptor):
    n = len(shaken(name, 1)[0])
    group = symmetric_group(n, n - 1)
    model = fit(broken(name, 1), permutations=group, descriptor=descriptor)
    if isinstance(model.descriptor_, InternalCoordinates):
        assert model.descriptor_.bonds == tuple((0, h) for h in range(1, n))
        assert None not in model.descriptor_.switches
    test = shaken(name, 5, seed=1)
    assert force_error(model, test) < 0.1
    for p in group:
        permuted = [labelled(f.numbers, f.positions[p]) for f in test]
        np.testing.assert_allclose(model.predict(permuted), model.predict(test))


def test_bonds_must_respect_the_permutations():
    with pytest.raises(InputError, match="symmetric under the permutations"):
        fit(shaken("H2O", 12), descriptor=InternalCoordinates([(0, 1)]))


@pytest.mark.filterwarnings("ignore:The energies miss")
def test_a_noise_of_energies_does_not_spoil_the_choice(caplog):
    # Energies that mean nothing, and say so, do not count in the comparison either.
    rng = np.random.default_rng(2)
    frames, scrambled = shaken("H2O2", 14), []
    for f in frames:
        energy = f.get_potential_energy() + rng.normal(scale=5.0)
        scrambled.append(labelled(f.numbers, f.positions, energy, f.get_forces()))
    scores = []
    for training in (frames, scrambled):
        caplog.clear()
        with caplog.at_level("INFO", logger="kforce.choice"):
            fit(
                training,
                permutations=None,
                noise_forces=1e-3,
                noise_energy=1e3,
            )
        scores.append(said(caplog.records)[1:])
    np.testing.assert_allclose(scores[1][0], scores[0][0], rtol=0.05)
    assert scores[1][2] == scores[0][2]


def test_forces_are_minus_the_gradient_of_the_energy(both, methanol):
    atoms = methanol[-1]
    direction = np.random.default_rng(3).normal(size=atoms.positions.shape)
    direction /= np.linalg.norm(direction)
    for model in both.values():

        def energy(positions, model=model):
            return model.predict([Atoms(atoms.numbers, positions)])[0]

        slope = -np.sum(model.evaluate([atoms]).forces[0] * direction)
        # Energies are differences of large numbers: rounding limits the step.
        step = {"step": 0.03, "digits": 1e-3}
        assert_second_order(energy, slope, atoms.positions, direction, **step)


def test_one_structure_is_evaluated_as_many(both, methanol):
    for model in both.values():
        expected = model.evaluate(methanol[-3:])
        for s, atoms in enumerate(methanol[-3:]):
            energy, forces, _ = model.evaluate_one(atoms)
            # Energies are differences of large numbers.
            np.testing.assert_allclose(energy, expected.energy[s], rtol=0, atol=1e-7)
            np.testing.assert_allclose(forces, expected.forces[s], rtol=0, atol=1e-7)
