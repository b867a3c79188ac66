"""Where kernels meet features: the prior covariance of the observations."""

from __future__ import annotations

import numpy as np

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

    @property
    def n_images(self) -> int:
        """Distances that a pair of structures has."""
        return len(self._comparison.images.term)

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
