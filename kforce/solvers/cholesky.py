"""The exact solver: Cholesky factorisation of K plus noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
        """Return the prior variance that the observations explain.

        Parameters
        ----------
        K_star : ndarray of shape (n_observations, n_star)
            Covariance of the observations with what is predicted.

        Returns
        -------
        ndarray of shape (n_star,)
            diag(K_*ᵀ (K + Σ)⁻¹ K_*); posterior variance = prior − explained.
        """
        half = self.factor.half_solve(K_star)
        return np.einsum("ij,ij->j", half, half)

    def scaled(self, scale: float) -> Solution:
        """Return the solution of scale (K + Σ) coef = y; it takes over the factor."""
        self.factor.multiply(np.sqrt(scale))
        return Solution(
            coef=self.coef / scale,
            log_det=self.log_det + len(self.coef) * float(np.log(scale)),
            factor=self.factor,
        )


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
