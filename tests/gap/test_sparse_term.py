"""Terms of sparse models against loops over their definition."""

from dataclasses import replace

import numpy as np
import pytest
from sparse_toys import (
    SORTS,
    cluster,
    crystal,
    environments,
    slow_kernel,
    sort_of_term,
)
from toys import assert_second_order

from kforce.descriptors.local import Environments
from kforce.gap.sparse_term import SparseTerm
from kforce.kernels.base import Kernel, Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import RBF

#: Linear and quadratic functions of the features, of which differences are exact.
EXACT = ("line", "square", "elements", "product, constant")


def sample(term, n=6):
    """Some environments, with a multiplicity that is not the descriptor's own."""
    found = environments(term.descriptor, [crystal(1), cluster(2)])
    chosen = np.random.default_rng(3).choice(
        len(found.x), min(n, len(found.x)), replace=False
    )
    return Environments(
        found.x[chosen], found.f_cut[chosen], found.central_atoms[chosen], 3
    )


def at(env, x=None, f_cut=None):
    x = env.x if x is None else x
    f_cut = env.f_cut if f_cut is None else f_cut
    return Environments(x, f_cut, env.central_atoms, env.multiplicity)


def slow_local_energies(term, env):
    return np.array(
        [
            env.multiplicity
            * f_cut
            * sum(
                w * f * slow_kernel(term, x, c)
                for w, f, c in zip(
                    term.weights, term.f_cut, term.inducing_points, strict=True
                )
            )
            for x, f_cut in zip(env.x, env.f_cut, strict=True)
        ]
    )


@pytest.mark.parametrize("name", SORTS)
def test_covariances(name):
    term = sort_of_term(name)
    env = sample(term)
    k, slope = term.compare(env.x)
    slow = [
        [
            f * slow_kernel(term, x, c)
            for c, f in zip(term.inducing_points, term.f_cut, strict=True)
        ]
        for x in env.x
    ]
    np.testing.assert_allclose(k, slow, rtol=1e-12, atol=1e-14)
    assert slope.shape == k.shape
    only, nothing = term.compare(env.x, orders=(0,))
    np.testing.assert_array_equal(only, k)
    assert nothing is None


@pytest.mark.parametrize("name", SORTS)
def test_gradients_of_covariances(name):
    """∂k/∂x is a factor of x plus factors of the inducing environments."""
    term = sort_of_term(name)
    env = sample(term, 3)
    _, slope = term.compare(env.x)
    of_x, of_inducing = term.gradients(slope)
    lengths = term.length_scales
    direction = np.random.default_rng(1).normal(size=env.x.shape)
    derivative = np.einsum(
        "em,md,ed->em", of_inducing, term.scaled_inducing_points, direction / lengths
    )
    if of_x is not None:
        along = np.einsum("ed,ed->e", env.x / lengths, direction / lengths)
        derivative += of_x * along[:, None]

    def covariances(x):
        return term.compare(x, orders=(0,))[0]

    if name in EXACT:
        found = (covariances(env.x + direction) - covariances(env.x - direction)) / 2
        np.testing.assert_allclose(derivative, found, rtol=1e-11, atol=1e-11)
    else:
        direction *= 0.1  # a power needs products above zero
        derivative *= 0.1
        assert_second_order(covariances, derivative, env.x, direction, 3e-2, 1e-6)


@pytest.mark.parametrize("name", SORTS)
def test_local_energies(name):
    term = sort_of_term(name)
    env = sample(term)
    energy, by_x, by_f_cut = term.jet(env)
    slow = slow_local_energies(term, env)
    np.testing.assert_allclose(energy, slow, rtol=1e-11, atol=1e-13)
    # Local energies are linear in F.
    one = slow_local_energies(term, at(env, f_cut=np.ones(len(env.x))))
    np.testing.assert_allclose(by_f_cut, one, rtol=1e-11, atol=1e-13)
    assert by_x.shape == env.x.shape


@pytest.mark.parametrize("name", SORTS)
def test_derivatives_of_local_energies(name):
    term = sort_of_term(name)
    env = sample(term, 3)
    _, by_x, _ = term.jet(env)
    direction = 0.1 * np.random.default_rng(5).normal(size=env.x.shape)
    derivative = np.einsum("ed,ed->e", by_x, direction)

    def energies(x):
        return slow_local_energies(term, at(env, x=x))

    if name in EXACT:
        plus, minus = energies(env.x + direction), energies(env.x - direction)
        np.testing.assert_allclose(derivative, (plus - minus) / 2, rtol=1e-10)
    else:
        assert_second_order(energies, derivative, env.x, direction, 3e-2, 1e-6)


@pytest.mark.parametrize(("name", "zeta"), [("line", 1), ("square", 2)])
@pytest.mark.parametrize("n_inducing", [4, 40])
def test_collapsed_sums_are_the_sums(name, zeta, n_inducing):
    """A matrix or a vector stands for all inducing environments, where it is less."""
    term = sort_of_term(name, n_inducing=n_inducing)
    n_inducing, n_features = term.inducing_points.shape
    assert (term._collapsed is None) == (zeta == 2 and n_features >= 2 * n_inducing)
    generic = replace(term, kernel=Scaled(_Power(zeta), term.kernel.amplitude))
    assert generic._collapsed is None
    env = sample(term)
    for found, expected in zip(term.jet(env), generic.jet(env), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * scale)


def test_new_weights_make_new_sums():
    term = sort_of_term("square", n_inducing=40)
    env = sample(term)
    before, *_ = term.jet(env)
    double, *_ = replace(term, weights=2.0 * term.weights).jet(env)
    np.testing.assert_allclose(double, 2.0 * before, rtol=1e-12)


@pytest.mark.parametrize("name", SORTS)
def test_covariance_of_inducing_environments(name):
    term = sort_of_term(name)
    K = term.covariance()
    slow = [
        [
            f * g * slow_kernel(term, a, b)
            for b, g in zip(term.inducing_points, term.f_cut, strict=True)
        ]
        for a, f in zip(term.inducing_points, term.f_cut, strict=True)
    ]
    np.testing.assert_allclose(K, slow, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(K, K.T, rtol=1e-14, atol=1e-15)
    assert np.linalg.eigvalsh(K).min() > -1e-12 * np.trace(K)


@pytest.mark.parametrize("name", SORTS)
def test_prior_variance(name):
    term = sort_of_term(name)
    env = sample(term)
    slow = [
        f**2 * slow_kernel(term, x, x) for x, f in zip(env.x, env.f_cut, strict=True)
    ]
    np.testing.assert_allclose(term.prior_variance(env), slow, rtol=1e-12)


@pytest.mark.parametrize("name", SORTS)
def test_an_empty_set_of_environments(name):
    term = sort_of_term(name)
    width = term.inducing_points.shape[1]
    none = Environments(np.zeros((0, width)), np.zeros(0), np.zeros(0, dtype=int), 1)
    energy, by_x, by_f_cut = term.jet(none)
    assert energy.shape == by_f_cut.shape == (0,)
    assert by_x.shape == (0, width)


def test_no_digit_is_lost_between_few_features():
    """Distances of 1e-6 at features of 1e3: squares of differences keep them."""
    x = np.array([[1e3], [1e3 + 1e-6]])
    kernel = RBF(length_scale=1e-6)
    term = SparseTerm(None, kernel, np.ones(1), 0.0, x, np.ones(2), np.ones(2))
    k = term.compare(x, orders=(0,))[0]
    apart = (x[1, 0] - x[0, 0]) / 1e-6
    np.testing.assert_allclose(k[0, 1], np.exp(-0.5 * apart**2), rtol=1e-12)


class _Power(Kernel):
    """The same kernel, which a term does not know by name."""

    is_product = True

    def __init__(self, zeta):
        self.zeta = zeta

    def profile(self, u, orders=(0, 1)):
        return Polynomial(self.zeta).profile(u, orders)
