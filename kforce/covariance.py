"""Where kernels meet features: the prior covariance of the observations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from kforce.core.hessian import Single, assemble, squared_distances
from kforce.descriptors.base import Features
from kforce.images import Comparison
from kforce.kernels import Kernel
from kforce.lanes import lanes_that_fit, one_by_one, side_by_side, spans
from kforce.observations import Observations
from kforce.solvers.tiles import TILE_ROWS, TiledMatrix, tile_offsets
from kforce.threads import run_parallel


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
    comparison = Comparison.of(kernel, features.coordinates, permutations)
    frames = tile_offsets(observations.sizes, tile_rows)
    ends = np.concatenate([[0], np.cumsum(observations.sizes)])
    matrix = TiledMatrix(ends[frames])
    single = one_by_one(features, observations)
    n_lanes = lanes_that_fit(observations.rows.shape[1])
    energies = len(observations.energy_rows) > 0
    for i in range(matrix.n_tiles):
        lanes = side_by_side(single, np.arange(frames[i], frames[i + 1]), n_lanes)
        for j in range(i + 1):
            tile = matrix.tile(i, j)
            origin = (matrix.offsets[j], matrix.offsets[i])

            def columns(span, tile=tile, origin=origin, lanes=lanes):
                _fill(span, single, lanes, comparison, energies, origin, tile.T)

            run_parallel(columns, spans(frames[j], frames[j + 1]))
            if progress is not None:
                progress(tile.size)
    return matrix


def _fill(span, single, lanes, comparison, energies, origin, target):
    """Compute one thread's share of a tile; see `kforce.core.hessian.assemble`."""
    start, stop = span
    n_chunks, n_lanes = lanes.frame.shape
    topology, images = comparison.topology, comparison.images
    u = np.empty((stop - start, n_chunks, len(images.term), n_lanes))
    squared_distances(start, stop, single, lanes, topology, images, u)
    phi = np.empty((0, 0, 0, 0))
    if energies:
        phi, dphi, ddphi = comparison.weighted(u, orders=(0, 1, 2))
    else:
        dphi, ddphi = comparison.weighted(u, orders=(1, 2))
    weights = (-2.0 * dphi, 4.0 * ddphi, phi)
    assemble(start, stop, single, lanes, topology, images, *weights, origin, target)


class CrossCovariance:
    """Covariance of observations with all forces and energies of other structures.

    Parameters
    ----------
    features, observations : Features, Observations
        Where and what is observed.
    kernel : Kernel
        Covariance of the latent energy.
    permutations : ndarray of int, shape (n_perms, n_atoms)
        Symmetries of the kernel.
    """

    def __init__(
        self,
        features: Features,
        observations: Observations,
        kernel: Kernel,
        permutations: np.ndarray,
    ):
        self._observations = observations
        self._comparison = Comparison.of(kernel, features.coordinates, permutations)
        everything = np.arange(len(features.x))
        n_lanes = lanes_that_fit(observations.rows.shape[1])
        single = one_by_one(features, observations)
        self._lanes = side_by_side(single, everything, n_lanes)

    def __call__(self, queries: Features) -> np.ndarray:
        """Return cov(y, (F, E)_*).

        Parameters
        ----------
        queries : Features
            Descriptors of the structures that are asked for.

        Returns
        -------
        ndarray of shape (n_observations, n_queries × (3 n_atoms + 1))
            Structure by structure the Cartesian forces, then the energy.
        """
        n, width = len(queries.x), self._observations.rows.shape[1]
        # In a joint matrix with the queries first, this is a block below the diagonal.
        frame = self._lanes.frame
        lanes = self._lanes._replace(frame=np.where(frame < 0, -1, frame + n))
        columns = np.arange(n * width).reshape(n, width)
        rows = np.concatenate([columns, self._observations.rows])
        single = _unprojected(queries, rows)
        target = np.empty((n * width, len(self._observations.variance)))

        def fill(span):
            _fill(span, single, lanes, self._comparison, True, (0, 0), target)

        run_parallel(fill, spans(0, n))
        return target.T


def prior_blocks(
    queries: Features, kernel: Kernel, permutations: np.ndarray
) -> np.ndarray:
    """Return the prior covariance of the forces and the energy of each structure.

    Parameters
    ----------
    queries : Features
        Descriptors of the structures.
    kernel : Kernel
        Covariance of the latent energy.
    permutations : ndarray of int, shape (n_perms, n_atoms)
        Symmetries of the kernel.

    Returns
    -------
    ndarray of shape (n_queries, 3 n_atoms + 1, 3 n_atoms + 1)
        Cartesian forces, then the energy: (eV/Å)², eV²/Å and eV².
    """
    n, width = len(queries.x), 3 * queries.n_atoms + 1
    comparison = Comparison.of(kernel, queries.coordinates, permutations)
    single = _unprojected(queries, np.tile(np.arange(width), (n, 1)))
    blocks = np.empty((n, width, width))

    def fill(i):
        lanes = side_by_side(single, np.array([i]), 1)
        span = (i, i + 1)
        _fill(span, single, lanes, comparison, True, (0, 0), blocks[i])

    run_parallel(fill, range(n))
    return blocks


def prior_variances(
    features: Features,
    observations: Observations,
    kernel: Kernel,
    permutations: np.ndarray,
) -> np.ndarray:
    """Return the prior variances of the noise-free observations, (n_observations,).

    Parameters
    ----------
    features, observations, kernel, permutations
        As in `covariance`, of which this is the diagonal.
    """
    out = np.empty(len(observations.variance))
    single = one_by_one(features, observations)
    comparison = Comparison.of(kernel, features.coordinates, permutations)
    energies = len(observations.energy_rows) > 0

    def fill(i):
        rows = observations.rows[i]
        own = rows[rows >= 0]
        if not len(own):
            return
        block = np.empty((len(own), len(own)))
        origin = (own[0], own[0])
        lanes = side_by_side(single, np.array([i]), 1)
        _fill((i, i + 1), single, lanes, comparison, energies, origin, block)
        out[own] = block.diagonal()

    run_parallel(fill, range(len(features.x)))
    return out


def _unprojected(queries, rows):
    """All Cartesian components of some structures, at `rows` of a matrix."""
    n = len(queries.x)
    rigid = np.zeros((n, 3 * queries.n_atoms, 6))
    n_rigid = np.zeros(n, dtype=np.intp)
    return Single(
        queries.x, queries.slope, queries.wilson, rigid, n_rigid, np.array(rows)
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
