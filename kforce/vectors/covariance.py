"""Prior covariance of values and partial derivatives at plain vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from kforce.kernels.base import Kernel


@dataclass(frozen=True)
class Sites:
    """Which values and partial derivatives of f are meant, at which points.

    Their order is that of the rows of a covariance: the values at all points, then
    the gradients, point by point.

    Parameters
    ----------
    x : ndarray of shape (n, n_features)
        Points.
    values : bool
        Whether the values at the points are among them.
    partials : ndarray of bool, shape (n, n_features)
        Which components of the gradients are.
    """

    x: np.ndarray
    values: bool
    partials: np.ndarray

    @classmethod
    def of_values(cls, x: np.ndarray) -> Sites:
        """Return the values at some points, and no derivatives."""
        return cls(x, True, np.zeros(x.shape, dtype=bool))

    @property
    def at_values(self) -> np.ndarray:
        """Points whose value is meant, (n_values, n_features)."""
        return self.x if self.values else self.x[:0]

    @property
    def at_gradients(self) -> np.ndarray:
        """Points with any component of the gradient, (n_gradients, n_features)."""
        return self.x[self.partials.any(axis=1)]

    @property
    def rows(self) -> np.ndarray:
        """Which of the n_values + n_gradients × n_features rows are meant."""
        partials = self.partials[self.partials.any(axis=1)].ravel()
        return np.append(np.ones(len(self.at_values), dtype=bool), partials)


def vector_covariance(kernel: Kernel, left: Sites, right: Sites) -> np.ndarray:
    """Return the prior covariance of values and gradients at plain vectors.

    With d = x − y, c1 = −2φ' and c2 = 4φ''::

        cov(f(x),  f(y))   = φ
        cov(f(x),  ∇f(y))  = c1 d
        cov(∇f(x), ∇f(y)ᵀ) = c1 I − c2 d dᵀ

    Parameters
    ----------
    kernel : Kernel
        Covariance of f.
    left, right : Sites
        What the rows and the columns are.

    Returns
    -------
    ndarray of shape (n_left, n_right)
        Values first, then gradients, on both sides.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning, sec. 9.4.

    Examples
    --------
    >>> from kforce.kernels.stationary import RBF
    >>> one = Sites(np.zeros((1, 1)), True, np.ones((1, 1), dtype=bool))
    >>> vector_covariance(RBF(length_scale=0.5), one, one)
    array([[1., 0.],
           [0., 4.]])
    """
    n, m = len(left.at_values), len(right.at_values)
    K = np.empty((len(left.rows), len(right.rows)))
    K[:n, :m] = kernel(cdist(left.at_values, right.at_values, "sqeuclidean"))
    _fill_slopes(kernel, left.at_values, right.at_gradients, K[:n, m:])
    _fill_slopes(kernel, right.at_values, left.at_gradients, K[n:, :m].T)
    _fill_hessians(kernel, left.at_gradients, right.at_gradients, K[n:, m:])
    for axis, rows in enumerate((left.rows, right.rows)):
        if not rows.all():
            K = K.compress(rows, axis=axis)
    return K


def _fill_slopes(kernel, X, Y, out):
    """Write cov(f(x), ∇f(y)), (len(X), len(Y) × n_features)."""
    n_features = X.shape[1]
    (dphi,) = kernel.profile(cdist(X, Y, "sqeuclidean"), orders=(1,))
    for a in range(n_features):
        out[:, a::n_features] = -2.0 * dphi * np.subtract.outer(X[:, a], Y[:, a])


def _fill_hessians(kernel, X, Y, out):
    """Write cov(∇f(x), ∇f(y)ᵀ), (len(X) × n_features, len(Y) × n_features)."""
    n_features = X.shape[1]
    dphi, ddphi = kernel.profile(cdist(X, Y, "sqeuclidean"), orders=(1, 2))
    for a in range(n_features):
        along_a = -4.0 * ddphi * np.subtract.outer(X[:, a], Y[:, a])
        for b in range(n_features):
            block = out[a::n_features, b::n_features]
            np.multiply(along_a, np.subtract.outer(X[:, b], Y[:, b]), out=block)
        out[a::n_features, a::n_features] -= 2.0 * dphi
