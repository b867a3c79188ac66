"""Leave-one-out prediction from a Cholesky factor, one block of rows at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kforce.solvers.tiles import TiledMatrix

#: Columns that are solved for together: BLAS runs at full speed with so many.
_COLUMNS = 256


def left_out_blocks(
    factor: TiledMatrix, coef: np.ndarray, blocks: Sequence[slice]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return what blocks of rows look like to all other rows, without any refitting.

    With α = A⁻¹ y the residual of block b, observed minus predicted, is
    (A⁻¹)_bb⁻¹ α_b, and its predictive covariance, noise included, is (A⁻¹)_bb⁻¹. With
    A = L Lᵀ the precision (A⁻¹)_bb is Hᵀ H with H = L⁻¹ e_b, whose rows before the
    block are zero: all blocks of A together cost as much as its factorisation.

    Parameters
    ----------
    factor : TiledMatrix
        The factored matrix, A = K + Σ.
    coef : ndarray of shape (n_rows,)
        α.
    blocks : sequence of slice
        Rows of each block, in ascending order.

    Returns
    -------
    residuals : list of ndarray of shape (n_b,)
        One for each block.
    covariances : list of ndarray of shape (n_b, n_b)
        One for each block.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning, eqs. 5.10 to 5.12.

    Examples
    --------
    >>> A = TiledMatrix.from_dense(np.diag([4.0, 2.0]))
    >>> A.factor()
    >>> left_out_blocks(A, np.array([0.5, 1.0]), [slice(0, 1), slice(1, 2)])
    ([array([2.]), array([2.])], [array([[4.]]), array([[2.]])])
    """
    residuals, covariances = [], []
    for group in _groups(blocks):
        first = group[0].start
        ends = np.cumsum([0] + [block.stop - block.start for block in group])
        units = np.zeros((factor.n_rows, ends[-1]), order="F")
        for block, end in zip(group, ends[:-1], strict=True):
            rows = np.arange(block.start, block.stop)
            units[rows, rows - block.start + end] = 1.0
        half = factor.half_solve(units, first)[first:]
        for block, a, b in zip(group, ends, ends[1:], strict=False):
            H = half[block.start - first :, a:b]
            covariance = np.linalg.inv(H.T @ H)
            covariances.append(0.5 * (covariance + covariance.T))
            residuals.append(covariances[-1] @ coef[block])
    return residuals, covariances


def _groups(blocks):
    """Put consecutive blocks together, up to `_COLUMNS` rows."""
    group, filled = [], 0
    for block in blocks:
        size = block.stop - block.start
        if group and filled + size > _COLUMNS:
            yield group
            group, filled = [], 0
        group.append(block)
        filled += size
    if group:
        yield group
