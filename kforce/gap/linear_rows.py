"""Rows of observables as a linear map of the kernel at environments that stay.

Where a kernel changes and environments do not, the way from k(x_e, x_m) and ∂k/∂x_e to
energies, forces and virials is a sparse matrix that is made once. It pays for terms of
few features.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, hstack

from kforce.gap.covariance import VIRIAL_COMPONENTS
from kforce.gap.sparse_term import SparseTerm
from kforce.neighbours.search import Neighbours
from kforce.structures import Batch


class LinearRows:
    """Some rows of a structure, for terms of the descriptor of `term`.

    `rows` are their places in the order of `covariance.in_rows`, and `units` what they
    are divided by, both of shape (n_rows,).
    """

    def __init__(
        self,
        term: SparseTerm,
        batch: Batch,
        neighbours: Neighbours,
        rows: np.ndarray,
        units: np.ndarray,
    ):
        environments = term.descriptor(batch.numbers, neighbours)
        self.x, n_env = environments.x, len(environments.x)
        n_atoms, n_features = len(batch.numbers), self.x.shape[1]
        shape = 7 + 3 * n_atoms, n_env
        of_energy = np.zeros(n_env, dtype=int), np.arange(n_env)
        maps = [csr_array((environments.f_cut, of_energy), shape=shape)]
        maps += [csr_array(shape) for _ in range(n_features)]
        for block in environments.jacobians():
            to_rows = _members_to_rows(block, n_atoms)
            dx = block.dx * environments.f_cut[block.environments, None, None]
            for d, along in enumerate([block.df_cut, *np.moveaxis(dx, 2, 0)]):
                place = np.arange(along.size), np.repeat(block.environments, 3)
                of_members = csr_array((along.ravel(), place), (along.size, n_env))
                maps[d] = maps[d] + to_rows @ of_members
        joined = csr_array(hstack(maps))[rows]
        joined.eliminate_zeros()
        scale = float(environments.multiplicity) / units
        self._map = csr_array(joined.multiply(scale[:, None]))

    def of(self, term: SparseTerm) -> np.ndarray:
        """Return the rows (n_rows, n_inducing) of a term, over their units."""
        k, dphi = term.compare(self.x)
        columns = [k]
        for d, length in enumerate(term.length_scales):
            apart = (self.x[:, d, None] - term.inducing_points[:, d]) / length**2
            columns.append(2.0 * dphi * apart)
        return self._map @ np.concatenate(columns)


def _members_to_rows(block, n_atoms):
    """Return the map of derivatives by members to rows, of 3 numbers each."""
    n = len(block.atoms)
    member, ones, components = (
        np.arange(3 * n).reshape(n, 3),
        np.ones(3 * n),
        np.arange(3),
    )
    force_of_atom = 1 + 3 * block.atoms[:, None] + components
    force_of_centre = 1 + 3 * block.central_atoms[:, None] + components
    entries = [(-ones, force_of_atom, member), (ones, force_of_centre, member)]
    for t, (a, b) in enumerate(VIRIAL_COMPONENTS):
        row = np.full(n, 1 + 3 * n_atoms + t)
        entries.append((-0.5 * block.vec[:, a], row, member[:, b]))
        entries.append((-0.5 * block.vec[:, b], row, member[:, a]))
    values, rows, columns = (
        np.concatenate([part.ravel() for part in parts])
        for parts in zip(*entries, strict=True)
    )
    return csr_array((values, (rows, columns)), shape=(7 + 3 * n_atoms, 3 * n))
