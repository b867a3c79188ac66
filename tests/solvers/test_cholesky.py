import numpy as np
import pytest

from kforce.errors import InputError
from kforce.solvers.cholesky import Cholesky
from kforce.solvers.tiles import TiledMatrix

SHAPES = [(1, 1), (1, 2048), (7, 3), (40, 16), (90, 2048)]


def problem(n, seed=0):
    """A positive semi-definite matrix of half rank, targets and noise."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, max(1, n // 2)))
    return root @ root.T / n, rng.normal(size=n), rng.uniform(0.5, 1.5, n)


@pytest.mark.parametrize(("n", "tile_rows"), SHAPES)
def test_solution_against_numpy(n, tile_rows):
    K, y, variance = problem(n)
    A = K + np.diag(variance)
    solution = Cholesky().solve(TiledMatrix.from_dense(K, tile_rows), y, variance)
    # The condition number is below 20.
    np.testing.assert_allclose(solution.coef, np.linalg.solve(A, y), atol=1e-13)
    np.testing.assert_allclose(solution.log_det, np.linalg.slogdet(A)[1], atol=1e-12)
    np.testing.assert_allclose(solution.factor.solve(y), solution.coef, atol=1e-15)


@pytest.mark.parametrize(("n", "tile_rows"), SHAPES)
@pytest.mark.parametrize("n_star", [1, 4])
def test_explained_variance_against_numpy(n, tile_rows, n_star):
    K, y, variance = problem(n)
    K_star = np.random.default_rng(1).normal(size=(n, n_star))
    solution = Cholesky().solve(TiledMatrix.from_dense(K, tile_rows), y, variance)
    expected = np.diag(K_star.T @ np.linalg.solve(K + np.diag(variance), K_star))
    np.testing.assert_allclose(solution.explained(K_star), expected, rtol=1e-12)


def test_what_was_observed_without_noise_is_explained():
    K, y, _ = problem(10)
    K += np.eye(10)
    solution = Cholesky().solve(TiledMatrix.from_dense(K, 4), y, np.zeros(10))
    np.testing.assert_allclose(solution.explained(K), np.diag(K), rtol=1e-12)


@pytest.mark.parametrize(("n", "tile_rows"), SHAPES)
def test_scaled_is_the_solution_of_the_scaled_problem(n, tile_rows):
    K, y, variance = problem(n)
    K_star = np.random.default_rng(1).normal(size=(n, 2))
    scale = 7.3
    got = Cholesky().solve(TiledMatrix.from_dense(K, tile_rows), y, variance)
    got = got.scaled(scale)
    expected = Cholesky().solve(
        TiledMatrix.from_dense(scale * K, tile_rows), y, scale * variance
    )
    np.testing.assert_allclose(got.coef, expected.coef, atol=1e-13)
    np.testing.assert_allclose(got.log_det, expected.log_det, atol=1e-11)
    np.testing.assert_allclose(got.factor.solve(y), expected.coef, atol=1e-13)
    np.testing.assert_allclose(
        got.explained(K_star), expected.explained(K_star), rtol=1e-12
    )


def test_progress_reaches_all_rows():
    K, y, variance = problem(20)
    counted = []
    Cholesky().solve(TiledMatrix.from_dense(K, 6), y, variance, counted.append)
    assert sum(counted) == 20


@pytest.mark.parametrize("tile_rows", [3, 100])
def test_a_matrix_that_is_not_positive_definite(tile_rows):
    # Two equal rows and noise too small to tell them apart.
    K = np.ones((8, 8))
    with pytest.raises(
        InputError, match=r"cannot be factored: .*remove duplicates, or give a larger"
    ):
        Cholesky().solve(
            TiledMatrix.from_dense(K, tile_rows), np.ones(8), np.full(8, -1e-3)
        )
