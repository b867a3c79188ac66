"""What scikit-learn and its users take for granted of sparse models."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sparse_toys import PAIRS, cluster, crystal, mixed_frames

from kforce.descriptors.soap.soap import SOAP
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import Term
from kforce.kernels.base import Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import RBF

QUERY = [crystal(90), cluster(91)]


def terms():
    return [
        Term(PAIRS, Scaled(RBF(), 2.0), n_inducing=8, length_scales=(1.0, 0.1)),
        Term(
            SOAP(cutoff=3.5, n_max=2, l_max=1, atom_sigma=0.5),
            Scaled(Polynomial(zeta=2), 0.5),
            n_inducing=8,
        ),
    ]


def regressor(**kwargs):
    return GAPRegressor(**{"terms": terms(), "optimize": False} | kwargs)


def test_parameters_of_terms():
    (pairs, density) = terms()
    params = density.get_params()
    assert params["kernel__kernel__zeta"] == 2
    assert params["descriptor__cutoff"] == 3.5
    copy = clone(density)
    assert repr(copy) == repr(density)
    copy.set_params(kernel__kernel__zeta=3, descriptor__n_max=4, n_inducing=2)
    assert density.kernel.kernel.zeta == 2
    assert density.descriptor.n_max == 2
    assert copy.descriptor.n_max == 4
    assert repr(pairs).startswith("Term(descriptor=TwoBody(")


def test_parameters_and_clone():
    model = regressor(
        seed=5,
        noise_energy=0.1,
        config_noises={"a": (1, 2, 3)},
        reference_energies={"Cu": 1.0},
    )
    params = model.get_params()
    assert set(params) >= {"terms", "noise_energy", "config_noises", "seed", "jitter"}
    copy = clone(model)
    assert repr(copy) == repr(model)
    assert copy.terms is not model.terms
    copy.terms[1].set_params(kernel__kernel__zeta=3)
    copy.config_noises["b"] = (1, 1, 1)
    assert model.terms[1].kernel.kernel.zeta == 2
    assert set(model.config_noises) == {"a"}
    assert not hasattr(clone(regressor().fit(mixed_frames(3))), "terms_")


def test_fit_returns_self_and_leaves_parameters_and_frames_alone():
    frames = mixed_frames(4)
    for frame in frames:
        frame.info["config_type"] = "a"
    positions = [f.positions.copy() for f in frames]
    results = [{k: np.copy(v) for k, v in f.calc.results.items()} for f in frames]
    model = regressor(
        terms=[Term(PAIRS, RBF(), n_inducing=5)],
        optimize=True,
        config_noises={"default": (0.1, 0.2, 0.3)},
    )
    before, own = repr(model), model.terms
    kernel = own[0].kernel
    assert model.fit(frames) is model
    model.score(frames)
    assert repr(model) == before
    assert model.terms is own
    assert own[0].kernel is kernel
    assert kernel.length_scale is None
    for frame, r, labels in zip(frames, positions, results, strict=True):
        np.testing.assert_array_equal(frame.positions, r)
        assert frame.info == {"config_type": "a"}
        for key, value in labels.items():
            np.testing.assert_array_equal(frame.calc.results[key], value)


@pytest.mark.parametrize("optimize", [False, True])
def test_refitting_forgets_the_first_fit(optimize):
    frames, others = mixed_frames(4), mixed_frames(3, seed=1)
    described = [Term(PAIRS, RBF(length_scale=0.7), n_inducing=5)]
    model = regressor(terms=described, optimize=optimize).fit(others)
    first = model.fit(frames).predict(QUERY)
    np.testing.assert_array_equal(model.fit(frames).predict(QUERY), first)
    np.testing.assert_array_equal(clone(model).fit(frames).predict(QUERY), first)


def test_later_changes_of_the_frames_do_not_reach_the_model():
    frames = mixed_frames(4)
    model = regressor().fit(frames)
    before = model.predict(QUERY)
    for frame in frames:
        frame.positions[:] = 0.0
        frame.numbers[:] = 1
    np.testing.assert_array_equal(model.predict(QUERY), before)


@pytest.mark.parametrize("used_before", [False, True])
def test_pickle(used_before):
    model = regressor().fit(mixed_frames(4))
    if used_before:
        model.predict(QUERY)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(QUERY), model.predict(QUERY))
    found, expected = (m.predict(QUERY, return_std=True)[1] for m in (again, model))
    np.testing.assert_array_equal(found, expected)


def test_cross_validation():
    frames = mixed_frames(9)
    scores = cross_val_score(regressor(), frames, cv=3)
    assert scores.shape == (3,)
    by_hand = regressor().fit(frames[3:]).score(frames[:3])
    np.testing.assert_allclose(scores[0], by_hand, rtol=1e-9)


def test_grid_search_over_terms():
    frames = mixed_frames(9)
    poor = [Term(PAIRS, Scaled(RBF(length_scale=1e-3), 2.0), n_inducing=8)]
    search = GridSearchCV(regressor(), {"terms": [poor, terms()]}, cv=3).fit(frames)
    assert len(search.best_params_["terms"]) == 2
    assert search.predict(QUERY).shape == (2,)


def test_a_fitted_baseline_survives_cloning():
    frames = mixed_frames(4, stress=False)
    low = regressor(terms=terms()[:1]).fit(frames)
    model = regressor(baseline=FrozenEstimator(low))
    copy = clone(model)
    assert copy.baseline.estimator is low
    found = copy.fit(frames).predict(QUERY)
    np.testing.assert_array_equal(found, model.fit(frames).predict(QUERY))


def test_score_is_that_of_forces():
    frames = mixed_frames(5)
    model = regressor().fit(frames)
    forces = np.concatenate([f.get_forces() for f in frames])
    found = np.concatenate(model.evaluate(frames).forces)
    expected = 1.0 - np.sum((found - forces) ** 2) / np.sum(
        (forces - forces.mean()) ** 2
    )
    np.testing.assert_allclose(model.score(frames), expected, rtol=1e-9)
