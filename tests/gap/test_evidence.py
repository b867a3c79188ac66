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


@pytest.mark.parametrize("name", CASES)
def test_value(name):
    case = CASES[name]
    np.testing.assert_allclose(free_energy(*case).value, dense(*case), rtol=1e-11)


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
        found = free_energy(K, rows, y, np.eye(12)).value - 0.5 * np.trace(full)
        assert found < exact + 1e-6
        bounds.append(found)
    assert bounds[0] < bounds[1] < bounds[3]
    np.testing.assert_allclose(bounds[3], exact, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_derivatives(name):
    K, rows, y, probes, *is_probed = CASES[name]
    found = free_energy(K, rows, y, probes, *is_probed)
    rng = np.random.default_rng(5)
    dK, drows, dy = (rng.normal(size=a.shape) for a in (K, rows, y))
    dK = dK + dK.T
    if is_probed:  # independent terms stay independent
        dK *= K != 0.0
        assert not found.by_prior[~is_probed[0]][:, is_probed[0]][K[:2, 2:] != 0].any()
    np.testing.assert_allclose(found.by_prior, found.by_prior.T, rtol=1e-12)
    slopes = [
        (np.sum(found.by_prior * dK), (dK, 0.0, 0.0)),
        (np.sum(found.by_rows * drows), (0.0, drows, 0.0)),
        (np.sum(found.by_targets * dy), (0.0, 0.0, dy)),
    ]
    for derivative, (a, b, c) in slopes:
        errors = []
        for h in (1e-3, 1e-4):
            plus, minus = (
                dense(
                    K + s * h * a, rows + s * h * b, y + s * h * c, probes, *is_probed
                )
                for s in (1, -1)
            )
            errors.append(abs((plus - minus) / (2 * h) - derivative))
        scale = max(abs(derivative), 1.0)
        assert errors[1] < 1e-5 * scale
        assert errors[0] > 50 * errors[1] or errors[1] < 1e-8 * scale


def test_a_matrix_that_is_not_positive():
    K, rows, y, probes = problem()
    with pytest.raises(np.linalg.LinAlgError):
        free_energy(K - 100.0 * np.eye(4), rows, y, probes)


def test_input_is_left_alone():
    case = two_blocks()
    copies = [np.array(a) for a in case]
    free_energy(*case)
    for a, b in zip(case, copies, strict=True):
        np.testing.assert_array_equal(a, b)
