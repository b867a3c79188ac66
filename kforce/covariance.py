"""Where kernels meet features: the prior covariance of the observations."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.spatial.distance import cdist

from kforce.core.hessian import Lanes, Single, assemble, squared_distances
from kforce.descriptors.base import Features
from kforce.kernels import Kernel
from kforce.observations import Observations
from kforce.solvers.tiles import TILE_ROWS, TiledMatrix, tile_offsets
from kforce.threads import n_threads, run_parallel

#: Bytes of the block that all lanes share: it should stay in the second-level cache.
_BLOCK_BYTES = 400_000


def covariance(
    features: Features,
    observations: Observations,
    kernel: Kernel,
    permutations: np.ndarray,
    tile_rows: int = TILE_ROWS,
    progress=None,
) -> TiledMatrix:
    """Return cov(y, y) of the noise-free observations, as tiles.

    Parameters
    ----------
    features : Features
        Descriptors of the structures.
    observations : Observations
        Which forces and energies of them are observed.
    kernel : Kernel
        Covariance of the latent energy as a function of the descriptor.
    permutations : ndarray of int, shape (n_perms, n_atoms)
        The kernel is summed over this group, k(x, x') = Σ_s k(x, P_s x').
    tile_rows : int
        Rows of a tile at most.
    progress : callable, optional
        Called with the number of matrix entries after each tile.

    References
    ----------
    Chmiela et al., Nat. Commun. 9, 3887 (2018), eq. 4.
    """
    topology = features.coordinates.topology(permutations)
    frames = tile_offsets(observations.sizes, tile_rows)
    ends = np.concatenate([[0], np.cumsum(observations.sizes)])
    matrix = TiledMatrix(ends[frames])
    single = Single(
        features.x,
        features.slope,
        features.wilson,
        observations.rigid,
        observations.n_rigid,
        observations.rows,
    )
    n_lanes = _lanes_that_fit(observations.rows.shape[1])
    energies = len(observations.energy_rows) > 0
    for i in range(matrix.n_tiles):
        lanes = _pack(single, np.arange(frames[i], frames[i + 1]), n_lanes)
        for j in range(i + 1):
            tile = matrix.tile(i, j)
            origin = (matrix.offsets[j], matrix.offsets[i])

            def columns(
                span, tile=tile, origin=origin, lanes=lanes
            ):  # one thread's share of the tile
                start, stop = span
                shape = (len(topology.feature_perms), n_lanes)
                u = np.empty((stop - start, len(lanes.frame), *shape))
                squared_distances(start, stop, single, lanes, topology, u)
                dphi, ddphi = kernel.profile(u, orders=(1, 2))
                phi = kernel(u) if energies else np.empty((0, 0, 0, 0))
                weights = (-2.0 * dphi, 4.0 * ddphi, phi)
                assemble(start, stop, single, lanes, topology, *weights, origin, tile.T)

            run_parallel(columns, _spans(frames[j], frames[j + 1]))
            if progress is not None:
                progress(tile.size)
    return matrix


def _spans(start, stop):
    """Cut a range into a few pieces a thread: the last ones even out the load."""
    pieces = min(4 * n_threads(), stop - start)
    cuts = np.linspace(start, stop, pieces + 1).astype(int)
    return list(pairwise(cuts))


def _lanes_that_fit(n_rows):
    """Lanes a block of n_rows × n_rows can have within the cache, 8 to 64."""
    lanes = _BLOCK_BYTES // (8 * n_rows * n_rows)
    return int(np.clip(lanes // 8 * 8, 8, 64))


def _pack(single, frames, n_lanes):
    """Put structures side by side; those of a chunk have equally many rigid motions."""
    groups = np.split(frames, np.flatnonzero(np.diff(single.n_rigid[frames])) + 1)
    chunks = [g[k : k + n_lanes] for g in groups for k in range(0, len(g), n_lanes)]
    frame = np.full((len(chunks), n_lanes), -1, dtype=np.intp)
    for row, chunk in zip(frame, chunks, strict=True):
        row[: len(chunk)] = chunk
    # An empty lane computes its chunk's first structure again; nothing reads it.
    filled = np.where(frame >= 0, frame, frame[:, :1])

    def lanes_last(array):
        return np.ascontiguousarray(np.moveaxis(array[filled], 1, -1))

    return Lanes(
        frame,
        lanes_last(single.x),
        lanes_last(single.slope),
        lanes_last(single.wilson),
        lanes_last(single.rigid),
        single.n_rigid[filled[:, 0]],
    )


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
    >>> from kforce.kernels import RBF
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
