import numpy as np
import pytest
from toys import KERNELS, assert_second_order, name_of

from kforce import GradientGPRegressor
from kforce.errors import InputError
from kforce.kernels.base import Scaled, Sum
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import RBF, Matern52, RationalQuadratic

PROFILE = Matern52(length_scale=1.0)
TABLE = [[1.0, 0.0, 2.0], [0.5, 0.5, 0.5]]


@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
def test_any_other_kernel_has_one_component_of_all_features(kernel):
    components = kernel.components(3)
    assert components.profile is kernel
    np.testing.assert_array_equal(components.scales, np.ones((1, 3)))
    np.testing.assert_array_equal(components.variances, [1.0])


def test_components_are_what_was_given():
    components = Sum(PROFILE, TABLE, [2.0, 3.0]).components(3)
    assert components.profile is PROFILE
    np.testing.assert_array_equal(components.scales, TABLE)
    np.testing.assert_array_equal(components.variances, [4.0, 9.0])
    assert Sum(PROFILE, TABLE).components(3).variances.tolist() == [1.0, 1.0]


def test_an_amplitude_around_all_multiplies_each():
    inner = Sum(PROFILE, TABLE, [2.0, 3.0])
    components = Scaled(inner, amplitude=0.5).components(3)
    assert components.profile is PROFILE
    np.testing.assert_array_equal(components.scales, TABLE)
    np.testing.assert_allclose(components.variances, [1.0, 2.25])


def test_an_amplitude_of_the_profile_stays_in_it():
    profile = Scaled(RBF(length_scale=1.0), amplitude=3.0)
    components = Scaled(Sum(profile, TABLE), amplitude=2.0).components(3)
    assert components.profile is profile
    np.testing.assert_allclose(components.variances, [4.0, 4.0])


def test_the_parameters_are_left_alone():
    scales, amplitudes = np.array(TABLE), np.array([1.0, 2.0])
    kernel = Sum(PROFILE, scales, amplitudes)
    components = Scaled(kernel, amplitude=5.0).components(3)
    assert kernel.scales is scales
    assert kernel.amplitudes is amplitudes
    np.testing.assert_array_equal(amplitudes, [1.0, 2.0])
    np.testing.assert_allclose(components.variances, [25.0, 100.0])


refused = [
    ("scales of one component", [1.0, 1.0, 1.0], None, r"scales must .* shape \(3,\)"),
    ("no components", np.zeros((0, 3)), None, r"scales must .* shape \(0, 3\)"),
    ("no features", np.zeros((2, 0)), None, r"scales must .* shape \(2, 0\)"),
    ("negative", [[1.0, -0.1, 1.0]], None, "scales must be finite and not negative"),
    ("NaN", [[1.0, np.nan, 1.0]], None, "scales must be finite"),
    ("infinite", [[1.0, np.inf, 1.0]], None, "scales must be finite"),
    (
        "empty component",
        [[1.0, 1.0, 1.0], [0.0] * 3],
        None,
        "an entry above zero in",
    ),
    ("too few", [[1.0] * 2], None, "the 3 features of the descriptor, found 2 col"),
    ("too many", [[1.0] * 4], None, "the 3 features of the descriptor, found 4 col"),
    ("table", TABLE, [[1.0, 1.0]], r"amplitudes must .* shape \(1, 2\)"),
    ("number", TABLE, 1.0, r"amplitudes must .* shape \(\)"),
    ("negative amplitude", TABLE, [1.0, -1.0], "amplitudes must be finite and not neg"),
    ("NaN amplitude", TABLE, [1.0, np.nan], "amplitudes must be finite"),
    ("one for two", TABLE, [1.0], "one amplitude for each of 2 comp.* found 1"),
    ("three for two", TABLE, [1.0] * 3, "one amplitude for each of 2 comp.* found 3"),
]


@pytest.mark.parametrize(
    ("scales", "amplitudes", "match"),
    [row[1:] for row in refused],
    ids=[row[0] for row in refused],
)
def test_what_is_no_table_of_components(scales, amplitudes, match):
    kernel = Sum(PROFILE, scales, amplitudes)
    for outer in (kernel, Scaled(kernel, amplitude=2.0)):
        with pytest.raises(InputError, match=match):
            outer.components(3)


U = np.array([0.0, 0.3, 2.0])


def test_plus_sums_the_profiles():
    one, other = RBF(length_scale=1.2), Scaled(RBF(length_scale=3.0), amplitude=2.0)
    total = one + other
    for order in range(4):
        (found,) = total.profile(U, orders=(order,))
        expected = one.profile(U, (order,))[0] + other.profile(U, (order,))[0]
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    again = Scaled(total, amplitude=3.0) + one
    np.testing.assert_allclose(again(U), 9.0 * total(U) + one(U), rtol=1e-14)
    components = total.components(4)
    np.testing.assert_allclose(components.scales, [[1.0] * 4, [0.4] * 4], rtol=1e-15)
    np.testing.assert_allclose(components.variances, [1.0, 4.0], rtol=1e-15)


def test_the_profile_of_a_sum_is_differentiable():
    total = Matern52(length_scale=1.0) + Matern52(length_scale=0.4)
    for order in range(3):
        assert_second_order(
            lambda u, order=order: total.profile(u, orders=(order,))[0],
            total.profile(1.3, orders=(order + 1,))[0],
            1.3,
            direction=1.0,
            step=0.01,
        )


def test_plus_joins_tables_of_features():
    table = Sum(PROFILE, TABLE, [2.0, 3.0])
    total = table + Matern52(length_scale=2.0)
    np.testing.assert_array_equal(total.scales, [*TABLE, [0.5, 0.5, 0.5]])
    np.testing.assert_array_equal(total.amplitudes, [2.0, 3.0, 1.0])


@pytest.mark.parametrize(
    ("one", "other", "match"),
    [
        (RBF(1.0), PROFILE, "of one kind, .* found RBF.length_scale=1.0. and Matern52"),
        (RationalQuadratic(1.0, 1.0), RationalQuadratic(1.0, 2.0), "of one kind"),
        (Polynomial(2), Polynomial(2), "A sum is of radial kernels"),
        (RBF(1.0), RBF(), "need a length scale: give one to each RBF"),
        (RBF(1.0), 3.0, "What is added to a kernel must be a kernel, found 3.0"),
        (Sum(PROFILE, TABLE), Sum(PROFILE, [[1.0] * 2]), "found 3 and 2 columns"),
    ],
)
def test_what_cannot_be_added(one, other, match):
    with pytest.raises(InputError, match=match):
        one + other


def test_vectors_take_a_sum_of_length_scales_only():
    X = np.random.default_rng(0).normal(size=(12, 2))
    y = np.sin(X).sum(axis=1)
    total = RBF(length_scale=1.0) + Scaled(RBF(length_scale=3.0), amplitude=2.0)
    model = GradientGPRegressor(kernel=Scaled(total), noise=0.1)
    K = total(np.square(X[:, None] - X).sum(axis=-1))
    solved = np.linalg.solve(K + 0.01 * np.eye(12), y - y.mean())
    found = model.fit(X, y).predict(X)
    np.testing.assert_allclose(found, y.mean() + K @ solved, rtol=1e-10)
    for kernel in (Sum(PROFILE, np.eye(2)), Scaled(Sum(PROFILE, np.eye(2)))):
        with pytest.raises(InputError, match="A sum with a scale for each feature is"):
            GradientGPRegressor(kernel=kernel).fit(X, y)
