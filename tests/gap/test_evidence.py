"""The variational bound against its dense formula, and its derivatives."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from kforce.gap.evidence import free_energy


def problem(n=9, m=4, p=3, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(m, 2 * m))
    return A @ A.T, rng.normal(size=(n, m)), rng.normal(size=n), rng.normal(size=(n, p))


def dense(K, rows, y, probes, is_probed=None):
    Q = rows @ np.linalg.solve(K, rows.T)
    value = multivariate_normal(cov=Q + np.eye(len(y))).logpdf(y)
    if is_probed is not None:
        part = rows[:, is_probed]
        Q = part @ np.linalg.solve(K[np.ix_(is_probed, is_probed)], part.T)
    return value + 0.5 * np.trace(probes.T @ Q @ probes)


def two_blocks():
    """Inducing variables of two terms, of which only the second is probed."""
    K, rows, y, probes = problem(m=5, seed=3)
    is_probed = np.array([False, False, True, True, True])
    K[np.ix_(~is_probed, is_probed)] = 0.0
    K[np.ix_(is_probed, ~is_probed)] = 0.0
    return K, rows, y, probes, is_probed


CASES = {
    "some motions": problem(),
    "all": (*problem()[:3], np.eye(9)),
    "no motions": (*problem()[:3], np.zeros((9, 0))),
    "two terms": two_blocks(),
    "more inducing variables than rows": problem(n=3, m=6),
}


def whitened(K, rows):
    return np.linalg.solve(np.linalg.cholesky(K), rows.T).T


def bound(V, y, probes, is_probed=None):
    """The bound of whitened rows."""
    products = V.T @ np.column_stack([V, y, probes])
    if is_probed is not None:
        products[~is_probed, V.shape[1] + 1 :] = 0.0
    return free_energy(products, y @ y, len(y))


@pytest.mark.parametrize("name", CASES)
def test_value(name):
    K, rows, *others = CASES[name]
    found = bound(whitened(K, rows), *others).value
    np.testing.assert_allclose(found, dense(*CASES[name]), rtol=1e-11)


def test_it_is_a_lower_bound():
    """With all of the trace, of the evidence of the full process."""
    rng = np.random.default_rng(4)
    x = np.sort(rng.uniform(0, 5, 12))
    full = np.exp(-0.5 * (x[:, None] - x) ** 2) / 0.1**2
    y = rng.normal(size=12)
    exact = multivariate_normal(cov=full + np.eye(12)).logpdf(y)
    bounds = []
    for z in (x[:2], x[:5], x[::2], x):
        K = np.exp(-0.5 * (z[:, None] - z) ** 2) + 1e-12 * np.eye(len(z))
        rows = np.exp(-0.5 * (x[:, None] - z) ** 2) / 0.1
        found = bound(whitened(K, rows), y, np.eye(12)).value - 0.5 * np.trace(full)
        assert found < exact + 1e-6
        bounds.append(found)
    assert bounds[0] < bounds[1] < bounds[3]
    np.testing.assert_allclose(bounds[3], exact, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_slopes(name):
    K, rows, y, probes, *is_probed = CASES[name]
    V = whitened(K, rows)
    slopes = bound(V, y, probes, *is_probed).slopes
    change = np.random.default_rng(5).normal(size=V.shape)
    derivative = np.sum(slopes * (change.T @ np.column_stack([V, y, probes])))
    errors = []
    for h in (1e-3, 1e-4):
        plus, minus = (
            bound(V + s * h * change, y, probes, *is_probed).value for s in (1, -1)
        )
        errors.append(abs((plus - minus) / (2 * h) - derivative))
    scale = max(abs(derivative), 1.0)
    assert errors[1] < 1e-6 * scale
    assert errors[0] > 50 * errors[1] or errors[1] < 1e-8 * scale


def test_products_that_are_none():
    with pytest.raises(np.linalg.LinAlgError):
        free_energy(np.diag([1.0, -2.0, 0.0])[:2], 1.0, 3)


def test_input_is_left_alone():
    products = np.random.default_rng(6).normal(size=(4, 6))
    products[:, :4] = products[:, :4] @ products[:, :4].T
    copy = products.copy()
    free_energy(products, 1.0, 9)
    np.testing.assert_array_equal(products, copy)
