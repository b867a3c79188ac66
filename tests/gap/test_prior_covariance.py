"""Prior covariances of sums of local energies, and of their derivatives."""

import numpy as np
import pytest
from sparse_toys import SORTS, clear_of_kinks, cluster, environments, slow_kernel
from sparse_toys import sort_of_term as make

from kforce.gap.covariance import (
    derivative_covariance,
    energy_covariance,
    energy_variance,
)
from kforce.gap.sparse_term import SparseTerm
from kforce.kernels.base import Scaled
from kforce.kernels.stationary import Matern32

#: Elements do not move.
SMOOTH = [name for name in SORTS if name != "elements"]


def points(name, n=5):
    found = environments(SORTS[name][0], [cluster(4)])
    return found.x[:n], found.f_cut[:n]


@pytest.mark.parametrize("name", SORTS)
def test_covariance_of_energies(name):
    term = make(name)
    x, f_cut = points(name)
    slow = np.array([[slow_kernel(term, a, b) for b in x] for a in x])
    slow *= np.outer(f_cut, f_cut)
    single = energy_covariance(term, x, f_cut, np.arange(len(x)), len(x))
    # Squared distances may be differences of squares, with an error of 1e-16.
    np.testing.assert_allclose(single, slow, rtol=1e-11, atol=1e-12)
    owner = np.array([1, 0, 1, 2, 2])[: len(x)]
    member = np.eye(4)[owner]
    pooled = energy_covariance(term, x, f_cut, owner, 4, n_compared=2)
    np.testing.assert_allclose(pooled, member.T @ slow @ member, rtol=1e-10, atol=1e-12)
    weighted = slow.sum()
    np.testing.assert_allclose(energy_variance(term, x, f_cut), weighted, rtol=1e-11)


def slow_double(term, left, right):
    """cov of Σ F f(x) at one geometry with that at another."""
    (x, f_cut), (y, other) = left, right
    return sum(
        f * g * slow_kernel(term, a, b)
        for a, f in zip(x, f_cut, strict=True)
        for b, g in zip(y, other, strict=True)
    )


def mixed_differences(function, h):
    """∂²/∂s∂t of function(s, t) at zero."""
    total = sum(a * b * function(a * h, b * h) for a in (1, -1) for b in (1, -1))
    return total / (4.0 * h**2)


@pytest.mark.parametrize("name", SMOOTH)
def test_covariance_of_derivatives(name):
    """Along motions of features and fading that are made up."""
    term = make(name)
    x, f_cut = points(name, 4)
    rng = np.random.default_rng(0)
    tangents = 0.2 * rng.normal(size=(2, *x.shape))
    df_cut = rng.normal(size=(2, len(x)))
    found = derivative_covariance(term, x, f_cut, tangents, df_cut)
    np.testing.assert_allclose(found, found.T, rtol=1e-9)
    for p, q in ((0, 0), (0, 1), (1, 1)):

        def double(s, t, p=p, q=q):
            return slow_double(
                term,
                (x + s * tangents[p], f_cut + s * df_cut[p]),
                (x + t * tangents[q], f_cut + t * df_cut[q]),
            )

        coarse, fine = (mixed_differences(double, h) for h in (9e-3, 3e-3))
        # Third derivatives of the compact kernel jump: its differences are less smooth.
        order = 1 if name == "compact" else 2
        extrapolated = (3**order * fine - coarse) / (3**order - 1)
        scale = np.sqrt(found[p, p] * found[q, q])
        assert abs(extrapolated - found[p, q]) < 2e-4 * scale
        errors = [abs(value - found[p, q]) for value in (coarse, fine)]
        # In that order, unless terms of several orders happen to cancel.
        assert errors[0] > 0.75 * 3**order * errors[1] or errors[0] < 1e-6 * scale


@pytest.mark.parametrize("name", ["few features", "constant", "product, constant"])
def test_covariance_along_motions_of_atoms(name):
    """Features and fading as they really change when atoms move."""
    term = make(name)
    atoms = clear_of_kinks(cluster, [term])
    rng = np.random.default_rng(1)
    motions = rng.normal(size=(2, *atoms.positions.shape))
    env = environments(term.descriptor, [atoms])
    pushed = [env.push(motion) for motion in motions]
    tangents, df_cut = (np.array(part) for part in zip(*pushed, strict=True))
    found = derivative_covariance(term, env.x, env.f_cut, tangents, df_cut)

    def at(p, s):
        changed = atoms.copy()
        changed.positions += s * motions[p]
        moved = environments(term.descriptor, [changed])
        assert len(moved.x) == len(env.x)
        return moved.x, moved.f_cut

    h = 1e-3
    sides = {(p, s): at(p, s * h) for p in (0, 1) for s in (1, -1)}
    for p, q in ((0, 0), (0, 1)):
        total = sum(
            a * b * slow_double(term, sides[p, a], sides[q, b])
            for a in (1, -1)
            for b in (1, -1)
        )
        scale = np.sqrt(found[p, p] * found[q, q])
        assert abs(total / (4 * h**2) - found[p, q]) < 1e-5 * scale


def test_a_constant_alone_counts_through_fading():
    x, f_cut = points("constant", 4)
    term = make("constant")
    shift = SparseTerm(
        None, Scaled(term.kernel.kernel, 1e-9), term.length_scales, 0.5, x, f_cut
    )
    df_cut = np.random.default_rng(2).normal(size=(3, len(x)))
    tangents = np.random.default_rng(3).normal(size=(3, *x.shape))
    found = derivative_covariance(shift, x, f_cut, tangents, df_cut)
    sums = df_cut.sum(axis=1)
    np.testing.assert_allclose(found, 0.25 * np.outer(sums, sums), atol=1e-12)
    np.testing.assert_allclose(
        energy_variance(shift, x, f_cut), 0.25 * f_cut.sum() ** 2, rtol=1e-12
    )


def test_a_kernel_whose_second_derivative_diverges():
    """φ'' of Matérn 3/2 is infinite at 0, where its factor is zero."""
    rng = np.random.default_rng(4)
    x, f_cut = rng.normal(size=(3, 2)), np.ones(3)
    term = SparseTerm(None, Matern32(length_scale=1.2), np.ones(2), 0.0, x, f_cut)
    tangents = rng.normal(size=(1, 3, 2))
    found = derivative_covariance(term, x, f_cut, tangents, np.zeros((1, 3)))
    # −2 φ'(0) = 3/ℓ² for one point.
    alone = derivative_covariance(
        term, x[:1], f_cut[:1], tangents[:, :1], np.zeros((1, 1))
    )
    expected = 3.0 / 1.2**2 * np.sum(tangents[0, 0] ** 2)
    np.testing.assert_allclose(alone, [[expected]], rtol=1e-12)
    assert np.isfinite(found).all()


def test_the_diagonal_is_not_negative():
    for name in SMOOTH:
        term = make(name)
        x, f_cut = points(name)
        tangents = np.random.default_rng(5).normal(size=(4, *x.shape))
        df_cut = np.random.default_rng(6).normal(size=(4, len(x)))
        found = derivative_covariance(term, x, f_cut, tangents, df_cut)
        assert np.linalg.eigvalsh(found).min() > -1e-9 * np.trace(found)


def test_copies_of_an_environment():
    """Many features that are equal: the covariance is that of one, times squares."""
    term = make("many features")
    x, f_cut = points("many features", 1)
    both, twice = np.repeat(x, 2, axis=0), np.repeat(f_cut, 2)
    found = energy_variance(term, both, twice)
    np.testing.assert_allclose(found, 4.0 * energy_variance(term, x, f_cut), rtol=1e-7)
    tangents = np.random.default_rng(7).normal(size=(1, 1, x.shape[1]))
    one = derivative_covariance(term, x, f_cut, tangents, np.zeros((1, 1)))
    two = derivative_covariance(
        term, both, twice, np.repeat(tangents, 2, axis=1), np.zeros((1, 2))
    )
    np.testing.assert_allclose(two, 4.0 * one, rtol=1e-6)
