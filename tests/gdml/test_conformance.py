"""What scikit-learn and its users take for granted."""

import pickle

import numpy as np
import pytest
from ase import Atoms
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from toys import AMMONIA, WATER, geometry, regressor, symmetric_group, toy_frames

from kforce.kernels.base import Scaled
from kforce.kernels.stationary import Matern52


def test_parameters_and_clone():
    model = regressor(Scaled(Matern52(length_scale=2.0), amplitude=3.0), seed=5)
    params = model.get_params()
    assert params["kernel__kernel__length_scale"] == 2.0
    copy = clone(model)
    assert repr(copy) == repr(model)
    copy.set_params(kernel__kernel__length_scale=4.0)
    assert copy.kernel.kernel.length_scale == 4.0
    assert model.kernel.kernel.length_scale == 2.0


def test_fit_returns_self_and_leaves_parameters_and_frames_alone():
    frames = toy_frames(WATER, 6)
    positions = [f.positions.copy() for f in frames]
    results = [{k: np.copy(v) for k, v in f.calc.results.items()} for f in frames]
    group = symmetric_group(3, 2)
    model = regressor(Matern52(), group, noise_energy=0.01)
    before = repr(model)
    kernel = model.kernel
    assert model.fit(frames) is model
    model.score(frames)
    assert repr(model) == before
    assert model.kernel is kernel
    assert kernel.length_scale is None
    assert model.permutations is group
    np.testing.assert_array_equal(group, symmetric_group(3, 2))
    for frame, r, labels in zip(frames, positions, results, strict=True):
        np.testing.assert_array_equal(frame.positions, r)
        for key, value in labels.items():
            np.testing.assert_array_equal(frame.calc.results[key], value)


def test_refitting_forgets_the_first_fit():
    water, ammonia = toy_frames(WATER, 6), toy_frames(AMMONIA, 6)
    model = regressor(Matern52()).fit(ammonia)
    first = model.fit(water).predict(water)
    np.testing.assert_array_equal(model.fit(water).predict(water), first)
    np.testing.assert_array_equal(clone(model).fit(water).predict(water), first)


def test_later_changes_of_the_frames_do_not_reach_the_model():
    frames = toy_frames(WATER, 6)
    query = [Atoms(WATER, geometry(3, 50))]
    model = regressor().fit(frames)
    before = model.predict(query)
    for frame in frames:
        frame.positions[:] = 0.0
        frame.numbers[:] = 1
    np.testing.assert_array_equal(model.predict(query), before)


@pytest.mark.parametrize("method", ["predict", "evaluate", "score"])
def test_a_model_must_be_fitted_first(method):
    with pytest.raises(NotFittedError):
        getattr(regressor(), method)(toy_frames(WATER, 2))


@pytest.mark.parametrize("used_before", [False, True])
def test_pickle(used_before):
    model = regressor().fit(toy_frames(WATER, 6))
    query = toy_frames(WATER, 3, seed=9)
    if used_before:
        model.predict(query)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(query), model.predict(query))


def test_cross_validation():
    frames = toy_frames(WATER, 30)
    scores = cross_val_score(regressor(noise_forces=0.01), frames, cv=3)
    assert scores.shape == (3,)
    by_hand = regressor(noise_forces=0.01).fit(frames[10:]).score(frames[:10])
    np.testing.assert_allclose(scores[0], by_hand, rtol=1e-12)


def test_grid_search_over_a_nested_parameter():
    frames = toy_frames(WATER, 30)
    lengths = [0.02, 1.3]
    search = GridSearchCV(
        regressor(noise_forces=0.01), {"kernel__length_scale": lengths}, cv=3
    )
    search.fit(frames)
    # A length scale far below the spread of the descriptors learns nothing.
    assert search.best_params_ == {"kernel__length_scale": 1.3}
    assert search.best_estimator_.kernel_.length_scale == 1.3
    assert search.predict(frames).shape == (30,)
