"""A symmetric matrix as square tiles of its lower triangle, factored in place.

Half storage: n²/2 doubles and no second copy. Each tile is one contiguous Fortran
array, so that LAPACK and BLAS work on it where it is. Tiles stay below
about 8,000 rows, where every LAPACK in use is reliable (some crash in a large dpotrf).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg.blas import dgemm, dsyrk, dtrsm
from scipy.linalg.lapack import dpotrf

from kforce.registry import register
from kforce.storage.codec import check_array

#: Rows of a tile: large enough for BLAS to run at full speed, small enough that the
#: upper halves of the diagonal tiles, which are stored and not used, cost little.
TILE_ROWS = 2048


@register
class TiledMatrix:
    """The lower triangle of a symmetric matrix.

    Parameters
    ----------
    offsets : ndarray of int, shape (n_tiles + 1,)
        Tile (i, j) holds the rows ``offsets[i]:offsets[i + 1]`` and the columns
        ``offsets[j]:offsets[j + 1]``, for j ≤ i.

    Examples
    --------
    >>> K = TiledMatrix.from_dense(np.diag([4.0, 9.0, 16.0]), tile_rows=2)
    >>> K.factor()
    >>> K.solve(np.ones(3))
    array([0.25      , 0.11111111, 0.0625    ])
    """

    def __init__(self, offsets: np.ndarray):
        self.offsets = np.asarray(offsets, dtype=np.intp)
        sizes = np.diff(self.offsets)
        self._tiles = [
            [np.empty((sizes[i], sizes[j]), order="F") for j in range(i + 1)]
            for i in range(len(sizes))
        ]

    @classmethod
    def from_dense(cls, matrix: np.ndarray, tile_rows: int = TILE_ROWS) -> TiledMatrix:
        """Copy the lower triangle of a dense symmetric matrix."""
        n = len(matrix)
        tiled = cls(np.unique(np.append(np.arange(0, n, tile_rows), n)))
        for i in range(tiled.n_tiles):
            for j in range(i + 1):
                tiled.tile(i, j)[...] = matrix[tiled.range(i), tiled.range(j)]
        return tiled

    @classmethod
    def from_tiles(cls, offsets: np.ndarray, tiles: list[list]) -> TiledMatrix:
        """Take over tiles [i][j], j ≤ i, without copying those in Fortran order."""
        tiled = cls(offsets)
        tiled._tiles = [
            [np.asfortranarray(tile, dtype=float) for tile in row] for row in tiles
        ]
        return tiled

    def to_fields(self, with_factor: bool | None = None) -> dict:
        """Return what a file holds of it, the tiles row after row."""
        # Files hold arrays in the order of C; above the diagonal there is whatever was
        # in the memory before.
        tiles = [
            [np.tril(tile).T if i == j else tile.T for j, tile in enumerate(row)]
            for i, row in enumerate(self._tiles)
        ]
        return {"offsets": self.offsets, "tiles": tiles}

    @classmethod
    def from_fields(cls, offsets: np.ndarray, tiles: list[list]) -> TiledMatrix:
        """Return the factor that a file holds; ValueError if it is none."""
        check_array("offsets", offsets, (len(tiles) + 1,), "i")
        sizes = np.diff(offsets)
        if offsets[0] != 0 or not (sizes > 0).all():
            raise ValueError("the offsets of a factor do not ascend from 0")
        for i, row in enumerate(tiles):
            if len(row) != i + 1:
                raise ValueError("a factor is not triangular")
            for j, tile in enumerate(row):
                check_array("a tile of the factor", tile, (sizes[j], sizes[i]))
        factor = cls.from_tiles(offsets, [[tile.T for tile in row] for row in tiles])
        if not (factor.diagonal() > 0.0).all():
            raise ValueError("the factor is not one of a positive definite matrix")
        return factor

    def to_dense(self) -> np.ndarray:
        """Return the full symmetric matrix, before it is factored."""
        dense = np.empty((self.n_rows, self.n_rows))
        for i in range(self.n_tiles):
            for j in range(i + 1):
                dense[self.range(i), self.range(j)] = self.tile(i, j)
        lower = np.tril(dense)
        return lower + np.tril(dense, -1).T

    @property
    def n_rows(self) -> int:
        """Rows of the whole matrix."""
        return int(self.offsets[-1])

    @property
    def n_tiles(self) -> int:
        """Tiles along one side."""
        return len(self.offsets) - 1

    def range(self, i: int) -> slice:
        """Return the rows that tiles (i, ·) hold."""
        return slice(self.offsets[i], self.offsets[i + 1])

    def tile(self, i: int, j: int) -> np.ndarray:
        """Return tile (i, j), j ≤ i, as a Fortran array to work on in place."""
        return self._tiles[i][j]

    def diagonal(self) -> np.ndarray:
        """Return the diagonal, (n_rows,)."""
        return np.concatenate([np.diag(self.tile(i, i)) for i in range(self.n_tiles)])

    def add_diagonal(self, values: np.ndarray) -> None:
        """Add `values` (n_rows,) to the diagonal."""
        for i in range(self.n_tiles):
            np.einsum("ii->i", self.tile(i, i))[...] += values[self.range(i)]

    def multiply(self, scale: float) -> None:
        """Multiply the matrix, or its factor, by a number."""
        # Above the diagonal is what nobody wrote, and nobody reads.
        with np.errstate(all="ignore"):
            for row in self._tiles:
                for tile in row:
                    tile *= scale

    def factor(self, progress: Callable | None = None) -> None:
        """Replace the matrix by its Cholesky factor, L Lᵀ = A.

        Left-looking by columns of tiles: a tile is completed before the next is read,
        and all arithmetic is dgemm, dsyrk, dtrsm or dpotrf on whole tiles. `progress`
        is called with the number of rows that each column of tiles completes.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the matrix is not positive definite.
        """
        for j in range(self.n_tiles):
            for i in range(j, self.n_tiles):
                self._complete(i, j)
            if progress is not None:
                progress(self.offsets[j + 1] - self.offsets[j])

    def _complete(self, i, j):
        tile = self.tile(i, j)
        for k in range(j):
            if i == j:
                dsyrk(-1.0, self.tile(j, k), 1.0, tile, lower=1, overwrite_c=1)
            else:
                a, b = self.tile(i, k), self.tile(j, k)
                dgemm(-1.0, a, b, 1.0, tile, trans_b=1, overwrite_c=1)
        if i == j:
            _, info = dpotrf(tile, lower=1, clean=0, overwrite_a=1)
            # Some LAPACK libraries do not report what is not a number.
            if info > 0 or not np.isfinite(tile.diagonal()).all():
                raise np.linalg.LinAlgError(
                    f"the matrix is not positive definite (rows "
                    f"{self.offsets[j]} to {self.offsets[j + 1]} of {self.n_rows})"
                )
        else:
            diagonal = self.tile(j, j)
            dtrsm(1.0, diagonal, tile, side=1, lower=1, trans_a=1, overwrite_b=1)

    def half_solve(self, b: np.ndarray, first_row: int = 0) -> np.ndarray:
        """Return L⁻¹ b, once the matrix is factored; b is (n_rows,) or (n_rows, k).

        All rows of b before `first_row` are zero, and so are those of the solution:
        their tiles are left out.
        """
        b = np.asarray(b, dtype=float)
        columns = b.reshape(len(b), -1)
        x = np.zeros(columns.shape, order="F")
        first = int(np.searchsorted(self.offsets, first_row, side="right")) - 1
        solved = []  # parts of x, each contiguous as BLAS wants them
        for i in range(first, self.n_tiles):
            part = np.array(columns[self.range(i)], order="F")
            for k, before in enumerate(solved, start=first):
                part = dgemm(-1.0, self.tile(i, k), before, 1.0, part, overwrite_c=1)
            solved.append(dtrsm(1.0, self.tile(i, i), part, lower=1, overwrite_b=1))
            x[self.range(i)] = solved[-1]
        return x.reshape(b.shape)

    def solve(self, b: np.ndarray) -> np.ndarray:
        """Return A⁻¹ b, once the matrix is factored; b is (n_rows,) or (n_rows, k)."""
        return self.solve_transposed(self.half_solve(b))

    def solve_transposed(self, half: np.ndarray) -> np.ndarray:
        """Return L⁻ᵀ b of b (n_rows,) or (n_rows, k), in its place."""
        x = half.reshape(len(half), -1)
        for i in reversed(range(self.n_tiles)):
            part = x[self.range(i)]
            for k in range(i + 1, self.n_tiles):
                part -= self.tile(k, i).T @ x[self.range(k)]
            x[self.range(i)] = dtrsm(1.0, self.tile(i, i), part, lower=1, trans_a=1)
        return half

    def log_det(self) -> float:
        """Return log det A, once the matrix is factored."""
        return float(2.0 * np.log(self.diagonal()).sum())


def tile_offsets(sizes: np.ndarray, tile_rows: int = TILE_ROWS) -> np.ndarray:
    """Return which blocks start a tile, so that none is cut: (n_tiles + 1,) indices.

    Blocks have `sizes` (n_blocks,) rows, and a tile has `tile_rows` at most, unless a
    single block has more.

    Examples
    --------
    >>> tile_offsets(np.array([3, 3, 3, 3]), tile_rows=6)
    array([0, 2, 4])
    """
    starts, filled = [0], 0
    for block, size in enumerate(sizes):
        if filled and filled + size > tile_rows:
            starts.append(block)
            filled = 0
        filled += size
    return np.array([*starts, len(sizes)])
