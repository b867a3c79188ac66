"""The exact solver: Cholesky factorisation of K plus noise, and leave-one-out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kforce.errors import InputError
from kforce.solvers.tiles import TiledMatrix


@dataclass(frozen=True)
class Solution:
    """Solution of (K + Σ) coef = y, with the factor of K + Σ.

    Attributes
    ----------
    coef : ndarray of shape (n_observations,)
        (K + Σ)⁻¹ y.
    log_det : float
        log det (K + Σ).
    factor : TiledMatrix
        Its Cholesky factor.
    """

    coef: np.ndarray
    log_det: float
    factor: TiledMatrix

    def explained(self, K_star: np.ndarray) -> np.ndarray:
        """Return the prior variance that the observations explain, (n_star,).

        It is diag(K_*ᵀ (K + Σ)⁻¹ K_*) of the covariance K_* (n_observations, n_star) of
        the observations with what is predicted; posterior variance = prior − explained.
        """
        half = self.factor.half_solve(K_star)
        return np.einsum("ij,ij->j", half, half)

    def refined(self, residual: np.ndarray) -> Solution:
        """Return the solution after a step of refinement: y − (K + Σ) coef is left."""
        return replace(self, coef=self.coef + self.factor.solve(residual))

    def scaled(self, scale: float) -> Solution:
        """Return the solution of scale (K + Σ) coef = y; it takes over the factor."""
        self.factor.multiply(np.sqrt(scale))
        return Solution(
            coef=self.coef / scale,
            log_det=self.log_det + len(self.coef) * float(np.log(scale)),
            factor=self.factor,
        )

    def log_likelihood(self, y: np.ndarray) -> float:
        """Return log p(y) of y ~ N(0, K + Σ)."""
        log_norm = len(y) * np.log(2.0 * np.pi)
        return float(-0.5 * (y @ self.coef + self.log_det + log_norm))


def unfactored(error: Exception) -> str:
    """Say why a covariance matrix cannot be factored, and what to do."""
    return (
        f"The covariance matrix cannot be factored: {error}. Usually some structures "
        "are duplicated or the length scale is very large: remove duplicates, or give "
        "a larger noise."
    )


class Cholesky:
    """Solve (K + Σ) coef = y by a Cholesky factorisation in tiles, in place.

    Examples
    --------
    >>> K = TiledMatrix.from_dense(np.eye(2))
    >>> Cholesky().solve(K, np.ones(2), variance=np.ones(2)).coef
    array([0.5, 0.5])
    """

    def solve(
        self,
        K: TiledMatrix,
        y: np.ndarray,
        variance: np.ndarray,
        progress: Callable | None = None,
    ) -> Solution:
        """Factor K + diag(variance), overwriting K, and solve with it.

        Parameters
        ----------
        K : TiledMatrix
            Prior covariance of the observations. It is destroyed.
        y : ndarray of shape (n_observations,)
            Observations.
        variance : ndarray of shape (n_observations,)
            Their noise variances.
        progress : callable, optional
            See `TiledMatrix.factor`.

        Raises
        ------
        InputError
            If K + Σ is not positive definite in double precision.
        """
        self.factor(K, variance, progress)
        return Solution(coef=K.solve(y), log_det=K.log_det(), factor=K)

    def factor(
        self, K: TiledMatrix, variance: np.ndarray, progress: Callable | None = None
    ) -> None:
        """Replace K by the factor of K + diag(variance); see `solve`."""
        K.add_diagonal(variance)
        try:
            K.factor(progress)
        except np.linalg.LinAlgError as error:
            raise InputError(unfactored(error)) from None


#: Rows of blocks that are solved for together: BLAS runs at full speed with so many.
_COLUMNS = 256


@dataclass(frozen=True)
class LeftOut:
    """Blocks of observations as all other observations predict them.

    `residuals` (n_b,) are observed minus predicted, and `covariances` (n_b, n_b) the
    predictive ones, noise included.
    """

    residuals: list[np.ndarray]
    covariances: list[np.ndarray]

    def log_density(self, free_amplitude: bool = False) -> float:
        """Return the sum of the logarithms of the predictive densities.

        With `free_amplitude` the covariances are meant up to a common factor, and the
        density is the largest over all factors (Rasmussen and Williams, Gaussian
        Processes for Machine Learning, sec. 5.4.2).
        """
        pairs = list(zip(self.residuals, self.covariances, strict=True))
        chi2 = sum(float(r @ np.linalg.solve(C, r)) for r, C in pairs)
        log_det = sum(np.linalg.slogdet(C)[1] for C in self.covariances)
        n = sum(map(len, self.residuals))
        factor = chi2 / n if free_amplitude else 1.0
        return float(
            -0.5 * (log_det + n * np.log(2.0 * np.pi * factor) + chi2 / factor)
        )


def left_out_blocks(
    factor: TiledMatrix,
    coef: np.ndarray,
    blocks: Sequence[slice],
    columns: int = _COLUMNS,
) -> LeftOut:
    """Leave out blocks of rows, one at a time, without any refitting.

    With α = A⁻¹ y the residual of block b, observed minus predicted, is
    (A⁻¹)_bb⁻¹ α_b, and its predictive covariance, noise included, is (A⁻¹)_bb⁻¹. With
    A = L Lᵀ the precision (A⁻¹)_bb is Hᵀ H with H = L⁻¹ e_b, whose rows before the
    block are zero: all blocks of A together cost as much as its factorisation
    (Rasmussen and Williams, Gaussian Processes for Machine Learning, eqs. 5.10 to
    5.12).

    `factor` is that of A = K + Σ, coef (n_rows,) α, and the blocks are in ascending
    order; as many as have `columns` rows are solved for together.

    Examples
    --------
    >>> A = TiledMatrix.from_dense(np.diag([4.0, 2.0]))
    >>> A.factor()
    >>> left_out_blocks(A, np.array([0.5, 1.0]), [slice(0, 1), slice(1, 2)]).residuals
    [array([2.]), array([2.])]
    """
    residuals, covariances = [], []
    for group in _groups(blocks, columns):
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
    return LeftOut(residuals, covariances)


def workspace(n_rows: int) -> float:
    """Return the bytes that `left_out_blocks` takes on top of the factor.

    Unit vectors, their solution, its parts, and the solution of the group before.

    Examples
    --------
    >>> workspace(10_000) / 1e6
    81.92
    """
    return 4.0 * 8.0 * n_rows * min(_COLUMNS, n_rows)


def blocks_of(sizes: np.ndarray) -> list[slice]:
    """Return the rows of consecutive blocks."""
    ends = np.cumsum(sizes)
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _groups(blocks, columns):
    """Put consecutive blocks together, up to a number of rows."""
    group, filled = [], 0
    for block in blocks:
        size = block.stop - block.start
        if group and filled + size > columns:
            yield group
            group, filled = [], 0
        group.append(block)
        filled += size
    if group:
        yield group
