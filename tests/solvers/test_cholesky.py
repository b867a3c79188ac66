import numpy as np
from conformance import SolverConformance
from conformance.solvers import problem

from kforce.solvers.cholesky import Cholesky
from kforce.solvers.tiles import TiledMatrix


class TestCholesky(SolverConformance):
    cases = {"": Cholesky()}

    def test_the_factor_solves_again(self, case, shape):
        n, tile_rows = shape
        K, y, variance = problem(n)
        solution = case.solve(self.matrix(K, tile_rows), y, variance)
        np.testing.assert_allclose(solution.factor.solve(y), solution.coef, atol=1e-15)
        scaled = solution.scaled(7.3)
        np.testing.assert_allclose(scaled.factor.solve(y), scaled.coef, atol=1e-13)


def test_progress_reaches_all_rows():
    K, y, variance = problem(20)
    counted = []
    Cholesky().solve(TiledMatrix.from_dense(K, 6), y, variance, counted.append)
    assert sum(counted) == 20
