"""Leave-one-structure-out: errors of a fitted model, and the score of candidates.

The forces of a structure are observed as Q̃ᵀF (see `kforce.gdml.observations`). Their
errors have no part along the rigid motions, so that Q̃ᵀ acts on them as the transpose
of an orthonormal basis: squares summed over these rows are those over Cartesian
components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from kforce.descriptors.base import Features
from kforce.errors import InputError
from kforce.gdml.covariance import covariance
from kforce.gdml.observations import Observations
from kforce.gdml.prior import RELATIVE_NOISE, Prior
from kforce.kernels.base import Kernel, Scaled
from kforce.solvers.cholesky import Cholesky, LeftOut, blocks_of, left_out_blocks
from kforce.solvers.tiles import TiledMatrix

#: Rows up to which all structures are left out: it takes a fraction of a second.
_ROWS_OF_ALL = 1500

#: Structures that are left out of a larger system.
_MIN_LEFT_OUT, _MAX_LEFT_OUT = 10, 100

#: Noise of forces that bring none, over their rms, beside others that do.
_NOISE_BESIDE_NOISY = 1e-3

#: Directions of less prior variance than this, over the largest, have none.
_NO_VARIANCE = 1e-9


@dataclass(frozen=True)
class LeaveOneOut:
    """What some `structures`, left out one at a time, look like to a model of the rest.

    `residual` (n_rows,) is observed minus predicted, forces in eV/Å where `is_force`
    (n_rows,) and energies in eV elsewhere, and `variance` (n_rows,) that of the
    predicted observations, noise included. `n_components` Cartesian force components
    are behind the force rows; `is_independent` says whether the kernel was learned
    without these structures.
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
        left_out = left_out_blocks(factor, coef, blocks)
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
        squares = np.sum(self.residual[self.is_force] ** 2)
        return float(np.sqrt(squares / self.n_components))

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
    return np.sort(np.random.default_rng(seed).permutation(candidates)[:count])


@dataclass(frozen=True)
class Score:
    """How well a kernel predicts structures that are left out.

    The `kernel` is `Scaled` if its amplitude was learned; `density` is the logarithm of
    the leave-one-out density, −inf where K cannot be factored, and `left_out` are the
    structures as the others predict them, None there.
    """

    kernel: Kernel
    density: float
    left_out: LeftOut | None

    @property
    def rmse(self) -> float:
        """Root mean square of the residuals, in the unit of the rows."""
        if self.left_out is None:
            return np.inf
        return float(np.sqrt(np.mean(np.concatenate(self.left_out.residuals) ** 2)))

    def errors_of(self, structures: np.ndarray) -> np.ndarray:
        """Return the root mean square error of each structure, in the unit of rows."""
        if self.left_out is None:
            return np.full(len(structures), np.inf)
        residuals = [self.left_out.residuals[s] for s in structures]
        return np.array([np.sqrt(np.mean(r**2)) for r in residuals])


def score(
    prior: Prior,
    features: Features,
    observations: Observations,
    free_amplitude: bool = False,
) -> Score:
    """Leave out each structure in turn.

    With `free_amplitude` the kernel is scaled by the amplitude of largest likelihood.
    A noise of None (of forces alone) grows with the prior, whose amplitude is free
    then: the density is the largest over all amplitudes.
    """
    kernel = prior.kernel
    K = covariance(prior, features, observations).to_dense()
    directions, sizes = _informative(K, observations)
    is_relative = prior.noise.forces is None and not observations.is_given.any()
    y, variance = observations.y, _variance(prior, observations, K, free_amplitude)
    if directions.shape[1] < len(K):
        K = directions.T @ K @ directions
        y, variance = directions.T @ y, variance @ directions**2
    if is_relative:
        variance = np.full(len(K), RELATIVE_NOISE**2 * np.trace(K) / len(K))
    scale = 1.0
    try:
        if free_amplitude and not is_relative:
            scale = _likely_scale(K, y, variance)
        solution = Cholesky().solve(TiledMatrix.from_dense(scale * K), y, variance)
    except (InputError, np.linalg.LinAlgError):
        return Score(kernel, -np.inf, None)
    if free_amplitude and is_relative:
        scale = float(y @ solution.coef / len(y))
    if free_amplitude:
        kernel = Scaled(kernel, amplitude=float(np.sqrt(scale)))
    left_out = left_out_blocks(solution.factor, solution.coef, blocks_of(sizes))
    density = left_out.log_density(free_amplitude=is_relative)
    return Score(kernel, density, left_out)


def _variance(prior, observations, K, free_amplitude):
    """Noise variances of the rows; noises of the frames' own are absolute.

    So are the others beside them.
    """
    if prior.noise.forces is not None:
        return prior.noise.variance(observations)
    is_given = observations.is_given
    least = RELATIVE_NOISE**2 * np.trace(K) / len(K)
    if free_amplitude and not is_given.all():
        least = _NOISE_BESIDE_NOISY**2 * np.mean(observations.y[~is_given] ** 2)
    return np.where(is_given, observations.label_variance, least)


def _informative(K, observations):
    """Return directions with prior variance, and how many each structure has.

    Rotations of a molecule in a periodic box, bending of a linear molecule and some
    motions beside atoms without forces change no distance to first order. Their forces
    are zero with certainty: predicting them says nothing about the kernel.
    """
    columns, sizes = [], []
    for block in blocks_of(observations.sizes):
        rows = np.arange(block.start, block.stop)
        of_forces = rows[observations.is_force[rows]]
        variance, vectors = np.linalg.eigh(K[np.ix_(of_forces, of_forces)])
        kept = vectors[:, variance > _NO_VARIANCE * variance.max(initial=0.0)]
        directions = np.zeros((len(K), kept.shape[1] + len(rows) - len(of_forces)))
        directions[of_forces, : kept.shape[1]] = kept
        energies = rows[~observations.is_force[rows]]
        directions[energies, kept.shape[1] + np.arange(len(energies))] = 1.0
        columns.append(directions)
        sizes.append(directions.shape[1])
    return np.hstack(columns), sizes


def _likely_scale(K, y, variance):
    """Return the most likely s for the covariance s K + Σ."""
    sigma = np.sqrt(variance)
    eigenvalues, vectors = np.linalg.eigh(K / np.outer(sigma, sigma))
    eigenvalues = np.maximum(eigenvalues, 0.0)
    squares = (vectors.T @ (y / sigma)) ** 2

    def cost(log_scale):
        total = np.exp(log_scale) * eigenvalues + 1.0
        return np.log(total).sum() + (squares / total).sum()

    middle = np.log(squares.sum() / eigenvalues.sum())
    # Beyond this the noise would no longer keep the matrix regular.
    most = -np.log(RELATIVE_NOISE**2 * eigenvalues.mean())
    best = minimize_scalar(cost, bounds=(min(middle, most) - 10.0, most))
    return float(np.exp(best.x))
