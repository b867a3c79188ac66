"""What is observed: rows of the linear system and their targets, frame by frame.

The rows of a frame are its forces in rigid-motion-free coordinates, then its energy.
An invariant model has no force along the rigid motions of a frame, so only their
orthogonal complement carries information: 3N − 6 columns (3N − 5 where the frame is
linear, 3N − 3 in a periodic cell). With an orthonormal basis U of the rigid motions and
H = 1 − V T Vᵀ the Householder product whose first columns span U, the others, Q, are
the complement, and for every v ⟂ U

    Qᵀ v = v₂ − W v₁ = Q̃ᵀ v,      W = V₂ V₁⁻¹,   Q̃ᵀ = [−W | 1]

(v₁ the first 6 entries): the projection of a block costs 6 row operations instead of a
product with a dense Q. It is exact, because K U = 0 for any invariant kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kforce.descriptors.base import Features
from kforce.kernels.expansion import Expansion
from kforce.labels import Labels
from kforce.storage.codec import check_array
from kforce.structures import Batch

#: A frame is linear when its smallest radius of gyration is below this share of the
#: largest: rounding then makes the axis' rotation meaningless.
_SMALLEST_GYRATION = 1e-6


def rigid_motions(
    positions: np.ndarray, periodic: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return orthonormal translations and rotations at positions (n, n_atoms, 3).

    The basis (n, 3 n_atoms, 6) has orthonormal columns, unused ones are zero; n_rigid
    (n,) counts those in use: 6, 5 for linear structures, 3 for periodic ones.
    """
    n_structures, n_atoms, _ = positions.shape
    basis = np.zeros((n_structures, n_atoms, 3, 6))
    basis[:, :, [0, 1, 2], [0, 1, 2]] = 1.0 / np.sqrt(n_atoms)
    n_rigid = np.full(n_structures, 3)
    if not periodic and n_atoms > 1:
        centred = positions - positions.mean(axis=1, keepdims=True)
        # Column e of the rotations is the axis e times r.
        rotations = np.cross(np.eye(3)[:, None, None, :], centred[None])
        rotations = rotations.transpose(1, 2, 3, 0).reshape(n_structures, -1, 3)
        u, s, _ = np.linalg.svd(rotations, full_matrices=False)
        real = s > _SMALLEST_GYRATION * s[:, :1]
        basis[..., 3:] = (u * real[:, None]).reshape(n_structures, n_atoms, 3, 3)
        n_rigid += real.sum(axis=1)
    return basis.reshape(n_structures, -1, 6), n_rigid


def elimination(basis: np.ndarray, n_rigid: np.ndarray) -> np.ndarray:
    """Return W of Q̃ᵀ = [−W | 1], in the rows from n_rigid on of (n, 3 n_atoms, 6).

    `basis` and `n_rigid` are those of `rigid_motions`; where n_rigid is 0, W is too.
    """
    W = np.zeros_like(basis)
    for r in np.unique(n_rigid[n_rigid > 0]):
        chosen = n_rigid == r
        h, _ = np.linalg.qr(basis[chosen][:, :, :r], mode="raw")
        V = np.tril(h.transpose(0, 2, 1), -1)
        V[:, np.arange(r), np.arange(r)] = 1.0
        top, rest = V[:, :r], V[:, r:]
        solved = np.linalg.solve(top.transpose(0, 2, 1), rest.transpose(0, 2, 1))
        padded = np.zeros((len(solved), basis.shape[1], 6))
        padded[:, r:, :r] = solved.transpose(0, 2, 1)
        W[chosen] = padded
    return W


@dataclass(frozen=True)
class Observations:
    """Rows and targets of the linear system, and the noises that the frames bring.

    `rows` (n_structures, 3 n_atoms + 1) are those of the coordinates that remain after
    the elimination of the rigid motions; the last column is the energy's, and −1 is not
    observed. `y` (n_observations,) are the targets in eV/Å and eV, and `label_variance`
    (n_observations,) the noise variances that the frames themselves bring, in the
    squares of these units; NaN elsewhere. `positions` (n_structures, n_atoms, 3) are in
    Å, `rigid` (n_structures, 3 n_atoms, 6) is W, see `elimination`, and `n_rigid`
    (n_structures,) counts the rigid motions taken out of each structure.
    """

    rows: np.ndarray
    y: np.ndarray
    label_variance: np.ndarray
    positions: np.ndarray
    rigid: np.ndarray
    n_rigid: np.ndarray

    @classmethod
    def build(
        cls,
        batch: Batch,
        labels: Labels,
        with_energies: bool = False,
        energy_offset: float = 0.0,
    ) -> Observations:
        """Collect the observations of structures of one molecule.

        Frames and atoms without forces are left out of the force rows, frames without
        an energy out of the energy rows. The offset, in eV, is subtracted from the
        energies.
        """
        n_structures = batch.n_structures
        forces = np.array(labels.forces).reshape(n_structures, -1)
        n_cart = forces.shape[1]
        observed = np.isfinite(forces)
        complete = observed.all(axis=1)
        positions = batch.positions.reshape(n_structures, -1, 3)
        basis, n_rigid = rigid_motions(positions, bool(batch.pbc.any()))
        noise = _label_noises(labels, (n_structures, n_cart // 3))
        # Where atoms lack forces the rest is no complement of the rigid motions, and
        # where their noises differ it is not independent.
        is_even = np.ptp(np.nan_to_num(noise[:, :-1]), axis=1) == 0.0
        n_rigid = np.where(complete & is_even, n_rigid, 0)
        rigid = elimination(basis, n_rigid)
        clean = _without_rigid_motions(np.nan_to_num(forces), basis, n_rigid)
        used = np.empty((n_structures, n_cart + 1), dtype=bool)
        used[:, :-1] = observed & (np.arange(n_cart) >= n_rigid[:, None])
        used[:, -1] = np.isfinite(labels.energy) & with_energies
        rows = _numbered(used)
        noise[:, -1] *= np.sqrt(n_cart // 3)
        frame_wise = cls(rows, np.empty(0), noise[used] ** 2, positions, rigid, n_rigid)
        y = frame_wise.collect(clean, np.nan_to_num(labels.energy - energy_offset))
        return replace(frame_wise, y=y)

    def to_fields(self) -> dict[str, np.ndarray]:
        """Return what a file holds of it, beside the variance of the noise."""
        return {
            "positions": self.positions,
            "is_observed": self.rows >= 0,
            "n_rigid": self.n_rigid,
        }

    @classmethod
    def from_fields(
        cls, is_periodic, positions, is_observed, n_rigid, variance
    ) -> Observations:
        """Return the observations that a file holds, without targets.

        `variance` is that of all noise, as if the labels had brought it. ValueError
        says that they do not fit the structures.
        """
        n, n_cart = len(positions), positions[0].size
        check_array("is_observed", is_observed, (n, n_cart + 1), "b")
        check_array("n_rigid", n_rigid, (n,), "i")
        check_array("variance", variance, (is_observed.sum(),))
        basis, most = rigid_motions(positions, is_periodic)
        eliminated = np.arange(n_cart + 1) < n_rigid[:, None]
        fits = (n_rigid == 0) | (n_rigid == most)
        if not fits.all() or (is_observed & eliminated).any():
            raise ValueError(
                "n_rigid does not fit the structures and what was observed"
            )
        if not (variance >= 0.0).all():
            raise ValueError("noise variances are negative")
        rows, rigid = _numbered(is_observed), elimination(basis, n_rigid)
        return cls(rows, np.zeros(len(variance)), variance, positions, rigid, n_rigid)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.label_variance)

    @property
    def n_atoms(self) -> int:
        """Atoms of one structure."""
        return self.positions.shape[1]

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each structure, (n_structures,)."""
        return (self.rows >= 0).sum(axis=1)

    @property
    def energy_rows(self) -> np.ndarray:
        """Rows that are energies."""
        rows = self.rows[:, -1]
        return rows[rows >= 0]

    @property
    def is_force(self) -> np.ndarray:
        """Which rows are forces, (n_observations,)."""
        mask = np.ones(self.n_rows, dtype=bool)
        mask[self.energy_rows] = False
        return mask

    @property
    def is_given(self) -> np.ndarray:
        """Whether the frame itself says how noisy the row is, (n_observations,)."""
        return np.isfinite(self.label_variance)

    @property
    def mean_noise_energy(self) -> float | None:
        """Root mean square noise of the energies that bring one, in eV per atom.

        It is over √n_atoms as everywhere, and None where no energy brings any.
        """
        rows = self.energy_rows[self.is_given[self.energy_rows]]
        if not len(rows):
            return None
        return float(np.sqrt(self.label_variance[rows].mean() / self.n_atoms))

    def take(self, structures: np.ndarray) -> Observations:
        """Return the observations of some of the structures."""
        part = replace(
            self,
            positions=self.positions[structures],
            rigid=self.rigid[structures],
            n_rigid=self.n_rigid[structures],
        )
        return part._with_rows(self.rows[structures])

    def without_energies(self) -> Observations:
        """Return the forces alone."""
        rows = self.rows.copy()
        rows[:, -1] = -1
        return self._with_rows(rows)

    def _with_rows(self, kept):
        """Return what is observed in some rows, numbered anew."""
        chosen = kept[kept >= 0]
        return replace(
            self,
            rows=_numbered(kept >= 0),
            y=self.y[chosen],
            label_variance=self.label_variance[chosen],
        )

    def of(self, expansion: Expansion, features: Features) -> np.ndarray:
        """Return what would be observed of a function, (n_observations,).

        `features` are those of the structures.
        """
        f, gradient = expansion.jet(features.x)
        return self.collect(-features.pull(gradient).reshape(len(f), -1), f)

    def collect(self, forces: np.ndarray, energies: np.ndarray) -> np.ndarray:
        """Return Q̃ᵀ F and E of each structure in turn, (n_observations,).

        `forces` (n_structures, 3 n_atoms) have no part along rigid motions.
        """
        values = np.empty(self.rows.shape)
        values[:, :-1] = forces - np.einsum("sre,se->sr", self.rigid, forces[:, :6])
        values[:, -1] = energies
        return values[self.rows >= 0]

    def split(self, coef: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return coefficients of the rows as Cartesian ones Q̃ α and the energies'.

        They are (n_structures, n_atoms, 3), up to rigid motions, which no descriptor
        sees, and (n_structures,), 0 where the energy is not observed.
        """
        full = np.where(self.rows >= 0, coef[self.rows], 0.0)
        cart = full[:, :-1].copy()
        cart[:, :6] -= np.einsum("sre,sr->se", self.rigid, full[:, :-1])
        return cart.reshape(len(cart), -1, 3), full[:, -1].copy()

    def cartesian(self, structure: int) -> np.ndarray:
        """Return Q of one structure, (3 n_atoms, n_force_rows).

        It takes residuals of the force rows to forces on atoms, without any part along
        the rigid motions that were eliminated.
        """
        rows = np.flatnonzero(self.rows[structure, :-1] >= 0)
        n_rigid = self.n_rigid[structure]
        Q = np.zeros((self.rows.shape[1] - 1, len(rows)))
        Q[rows, np.arange(len(rows))] = 1.0
        if n_rigid == 0:
            return Q
        Q[:6] -= self.rigid[structure, rows].T
        own = self.positions[structure : structure + 1]
        # Translations alone are those of a periodic structure, or of an atom.
        motions = rigid_motions(own, n_rigid == 3)[0][0]
        return Q - motions @ (motions.T @ Q)


def _numbered(is_observed):
    """Return rows that count what is observed, −1 elsewhere."""
    rows = np.cumsum(is_observed).reshape(is_observed.shape) - 1
    return np.where(is_observed, rows, -1)


def _label_noises(labels, shape):
    """Noises that the frames bring, (n_structures, 3 n_atoms + 1); NaN elsewhere."""
    noise = np.full((shape[0], 3 * shape[1] + 1), np.nan)
    if labels.noise_forces is not None:
        noise[:, :-1] = np.repeat(np.array(labels.noise_forces), 3, axis=1)
    if labels.noise_energy is not None:
        noise[:, -1] = labels.noise_energy
    return noise


def _without_rigid_motions(forces, basis, n_rigid):
    """(1 − U Uᵀ) F, where rigid motions are taken out at all."""
    basis = basis * (n_rigid > 0)[:, None, None]
    along = np.einsum("sre,sr->se", basis, forces)
    return forces - np.einsum("sre,se->sr", basis, along)
