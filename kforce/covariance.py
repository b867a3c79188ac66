"""Where kernels meet features: the prior covariance of the observations."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

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
