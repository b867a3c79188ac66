"""The fitted latent function: one expansion in descriptor space.

f(x) = Σ_s Σ_m [ a_m k(P_s x, x_m) + v_m · ∂k(P_s x, x_m)/∂x_m ]: permutations act on
the query, not on the centers, so a model stores each training structure once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kforce.core.expansion import differences, gradient
from kforce.kernels import Kernel
from kforce.threads import run_parallel

#: Entries of the (queries × centers) arrays that one thread works on: a handful of them
#: fit the second-level cache.
_CHUNK = 40_000


@dataclass(frozen=True)
class Expansion:
    """Values and gradients of the latent function.

    Parameters
    ----------
    kernel : Kernel
        k, in eV².
    centers : ndarray of shape (n_centers, n_features)
        x_m.
    directions : ndarray of shape (n_centers, n_features)
        v_m; −J_m α_m for a model of forces.
    weights : ndarray of shape (n_centers,) or None
        a_m; None where no energies were fitted.
    feature_perms : ndarray of int, shape (n_perms, n_features)
        Images of the features under the atom permutations.
    """

    kernel: Kernel
    centers: np.ndarray
    directions: np.ndarray
    weights: np.ndarray | None
    feature_perms: np.ndarray

    @cached_property
    def trusted_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest features of the centers, and a tenth of the spread around.

        Outside of it the kernel knows nothing, and f goes to a constant.
        """
        x = self.centers
        margin = 0.1 * np.ptp(x, axis=0)
        low = (x.min(axis=0) - margin)[self.feature_perms].min(axis=0)
        high = (x.max(axis=0) + margin)[self.feature_perms].max(axis=0)
        return low, high

    @cached_property
    def _origin(self):
        """Mean of the centers: u = |y|² + |x|² − 2 y·x loses no digits around it."""
        return self.centers.mean(axis=0)[self.feature_perms].mean(axis=0)

    @cached_property
    def _factors(self):
        """Right-hand sides of the matrix products that give u and d · v."""
        X = self.centers - self._origin
        V = self.directions
        squares = np.einsum("md,md->m", X, X)
        to_u = np.vstack([-2.0 * X.T, squares, np.ones(len(X))])
        to_dv = np.vstack([V.T, -np.einsum("md,md->m", X, V)])
        return X, to_u, to_dv

    @cached_property
    def _columns(self):
        """Centers and directions with the centers on the contiguous axis."""
        return (
            np.ascontiguousarray(self.centers.T),
            np.ascontiguousarray(self.directions.T),
        )

    def jet_of_one(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return value and gradient of f at one point (n_features,), at low latency."""
        u = np.empty((len(self.feature_perms), len(self.centers)))
        dv = np.empty_like(u)
        differences(x, self.feature_perms, *self._columns, u, dv)
        dphi, ddphi = self.kernel.profile(u, orders=(1, 2))
        c1 = np.multiply(dphi, -2.0, out=dphi)
        f = np.vdot(c1, dv)
        b = np.multiply(dv, ddphi, out=dv)
        b *= -4.0
        if self.weights is not None:
            f += (self.kernel(u) @ self.weights).sum()
            b -= c1 * self.weights
        slope = np.zeros(len(x))
        gradient(x, self.feature_perms, *self._columns, c1, b, slope)
        return float(f), slope

    def jet(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values and gradients of f: a batch, by matrix products.

        Parameters
        ----------
        x : ndarray of shape (n, n_features)
            Descriptors.

        Returns
        -------
        f : ndarray of shape (n,)
            Values in eV.
        gradient : ndarray of shape (n, n_features)
            ∂f/∂x, in eV over the unit of x.
        """
        n_perms = len(self.feature_perms)
        f = np.empty(len(x))
        slope = np.zeros(x.shape)
        step = max(1, _CHUNK // (n_perms * min(len(self.centers), 1024)))

        def chunk(start):
            part = slice(start, start + step)
            y = x[part][:, self.feature_perms] - self._origin[None, None]
            values, slopes = self._sum(y.reshape(-1, x.shape[1]))
            f[part] = values.reshape(-1, n_perms).sum(axis=1)
            slopes = slopes.reshape(-1, n_perms, x.shape[1])
            out = slope[part]
            for s, perm in enumerate(self.feature_perms):
                out[:, perm] += slopes[:, s]

        run_parallel(chunk, range(0, len(x), step))
        return f, slope

    def _sum(self, y):
        """Sum over the centers, block by block; y are centred, permuted queries."""
        X, to_u, to_dv = self._factors
        V = self.directions
        ones = np.ones((len(y), 1))
        squares = np.einsum("nd,nd->n", y, y)[:, None]
        left_u = np.hstack([y, ones, squares])
        left_dv = np.hstack([y, ones])
        f = np.zeros(len(y))
        slope = np.zeros(y.shape)
        for start in range(0, len(X), 1024):
            m = slice(start, start + 1024)
            u = left_u @ to_u[:, m]
            np.maximum(u, 0.0, out=u)
            dphi, ddphi = self.kernel.profile(u, orders=(1, 2))
            dv = left_dv @ to_dv[:, m]
            f -= 2.0 * np.einsum("nm,nm->n", dphi, dv)
            dv *= ddphi
            dv *= -4.0
            if self.weights is not None:
                f += self.kernel(u) @ self.weights[m]
                dv += 2.0 * dphi * self.weights[m]
            # Here dv is −(c2 d·v + c1 a), the weight of d in the gradient.
            slope += y * dv.sum(axis=1)[:, None]
            slope -= dv @ X[m]
            slope -= 2.0 * (dphi @ V[m])
        return f, slope
