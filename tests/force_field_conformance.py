"""What scikit-learn, ASE and their users take for granted of every force field.

The test of a force field subclasses `ForceFieldConformance`.
"""

import copy
import pickle
from functools import cache

import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils import get_tags

import kforce
from kforce.baselines.baseline import as_baseline
from kforce.errors import InputError

DUPLICATES = pytest.mark.parametrize(
    "duplicate",
    [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy],
    ids=["pickle", "deepcopy"],
)


def close(found, expected, atol=1e-9):
    """Energies and forces of two predictions agree."""
    np.testing.assert_allclose(found.energy, expected.energy, rtol=1e-9, atol=atol)
    for a, b in zip(found.forces, expected.forces, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=10 * atol)


def above(frames, below):
    """The frames with what their energies and forces are above a prediction."""
    differences = []
    for s, frame in enumerate(frames):
        atoms = frame.copy()
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=frame.get_potential_energy() - below.energy[s],
            forces=frame.get_forces() - below.forces[s],
        )
        differences.append(atoms)
    return differences


@cache
def fitted(test):
    """The model that the tests of a class share."""
    return test().regressor().fit(test().frames(6))


class ForceFieldConformance:
    """Subclasses are made of one regressor and frames that it can be fitted to."""

    #: Parameters for `GridSearchCV`: a name, a poor value and a good one.
    grid = ()

    def regressor(self, **parameters):
        """An unfitted model that learns no hyper-parameters."""
        raise NotImplementedError

    def open_regressor(self):
        """One that learns them, with arrays or dicts among its parameters."""
        raise NotImplementedError

    def frames(self, n, seed=0):
        """Frames with energies and forces, without stress."""
        raise NotImplementedError

    def cheap(self):
        """A calculator of ASE for a baseline, stiff enough to be noticed."""
        raise NotImplementedError

    @pytest.fixture
    def model(self):
        return fitted(type(self))

    @pytest.fixture
    def new(self):
        return self.frames(3, seed=90)

    def test_a_clone_is_unfitted_and_apart(self, model):
        twin = clone(model)
        assert repr(twin) == repr(model)
        assert not [name for name in vars(twin) if name.endswith("_")]
        assert twin.get_params(deep=False).keys() == model.get_params(deep=False).keys()
        assert get_tags(twin).estimator_type == "regressor"

    def test_parameters_are_set_by_name(self):
        model = self.regressor()
        assert model.set_params(seed=7) is model
        assert model.get_params()["seed"] == 7
        with pytest.raises(ValueError, match="Invalid parameter"):
            model.set_params(sedd=7)

    def test_fit_returns_self_and_leaves_parameters_and_frames_alone(self):
        frames = self.frames(6)
        for frame in frames:
            frame.info["note"] = "a"
        before = [
            (f.positions.copy(), {k: np.copy(v) for k, v in f.calc.results.items()})
            for f in frames
        ]
        model = self.open_regressor()
        text, parameters = repr(model), model.get_params()
        assert model.fit(frames) is model
        model.score(frames)
        assert repr(model) == text
        after = model.get_params()
        assert all(after[name] is value for name, value in parameters.items())
        for frame, (positions, results) in zip(frames, before, strict=True):
            np.testing.assert_array_equal(frame.positions, positions)
            assert frame.info == {"note": "a"}
            for name, value in results.items():
                np.testing.assert_array_equal(frame.calc.results[name], value)

    def test_refitting_forgets_the_first_fit(self, new):
        frames, others = self.frames(6), self.frames(5, seed=1)
        model = self.open_regressor().fit(others)
        first = model.fit(frames).predict(new)
        np.testing.assert_array_equal(model.fit(frames).predict(new), first)
        np.testing.assert_array_equal(clone(model).fit(frames).predict(new), first)

    def test_later_changes_of_the_frames_do_not_reach_the_model(self, new):
        frames = self.frames(6)
        model = self.regressor().fit(frames)
        before = model.predict(new)
        for frame in frames:
            frame.positions[:] = 0.0
            frame.numbers[:] = 1
        np.testing.assert_array_equal(model.predict(new), before)

    @pytest.mark.parametrize(
        "use",
        [
            lambda m, f: m.predict(f),
            lambda m, f: m.evaluate(f),
            lambda m, f: m.score(f),
            lambda m, f: m.energy_covariance(f),
            lambda m, f: m.forces_covariance(f),
            lambda m, f: m.calculator(),
            lambda m, f: m.save("nowhere.npz"),
        ],
    )
    def test_a_model_must_be_fitted_first(self, new, use):
        with pytest.raises(NotFittedError):
            use(self.regressor(), new)

    @pytest.mark.parametrize("method", ["fit", "predict", "evaluate", "score"])
    def test_one_structure_is_no_list(self, model, new, method):
        with pytest.raises(InputError, match=r"found a single Atoms: write \[atoms\]"):
            getattr(model, method)(new[0])

    @DUPLICATES
    @pytest.mark.parametrize("used_before", [False, True])
    def test_copies(self, new, used_before, duplicate):
        model = self.regressor().fit(self.frames(6))
        if used_before:
            model.predict(new, return_std=True)
        again = duplicate(model)
        found, expected = (m.predict(new, return_std=True) for m in (again, model))
        np.testing.assert_array_equal(found, expected)

    def test_cross_validation(self):
        frames = self.frames(9)
        scores = cross_val_score(self.regressor(), frames, cv=3)
        by_hand = self.regressor().fit(frames[3:]).score(frames[:3])
        assert scores.shape == (3,)
        np.testing.assert_allclose(scores[0], by_hand, rtol=1e-9)

    def test_grid_search(self, new):
        name, poor, good = self.grid
        search = GridSearchCV(self.regressor(), {name: [poor, good]}, cv=3)
        search.fit(self.frames(12))
        assert repr(search.best_params_[name]) == repr(good)
        assert search.predict(new).shape == (len(new),)

    def test_the_score_is_r2_of_all_force_components(self, model, new):
        forces = np.concatenate([f.get_forces() for f in new])
        errors = np.concatenate(model.evaluate(new).forces) - forces
        expected = 1.0 - np.sum(errors**2) / np.sum((forces - forces.mean()) ** 2)
        np.testing.assert_allclose(model.score(new), expected, rtol=1e-9)

    def test_what_is_asked_for(self, model, new):
        found = model.evaluate(new, "energy")
        assert found.forces is found.stress is found.energy_std is None
        np.testing.assert_array_equal(model.predict(new), found.energy)
        np.testing.assert_allclose(found.energy, model.evaluate(new).energy)
        with pytest.raises(InputError, match=r"predicts 'energy'.*, not 'dipole'"):
            model.evaluate(new, ("energy", "dipole"))

    def test_chunks_do_not_matter(self, model, new, monkeypatch):
        whole = model.evaluate(new, return_std=True)
        monkeypatch.setattr("kforce.force_field.CHUNK_ATOMS", len(new[0]))
        parts = model.evaluate(new, return_std=True)
        close(parts, whole)
        np.testing.assert_allclose(parts.energy_std, whole.energy_std, rtol=1e-5)

    def test_standard_deviations_have_two_parts(self, model, new):
        p = model.evaluate(new, return_std=True)
        close(p, model.evaluate(new))
        assert (p.energy_epistemic > 0.0).all()
        size = np.array([len(f) for f in new])
        noise = np.sqrt((p.energy_std**2 - p.energy_epistemic**2) / size)
        np.testing.assert_allclose(noise, noise[0], rtol=1e-6, atol=1e-9)
        for total, part in zip(p.forces_std, p.forces_epistemic, strict=True):
            noise = np.sqrt(total**2 - part**2)
            np.testing.assert_allclose(noise, noise[0, 0], rtol=1e-6)
        np.testing.assert_array_equal(model.predict(new), p.energy)
        std = model.predict(new, return_std=True)[1]
        np.testing.assert_allclose(std, p.energy_std, rtol=1e-6)
        C = model.energy_covariance(new)
        np.testing.assert_allclose(np.sqrt(np.diag(C)), p.energy_epistemic, rtol=1e-6)

    def test_a_baseline_is_taken_off_and_added(self, new, tmp_path, monkeypatch):
        monkeypatch.setenv("KFORCE_CACHE", str(tmp_path))
        frames = self.frames(6)
        below = as_baseline(self.cheap())
        model = self.regressor(baseline=self.cheap()).fit(frames)
        learned = self.regressor().fit(above(frames, below.evaluate(frames)))
        expected = learned.evaluate(new, return_std=True) + below.evaluate(new)
        found = model.evaluate(new, return_std=True)
        close(found, expected)
        certain = learned.evaluate(new, return_std=True)
        np.testing.assert_allclose(found.energy_std, certain.energy_std, rtol=1e-6)
        atoms = new[1].copy()
        atoms.calc = model.calculator()
        energy, forces, _ = model.evaluate_one(new[1])
        for e, f in (
            (energy, forces),
            (atoms.get_potential_energy(), atoms.get_forces()),
        ):
            np.testing.assert_allclose(e, found.energy[1], rtol=1e-9, atol=1e-8)
            np.testing.assert_allclose(f, found.forces[1], rtol=1e-9, atol=1e-7)

    def test_errors_of_a_model_below_add_in_squares(self, model, new):
        frames = self.frames(5, seed=1)
        top = self.regressor(baseline=model).fit(frames)
        learned = self.regressor().fit(above(frames, model.evaluate(frames)))
        own, below, found = (
            m.evaluate(new, return_std=True) for m in (learned, model, top)
        )
        expected = np.hypot(own.energy_epistemic, below.energy_epistemic)
        np.testing.assert_allclose(found.energy_epistemic, expected, rtol=1e-6)
        for a, b, both in zip(
            own.forces_epistemic,
            below.forces_epistemic,
            found.forces_epistemic,
            strict=True,
        ):
            np.testing.assert_allclose(both, np.hypot(a, b), rtol=1e-6)
        C = top.energy_covariance(new)
        np.testing.assert_allclose(np.sqrt(np.diag(C)), expected, rtol=1e-5)
        atoms = new[0].copy()
        atoms.calc = top.calculator(std=True)
        std = atoms.calc.get_property("energy_std", atoms)
        np.testing.assert_allclose(std, found.energy_std[0], rtol=1e-5)

    def test_a_fitted_baseline_survives_cloning(self, model, new):
        frames = self.frames(5, seed=1)
        expected = self.regressor(baseline=model).fit(frames).predict(new)
        for baseline in (model, FrozenEstimator(model), [model]):
            twin = clone(self.regressor(baseline=baseline))
            assert twin.baseline is baseline
            np.testing.assert_array_equal(twin.fit(frames).predict(new), expected)

    def test_saved_and_loaded(self, model, new, tmp_path):
        top = self.regressor(baseline=model).fit(self.frames(5, seed=1))
        for saved in (model, top):
            saved.save(tmp_path / "model.npz")
            again = kforce.load(tmp_path / "model.npz")
            found, expected = (m.evaluate(new, return_std=True) for m in (again, saved))
            close(found, expected)
            np.testing.assert_allclose(found.energy_std, expected.energy_std, rtol=1e-5)
            assert again.training_ == saved.training_

    def test_the_calculator_gives_what_the_model_predicts(self, model, new):
        expected = model.evaluate(new)
        calculator = model.calculator()  # one for all: another structure is noticed
        kept = []
        for s, frame in enumerate(new):
            atoms = frame.copy()
            atoms.calc = calculator
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
            kept.append((forces, forces.copy()))
            np.testing.assert_allclose(energy, expected.energy[s], rtol=1e-9, atol=1e-8)
            np.testing.assert_allclose(forces, expected.forces[s], rtol=0, atol=1e-7)
            assert atoms.get_potential_energy(force_consistent=True) == energy
            with pytest.raises(PropertyNotImplementedError):
                calculator.get_property("energy_std", atoms)
        for forces, copied in kept:
            np.testing.assert_array_equal(forces, copied)

    def test_a_calculator_with_standard_deviations(self, model, new):
        expected = model.evaluate(new, return_std=True)
        calculator = model.calculator(std=True)
        for s, frame in enumerate(new):
            atoms = frame.copy()
            atoms.calc = calculator
            std = calculator.get_property("energy_std", atoms)
            np.testing.assert_allclose(std, expected.energy_std[s], rtol=1e-4)
            std = calculator.get_property("forces_std", atoms)
            np.testing.assert_allclose(std, expected.forces_std[s], rtol=1e-5)

    @DUPLICATES
    def test_copies_of_a_calculator(self, model, new, duplicate):
        atoms, other = new[0].copy(), new[0].copy()
        atoms.calc = model.calculator()
        forces = atoms.get_forces()
        other.calc = duplicate(atoms.calc)
        assert other.calc is not atoms.calc
        np.testing.assert_array_equal(other.get_forces(), forces)

    def test_extrapolation_is_said_in_a_sentence(self, model):
        frames = self.frames(6)
        assert all(model.describe_extrapolation(frame) is None for frame in frames)
        frames[0].positions *= 0.5
        assert model.describe_extrapolation(frames[0]).endswith(".")

    def test_training_frames_are_known_again(self, model, new):
        frames = self.frames(6)
        found = model.is_training_frame([*new, *frames[2:4]])
        np.testing.assert_array_equal(found, [False] * len(new) + [True] * 2)
