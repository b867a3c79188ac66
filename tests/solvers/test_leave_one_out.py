import numpy as np
import pytest

from kforce.solvers import cholesky as leave_one_out
from kforce.solvers.cholesky import left_out_blocks
from kforce.solvers.tiles import TiledMatrix


def blocks_of(sizes):
    ends = np.cumsum(sizes)
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


@pytest.mark.parametrize("columns", [1, 5, 256])
@pytest.mark.parametrize("tile_rows", [4, 9, 100])
@pytest.mark.parametrize("chosen", [[0], [5], [1, 3, 4], range(6)], ids=str)
def test_blocks_against_refits(chosen, tile_rows, columns, monkeypatch):
    monkeypatch.setattr(leave_one_out, "_COLUMNS", columns)
    sizes = [3, 1, 6, 2, 4, 3]
    rng = np.random.default_rng(0)
    root = rng.normal(size=(19, 19))
    A, y = root @ root.T + np.eye(19), rng.normal(size=19)
    factor = TiledMatrix.from_dense(A, tile_rows)
    factor.factor()
    blocks = [blocks_of(sizes)[b] for b in chosen]
    found = left_out_blocks(factor, np.linalg.solve(A, y), blocks)
    for block, residual, covariance in zip(blocks, *found, strict=True):
        rest = np.delete(np.arange(19), block)
        gain = np.linalg.solve(A[np.ix_(rest, rest)], A[rest, block])
        np.testing.assert_allclose(residual, y[block] - gain.T @ y[rest], atol=1e-11)
        np.testing.assert_allclose(
            covariance, A[block, block] - gain.T @ A[rest, block], atol=1e-11
        )
        np.testing.assert_array_equal(covariance, covariance.T)
