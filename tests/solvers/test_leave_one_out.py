import numpy as np
import pytest

from kforce.solvers.cholesky import LeftOut, blocks_of, leave_out
from kforce.solvers.tiles import TiledMatrix


def problem(n, seed=0):
    """A covariance with noise, and targets."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n))
    return root @ root.T + np.eye(n), rng.normal(size=n)


def refits(A, y, blocks):
    """What each block looks like to all others, by solving without it."""
    residuals, covariances = [], []
    for block in blocks:
        rest = np.delete(np.arange(len(y)), block)
        gain = np.linalg.solve(A[np.ix_(rest, rest)], A[rest, block])
        residuals.append(y[block] - gain.T @ y[rest])
        covariances.append(A[block, block] - gain.T @ A[rest, block])
    return LeftOut(residuals, covariances)


def left_out_of(A, y, blocks, tile_rows=100, **kwargs):
    factor = TiledMatrix.from_dense(A, tile_rows)
    factor.factor()
    return leave_out(factor, np.linalg.solve(A, y), blocks, **kwargs)


@pytest.mark.parametrize("columns", [1, 5, 256])
@pytest.mark.parametrize("tile_rows", [4, 9, 100])
@pytest.mark.parametrize("chosen", [[0], [5], [1, 3, 4], range(6)], ids=str)
def test_blocks_against_refits(chosen, tile_rows, columns):
    A, y = problem(19)
    blocks = [blocks_of([3, 1, 6, 2, 4, 3])[b] for b in chosen]
    fast = left_out_of(A, y, blocks, tile_rows, columns=columns)
    slow = refits(A, y, blocks)
    for name in ("residuals", "covariances"):
        for a, b in zip(getattr(fast, name), getattr(slow, name), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-11)
    for covariance in fast.covariances:
        np.testing.assert_array_equal(covariance, covariance.T)


def log_density(left_out, variance):
    """Of normal distributions with the covariances times a variance."""
    total = 0.0
    for r, C in zip(left_out.residuals, left_out.covariances, strict=True):
        total -= 0.5 * r @ np.linalg.solve(variance * C, r)
        total -= 0.5 * np.linalg.slogdet(2 * np.pi * variance * C)[1]
    return total


@pytest.mark.parametrize("sizes", [[1, 1, 1], [3, 1, 4, 2]], ids=str)
def test_the_density_is_that_of_the_best_amplitude(sizes):
    A, y = problem(sum(sizes))
    left_out = left_out_of(A, y, blocks_of(sizes))
    np.testing.assert_allclose(
        left_out.log_density(), log_density(left_out, 1.0), rtol=1e-12
    )
    density = left_out.log_density(free_amplitude=True)
    pairs = zip(left_out.residuals, left_out.covariances, strict=True)
    best = sum(r @ np.linalg.solve(C, r) for r, C in pairs) / len(y)
    np.testing.assert_allclose(density, log_density(left_out, best), rtol=1e-10)
    assert log_density(left_out, 0.9 * best) < density
    assert log_density(left_out, 1.1 * best) < density


def test_the_amplitude_of_the_covariance_does_not_matter():
    A, y = problem(9)
    blocks = blocks_of([3, 3, 3])
    one, other = (left_out_of(factor * A, y, blocks) for factor in (1.0, 50.0))
    for a, b in zip(one.residuals, other.residuals, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)
    densities = [one.log_density(True), other.log_density(True)]
    np.testing.assert_allclose(densities[0], densities[1], rtol=1e-11)
