"""Regularised least squares of sparse models, row block after row block.

The coefficients minimise |Λ^−½ (K_nm α − y)|² + αᵀ K_mm α, which is the posterior mean
of a Gaussian process on inducing variables. QR of [Λ^−½ K_nm; U] with Uᵀ U = K_mm needs
the square root of the condition number of the normal equations, and the triangular
factor of all rows so far is all that has to be kept. K_mm comes in last, so that noises
can all be multiplied by a number after the data have been read.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas, cholesky, lapack, solve_triangular

from kforce.errors import InputError
from kforce.registry import register
from kforce.storage.codec import check_array

_log = logging.getLogger("kforce.solvers")

#: Columns that LAPACK eliminates at a time.
_PANEL = 48

#: Largest jitter, as a share of the mean of the diagonal.
_LARGEST_JITTER = 1e-4


@register
@dataclass(frozen=True)
class SparseSolution:
    """Posterior of the weights of inducing environments.

    `coef` (m,) are α; `prior` (m, m) is U, upper triangular, with Uᵀ U = K_mm + jitter,
    and `factor` (m, m) is R, upper triangular, with Rᵀ R = K_mm + K_mn Λ⁻¹ K_nm. The
    `jitter`, in eV², was added to the diagonal of K_mm, and `misfit` is the least value
    of the sum of squares, without unit.
    """

    coef: np.ndarray
    prior: np.ndarray
    factor: np.ndarray
    jitter: float
    misfit: float

    def to_fields(self, with_factor: bool | None = None) -> dict:
        """Return what a file holds of it: of a triangle, its rows one after another."""
        upper = np.triu_indices(len(self.coef))
        return vars(self) | {"prior": self.prior[upper], "factor": self.factor[upper]}

    @classmethod
    def from_fields(cls, coef, prior, factor, jitter, misfit) -> SparseSolution:
        """Return the solution that a file holds; ValueError if it is none."""
        check_array("coef", coef, (None,))
        size = len(coef) * (len(coef) + 1) // 2
        check_array("prior", prior, (size,))
        check_array("factor", factor, (size,))
        triangles = _unpacked(prior, len(coef)), _unpacked(factor, len(coef))
        return cls(coef, *triangles, float(jitter), float(misfit))

    def log_evidence(self, log_variance: float, n_observations: int) -> float:
        """Return the log marginal likelihood of the rows, with K_nn replaced by Q_nn.

        `log_variance` is Σ log λ_n of the noise variances of the `n_observations` rows.
        """
        log_det = 2.0 * (_log_diagonal(self.factor) - _log_diagonal(self.prior))
        constant = n_observations * np.log(2.0 * np.pi)
        return -0.5 * (constant + log_variance + log_det + self.misfit)

    def unexplained(self, K: np.ndarray) -> np.ndarray:
        """Return the change of variances by conditioning, −k K_mm⁻¹ k + k (Rᵀ R)⁻¹ k.

        K (n, m) are covariances with the inducing variables, in eV times their unit,
        and the changes (n,) are not positive.
        """
        posterior, prior = self._half_solved(K)
        return np.square(posterior).sum(axis=0) - np.square(prior).sum(axis=0)

    def open_covariance(self, K: np.ndarray) -> np.ndarray:
        """Return what the data leave open of the inducing variables, K (RᵀR)⁻¹ Kᵀ."""
        half = solve_triangular(self.factor, K.T, trans="T", check_finite=False)
        return half.T @ half

    def _half_solved(self, K):
        return (
            solve_triangular(triangle, K.T, trans="T", check_finite=False)
            for triangle in (self.factor, self.prior)
        )


class SparseQR:
    """Triangular factor of a growing least-squares problem.

    Parameters
    ----------
    K_mm : ndarray of shape (m, m)
        Covariance of the inducing variables.
    jitter : float
        Added to its diagonal; multiplied by ten until the matrix is positive definite.

    Raises
    ------
    InputError
        If no reasonable jitter makes it so.

    Examples
    --------
    >>> qr = SparseQR(np.eye(2), jitter=0.0)
    >>> qr.add(np.array([[1.0, 0.0]]), np.array([1.0]))
    >>> qr.solve().coef
    array([0.5, 0. ])
    """

    def __init__(self, K_mm: np.ndarray, jitter: float = 1e-10):
        self.prior, self.jitter = _root(K_mm, jitter)
        # The last column is the right-hand side; its end becomes the residual.
        self._data = np.zeros((len(K_mm) + 1, len(K_mm) + 1), order="F")

    def add(self, rows: np.ndarray, y: np.ndarray) -> None:
        """Take in rows (n, m), divided by their noise, and their targets (n,)."""
        block = np.empty((len(rows), len(self._data)), order="F")
        block[:, :-1] = rows
        block[:, -1] = y
        self._data = _eliminated(self._data, block, 0)

    def solve(self, noise: float = 1.0) -> SparseSolution:
        """Return the posterior of all rows so far, of `noise` times their noise."""
        m = len(self.prior)
        whole = np.zeros_like(self._data)
        whole[:m, :m] = self.prior
        data = np.triu(self._data) / noise
        whole = _eliminated(whole, np.asfortranarray(data), m + 1)
        factor = np.triu(whole[:m, :m])
        return SparseSolution(
            coef=solve_triangular(factor, whole[:m, -1]),
            prior=self.prior,
            factor=factor,
            jitter=self.jitter,
            misfit=float(whole[-1, -1] ** 2),
        )

    def whitened(self) -> tuple[np.ndarray, np.ndarray]:
        """Return U⁻ᵀ K_mn Λ⁻¹ K_nm U⁻¹, (m, m), and U⁻ᵀ K_mn Λ⁻¹ y, (m,)."""
        data = np.triu(self._data)[:, :-1]
        white = solve_triangular(self.prior, data.T, trans="T", check_finite=False)
        return white @ white.T, white @ self._data[:, -1]


class NormalEquations:
    """The same least-squares problem by normal equations of whitened variables.

    A few times faster, but it squares the condition number. In variables U α the matrix
    is 1 + U⁻ᵀ K_mn Λ⁻¹ K_nm U⁻¹, which the prior keeps from being worse conditioned
    than the data are precise. It is used like `SparseQR`.
    """

    def __init__(self, K_mm: np.ndarray, jitter: float = 1e-10):
        self.prior, self.jitter = _root(K_mm, jitter)
        self._gram = np.zeros((len(K_mm), len(K_mm)), order="F")
        self._right = np.zeros(len(K_mm))
        self._square = 0.0

    def add(self, rows: np.ndarray, y: np.ndarray) -> None:
        """Take in rows (n, m), divided by their noise, and their targets (n,)."""
        white = solve_triangular(self.prior, rows.T, trans="T", check_finite=False)
        self._gram = blas.dsyrk(1.0, white, beta=1.0, c=self._gram, overwrite_c=True)
        self._right += white @ y
        self._square += float(y @ y)

    def solve(self, noise: float = 1.0) -> SparseSolution:
        """Return the posterior of all rows so far, of `noise` times their noise.

        The log has a line on how many digits it lost.
        """
        inner = self._gram / noise**2
        np.einsum("mm->m", inner)[:] += 1.0
        factor = cholesky(inner, overwrite_a=True, check_finite=False)
        diagonal = np.diag(factor)
        _log.warning(
            "normal equations: about %.0f of 16 digits of the weights are lost; "
            "solver='qr' loses half as many",
            2.0 * np.log10(diagonal.max() / diagonal.min()),
        )
        half = solve_triangular(factor, self._right / noise**2, trans="T")
        whitened = solve_triangular(factor, half)
        return SparseSolution(
            coef=solve_triangular(self.prior, whitened),
            prior=self.prior,
            factor=factor @ self.prior,
            jitter=self.jitter,
            misfit=self._square / noise**2 - float(half @ half),
        )

    def whitened(self) -> tuple[np.ndarray, np.ndarray]:
        """Return U⁻ᵀ K_mn Λ⁻¹ K_nm U⁻¹, (m, m), and U⁻ᵀ K_mn Λ⁻¹ y, (m,)."""
        # BLAS fills one triangle.
        return np.triu(self._gram) + np.triu(self._gram, 1).T, self._right


def _eliminated(triangle, block, n_trapezoidal):
    """Return the triangular factor of a triangle above a block; both are overwritten.

    The last rows of the block, as many as said, form an upper triangle as well.
    """
    panel = min(_PANEL, len(triangle))
    factor, *_, info = lapack.dtpqrt(
        n_trapezoidal, panel, triangle, block, overwrite_a=True, overwrite_b=True
    )
    if info != 0:  # an argument that LAPACK refuses is a mistake of ours
        raise RuntimeError(f"dtpqrt failed with info = {info}")
    return factor


def _root(K_mm, jitter):
    """Return the upper Cholesky factor, and the jitter that it took."""
    diagonal = np.einsum("mm->m", K_mm)
    largest = max(_LARGEST_JITTER * diagonal.mean(), jitter)
    while True:
        K = K_mm.copy()
        np.einsum("mm->m", K)[:] += jitter
        try:
            return cholesky(K, overwrite_a=True, check_finite=False), jitter
        except np.linalg.LinAlgError:
            jitter = max(10.0 * jitter, 1e-16 * diagonal.mean())
        if not 0.0 < jitter <= largest:
            raise InputError(
                "The covariance of the inducing environments is singular even with a "
                f"jitter of {largest:.1e} eV²: choose fewer inducing environments."
            )


def _unpacked(packed, n):
    """Return an upper triangle of its rows; ValueError if it is singular."""
    # In Fortran order, like what a fit leaves behind: the same sums in the same order.
    triangle = np.zeros((n, n), order="F")
    triangle[np.triu_indices(n)] = packed
    if not np.diag(triangle).all():
        raise ValueError("a factor is singular")
    return triangle


def _log_diagonal(triangle):
    return float(np.log(np.abs(np.diag(triangle))).sum())
