import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kforce.solvers.tiles import TiledMatrix, tile_offsets

#: (rows, rows of a tile): one row, whole tiles, a short last tile, tiles of one row.
SHAPES = [(1, 1), (1, 2048), (2, 1), (7, 3), (12, 4), (50, 50), (61, 16), (130, 2048)]
shapes = pytest.mark.parametrize(("n", "tile_rows"), SHAPES)


def positive_definite(n, seed=0):
    """A matrix with eigenvalues between 1 and 10."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return (q * rng.uniform(1, 10, n)) @ q.T


def factored(n, tile_rows):
    A = positive_definite(n)
    tiled = TiledMatrix.from_dense(A, tile_rows)
    tiled.factor()
    return A, tiled


@shapes
def test_dense_round_trip(n, tile_rows):
    A = positive_definite(n)
    A = (A + A.T) / 2
    tiled = TiledMatrix.from_dense(A, tile_rows)
    assert tiled.n_rows == n
    assert tiled.n_tiles == -(-n // tile_rows)
    np.testing.assert_array_equal(tiled.to_dense(), A)
    np.testing.assert_array_equal(tiled.diagonal(), np.diag(A))


@shapes
def test_only_the_lower_triangle_is_read(n, tile_rows):
    A = positive_definite(n)
    A = (A + A.T) / 2
    spoiled = np.where(np.triu(np.ones((n, n)), 1) > 0, np.nan, A)
    tiled = TiledMatrix.from_dense(spoiled, tile_rows)
    np.testing.assert_array_equal(tiled.to_dense(), A)
    tiled.factor()
    b = np.ones(n)
    np.testing.assert_allclose(tiled.solve(b), np.linalg.solve(A, b), rtol=1e-11)


@shapes
@pytest.mark.parametrize("columns", [None, 1, 3])
def test_solve_against_numpy(n, tile_rows, columns):
    A, tiled = factored(n, tile_rows)
    b = np.random.default_rng(1).normal(size=n if columns is None else (n, columns))
    before = b.copy()
    x = tiled.solve(b)
    assert x.shape == b.shape
    np.testing.assert_allclose(x, np.linalg.solve(A, b), atol=1e-12)
    np.testing.assert_array_equal(b, before)


@shapes
@pytest.mark.parametrize("columns", [None, 3])
def test_half_solve_is_with_the_lower_factor(n, tile_rows, columns):
    A, tiled = factored(n, tile_rows)
    b = np.random.default_rng(1).normal(size=n if columns is None else (n, columns))
    half = tiled.half_solve(b)
    assert half.shape == b.shape
    np.testing.assert_allclose(np.linalg.cholesky(A) @ half, b, atol=1e-12)


@shapes
def test_solve_takes_any_memory_order_and_type(n, tile_rows):
    _, tiled = factored(n, tile_rows)
    b = np.arange(3 * n).reshape(n, 3)
    expected = tiled.solve(b.astype(float))
    for same in (b, np.asfortranarray(b), np.repeat(b, 2, axis=0)[::2]):
        # BLAS may add in another order.
        np.testing.assert_allclose(tiled.solve(same), expected, rtol=1e-13, atol=1e-13)


@shapes
def test_log_det_against_numpy(n, tile_rows):
    A, tiled = factored(n, tile_rows)
    np.testing.assert_allclose(
        tiled.log_det(), np.linalg.slogdet(A)[1], rtol=1e-12, atol=1e-13
    )


@shapes
def test_add_diagonal(n, tile_rows):
    A = positive_definite(n)
    A = (A + A.T) / 2
    values = np.arange(1.0, n + 1)
    tiled = TiledMatrix.from_dense(A, tile_rows)
    tiled.add_diagonal(values)
    np.testing.assert_array_equal(tiled.to_dense(), A + np.diag(values))


@shapes
def test_multiply(n, tile_rows):
    A = positive_definite(n)
    A = (A + A.T) / 2
    tiled = TiledMatrix.from_dense(A, tile_rows)
    tiled.multiply(4.0)
    np.testing.assert_array_equal(tiled.to_dense(), 4.0 * A)
    tiled.factor()
    tiled.multiply(0.5)
    np.testing.assert_allclose(tiled.log_det(), np.linalg.slogdet(A)[1], atol=1e-11)


@shapes
def test_progress_counts_the_rows(n, tile_rows):
    counted = []
    TiledMatrix.from_dense(positive_definite(n), tile_rows).factor(counted.append)
    assert sum(counted) == n
    assert len(counted) == -(-n // tile_rows)


@pytest.mark.parametrize(
    ("row", "tile"), [(0, "0 to 4"), (4, "4 to 8"), (9, "8 to 10")]
)
def test_the_rows_that_break_definiteness_are_named(row, tile):
    A = np.eye(10)
    A[row, row] = -1.0
    tiled = TiledMatrix.from_dense(A, tile_rows=4)
    with pytest.raises(np.linalg.LinAlgError, match=rf"rows {tile} of 10\)"):
        tiled.factor()


def test_not_a_number_is_not_positive_definite():
    A = np.eye(5)
    A[3, 2] = A[2, 3] = np.nan
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        TiledMatrix.from_dense(A, tile_rows=2).factor()


@pytest.mark.parametrize("tile_rows", [2, 5, 6, 7, 100])
def test_tiles_never_cut_a_block(tile_rows):
    sizes = np.array([3, 0, 2, 6, 1, 1, 4, 4, 0])
    offsets = tile_offsets(sizes, tile_rows)
    assert offsets[0] == 0
    assert offsets[-1] == len(sizes)
    assert (np.diff(offsets) > 0).all()
    for start, stop in itertools.pairwise(offsets):
        rows = sizes[start:stop]
        # A block that is larger than a tile has its own.
        assert rows.sum() <= tile_rows or (rows > 0).sum() == 1
        # Greedy: the first block of the next tile would not have fitted.
        if stop < len(sizes):
            assert rows.sum() + sizes[stop] > tile_rows


#: A matrix I + u uᵀ is made tile by tile, so only one half of it is ever in memory; its
#: inverse and determinant are known (Sherman and Morrison).
LARGE = """
import numpy as np
from kforce.solvers.tiles import TILE_ROWS, TiledMatrix
n = 21_000
u = np.random.default_rng(0).normal(size=n) / np.sqrt(n)
K = TiledMatrix(np.unique(np.append(np.arange(0, n, TILE_ROWS), n)))
for i in range(K.n_tiles):
    for j in range(i + 1):
        np.multiply.outer(u[K.range(i)], u[K.range(j)], out=K.tile(i, j))
K.add_diagonal(np.ones(n))
K.factor()
b = np.random.default_rng(1).normal(size=n)
x = b - u * (u @ b) / (1.0 + u @ u)
np.testing.assert_allclose(K.solve(b), x, atol=1e-11)
np.testing.assert_allclose(K.log_det(), np.log1p(u @ u), rtol=1e-9)
print("solved")
"""


@pytest.mark.slow
@pytest.mark.parametrize("core", [None, "SkylakeX"])
def test_above_twenty_thousand_rows(core):
    # Some builds of OpenBLAS crash in one large dpotrf, depending on the processor's
    # kernels; a crash would take the tests along, so this runs on its own.
    env = dict(os.environ)
    if core is not None:
        cpuinfo = Path("/proc/cpuinfo")
        if not cpuinfo.exists() or "avx512f" not in cpuinfo.read_text():
            pytest.skip("this processor has no AVX-512")
        env["OPENBLAS_CORETYPE"] = core
    run = subprocess.run(
        [sys.executable, "-c", LARGE], env=env, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "solved\n"


@shapes
def test_rows_known_to_be_zero_are_left_out(n, tile_rows):
    _, tiled = factored(n, tile_rows)
    b = np.random.default_rng(1).normal(size=(n, 2))
    for first in (n // 3, n - 1):
        b[:first] = 0.0
        half = tiled.half_solve(b, first)
        np.testing.assert_array_equal(half, tiled.half_solve(b))
        assert not half[:first].any()


@shapes
def test_tiles_are_taken_over(n, tile_rows):
    _, tiled = factored(n, tile_rows)
    rows = range(tiled.n_tiles)
    tiles = [[tiled.tile(i, j) for j in range(i + 1)] for i in rows]
    again = TiledMatrix.from_tiles(tiled.offsets, tiles)
    assert again.tile(0, 0) is tiled.tile(0, 0)
    np.testing.assert_array_equal(again.solve(np.ones(n)), tiled.solve(np.ones(n)))
