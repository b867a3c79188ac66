"""Regularised least squares on inducing variables against dense posteriors."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from kforce.errors import InputError
from kforce.solvers.least_squares import NormalEquations, SparseQR


def problem(n=40, m=6, seed=0):
    """K_mm, whitened rows Λ^−½ K_nm, targets and noise variances of a toy process."""
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(0, 6, n), np.linspace(0, 6, m)

    def k(a, b):
        return 1.7 * np.exp(-0.5 * (a[:, None] - b) ** 2)

    noise = rng.uniform(0.05, 0.4, n)
    y = np.sin(x) + noise * rng.normal(size=n)
    return k(z, z), k(x, z), y, noise


def solution(K, rows, y, noise, cuts=(), jitter=1e-10, solver=SparseQR):
    qr = solver(K, jitter)
    bounds = [0, *cuts, len(y)]
    for a, b in pairwise(bounds):
        qr.add(rows[a:b] / noise[a:b, None], y[a:b] / noise[a:b])
    return qr.solve()


def test_posterior_mean():
    K, rows, y, noise = problem()
    found = solution(K, rows, y, noise)
    inner = K + (rows / noise[:, None] ** 2).T @ rows
    np.testing.assert_allclose(
        found.coef, np.linalg.solve(inner, rows.T @ (y / noise**2)), rtol=1e-8
    )
    np.testing.assert_allclose(found.factor.T @ found.factor, inner, rtol=1e-10)
    np.testing.assert_allclose(found.prior.T @ found.prior, K, rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(found.factor, np.triu(found.factor))
    np.testing.assert_array_equal(found.prior, np.triu(found.prior))
    assert found.jitter == 1e-10


@pytest.mark.parametrize("m", [1, 6, 31, 32, 33, 70])
@pytest.mark.parametrize("cuts", [(1, 2), (20,), (1, 3, 4, 30), tuple(range(1, 40))])
def test_any_partition_into_blocks_gives_the_same(m, cuts):
    rng = np.random.default_rng(m)
    A = rng.normal(size=(m, 2 * m))
    K, rows = A @ A.T / m, rng.normal(size=(40, m))
    y, noise = rng.normal(size=40), np.full(40, 0.3)
    whole, parts = solution(K, rows, y, noise), solution(K, rows, y, noise, cuts)
    np.testing.assert_allclose(parts.coef, whole.coef, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(parts.misfit, whole.misfit, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(
        parts.factor.T @ parts.factor, whole.factor.T @ whole.factor, rtol=1e-9
    )


def test_misfit():
    K, rows, y, noise = problem()
    found = solution(K, rows, y, noise)
    left = (y - rows @ found.coef) / noise
    least = left @ left + found.coef @ K @ found.coef
    np.testing.assert_allclose(found.misfit, least, rtol=1e-9)


def test_log_evidence():
    K, rows, y, noise = problem()
    found = solution(K, rows, y, noise)
    covariance = rows @ np.linalg.solve(K, rows.T) + np.diag(noise**2)
    expected = multivariate_normal(cov=covariance).logpdf(y)
    log_evidence = found.log_evidence(2.0 * np.log(noise).sum(), len(y))
    np.testing.assert_allclose(log_evidence, expected, rtol=1e-8)


def test_what_is_left_unexplained():
    K, rows, y, noise = problem()
    found = solution(K, rows, y, noise, cuts=(7, 11))
    new = problem(seed=9)[1][:5]
    inner = K + (rows / noise[:, None] ** 2).T @ rows
    left = new @ np.linalg.inv(inner) @ new.T
    np.testing.assert_allclose(found.open_covariance(new), left, rtol=1e-7, atol=1e-9)
    expected = left - new @ np.linalg.inv(K) @ new.T
    variance = found.unexplained(new)
    np.testing.assert_allclose(variance, np.diag(expected), rtol=1e-7, atol=1e-9)
    assert (variance <= 0.0).all()
    # The prior less what is explained is the variance of the full process, where the
    # inducing points are the training points.
    x = np.linspace(0, 5, 6)
    K = np.exp(-0.5 * (x[:, None] - x) ** 2)
    found = solution(K, K, np.sin(x), np.full(6, 0.1), jitter=1e-14)
    k = np.exp(-0.5 * (np.array([1.3, 2.0, 9.0])[:, None] - x) ** 2)
    exact = 1.0 - np.einsum("nm,mn->n", k, np.linalg.solve(K + 0.01 * np.eye(6), k.T))
    np.testing.assert_allclose(1.0 + found.unexplained(k), exact, rtol=1e-9)


@pytest.mark.parametrize("cuts", [(), (1, 2, 20)])
def test_normal_equations(cuts):
    """They lose digits, here few of 16, and give the same otherwise."""
    case = problem()
    qr, normal = solution(*case), solution(*case, cuts, solver=NormalEquations)
    np.testing.assert_allclose(normal.coef, qr.coef, rtol=1e-8)
    np.testing.assert_allclose(normal.misfit, qr.misfit, rtol=1e-9)
    np.testing.assert_allclose(
        normal.log_evidence(1.0, 40), qr.log_evidence(1.0, 40), rtol=1e-10
    )
    np.testing.assert_array_equal(normal.prior, qr.prior)
    for name in ("unexplained", "open_covariance"):
        found, expected = (getattr(s, name)(case[1]) for s in (normal, qr))
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


def test_normal_equations_say_what_they_lose(caplog):
    """Of two variables that the data tell apart by 1e-4 of their size."""
    K, rows = np.eye(2), 1e5 * np.array([[1.0, 1.0], [1.0, 1.0 + 1e-4]])
    qr, normal = SparseQR(K), NormalEquations(K)
    qr.add(rows, np.ones(2))
    normal.add(rows, np.ones(2))
    exact = np.linalg.solve(K + rows.T @ rows, rows.T @ np.ones(2))
    np.testing.assert_allclose(qr.solve().coef, exact, rtol=1e-6)
    # 16 digits less those that are lost.
    np.testing.assert_allclose(normal.solve().coef, exact, rtol=1e-5)
    (message,) = caplog.messages
    assert "about 9 of 16 digits" in message
    assert "solver='qr'" in message


def test_without_rows_the_prior_is_left():
    K = problem()[0]
    found = SparseQR(K).solve()
    assert not found.coef.any()
    assert found.misfit == 0.0
    np.testing.assert_allclose(found.unexplained(K), 0.0, atol=1e-12)
    np.testing.assert_allclose(found.log_evidence(0.0, 0), 0.0, atol=1e-12)


def test_a_block_without_rows_changes_nothing():
    K, rows, y, noise = problem()
    qr = SparseQR(K)
    qr.add(rows / noise[:, None], y / noise)
    before = qr.solve()
    qr.add(np.zeros((0, len(K))), np.zeros(0))
    np.testing.assert_array_equal(qr.solve().coef, before.coef)


def test_input_is_left_alone():
    K, rows, y, _ = problem()
    copies = [np.array(a) for a in (K, rows, y)]
    qr = SparseQR(K)
    qr.add(rows, y)
    first = qr.solve()
    kept = first.factor.copy()
    qr.add(rows, y)
    assert not np.allclose(qr.solve().coef, first.coef, rtol=1e-12)
    np.testing.assert_array_equal(first.factor, kept)
    for a, b in zip((K, rows, y), copies, strict=True):
        np.testing.assert_array_equal(a, b)


def test_jitter_is_raised_until_the_matrix_is_positive():
    v = np.random.default_rng(0).normal(size=(8, 3))
    K = v @ v.T  # of rank 3
    K -= 1e-9 * np.eye(8)
    found = SparseQR(K, jitter=1e-12)
    assert 1e-9 < found.jitter <= 1.1e-8
    np.testing.assert_allclose(np.log10(found.jitter) % 1.0, 0.0, atol=1e-6)
    prior = found.solve().prior
    np.testing.assert_allclose(
        prior.T @ prior, K + found.jitter * np.eye(8), rtol=0, atol=1e-12
    )
    assert found.solve().jitter == found.jitter


def test_no_jitter_where_none_is_needed():
    assert SparseQR(np.eye(3), jitter=0.0).jitter == 0.0
    copies = np.ones((3, 3))
    assert 0.0 < SparseQR(copies, jitter=0.0).jitter < 1e-12


def test_a_matrix_that_no_jitter_mends():
    K = np.diag([1.0, 1.0, -0.1])
    with pytest.raises(
        InputError, match=r"singular even with a jitter of 6\.3e-05 eV²"
    ):
        SparseQR(K)
    with pytest.raises(InputError, match="choose fewer inducing environments"):
        NormalEquations(K)
