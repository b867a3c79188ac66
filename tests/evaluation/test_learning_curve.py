"""Learning curves: nested training sets, errors of refitted clones, and the slope."""

from itertools import pairwise

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

import kforce
from kforce.errors import InputError
from kforce.evaluation import metrics
from kforce.evaluation.learning_curve import LearningCurve
from kforce.force_field import Prediction
from kforce.labels import Labels

#: The training sets of all clones, by identity.
SEEN = []


class Mean(kforce.force_field.ForceField):
    """Predicts the mean label of its training frames, and remembers these."""

    def fit(self, frames, y=None):
        SEEN.append([id(frame) for frame in frames])
        labels = Labels.from_frames(frames)
        self.energy_, self.forces_ = labels.energy.mean(), np.mean(labels.forces, 0)
        return self

    def evaluate(self, frames, properties=("energy", "forces"), return_std=False):
        n = len(frames)
        return Prediction(np.full(n, self.energy_), [self.forces_] * n)


@pytest.fixture
def mean():
    SEEN.clear()
    return Mean()


def curve_of(forces_mae, sizes):
    sizes, error = np.array(sizes), np.array(forces_mae)
    return LearningCurve(sizes, error, error, error, error, n_test=10)


def test_training_sets_are_nested_and_apart_from_the_test_set(mean, methanol):
    curve = kforce.learning_curve(mean, methanol, seed=3)
    assert curve.sizes.tolist() == [8, 16, 32, 64, 128]
    assert [len(seen) for seen in SEEN] == curve.sizes.tolist()
    for small, large in pairwise(SEEN):
        assert small == large[: len(small)]
        assert len(set(large)) == len(large)
    assert curve.n_test == 40
    assert kforce.learning_curve(mean, methanol[:9]).n_test == 1
    del SEEN[-1]
    assert not hasattr(mean, "energy_")
    # The same seed again, other frames with another one.
    first = list(SEEN)
    kforce.learning_curve(mean, methanol, seed=3)
    assert SEEN[5:] == first
    kforce.learning_curve(mean, methanol, seed=4)
    assert SEEN[10] != first[0]


def test_errors_are_those_of_models_trained_one_by_one(methanol):
    frames, test = methanol[:40], methanol[40:60]
    model = kforce.GDMLRegressor(kernel=kforce.Matern52(length_scale=10.0))
    curve = kforce.learning_curve(model, frames, [4, 15], test, seed=1)
    order = np.random.default_rng(1).permutation(40)
    labels = Labels.from_frames(test)
    for k, size in enumerate([4, 15]):
        fitted = kforce.GDMLRegressor(kernel=kforce.Matern52(length_scale=10.0))
        predicted = fitted.fit([frames[i] for i in order[:size]]).evaluate(test)
        forces = np.concatenate(predicted.forces), np.concatenate(labels.forces)
        assert curve.energy_mae[k] == metrics.mae(predicted.energy, labels.energy)
        assert curve.energy_rmse[k] == metrics.rmse(predicted.energy, labels.energy)
        assert curve.forces_mae[k] == metrics.mae(*forces)
        assert curve.forces_rmse[k] == metrics.rmse(*forces)


def test_test_frames_without_energies(mean, methanol):
    test = [frame.copy() for frame in methanol[:5]]
    for frame, labelled in zip(test, methanol, strict=False):
        forces = labelled.get_forces()
        frame.calc = SinglePointCalculator(frame, forces=forces)
    curve = kforce.learning_curve(mean, methanol[5:25], [5, 20], test)
    assert np.isnan(curve.energy_mae).all()
    assert np.isfinite(curve.forces_rmse).all()


def test_slope_against_least_squares():
    sizes, error = [10, 20, 40, 80], [0.1, 0.06, 0.028, 0.016]
    A = np.column_stack([np.log(sizes), np.ones(4)])
    b = np.log(error)
    solution, residual, *_ = np.linalg.lstsq(A, b)
    covariance = residual[0] / 2 * np.linalg.inv(A.T @ A)
    slope, standard_error = curve_of(error, sizes).slope()
    assert slope == pytest.approx(solution[0])
    assert standard_error == pytest.approx(np.sqrt(covariance[0, 0]))
    assert np.isnan(curve_of(error[:2], sizes[:2]).slope()).all()


@pytest.mark.parametrize(
    ("n", "arguments", "message"),
    [
        (20, {"sizes": [8, 4]}, "must ascend, .* found 8, 4"),
        (20, {"sizes": [4, 4]}, "must ascend, .* found 4, 4"),
        (20, {"sizes": []}, "at least one size"),
        (20, {"sizes": [0, 4]}, "whole number ≥ 1, found 0"),
        (20, {"sizes": [-4]}, "whole number ≥ 1, found -4"),
        (20, {"sizes": [2.5]}, "whole number ≥ 1, found 2.5"),
        (20, {"sizes": [4, 17]}, "17 frames does not fit into the 16"),
        (8, {}, "at least 8 frames to train on, found 7"),
        (20, {"seed": -1}, "seed must be"),
        (20, {"test": []}, "found an empty list"),
        (0, {}, "found an empty list"),
    ],
)
def test_what_cannot_be_learned(mean, methanol, n, arguments, message):
    with pytest.raises(InputError, match=message):
        kforce.learning_curve(mean, methanol[:n], **arguments)
    assert not SEEN


def test_test_frames_need_forces(mean, methanol):
    with pytest.raises(InputError, match="test frames with forces"):
        kforce.learning_curve(mean, methanol[:20], test=[methanol[30].copy()])


def test_robust_models_start_where_they_tell_wrong_labels():
    frames = kforce.datasets.load_methanol_ccsdt()[:40]
    model = kforce.GDMLRegressor(kernel=kforce.Matern52(), robust=True)
    assert kforce.learning_curve(model, frames).sizes.tolist() == [16, 32]
