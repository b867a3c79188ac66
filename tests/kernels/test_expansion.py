from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from toys import KERNELS, assert_second_order, name_of, symmetric_group

from kforce.descriptors.inverse_distances import InverseDistances
from kforce.kernels.expansion import Expansion
from kforce.kernels.stationary import Matern52, Matern72

all_kernels = pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
both = pytest.mark.parametrize("with_weights", [False, True], ids=["", "weights"])


def make(kernel, n_train, with_weights=True, n_atoms=4, equal=3, seed=0):
    """An expansion over symmetric features, coefficients and points of order 1."""
    rng = np.random.default_rng(seed)
    coordinates = InverseDistances().coordinates(n_atoms)
    images, _ = coordinates.images(symmetric_group(n_atoms, equal))
    shape = (n_train, images.shape[1])
    return Expansion(
        kernel=kernel,
        x_train=rng.normal(size=shape),
        directions=rng.normal(size=shape) / np.sqrt(n_train),
        weights=rng.normal(size=n_train) / np.sqrt(n_train) if with_weights else None,
        feature_perms=images,
    )


def points(expansion, n, seed=1):
    shape = (n, expansion.x_train.shape[1])
    return np.random.default_rng(seed).normal(size=shape)


def slow_jet(expansion, x):
    """Σ_s Σ_m [a_m k(P_s x, x_m) + v_m · ∂k/∂x_m] and its gradient, term by term."""
    f, gradient = 0.0, np.zeros(len(x))
    for p in expansion.feature_perms:
        for m, center in enumerate(expansion.x_train):
            d = x[p] - center
            v = expansion.directions[m]
            a = 0.0 if expansion.weights is None else expansion.weights[m]
            phi, dphi, ddphi = expansion.kernel.profile(d @ d, orders=(0, 1, 2))
            f += a * phi - 2.0 * dphi * (d @ v)
            slope = 2.0 * a * dphi * d - 2.0 * dphi * v - 4.0 * ddphi * (d @ v) * d
            gradient[p] += slope
    return f, gradient


@both
@all_kernels
def test_jet_against_loops(kernel, with_weights):
    expansion = make(kernel, 20, with_weights)
    x = points(expansion, 5)
    f, gradient = expansion.jet(x)
    for s in range(5):
        slow_f, slow_gradient = slow_jet(expansion, x[s])
        np.testing.assert_allclose(f[s], slow_f, atol=1e-13)
        np.testing.assert_allclose(gradient[s], slow_gradient, atol=1e-13)


@both
@all_kernels
def test_gradient_is_the_derivative(kernel, with_weights):
    expansion = make(kernel, 20, with_weights)
    x = points(expansion, 1)
    direction = points(expansion, 1, seed=2)[0]
    direction /= np.linalg.norm(direction)
    gradient = expansion.jet(x)[1][0]
    assert_second_order(
        lambda x: expansion.jet(x[None])[0][0],
        gradient @ direction,
        x[0],
        direction,
    )


@both
@pytest.mark.parametrize("n_train", [1, 2, 1023, 1024, 1025, 2050])
def test_one_point_is_a_batch_of_one(n_train, with_weights):
    # Centers are worked through in blocks of 1024.
    expansion = make(Matern52(1.3), n_train, with_weights, n_atoms=3, equal=2)
    x = points(expansion, 3)
    f, gradient = expansion.jet(x)
    for s in range(3):
        one_f, one_gradient = expansion.jet(x[s : s + 1])
        np.testing.assert_allclose(one_f[0], f[s], atol=1e-13)
        np.testing.assert_allclose(one_gradient[0], gradient[s], atol=1e-13)


def test_more_centers_than_a_block_against_loops():
    expansion = make(Matern72(1.3), 1030, n_atoms=3, equal=2)
    x = points(expansion, 2)
    f, gradient = expansion.jet(x)
    for s in range(2):
        slow_f, slow_gradient = slow_jet(expansion, x[s])
        np.testing.assert_allclose(f[s], slow_f, atol=1e-13)
        np.testing.assert_allclose(gradient[s], slow_gradient, atol=1e-13)


@all_kernels
def test_a_batch_is_its_points_one_by_one(kernel):
    # 300 centers × 6 permutations: a chunk has 55 queries, so 120 need three.
    expansion = make(kernel, 300)
    x = points(expansion, 120)
    f, gradient = expansion.jet(x)
    for s in range(120):
        one_f, one_gradient = expansion.jet(x[s : s + 1])
        np.testing.assert_allclose(one_f[0], f[s], atol=1e-13)
        np.testing.assert_allclose(one_gradient[0], gradient[s], atol=1e-13)


@all_kernels
def test_it_is_symmetric_under_the_permutations(kernel):
    expansion = make(kernel, 40)
    x = points(expansion, 4)
    f, gradient = expansion.jet(x)
    for p in expansion.feature_perms:
        permuted_f, permuted_gradient = expansion.jet(x[:, p])
        np.testing.assert_allclose(permuted_f, f, atol=1e-14)
        np.testing.assert_allclose(permuted_gradient, gradient[:, p], atol=1e-14)


@pytest.mark.parametrize("distance", [0.0, 1e-12, 1e-9, 1e-7, 1e-5])
@all_kernels
def test_no_digit_is_lost_close_to_a_center(kernel, distance):
    # |x − x_m|² from matrix products cancels here. What is left of it must not matter,
    # even where φ'' diverges (Matérn-3/2): the loops subtract first and are exact.
    expansion = make(kernel, 30)
    step = points(expansion, 30)
    step /= np.linalg.norm(step, axis=1)[:, None]
    x = expansion.x_train + distance * step
    f, gradient = expansion.jet(x)
    for s in range(30):
        slow_f, slow_gradient = slow_jet(expansion, x[s])
        np.testing.assert_allclose(f[s], slow_f, atol=1e-12)
        # φ' of Matérn-3/2 has a cusp: an error ε of u shifts it by √ε.
        tolerance = 1e-7 if name_of(kernel) == "Matern32" else 1e-12
        np.testing.assert_allclose(gradient[s], slow_gradient, atol=tolerance)


@pytest.mark.parametrize("with_weights", [False, True])
def test_far_from_the_origin_no_digit_is_lost(with_weights):
    # Descriptors of similar structures share a large offset; distances do not see it.
    near = make(Matern52(1.3), 40, with_weights)
    offset = 300.0
    far = Expansion(
        near.kernel,
        near.x_train + offset,
        near.directions,
        near.weights,
        near.feature_perms,
    )
    x = points(near, 10)
    f, gradient = near.jet(x)
    f_far, gradient_far = far.jet(x + offset)
    # Adding the offset rounds x to 6e-14.
    np.testing.assert_allclose(f_far, f, atol=1e-12)
    np.testing.assert_allclose(gradient_far, gradient, atol=1e-12)


@all_kernels
def test_it_vanishes_far_from_all_centers(kernel):
    expansion = make(kernel, 10)
    x = 1e7 + points(expansion, 2)
    f, gradient = expansion.jet(x)
    # The rational quadratic has the longest tail, r^−1.4 here.
    np.testing.assert_allclose(f, 0.0, atol=1e-8)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-8)


def test_an_empty_batch():
    f, gradient = make(Matern52(1.3), 5).jet(np.zeros((0, 6)))
    assert f.shape == (0,)
    assert gradient.shape == (0, 6)


def test_the_query_is_left_alone():
    expansion = make(Matern52(1.3), 50)
    x = points(expansion, 6)
    before = x.copy()
    expansion.jet(x)
    np.testing.assert_array_equal(x, before)


def test_two_threads_may_predict_at_once(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    expansion = make(Matern52(1.3), 400)
    batches = [points(expansion, 60, seed) for seed in range(8)]
    alone = [make(Matern52(1.3), 400).jet(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(expansion.jet, batches))
    for (f, g), (f_2, g_2) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(f_2, f)
        np.testing.assert_array_equal(g_2, g)
