import pickle

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process import kernels as sklearn_kernels
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from kforce.errors import InputError
from kforce.kernels.base import Scaled
from kforce.kernels.stationary import (
    RBF,
    Matern32,
    Matern52,
    Matern72,
    RationalQuadratic,
)
from kforce.vectors.posterior import Sites, covariance
from kforce.vectors.regressor import GradientGPRegressor

KERNELS = [
    Matern32(length_scale=1.7),
    Matern52(length_scale=1.7),
    Matern72(length_scale=1.7),
    RBF(length_scale=1.7),
    RationalQuadratic(length_scale=1.7, alpha=0.8),
    Scaled(Matern52(length_scale=1.7), amplitude=2.5),
]


def names(value):
    return type(value).__name__


def wave(X):
    """A smooth function of two features, and its gradient."""
    a, b = X.T
    y = 3.0 + np.sin(a) * np.exp(-0.3 * b**2) + 0.5 * b
    dy_da = np.cos(a) * np.exp(-0.3 * b**2)
    dy_db = -0.6 * b * np.sin(a) * np.exp(-0.3 * b**2) + 0.5
    return y, np.stack([dy_da, dy_db], axis=1)


def points(n, seed=0):
    return np.random.default_rng(seed).uniform(-2.0, 2.0, size=(n, 2))


def observed(X, kind):
    y, dy = wave(X)
    return {"values": (y, None), "gradients": (None, dy), "both": (y, dy)}[kind]


def joint(X, Y, length):
    """Covariance of (f, ∇f) at X with (f, ∇f) at Y, Gaussian kernel, point by point."""
    p = X.shape[1] + 1
    K = np.empty((len(X) * p, len(Y) * p))
    for i, x in enumerate(X):
        for j, y in enumerate(Y):
            d = (x - y)[:, None]
            block = np.eye(p)
            block[0, 1:] = d.T / length**2
            block[1:, 0] = -d.T / length**2
            block[1:, 1:] = np.eye(p - 1) / length**2 - d @ d.T / length**4
            block *= np.exp(-0.5 * (d.T @ d) / length**2)
            K[i * p : i * p + p, j * p : j * p + p] = block
    return K


@pytest.mark.parametrize("kind", ["values", "gradients", "both"])
def test_brute_force(kind):
    X, T = points(9), points(5, seed=1)
    y, dy = observed(X, kind)
    noise, noise_gradient, amplitude, length = 0.02, 0.05, 1.5, 1.2
    kernel = Scaled(RBF(length_scale=length), amplitude=amplitude)
    model = GradientGPRegressor(kernel, noise=noise, noise_gradient=noise_gradient)
    mean, std, gradient = model.fit(X, y, dy).predict(T, True, True)

    constant = 0.0 if y is None else y.mean()
    z = np.full((len(X), 3), np.nan)
    z[:, 0] = np.nan if y is None else y - constant
    z[:, 1:] = np.nan if dy is None else dy
    rows = np.isfinite(z.ravel())
    variance = np.tile([noise**2, noise_gradient**2, noise_gradient**2], len(X))
    K = amplitude**2 * joint(X, X, length) + np.diag(variance)
    K_star = amplitude**2 * joint(T, X, length)[:, rows]
    inverse = np.linalg.inv(K[np.ix_(rows, rows)])
    expected = (K_star @ inverse @ z.ravel()[rows]).reshape(-1, 3)
    explained = np.einsum("ij,jk,ik->i", K_star, inverse, K_star)[::3]

    np.testing.assert_allclose(mean, expected[:, 0] + constant, rtol=1e-9)
    np.testing.assert_allclose(gradient, expected[:, 1:], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(std, np.sqrt(amplitude**2 - explained), rtol=1e-8)
    _, log_det = np.linalg.slogdet(K[np.ix_(rows, rows)])
    chi2 = z.ravel()[rows] @ inverse @ z.ravel()[rows]
    likelihood = -0.5 * (chi2 + log_det + rows.sum() * np.log(2.0 * np.pi))
    assert model.log_marginal_likelihood_ == pytest.approx(likelihood, rel=1e-9)


@pytest.mark.parametrize("kernel", KERNELS, ids=names)
def test_covariance_is_the_derivative_of_the_kernel(kernel):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 1, 3))
    all_of = np.ones((1, 3), dtype=bool)
    exact = covariance(kernel, Sites(x, True, all_of), Sites(y, True, all_of))

    def k(x, y):
        return covariance(kernel, Sites.of_values(x), Sites.of_values(y))[0, 0]

    def error(h):
        steps = h * np.eye(3)
        found = np.empty((4, 4))
        found[0, 0] = k(x, y)
        for a, s in enumerate(steps, start=1):
            found[a, 0] = (k(x + s, y) - k(x - s, y)) / (2 * h)
            found[0, a] = (k(x, y + s) - k(x, y - s)) / (2 * h)
            for b, t in enumerate(steps, start=1):
                mixed = k(x + s, y + t) - k(x + s, y - t)
                mixed += k(x - s, y - t) - k(x - s, y + t)
                found[a, b] = mixed / (4 * h * h)
        return np.abs(found - exact).max()

    assert error(1e-1) / error(1e-2) == pytest.approx(100.0, rel=0.1)


def test_covariance_of_a_part_is_a_part_of_the_covariance():
    X, Y = points(6), points(4, seed=1)
    partials = np.random.default_rng(0).random((6, 2)) < 0.5
    kernel = Matern52(length_scale=1.0)
    right = Sites(Y, False, np.ones((4, 2), dtype=bool))
    full = covariance(kernel, Sites(X, True, np.ones((6, 2), bool)), right)
    part = covariance(kernel, Sites(X, True, partials), right)
    rows = np.append(np.ones(6, dtype=bool), partials.ravel())
    np.testing.assert_array_equal(part, full[rows])


@pytest.mark.parametrize("kind", ["values", "gradients", "both"])
@pytest.mark.parametrize("kernel", KERNELS, ids=names)
def test_gradient_is_that_of_the_mean(kernel, kind):
    X = points(12)
    model = GradientGPRegressor(kernel).fit(X, *observed(X, kind))
    x = np.array([[0.31, -0.42]])
    _, gradient = model.predict(x, return_gradient=True)

    def error(h):
        steps = h * np.eye(2)
        difference = model.predict(x + steps) - model.predict(x - steps)
        return np.linalg.norm(difference / (2.0 * h) - gradient[0])

    assert error(1e-2) / error(1e-3) == pytest.approx(100.0, rel=0.1)


@pytest.mark.parametrize("kernel", KERNELS[1:], ids=names)
def test_observations_are_met(kernel):
    X = points(15)
    y, dy = wave(X)
    model = GradientGPRegressor(kernel).fit(X, y, dy)
    mean, std, gradient = model.predict(X, return_std=True, return_gradient=True)
    np.testing.assert_allclose(mean, y, atol=1e-5)
    np.testing.assert_allclose(gradient, dy, atol=1e-5)
    assert std.max() < 2e-5 * np.sqrt(kernel(0.0))


@pytest.mark.parametrize("length_scale", [1.3, None], ids=["given", "learned"])
def test_same_as_scikit_learn(length_scale):
    X, T = points(40), points(30, seed=1)
    rng = np.random.default_rng(2)
    y = wave(X)[0] + rng.normal(scale=0.1, size=len(X))
    if length_scale is None:
        ours, matern = Matern52(), sklearn_kernels.Matern(nu=2.5)
        theirs = sklearn_kernels.ConstantKernel() * matern
        tolerance = 2e-2  # of a search that stops where the likelihood is flat
    else:
        ours = Scaled(Matern52(length_scale=length_scale), amplitude=1.5)
        matern = sklearn_kernels.Matern(length_scale, "fixed", nu=2.5)
        theirs = sklearn_kernels.ConstantKernel(1.5**2, "fixed") * matern
        tolerance = 1e-9
    model = GradientGPRegressor(ours, noise=0.1).fit(X, y)
    peer = GaussianProcessRegressor(theirs, alpha=0.1**2).fit(X, y - y.mean())
    mean, std = model.predict(T, return_std=True)
    peer_mean, peer_std = peer.predict(T, return_std=True)
    np.testing.assert_allclose(mean - y.mean(), peer_mean, atol=tolerance)
    np.testing.assert_allclose(std, peer_std, atol=tolerance)
    assert model.log_marginal_likelihood_ == pytest.approx(
        peer.log_marginal_likelihood_value_, abs=1e-3
    )


def test_gradients_make_it_more_accurate():
    X, T = points(25), points(200, seed=1)
    errors = [
        np.abs(GradientGPRegressor(RBF()).fit(X, y, dy).predict(T) - wave(T)[0]).mean()
        for y, dy in (observed(X, "values"), observed(X, "both"))
    ]
    assert errors[1] < 0.2 * errors[0]


def test_gradients_alone_leave_the_constant_open():
    X, T = points(60), points(50, seed=1)
    y, dy = wave(X)
    model = GradientGPRegressor().fit(X, None, dy)
    assert model.constant_ == 0.0
    assert np.std(model.predict(T) - wave(T)[0]) < 0.02
    shifted = GradientGPRegressor().fit(X, y + 1e3, dy)
    both = GradientGPRegressor().fit(X, y, dy)
    np.testing.assert_allclose(shifted.predict(T), both.predict(T) + 1e3, rtol=1e-8)


def test_missing_components_are_left_out():
    X, T = points(10), points(5, seed=1)
    y, dy = wave(X)
    kernel = Matern52(length_scale=1.5)
    missing = dy.copy()
    missing[4:] = np.nan
    missing[0, 1] = np.nan
    model = GradientGPRegressor(kernel, noise_gradient=0.01).fit(X, y, missing)
    sites = Sites(X, True, np.isfinite(missing))
    twin = covariance(model.kernel_, sites, sites)
    noise = np.repeat([model.noise_, model.noise_gradient_], [10, 7])
    coef = np.linalg.solve(
        twin + np.diag(noise**2),
        np.append(y - y.mean(), missing[np.isfinite(missing)]),
    )
    K_star = covariance(model.kernel_, sites, Sites.of_values(T))
    np.testing.assert_allclose(model.predict(T), y.mean() + coef @ K_star, rtol=1e-6)

    none = GradientGPRegressor(kernel).fit(X, y, np.full(dy.shape, np.nan))
    values = GradientGPRegressor(kernel).fit(X, y)
    np.testing.assert_array_equal(none.predict(T), values.predict(T))
    some = GradientGPRegressor(kernel).fit(X, None, missing)
    few = GradientGPRegressor(kernel).fit(X[:4], None, missing[:4])
    np.testing.assert_allclose(some.predict(T), few.predict(T), rtol=1e-12)


@pytest.mark.parametrize("kernel", [RBF(), Matern52()], ids=names)
def test_equal_points_do_no_harm(kernel):
    X = np.repeat(points(10), 3, axis=0)
    y, dy = wave(X)
    model = GradientGPRegressor(kernel).fit(X, y, dy)
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, y, atol=1e-4)
    assert np.isfinite(std).all()


def test_contradicting_values_at_one_point_are_averaged():
    X = np.array([[0.0], [0.0], [1.0], [2.0]])
    model = GradientGPRegressor().fit(X, [1.0, 3.0, 0.0, 1.0])
    assert model.predict([[0.0]])[0] == pytest.approx(2.0, abs=1e-3)


def test_constant_values():
    model = GradientGPRegressor().fit(points(5), np.full(5, 7.0))
    np.testing.assert_allclose(model.predict(points(3, seed=1)), 7.0)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_scale_of_the_data_is_learned(noise):
    X, T = points(30), points(10, seed=1)
    y, dy = wave(X)
    unit = GradientGPRegressor(noise=noise).fit(X, y, dy).predict(T, True, True)
    model = GradientGPRegressor(noise=1e4 * noise).fit(1e-3 * X, 1e4 * y, 1e7 * dy)
    scaled = model.predict(1e-3 * T, return_std=True, return_gradient=True)
    for found, expected, unit_of in zip(scaled, unit, (1e4, 1e4, 1e7), strict=True):
        np.testing.assert_allclose(found / unit_of, expected, rtol=1e-3, atol=1e-6)


def test_parameters_that_are_given_stay():
    X, y = points(20), wave(points(20))[0]
    given = Scaled(RBF(length_scale=0.7), amplitude=2.0)
    assert repr(GradientGPRegressor(given).fit(X, y).kernel_) == repr(given)
    half = GradientGPRegressor(Scaled(RBF(), amplitude=2.0)).fit(X, y).kernel_
    assert half.amplitude == 2.0
    assert half.kernel.length_scale > 0
    learned = GradientGPRegressor(RBF(length_scale=0.7)).fit(X, y).kernel_
    assert learned.kernel.length_scale == 0.7
    # A noise of what was not observed changes nothing.
    other = GradientGPRegressor(noise_gradient=0.3).fit(X, y)
    np.testing.assert_array_equal(
        other.predict(X), GradientGPRegressor().fit(X, y).predict(X)
    )


def test_std_is_calibrated():
    X = np.random.default_rng(0).uniform(0.0, 4.0, size=(120, 2))
    kernel = Scaled(Matern52(length_scale=1.0), amplitude=3.0)
    K = kernel(((X[:, None] - X[None]) ** 2).sum(axis=-1)) + 0.01 * np.eye(len(X))
    L = np.linalg.cholesky(K)
    z = []
    for seed in range(20):
        y = L @ np.random.default_rng(seed).normal(size=len(X))
        model = GradientGPRegressor(noise=0.1).fit(X[:80], y[:80])
        mean, std = model.predict(X[80:], return_std=True)
        z.append((y[80:] - mean) / np.hypot(std, 0.1))
    assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1.0, abs=0.1)


def test_std_in_batches():
    X, T = points(20), points(33, seed=1)
    model = GradientGPRegressor().fit(X, *wave(X))
    _, std = model.predict(T, return_std=True)
    model._max_entries = 600
    _, batched = model.predict(T, return_std=True)
    np.testing.assert_allclose(batched, std, rtol=1e-6)


def test_length_scale_from_a_subset():
    X = points(1100)
    first, again, other = (
        GradientGPRegressor(RBF(), seed=seed).fit(X, wave(X)[0]).kernel_.kernel
        for seed in (0, 0, 1)
    )
    assert first.length_scale == again.length_scale
    assert first.length_scale != other.length_scale
    assert first.length_scale == pytest.approx(other.length_scale, rel=0.2)


@parametrize_with_checks(
    [
        GradientGPRegressor(),
        GradientGPRegressor(kernel=RBF(length_scale=2.0), noise=0.1),
    ]
)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_grid_search_in_a_pipeline():
    X = 10.0 * points(40)
    y = wave(0.1 * X)[0]
    pipeline = make_pipeline(StandardScaler(), GradientGPRegressor(kernel=Matern52()))
    grid = {
        "gradientgpregressor__kernel__length_scale": [0.01, 1.0],
        "gradientgpregressor__noise": [0.0, 0.01],
    }
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert search.best_params_["gradientgpregressor__kernel__length_scale"] == 1.0
    assert search.best_score_ > 0.9
    assert cross_val_score(GradientGPRegressor(), X, y, cv=3).mean() > 0.9


def test_grid_search_splits_gradients_with_the_values():
    X = points(30)
    y, dy = wave(X)
    search = GridSearchCV(
        GradientGPRegressor(kernel=RBF()), {"kernel__length_scale": [0.02, 2.0]}, cv=3
    )
    search.fit(X, y, dy=dy)
    assert search.best_params_ == {"kernel__length_scale": 2.0}
    assert search.best_score_ > 0.99


def test_refit_and_pickle():
    X, T = points(20), points(5, seed=1)
    y, dy = wave(X)
    model = GradientGPRegressor(noise=0.01).fit(X, y, dy)
    first = model.predict(T, return_std=True, return_gradient=True)
    copy = pickle.loads(pickle.dumps(model))
    refitted = model.fit(points(9, seed=5), np.arange(9.0)).fit(X, y, dy)
    X[:] = y[:] = dy[:] = 0.0  # the model keeps nothing of the caller's arrays
    for other in (copy, refitted):
        again = other.predict(T, return_std=True, return_gradient=True)
        for found, expected in zip(again, first, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_kernel_that_was_given_is_left_alone():
    kernel = Matern52()
    GradientGPRegressor(kernel).fit(points(9), np.arange(9.0))
    assert kernel.length_scale is None


X9, Y9, D9 = points(9), *wave(points(9))


@pytest.mark.parametrize(
    ("parameters", "data", "match"),
    [
        ({}, (X9, None), "give values y, gradients dy, or both"),
        ({}, (X9, Y9, D9[:, :1]), r"expected \(9, 2\), found \(9, 1\)"),
        ({}, (X9, Y9, D9[:4]), r"expected \(9, 2\), found \(4, 2\)"),
        ({}, (X9, Y9, D9.ravel()), r"expected \(9, 2\), found \(18,\)"),
        ({}, (X9, None, np.full((9, 2), np.nan)), "dy all NaN"),
        ({}, (X9[:1], Y9[:1]), "two different points, found n_samples=1"),
        (
            {},
            (np.ones((9, 2)), Y9),
            "two different points, found n_samples=1 without copies",
        ),
        ({"noise": -0.1}, (X9, Y9), "noise must be a standard deviation.* -0.1"),
        ({"noise": "big"}, (X9, Y9), "noise must be a standard deviation.* 'big'"),
        ({"noise_gradient": np.nan}, (X9, Y9), "noise_gradient must be .* nan"),
        ({"seed": -1}, (X9, Y9), "seed must be a whole number .* found -1"),
        ({"kernel": "rbf"}, (X9, Y9), "kernel must be .* found 'rbf'"),
        ({"kernel": RBF}, (X9, Y9), "kernel must be .* found <class"),
        ({"kernel": RBF(length_scale=-1.0)}, (X9, Y9), "must be a positive .* -1.0"),
    ],
)
def test_input_errors(parameters, data, match):
    with pytest.raises(InputError, match=match):
        GradientGPRegressor(**parameters).fit(*data)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ((np.where(X9 > 1, np.nan, X9), Y9), "Input X contains NaN"),
        ((X9, np.where(Y9 > 3, np.nan, Y9)), "Input y contains NaN"),
        ((X9, Y9, np.where(D9 > 0.5, np.inf, D9)), "Input dy contains infinity"),
        ((X9[:, 0], Y9), "Expected 2D array, got 1D array"),
        ((X9, Y9[:5]), "inconsistent numbers of samples"),
    ],
)
def test_what_scikit_learn_refuses(data, match):
    with pytest.raises(ValueError, match=match):
        GradientGPRegressor().fit(*data)


def test_predict_errors():
    with pytest.raises(NotFittedError):
        GradientGPRegressor().predict(X9)
    with pytest.raises(ValueError, match="expecting 2 features"):
        GradientGPRegressor().fit(X9, Y9).predict(np.ones((3, 5)))
