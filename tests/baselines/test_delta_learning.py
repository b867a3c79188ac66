"""Regressors that correct a baseline: calculators, models of a lower level, chains."""

import copy

import numpy as np
import pytest
from ase import units
from ase.calculators.lj import LennardJones
from baseline_calculators import Bad, Spring
from sklearn.base import clone
from toys import WATER, labelled, regressor, shaken

import kforce
from kforce.data.training import dataset_hash
from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.errors import InputError
from kforce.gdml.regressor import GDMLRegressor
from kforce.kernels.stationary import Matern52
from kforce.labels import Labels
from kforce.storage.files import save

STIFF = -0.3


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KFORCE_CACHE", str(tmp_path / "cache"))


def relabelled(frames, k=0.0, factor=1.0):
    """Frames whose labels are scaled, and have springs on top."""
    out = []
    for f in frames:
        energy = factor * f.get_potential_energy() + 0.5 * k * np.sum(f.positions**2)
        forces = factor * f.get_forces() - k * f.positions
        out.append(labelled(f.numbers, f.positions, energy, forces))
    return out


@pytest.fixture(scope="module")
def frames():
    return shaken("H2O", 20)


@pytest.fixture(scope="module")
def low(frames):
    """Of a lower level: all labels are a tenth smaller."""
    return fit(relabelled(frames[:12], factor=0.9))


def fit(frames, **kwargs):
    return regressor(noise_forces=0.01, noise_energy=1e-3, **kwargs).fit(frames)


def labels_of(frames):
    labels = Labels.from_frames(frames)
    return labels.energy, np.array(labels.forces)


def assert_same(found, wanted, **tolerance):
    tolerance = {"rtol": 0, "atol": 1e-10} | tolerance
    np.testing.assert_allclose(found.energy, wanted.energy, **tolerance)
    np.testing.assert_allclose(found.forces, wanted.forces, **tolerance)


def test_labels_minus_a_calculator_are_what_is_learned(frames):
    plain = fit(frames[:12])
    delta = fit(relabelled(frames[:12], STIFF), baseline=Spring(k=STIFF))
    test = frames[12:]
    found, below = delta.evaluate(test), plain.evaluate(test)
    r = np.array([f.positions for f in test])
    springs = 0.5 * STIFF * np.sum(r**2, axis=(1, 2))
    np.testing.assert_allclose(found.energy, below.energy + springs, atol=1e-9)
    np.testing.assert_allclose(
        found.forces, np.array(below.forces) - STIFF * r, atol=1e-9
    )
    # The baseline knows what it is: nothing of it is uncertain.
    a, b = (m.evaluate(test, return_std=True) for m in (delta, plain))
    np.testing.assert_allclose(a.energy_std, b.energy_std, rtol=1e-9)
    np.testing.assert_allclose(a.forces_std, b.forces_std, rtol=1e-9)


def test_a_perfect_baseline_leaves_nothing(frames, low):
    perfect = [labelled(f.numbers, f.positions) for f in frames]
    for f, e, g in zip(perfect, *evaluated(low, frames), strict=True):
        f.calc.results.update(energy=e, forces=g)
    model = fit(perfect[:12], baseline=low)
    assert_same(model.evaluate(frames), low.evaluate(frames), atol=1e-8)


def evaluated(model, frames):
    prediction = model.evaluate(frames)
    return prediction.energy, prediction.forces


def test_a_lower_level_is_corrected(frames, low):
    model, alone = fit(frames[:5], baseline=low), fit(frames[:5])
    energy, forces = labels_of(frames[12:])
    found, without = (m.evaluate(frames[12:]) for m in (model, alone))
    assert np.abs(found.forces - forces).mean() < np.abs(without.forces - forces).mean()
    assert np.abs(found.energy - energy).mean() < np.abs(without.energy - energy).mean()
    # Both levels from scratch: the correction of what is left.
    left = []
    for f, e, g in zip(frames[:5], *evaluated(low, frames[:5]), strict=True):
        energy, forces = f.get_potential_energy() - e, f.get_forces() - g
        left.append(labelled(f.numbers, f.positions, energy, forces))
    correction = fit(left).evaluate(frames)
    below = low.evaluate(frames)
    found = model.evaluate(frames)
    np.testing.assert_allclose(found.energy, correction.energy + below.energy)
    expected = np.array(correction.forces) + below.forces
    np.testing.assert_allclose(found.forces, expected, atol=1e-10)


def own_deviations(model, frames):
    return model.uncertainty_.deviations(model._features(frames))


def test_standard_deviations_of_both_levels_add_in_squares(frames, low):
    model = fit(frames[:5], baseline=low)
    test = frames[10:]
    found = model.evaluate(test, return_std=True)
    energy, forces = own_deviations(model, test)
    below = low.evaluate(test, return_std=True)
    expected = np.hypot(energy, below.energy_epistemic)
    np.testing.assert_allclose(found.energy_epistemic, expected, rtol=1e-12)
    expected = np.hypot(forces, below.forces_epistemic)
    np.testing.assert_allclose(found.forces_epistemic, expected, rtol=1e-12)
    assert (found.energy_epistemic >= energy).all()
    # The noise of labels is that of the upper level, once.
    np.testing.assert_allclose(
        found.forces_std, np.hypot(found.forces_epistemic, 0.01), rtol=1e-12
    )
    np.testing.assert_allclose(
        found.energy_std,
        np.hypot(found.energy_epistemic, 1e-3 * np.sqrt(3)),
        rtol=1e-12,
    )
    C = model.energy_covariance(test)
    np.testing.assert_allclose(np.sqrt(np.diag(C)), found.energy_epistemic, rtol=1e-6)
    blocks = np.array(model.forces_covariance(test))
    std = np.sqrt(np.einsum("srr->sr", blocks)).reshape(-1, 3, 3)
    np.testing.assert_allclose(std, found.forces_epistemic, rtol=1e-6, atol=1e-9)
    alone = model.evaluate(test, ("energy",), return_std=True)
    np.testing.assert_allclose(alone.energy_std, found.energy_std, rtol=1e-6)
    assert alone.forces is None


def test_a_chain_of_levels(frames, low):
    middle = fit(relabelled(frames[:8], factor=0.95), baseline=low)
    top = fit(relabelled(frames[:5], STIFF), baseline=[middle, Spring(k=STIFF)])
    test = frames[10:]
    found = top.evaluate(test, return_std=True)
    squares = sum(own_deviations(m, test)[0] ** 2 for m in (low, middle, top))
    np.testing.assert_allclose(found.energy_epistemic**2, squares, rtol=1e-10)
    energy, forces = labels_of(relabelled(test, STIFF))
    assert np.abs(found.forces - forces).mean() < 0.2 * np.abs(forces).mean()
    assert np.corrcoef(found.energy, energy)[0, 1] > 0.9


def test_a_level_without_variance(frames, low):
    silent = copy.copy(low)._restore(uncertainty_=None)
    model = fit(frames[:5], baseline=silent)
    model.evaluate(frames)
    with pytest.raises(InputError, match="no predictive variance"):
        model.evaluate(frames, return_std=True)


@pytest.mark.parametrize("with_factor", [False, True])
def test_saved_and_loaded(frames, low, tmp_path, with_factor):
    middle = fit(relabelled(frames[:8], factor=0.95), baseline=low)
    lj = LennardJones(sigma=1.0, epsilon=1e-5)
    for baseline in (lj, low, middle, [lj, middle, low]):
        model = fit(frames[:6], baseline=baseline)
        save(model, tmp_path / "model.npz", with_factor)
        again = kforce.load(tmp_path / "model.npz")
        a, b = (m.evaluate(frames, return_std=True) for m in (model, again))
        assert_same(b, a, atol=1e-12)
        np.testing.assert_allclose(b.energy_std, a.energy_std, rtol=1e-6)
        np.testing.assert_allclose(b.forces_std, a.forces_std, rtol=1e-6)
        # It is a model like others: it can be saved again, and be a baseline.
        again.save(tmp_path / "again.npz")
        assert_same(kforce.load(tmp_path / "again.npz").evaluate(frames), a, atol=1e-12)
        assert_same(
            fit(frames[:6], baseline=again).evaluate(frames),
            fit(frames[:6], baseline=model).evaluate(frames),
            atol=1e-9,
        )


def test_learned_scales_above_and_below(methanol, tmp_path):
    below = GDMLRegressor(descriptor=InternalCoordinates()).fit(methanol[:5])
    kwargs = {"descriptor": InternalCoordinates(), "kernel": Matern52()}
    model = GDMLRegressor(**kwargs, baseline=below).fit(methanol[8:14])
    model.save(tmp_path / "model.npz")
    again = kforce.load(tmp_path / "model.npz")
    a, b = (m.evaluate(methanol[-5:], return_std=True) for m in (model, again))
    assert_same(b, a, atol=1e-9)
    np.testing.assert_allclose(b.energy_std, a.energy_std, rtol=1e-4)


def test_a_calculator_that_no_file_describes_is_given_again(frames, tmp_path):
    model = fit(relabelled(frames[:6], STIFF), baseline=Spring(k=STIFF))
    path = tmp_path / "model.npz"
    model.save(path)
    with pytest.raises(InputError, match=r"Spring cannot be built from a file: give"):
        kforce.load(path)
    again = kforce.load(path, baseline=Spring(k=STIFF))
    assert_same(again.evaluate(frames), model.evaluate(frames), atol=1e-12)
    # Another one has its own result: the file does not know better.
    other = kforce.load(path, baseline=Spring(k=0.0)).evaluate(frames).energy
    r = np.array([f.positions for f in frames])
    expected = model.predict(frames) - 0.5 * STIFF * np.sum(r**2, axis=(1, 2))
    np.testing.assert_allclose(other, expected, atol=1e-10)


def test_such_a_calculator_below_another_level(frames, tmp_path):
    lower = fit(relabelled(frames[:8], STIFF), baseline=Spring(k=STIFF))
    model = fit(relabelled(frames[:6], STIFF), baseline=lower)
    path = tmp_path / "model.npz"
    model.save(path)
    # No damage: the whole baseline is to be given.
    with pytest.raises(InputError, match=r"^The baseline .*Spring cannot be built"):
        kforce.load(path)
    again = kforce.load(path, baseline=lower)
    assert_same(again.evaluate(frames), model.evaluate(frames), atol=1e-12)


def test_a_model_without_baseline_takes_none_from_a_file(frames, tmp_path):
    model = fit(frames[:6])
    model.save(tmp_path / "model.npz")
    assert kforce.load(tmp_path / "model.npz").baseline_ is None


def test_clones_keep_a_fitted_baseline(frames, low):
    for baseline in (low, Spring(k=STIFF), [low, Spring(k=STIFF)]):
        model = regressor(noise_forces=0.01, baseline=baseline)
        copied = clone(model)
        assert copied.baseline is baseline
        assert not hasattr(copied, "expansion_")
        assert copied.get_params()["noise_forces"] == 0.01
        a, b = (m.fit(relabelled(frames[:6], STIFF)) for m in (model, copied))
        assert_same(b.evaluate(frames), a.evaluate(frames))
    # The kernel is a copy, and can be set without harm.
    copied = clone(regressor(baseline=low))
    copied.set_params(kernel__length_scale=9.0)
    assert low.kernel.length_scale == 1.3


def test_fitting_leaves_the_baseline_alone(frames, low):
    before = evaluated(low, frames)
    fit(frames[:6], baseline=low)
    for a, b in zip(evaluated(low, frames), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("std", [False, True])
def test_the_calculator_includes_the_baseline(frames, low, std):
    model = fit(relabelled(frames[:6], STIFF), baseline=[low, Spring(k=STIFF)])
    calculator = model.calculator(std=std)
    expected = model.evaluate(frames[:3], return_std=True)
    for s, frame in enumerate(frames[:3]):
        atoms = frame.copy()
        atoms.calc = calculator
        energy = atoms.get_potential_energy()
        np.testing.assert_allclose(energy, expected.energy[s], atol=1e-10)
        np.testing.assert_allclose(atoms.get_forces(), expected.forces[s], atol=1e-10)
        if std:
            found = calculator.results["energy_std"]
            np.testing.assert_allclose(found, expected.energy_std[s], rtol=1e-6)
            found = calculator.results["forces_std"]
            np.testing.assert_allclose(found, expected.forces_std[s], rtol=1e-6)


class Converted(Spring):
    """Forces of the frames it was made of, in other units."""

    def __init__(self, frames, factor):
        super().__init__()
        self.known, self.factor = frames, factor

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        distances = [np.abs(f.positions - self.atoms.positions) for f in self.known]
        frame = self.known[int(np.argmin([d.max() for d in distances]))]
        energy, forces = frame.get_potential_energy(), frame.get_forces()
        self.results = {"energy": energy * self.factor, "forces": forces * self.factor}


@pytest.mark.parametrize(
    ("factor", "unit"),
    [
        (units.mol / units.kcal, "kcal/mol/Å"),
        (units.Bohr / units.Hartree, "Hartree/Bohr"),
    ],
)
def test_a_baseline_in_other_units(frames, factor, unit):
    baseline = Converted(frames, factor)
    with pytest.raises(InputError, match=f"baseline gives them in {unit}"):
        fit(frames[:6], baseline=baseline)


def test_a_baseline_that_only_makes_it_worse(frames):
    with pytest.warns(UserWarning, match="check that it is meant for these"):
        fit(frames[:6], baseline=Spring(k=50.0))


@pytest.mark.parametrize("what", ["energy", "forces"])
def test_a_baseline_of_nan(frames, what):
    def spoil(results):
        results[what] = results[what] * np.nan

    with pytest.raises(InputError, match=r"Bad at frame 2 .* found NaN or infinity"):
        fit(frames[:6], baseline=Bad(spoil, after=3))


def test_a_baseline_of_another_molecule(low):
    with pytest.raises(InputError, match="The baseline GDMLRegressor refuses"):
        fit(shaken("NH3", 5), baseline=low)
    assert low.molecule_.numbers.tolist() == WATER


def test_the_record_is_of_the_labels_and_not_of_the_corrections(frames, low):
    model = fit(frames[:5], baseline=low)
    assert model.training_.hash == dataset_hash(frames[:5])


def test_frames_that_miss_labels(frames, low):
    # What is left out of the labels is left out, whatever the baseline gives there.
    partial = relabelled(frames[:8])
    partial[1].calc.results["forces"][0] = np.nan
    del partial[2].calc.results["energy"]
    del partial[3].calc.results["forces"]
    model = fit(partial, baseline=low)
    left = []
    for f, e, g in zip(partial, *evaluated(low, frames[:8]), strict=True):
        known = f.calc.results
        left.append(
            labelled(
                f.numbers,
                f.positions,
                known["energy"] - e if "energy" in known else None,
                known["forces"] - g if "forces" in known else None,
            )
        )
    correction = fit(left)
    found = model.predict(frames) - low.predict(frames)
    np.testing.assert_allclose(found, correction.predict(frames), atol=1e-9)
