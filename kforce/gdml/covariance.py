"""Where kernels meet features: the prior covariance of the observations.

The compiled loops combine one structure with a pack of others at a time. In a pack the
structures lie side by side on the last axis, one in each SIMD lane (see
`kforce.gdml._hessian`).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from kforce.descriptors.base import Coordinates, Features
from kforce.gdml._hessian import (
    Images,
    Packs,
    Structures,
    Topology,
    assemble,
    squared_distances,
)
from kforce.gdml._hessian_gradient import scale_gradient
from kforce.gdml.observations import Observations
from kforce.gdml.prior import Prior
from kforce.kernels.symmetrised import SymmetrisedKernel
from kforce.parallel import n_threads, run_parallel, slices
from kforce.solvers.tiles import TILE_ROWS, TiledMatrix, tile_offsets

#: Bytes of the block that all lanes share: it should stay in the second-level cache.
_BLOCK_BYTES = 400_000


def covariance(
    prior: Prior,
    features: Features,
    observations: Observations,
    tile_rows: int = TILE_ROWS,
    progress: Callable | None = None,
) -> TiledMatrix:
    """Return cov(y, y) of the noise-free observations, as tiles.

    A tile has `tile_rows` rows at most; `progress` is called with the number of matrix
    entries after each. The blocks are those of Chmiela et al., Nat. Commun. 9, 3887
    (2018), eq. 4.
    """
    assembly = Assembly(prior, features.coordinates)
    structures = _observed(features, observations)
    frames = tile_offsets(observations.sizes, tile_rows)
    ends = np.concatenate([[0], np.cumsum(observations.sizes)])
    matrix = TiledMatrix(ends[frames])
    energies = len(observations.energy_rows) > 0
    for i in range(matrix.n_tiles):
        packs = _pack(structures, np.arange(frames[i], frames[i + 1]))
        for j in range(i + 1):
            tile = matrix.tile(i, j)
            origin = (matrix.offsets[j], matrix.offsets[i])

            def columns(span, tile=tile, origin=origin, packs=packs):
                assembly.fill(span, structures, packs, energies, origin, tile.T)

            run_parallel(columns, _spans(frames[j], frames[j + 1]))
            if progress is not None:
                progress(tile.size)
    return matrix


class CrossCovariance:
    """Covariance of observations with all forces and energies of other structures.

    Calling it with features of queries gives cov(y, (F, E)_*) of shape (n_observations,
    n_queries × (3 n_atoms + 1)): structure by structure the forces, then the energy.
    """

    def __init__(self, prior: Prior, features: Features, observations: Observations):
        self._observations = observations
        self._assembly = Assembly(prior, features.coordinates)
        self._packs = _pack(
            _observed(features, observations), np.arange(len(features.x))
        )

    @property
    def n_images(self) -> int:
        """Distances that a pair of structures has."""
        return len(self._assembly.images.component)

    def __call__(self, queries: Features) -> np.ndarray:  # noqa: D102
        n, width = len(queries.x), self._observations.rows.shape[1]
        # In a joint matrix with the queries first, this is a block below the diagonal.
        frame = self._packs.frame
        packs = self._packs._replace(frame=np.where(frame < 0, -1, frame + n))
        columns = np.arange(n * width).reshape(n, width)
        rows = np.concatenate([columns, self._observations.rows])
        structures = _unprojected(queries, rows)
        target = np.empty((n * width, self._observations.n_rows))

        def fill(span):
            self._assembly.fill(span, structures, packs, True, (0, 0), target)

        run_parallel(fill, _spans(0, n))
        return target.T


def prior_blocks(prior: Prior, queries: Features) -> np.ndarray:
    """Return the prior covariance of the forces and the energy of each structure.

    The shape is (n_queries, 3 n_atoms + 1, 3 n_atoms + 1): Cartesian forces, then the
    energy, in (eV/Å)², eV²/Å and eV².
    """
    n, width = len(queries.x), 3 * queries.n_atoms + 1
    assembly = Assembly(prior, queries.coordinates)
    structures = _unprojected(queries, np.tile(np.arange(width), (n, 1)))
    blocks = np.empty((n, width, width))

    def fill(i):
        packs = _pack(structures, np.array([i]), n_lanes=1)
        assembly.fill(slice(i, i + 1), structures, packs, True, (0, 0), blocks[i])

    run_parallel(fill, range(n))
    return blocks


def sensitivity(
    prior: Prior, features: Features, observations: Observations, G: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ⟨G, ∂K⟩ for the scales and amplitudes of the components of a kernel.

    K is the `covariance`, and of the symmetric G (n_observations, n_observations) the
    lower triangle is read. For each component t, ⟨G, ∂K/∂log s_tk⟩ of its scales is
    (n_components, n_features), and ⟨G, K_t⟩ (n_components,); their sum is ⟨G, K⟩.
    """
    assembly = Assembly(prior, features.coordinates)
    topology, images = assembly.topology, assembly.images
    structures = _observed(features, observations)
    packs = _pack(structures, np.arange(len(features.x)))

    def part(span):
        phi, dphi, ddphi, dddphi = assembly.profile(
            span, structures, packs, orders=(0, 1, 2, 3)
        )
        weights = (-2.0 * dphi, 4.0 * ddphi, 4.0 * dddphi, phi)
        scales = np.zeros(images.metric.shape)
        amplitudes = np.zeros(len(scales))
        scale_gradient(
            span.start, span.stop, structures, packs, topology, images, *weights, G,
            scales, amplitudes,
        )  # fmt: skip
        return scales, amplitudes

    parts = run_parallel(part, _spans(0, len(features.x)))
    return tuple(map(sum, zip(*parts, strict=True)))


class Assembly:
    """A kernel and the index arrays with which structures are compared.

    `topology` and `images` are those of `kforce.gdml._hessian`, and `weights`
    (n_images, 1) multiply the profile at each image.
    """

    def __init__(self, prior: Prior, coordinates: Coordinates):
        permutations = prior.permutations
        feature_perms, coordinate_perms = coordinates.images(permutations)
        kernel = SymmetrisedKernel(prior.kernel, feature_perms)
        components = kernel.components
        owner = np.repeat(np.arange(len(coordinates.atoms)), np.diff(coordinates.first))
        metric = np.zeros((len(components), feature_perms.shape[1]))
        cartesian = np.arange(3 * permutations.shape[1])
        active, touches, columns = [], [], []
        for t, component in enumerate(components):
            metric[t, component.active] = component.scales**2
            active.append(np.unique(owner[component.active]))
            touched = np.isin(cartesian, coordinates.components(active[t]))
            touches += [touched] * len(component.images)
            for s in component.members:
                columns.append(coordinates.components(coordinate_perms[s, active[t]]))
        members = np.concatenate([component.members for component in components])
        counts = [len(component.images) for component in components]
        self._phi = kernel.profile
        self.topology = Topology(
            coordinates.atoms, coordinates.n_body, coordinates.first
        )
        self.images = Images(
            features=feature_perms[members],
            coordinates=coordinate_perms[members],
            component=np.repeat(np.arange(len(components)), counts),
            metric=metric,
            begin=_starts(active),
            active=np.concatenate(active),
            touches=np.array(touches),
            start=_starts(columns),
            columns=np.concatenate(columns),
        )
        weights = [component.weight for component in components]
        self.weights = np.repeat(weights, counts)[:, None]

    def profile(self, span, structures, packs, orders):
        """Return weighted derivatives of φ between the structures of a span and packs.

        Each is (n_structures, n_packs, n_images, n_lanes).
        """
        n_packs, n_lanes = packs.frame.shape
        u = np.empty((span.stop - span.start, n_packs, len(self.weights), n_lanes))
        squared_distances(
            span.start, span.stop, structures, packs, self.topology, self.images, u
        )
        return [self.weights * p for p in self._phi.profile(u, orders)]

    def fill(self, span, structures, packs, energies, origin, target):
        """Write what the structures of a span have with packs into a tile.

        For `origin` and `target` see `kforce.gdml._hessian.assemble`; `energies` says
        whether there are rows of energies.
        """
        phi = np.empty((0, 0, 0, 0))
        if energies:
            phi, dphi, ddphi = self.profile(span, structures, packs, orders=(0, 1, 2))
        else:
            dphi, ddphi = self.profile(span, structures, packs, orders=(1, 2))
        weights = (-2.0 * dphi, 4.0 * ddphi, phi)
        assemble(
            span.start, span.stop, structures, packs, self.topology, self.images,
            *weights, origin, target,
        )  # fmt: skip


def _starts(lists):
    return np.concatenate([[0], np.cumsum([len(part) for part in lists])])


def _spans(start, stop):
    """Cut a range into a few pieces a thread: the last ones even out the load."""
    pieces = min(4 * n_threads(), stop - start)
    cuts = np.linspace(start, stop, pieces + 1).astype(int).tolist()
    return [slice(*ends) for ends in pairwise(cuts)]


def _observed(features, observations):
    """Structures with the rows that are observed of them."""
    return Structures(
        features.x,
        features.dx_dq,
        features.b_matrix,
        observations.rigid,
        observations.n_rigid,
        observations.rows,
    )


def _unprojected(queries, rows):
    """Structures with all Cartesian components, at `rows` of a matrix."""
    n = len(queries.x)
    rigid = np.zeros((n, 3 * queries.n_atoms, 6))
    n_rigid = np.zeros(n, dtype=np.intp)
    return Structures(
        queries.x, queries.dx_dq, queries.b_matrix, rigid, n_rigid, np.array(rows)
    )


def _pack(structures, frames, n_lanes=None):
    """Put structures side by side; those of a pack have equally many rigid motions.

    As many as have blocks that fit into the cache, 16 to 32: fewer are mostly overhead,
    and with more the last lanes are mostly empty.
    """
    if n_lanes is None:
        lanes = _BLOCK_BYTES // (8 * structures.rows.shape[1] ** 2)
        n_lanes = int(np.clip(lanes // 8 * 8, 16, 32))
    changes = np.flatnonzero(np.diff(structures.n_rigid[frames])) + 1
    groups = np.split(frames, changes)
    packs = [g[part] for g in groups for part in slices(len(g), n_lanes)]
    frame = np.full((len(packs), n_lanes), -1, dtype=np.intp)
    for row, pack in zip(frame, packs, strict=True):
        row[: len(pack)] = pack
    # An empty lane computes its pack's first structure again; nothing reads it.
    filled = np.where(frame >= 0, frame, frame[:, :1])

    def lanes_last(array):
        return np.ascontiguousarray(np.moveaxis(array[filled], 1, -1))

    return Packs(
        frame,
        lanes_last(structures.x),
        lanes_last(structures.dx_dq),
        lanes_last(structures.b_matrix),
        lanes_last(structures.rigid),
        structures.n_rigid[filled[:, 0]],
    )
