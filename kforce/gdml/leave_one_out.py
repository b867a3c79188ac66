"""Leave-one-structure-out prediction of a fitted model, and what it says of its errors.

The forces of a structure are observed as Q̃ᵀF (see `kforce.gdml.observations`). Their
errors have no part along the rigid motions, so that Q̃ᵀ acts on them as the transpose
of an orthonormal basis: squares summed over these rows are those over Cartesian
components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kforce.gdml.observations import Observations
from kforce.solvers.cholesky import blocks_of, leave_out
from kforce.solvers.tiles import TiledMatrix

#: Rows up to which all structures are left out: it takes a fraction of a second.
_ROWS_OF_ALL = 1500

#: Structures that are left out of a larger system.
_MIN_LEFT_OUT, _MAX_LEFT_OUT = 10, 100


@dataclass(frozen=True)
class LeaveOneOut:
    """What some structures look like to a model of all others.

    Attributes
    ----------
    structures : ndarray of int, shape (n_structures,)
        Which were left out, one at a time.
    residual : ndarray of shape (n_rows,)
        Observed minus predicted: forces in eV/Å, energies in eV.
    variance : ndarray of shape (n_rows,)
        Predictive variance of the observations, noise included.
    is_force : ndarray of bool, shape (n_rows,)
        Which rows are forces; the others are energies.
    n_components : int
        Cartesian force components behind the force rows.
    is_independent : bool
        Whether the kernel was learned without these structures.
    """

    structures: np.ndarray
    residual: np.ndarray
    variance: np.ndarray
    is_force: np.ndarray
    n_components: int
    is_independent: bool

    @classmethod
    def of(
        cls,
        factor: TiledMatrix,
        coef: np.ndarray,
        observations: Observations,
        structures: np.ndarray,
        learned_from: np.ndarray = (),
    ) -> LeaveOneOut:
        """Predict structures from all others, without any refitting.

        `factor` is that of the covariance of the observations, noise included, and
        coef (K + Σ)⁻¹ y; the indices `structures` are in ascending order. The kernel
        was learned from the structures `learned_from`.
        """
        of_structures = blocks_of(observations.sizes)
        blocks = [of_structures[s] for s in structures]
        left_out = leave_out(factor, coef, blocks)
        is_force = np.concatenate([observations.is_force[rows] for rows in blocks])
        return cls(
            structures=structures,
            residual=np.concatenate(left_out.residuals),
            variance=np.concatenate([np.diag(C) for C in left_out.covariances]),
            is_force=is_force,
            n_components=int(is_force.sum() + observations.n_rigid[structures].sum()),
            is_independent=len(np.intersect1d(structures, learned_from)) == 0,
        )

    @property
    def forces_rmse(self) -> float:
        """Root mean square error of a force component, in eV/Å."""
        return float(
            np.sqrt(np.sum(self.residual[self.is_force] ** 2) / self.n_components)
        )

    @property
    def calibration(self) -> float:
        """Root mean square of the errors of forces over that of their deviations.

        All components count together: some have no prior variance (the bending of a
        linear molecule) and their errors, over a deviation of next to nothing, would
        outweigh all others. Where the kernel was learned from structures that are left
        out here, it is 1 at least: their errors are small for that alone.
        """
        if not self.is_force.any():
            return 1.0
        errors = np.mean(self.residual[self.is_force] ** 2)
        expected = np.mean(self.variance[self.is_force])
        factor = float(np.sqrt(errors / expected)) if errors > 0.0 else 1.0
        return factor if self.is_independent else max(1.0, factor)


def structures_to_leave_out(
    sizes: np.ndarray, learned_from: np.ndarray, seed: int
) -> np.ndarray:
    """Choose structures at random so that leaving them out costs little.

    A sixth of a large system, from 10 to 100: as all together cost one to three
    factorisations, this is a third of one or so. Where there are 10 structures that the
    kernel was not `learned_from`, only these. `sizes` (n_structures,) are their rows;
    the indices are in ascending order.
    """
    n = len(sizes)
    count = min(n, _MAX_LEFT_OUT, max(_MIN_LEFT_OUT, n // 6))
    if sizes.sum() <= _ROWS_OF_ALL:
        count = n
    others = np.setdiff1d(np.arange(n), learned_from)
    candidates = others if len(others) >= _MIN_LEFT_OUT else np.arange(n)
    chosen = np.random.default_rng(seed).permutation(candidates)[:count]
    return np.sort(chosen)
