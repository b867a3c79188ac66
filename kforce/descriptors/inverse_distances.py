"""Inverse interatomic distances, the descriptor of GDML."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from ase.geometry import complete_cell, find_mic, minkowski_reduce

from kforce.descriptors._coordinates import pair_distances
from kforce.descriptors.base import Coordinates, Descriptor, Features
from kforce.errors import InputError, distinct
from kforce.registry import register


@lru_cache(maxsize=32)
def _pairs(n_atoms):
    first, second = np.tril_indices(n_atoms, -1)
    n = len(first)
    return Coordinates(
        atoms=np.stack([first, second], axis=1),
        n_body=np.full(n, 2, dtype=np.intp),
        first=np.arange(n + 1, dtype=np.intp),
    )


@register
class InverseDistances(Descriptor):
    """x_ab = 1/|r_a − r_b| for all pairs of atoms a > b, in 1/Å.

    In a periodic cell the nearest image counts; all structures of a model then share
    one cell.

    References
    ----------
    Chmiela et al., Sci. Adv. 3, e1603015 (2017).

    Examples
    --------
    >>> from ase.build import molecule
    >>> from kforce.structures import Batch
    >>> InverseDistances()(Batch.from_frames([molecule("H2O")])).x.round(3)
    array([[1.032, 1.032, 0.655]])
    """

    def coordinates(self, n_atoms):  # noqa: D102
        return _pairs(n_atoms)

    def __call__(self, batch):
        """Return the features; refuse lone atoms, and two atoms at one place."""
        n_atoms = int(batch.offsets[1])
        if n_atoms < 2:
            raise InputError(
                "Interatomic distances need at least two atoms, found a structure with "
                "one. A single atom has a constant energy and no force to learn."
            )
        coordinates = _pairs(n_atoms)
        positions = batch.positions.reshape(-1, n_atoms, 3)
        dist = np.empty((len(positions), len(coordinates.atoms)))
        b_matrix = np.empty((*dist.shape, 2, 3))
        if batch.pbc.any():
            _nearest_images(positions, coordinates.atoms, batch, dist, b_matrix)
        else:
            pair_distances(positions, coordinates.atoms, dist, b_matrix)
        if not dist.all():
            s, pair = np.argwhere(dist == 0)[0]
            a, b = coordinates.atoms[pair]
            raise InputError(
                f"Atoms {b} and {a} of structure {s} are at the same place. Remove "
                "that structure."
            )
        x = 1.0 / dist
        return Features(x, -x * x, b_matrix, coordinates, n_atoms)

    def describe(self, n_atoms, feature, value, low, high):  # noqa: D102
        atoms = _pairs(n_atoms).atoms[feature]
        return describe_distance(atoms, 1.0 / value, 1.0 / high, 1.0 / low)


def describe_distance(atoms, dist: float, least: float, largest: float) -> str:
    """Say in a sentence that a distance leaves the range least … largest, in Å."""
    a, b = atoms
    is_close = dist < least
    found, limit = distinct(dist, least if is_close else largest)
    if is_close:
        than = f"closer than in training ({limit} Å at least)"
    else:
        than = f"farther than in training ({limit} Å at most)"
    return f"Atoms {b} and {a} are {found} Å apart, {than}."


def _nearest_images(positions, atoms, batch, dist, b_matrix):
    vec = positions[:, atoms[:, 0]] - positions[:, atoms[:, 1]]
    pbc = batch.pbc[0]
    # A reduced cell with free directions completed: `find_mic` looks no farther than
    # the next cells, which is right for such cells only.
    cell = complete_cell(batch.cells[0] * pbc[:, None])
    cell, _ = minkowski_reduce(cell, pbc)
    flat, length = find_mic(vec.reshape(-1, 3), cell, pbc)
    dist[...] = length.reshape(dist.shape)
    unit = flat.reshape(vec.shape) / np.where(dist, dist, np.nan)[:, :, None]
    b_matrix[:, :, 0] = unit
    b_matrix[:, :, 1] = -unit
