"""Structures laid out for the assembly of covariances: one by one, and side by side."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from kforce.core.hessian import Lanes, Single
from kforce.descriptors.base import Features
from kforce.observations import Observations
from kforce.threads import n_threads

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
        features.slope,
        features.wilson,
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
        lanes_last(single.wilson),
        lanes_last(single.rigid),
        single.n_rigid[filled[:, 0]],
    )
