"""Where kernels meet features: the prior covariance of the observations."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kforce.descriptors.base import Coordinates, Features
from kforce.gdml._hessian import (
    Images,
    Lanes,
    Single,
    Topology,
    assemble,
    squared_distances,
)
from kforce.gdml.observations import Observations
from kforce.kernels.base import Kernel
from kforce.kernels.symmetrised import images_of_terms
from kforce.parallel import n_threads, run_parallel
from kforce.solvers.tiles import TILE_ROWS, TiledMatrix, tile_offsets


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
    """Compute one thread's share of a tile; see `kforce.gdml._hessian.assemble`."""
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
        queries.x, queries.dx_dq, queries.b_matrix, rigid, n_rigid, np.array(rows)
    )


#: Bytes of the block that all lanes share: it should stay in the second-level cache.
_BLOCK_BYTES = 400_000


def spans(start: int, stop: int) -> list[tuple[int, int]]:
    """Cut a range into a few pieces a thread: the last ones even out the load."""
    pieces = min(4 * n_threads(), stop - start)
    cuts = np.linspace(start, stop, pieces + 1).astype(int)
    return list(pairwise(cuts))


def lanes_that_fit(n_rows: int) -> int:
    """Return how many blocks of n_rows × n_rows fit into the cache, 16 to 32.

    Fewer are mostly overhead, and with more the last ones are mostly empty.
    """
    lanes = _BLOCK_BYTES // (8 * n_rows * n_rows)
    return int(np.clip(lanes // 8 * 8, 16, 32))


def one_by_one(features: Features, observations: Observations) -> Single:
    """Return what the assembly needs of single structures."""
    return Single(
        features.x,
        features.dx_dq,
        features.b_matrix,
        observations.rigid,
        observations.n_rigid,
        observations.rows,
    )


def side_by_side(single: Single, frames: np.ndarray, n_lanes: int) -> Lanes:
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
        lanes_last(single.b_matrix),
        lanes_last(single.rigid),
        single.n_rigid[filled[:, 0]],
    )


@dataclass(frozen=True)
class Comparison:
    """The index arrays with which the assembly compares structures.

    Attributes
    ----------
    profile : Kernel
        Profile of the kernel.
    topology, images : Topology, Images
        See `kforce.gdml._hessian`.
    weights : ndarray of shape (n_images, 1)
        Factor of the profile at each image.
    """

    profile: Kernel
    topology: Topology
    images: Images
    weights: np.ndarray

    @classmethod
    def of(
        cls, kernel: Kernel, coordinates: Coordinates, permutations: np.ndarray
    ) -> Comparison:
        """Prepare the comparison of structures.

        Parameters
        ----------
        kernel : Kernel
            A kernel.
        coordinates : Coordinates
            Of the descriptor.
        permutations : ndarray of int, shape (n_perms, n_atoms)
            The group over which the kernel is summed.
        """
        feature_perms, coordinate_perms = coordinates.images(permutations)
        profile, terms = images_of_terms(kernel, feature_perms)
        owner = np.repeat(np.arange(len(coordinates.atoms)), np.diff(coordinates.first))
        metric = np.zeros((len(terms), feature_perms.shape[1]))
        components = np.arange(3 * permutations.shape[1])
        active, touches, columns = [], [], []
        for t, term in enumerate(terms):
            metric[t, term.active] = term.scales**2
            active.append(np.unique(owner[term.active]))
            here = coordinates.components(active[t])
            touches += [np.isin(components, here)] * len(term.images)
            for s in term.members:
                columns.append(coordinates.components(coordinate_perms[s, active[t]]))
        members = np.concatenate([term.members for term in terms])
        counts = [len(term.images) for term in terms]
        images = Images(
            features=feature_perms[members],
            coordinates=coordinate_perms[members],
            term=np.repeat(np.arange(len(terms)), counts),
            metric=metric,
            begin=_starts(active),
            active=np.concatenate(active),
            touches=np.array(touches),
            start=_starts(columns),
            columns=np.concatenate(columns),
        )
        weights = np.repeat([term.weight for term in terms], counts)[:, None]
        topology = Topology(coordinates.atoms, coordinates.n_body, coordinates.first)
        return cls(profile, topology, images, weights)

    def weighted(self, u: np.ndarray, orders: tuple[int, ...]) -> list[np.ndarray]:
        """Return derivatives of the profile at u (..., n_images, n_lanes)."""
        return [self.weights * p for p in self.profile.profile(u, orders)]


def _starts(lists):
    return np.concatenate([[0], np.cumsum([len(part) for part in lists])])
