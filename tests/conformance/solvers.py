"""What holds for all exact solvers."""

import numpy as np
import pytest

from conformance.cases import Cases
from kforce.errors import InputError
from kforce.solvers.tiles import TiledMatrix


def problem(n, seed=0):
    """A positive semi-definite matrix of half rank, targets and noise."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, max(1, n // 2)))
    return root @ root.T / n, rng.normal(size=n), rng.uniform(0.5, 1.5, n)


class SolverConformance(Cases):
    """Subclasses name solvers; `matrix` is what they take for a dense matrix."""

    axes = {"shape": [(1, 1), (1, 2048), (7, 3), (40, 16), (90, 2048)]}

    @staticmethod
    def matrix(K, tile_rows=2048):
        return TiledMatrix.from_dense(K, tile_rows)

    def test_solution_against_numpy(self, case, shape):
        n, tile_rows = shape
        K, y, variance = problem(n)
        A = K + np.diag(variance)
        targets = y.copy()
        solution = case.solve(self.matrix(K, tile_rows), y, variance)
        # The condition number is below 20.
        np.testing.assert_allclose(solution.coef, np.linalg.solve(A, y), atol=1e-13)
        expected = np.linalg.slogdet(A)[1]
        np.testing.assert_allclose(solution.log_det, expected, atol=1e-12)
        np.testing.assert_array_equal(y, targets)

    def test_explained_variance_against_numpy(self, case, shape):
        n, tile_rows = shape
        K, y, variance = problem(n)
        solution = case.solve(self.matrix(K, tile_rows), y, variance)
        for n_star in (1, 4):
            K_star = np.random.default_rng(1).normal(size=(n, n_star))
            solved = np.linalg.solve(K + np.diag(variance), K_star)
            np.testing.assert_allclose(
                solution.explained(K_star), np.diag(K_star.T @ solved), rtol=1e-12
            )

    def test_what_was_observed_without_noise_is_explained(self, case):
        K, y, _ = problem(10)
        K += np.eye(10)
        solution = case.solve(self.matrix(K, 4), y, np.zeros(10))
        np.testing.assert_allclose(solution.explained(K), np.diag(K), rtol=1e-12)

    def test_scaled_is_the_solution_of_the_scaled_problem(self, case, shape):
        n, tile_rows = shape
        K, y, variance = problem(n)
        K_star = np.random.default_rng(1).normal(size=(n, 2))
        found = case.solve(self.matrix(K, tile_rows), y, variance).scaled(7.3)
        expected = case.solve(self.matrix(7.3 * K, tile_rows), y, 7.3 * variance)
        np.testing.assert_allclose(found.coef, expected.coef, atol=1e-13)
        np.testing.assert_allclose(found.log_det, expected.log_det, atol=1e-11)
        np.testing.assert_allclose(
            found.explained(K_star), expected.explained(K_star), rtol=1e-12
        )

    def test_a_matrix_that_is_not_positive_definite(self, case):
        # Two equal rows and a noise below zero.
        K, y, variance = np.ones((8, 8)), np.ones(8), np.full(8, -1e-3)
        match = r"cannot be factored: .*remove duplicates, or give a larger"
        for tile_rows in (3, 100):
            with pytest.raises(InputError, match=match):
                case.solve(self.matrix(K, tile_rows), y, variance)
