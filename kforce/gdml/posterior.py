"""The posterior: a prior on the latent energy, conditioned on observations.

With K_* = cov(y, ·_*) and K + Σ = L Lᵀ, mean and covariance of any forces and energies
are

    K_*ᵀ α,   α = (K + Σ)⁻¹ y,        C = K_** − Hᵀ H,   H = L⁻¹ K_*

(Rasmussen and Williams, Gaussian Processes for Machine Learning, eqs. 2.25 and 2.26;
the rows are derivatives as in sec. 9.4). C is the part of the error that more data
would take away (epistemic); the noise of labels comes on top.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from kforce.descriptors.base import Features
from kforce.gdml.covariance import CrossCovariance, covariance, prior_blocks
from kforce.gdml.energy_differences import EnergyPrior, mean_energy
from kforce.gdml.leave_one_out import LeaveOneOut, structures_to_leave_out
from kforce.gdml.observations import Observations
from kforce.gdml.prior import Prior
from kforce.gdml.subsets import farthest_points
from kforce.kernels.expansion import Expansion
from kforce.parallel import slices
from kforce.progress import progress_bar
from kforce.solvers.cholesky import Cholesky
from kforce.solvers.resources import Forecast
from kforce.solvers.tiles import TiledMatrix
from kforce.storage.codec import check_array

_log = logging.getLogger("kforce.uncertainty")


@dataclass(eq=False, repr=False)
class Posterior:
    """A Gaussian process on the latent energy, conditioned on observations.

    The `prior` has all values that were learned. `coef` (n_observations,) are α, None
    where only the covariance is known, and `factor` is L, which takes as much memory as
    the fit, 4 n² bytes: 1.9 GB for n = 21,000 rows. None makes it, in the time of the
    fit, when it is needed. `log_marginal_likelihood` is log p(y) of the projected
    observations, and `reference` cov(f̄, f(·)) of the mean f̄ that energies are relative
    to, see `mean_energy`: None in a fit of energies, and where nothing is known of the
    constant. All standard deviations are multiplied by the `calibration`.

    Examples
    --------
    >>> import kforce
    >>> from kforce.descriptors.inverse_distances import InverseDistances
    >>> from kforce.gdml.prior import Noise
    >>> from kforce.labels import Labels
    >>> from kforce.structures import Batch
    >>> frames = kforce.datasets.load_methanol_ccsdt()[:4]
    >>> batch = Batch.from_frames(frames[:3])
    >>> prior = Prior(kforce.Matern52(1.0), np.arange(6)[None], Noise(forces=0.01))
    >>> observations = Observations.build(batch, Labels.from_frames(frames[:3]))
    >>> posterior = condition(prior, InverseDistances()(batch), observations)
    >>> queries = InverseDistances()(Batch.from_frames(frames))
    >>> energy, forces = posterior.deviations(queries)
    >>> bool(forces[:3].max() <= 0.01 < forces[3].max())
    True
    """

    prior: Prior
    features: Features
    observations: Observations
    coef: np.ndarray | None = None
    factor: TiledMatrix | None = None
    log_marginal_likelihood: float | None = None
    reference: Expansion | None = None
    calibration: float = 1.0

    #: Bytes that the right-hand sides of one triangular solve may take, and their
    #: copies.
    max_bytes: ClassVar[float] = 2e8

    def to_fields(self, with_factor: bool = False) -> dict:
        """Return what a file holds of it, beside the model that it belongs to.

        Without the factor the first standard deviation of the restored model takes the
        time of a fit.
        """
        if with_factor:
            self.prepare()
        return {
            "observations": self.observations.to_fields(),
            "variance": self.prior.noise.variance(self.observations),
            "reference": None if self.reference is None else self.reference.weights,
            "calibration": float(self.calibration),
            "factor": self.factor if with_factor else None,
        }

    @classmethod
    def from_fields(
        cls, prior, mean, batch, features, *,
        observations, variance, reference, calibration, factor,
    ) -> Posterior:  # fmt: skip
        """Return the covariance of a model, of which a file holds this.

        `mean` is that of the model, and `batch` and `features` are of the structures of
        the observations. TypeError and ValueError say that they do not fit together.
        """
        observed = Observations.from_fields(
            bool(batch.pbc.any()), **observations, variance=variance
        )
        if not calibration > 0.0:
            raise ValueError(f"the calibration is {calibration}")
        if reference is not None:
            check_array("reference", reference, (len(mean.x_train),))
            reference = mean_energy(mean, reference)
        if factor is not None and factor.n_rows != observed.n_rows:
            raise ValueError(
                f"the factor has {factor.n_rows} rows, expected {observed.n_rows}"
            )
        known = {"reference": reference, "calibration": float(calibration)}
        return cls(prior, features, observed, factor=factor, **known)

    @cached_property
    def mean(self) -> Expansion:
        """The sum over observations as an expansion in descriptor space."""
        return self.expanded(self.coef)

    def expanded(self, coef: np.ndarray) -> Expansion:
        """Return the function that coefficients (n_observations,) of the rows give."""
        return _expand(self.prior, self.features, self.observations, coef)

    def relative_to_mean(self, structures: np.ndarray) -> Posterior:
        """Return the posterior with energies relative to the mean over some structures.

        A fit of forces alone takes its constant from the energies of these, a mask
        (n_structures,).
        """
        weights = structures / structures.sum()
        return replace(self, reference=mean_energy(self.mean, weights))

    def leave_one_out(
        self, learned_from: np.ndarray = (), seed: int = 0
    ) -> LeaveOneOut:
        """Predict some structures from all others; see `structures_to_leave_out`."""
        structures = structures_to_leave_out(
            self.observations.sizes, learned_from, seed
        )
        return LeaveOneOut.of(
            self.factor, self.coef, self.observations, structures, learned_from
        )

    def deviations(
        self, queries: Features, with_forces: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return standard deviations of energies and of force components.

        They are (n,) in eV and (n, n_atoms, 3) in eV/Å, or None, without the noise of
        labels. Energies alone cost less.
        """
        n = len(queries.x)
        variance = np.empty((n, 3 * queries.n_atoms + 1))
        if not with_forces:
            for part in self._batches(n, 1):
                half = self._half_solve(self._energies.columns(queries.x[part]))
                prior = self._energies.variance(queries.x[part])
                variance[part, -1] = prior - np.einsum("ij,ij->j", half, half)
        else:
            for part in self._batches(n, variance.shape[1]):
                prior, half = self._joint(queries.take(part))
                explained = np.einsum("isr,isr->sr", half, half)
                variance[part] = np.einsum("srr->sr", prior) - explained
        # What is known exactly has a variance of zero up to rounding.
        std = self.calibration * np.sqrt(np.maximum(variance, 0.0))
        forces = std[:, :-1].reshape(n, -1, 3) if with_forces else None
        return std[:, -1], forces

    def forces_covariance(self, queries: Features) -> np.ndarray:
        """Return the covariance of the forces on the atoms of each structure.

        It is (n, 3 n_atoms, 3 n_atoms) in (eV/Å)², without the noise of labels.
        """
        n, n_cart = len(queries.x), 3 * queries.n_atoms
        C = np.empty((n, n_cart, n_cart))
        for part in self._batches(n, n_cart + 1):
            prior, half = self._joint(queries.take(part))
            half = half[:, :, :-1].transpose(1, 2, 0)
            C[part] = prior[:, :-1, :-1] - half @ half.transpose(0, 2, 1)
        return self.calibration**2 * C

    def energy_covariance(self, queries: Features) -> np.ndarray:
        """Return the covariance of the energies of structures, (n, n) in eV².

        The noise of labels is not in it. The variance of a difference is
        C_ii + C_jj − 2 C_ij; no constant enters it. n × (n_observations + n) numbers
        are held in memory.
        """
        n = len(queries.x)
        half = np.empty((self.observations.n_rows, n), order="F")
        for part in self._batches(n, 1):
            half[:, part] = self._half_solve(self._energies.columns(queries.x[part]))
        C = self._energies.covariance(queries.x) - half.T @ half
        return self.calibration**2 * C

    def subset(self, n_rows: int = 6000, seed: int = 0) -> Posterior:
        """Return the covariance that remains when only some structures are known.

        It is a cheap bound: the prior and the noise are the same, and who knows less is
        less certain, so no variance is below the exact one. The calibration is kept for
        the same reason: one of its own, which takes wider distributions back, could
        fall below. Energies stay relative to the mean over all training structures.

        `n_rows` observations are kept at most (6000: 0.2 GB, and seconds to factor).
        The seed draws the first structure; each further one is the farthest from all
        before, in the descriptor, up to symmetry. Where the posterior is small enough,
        it is returned itself.
        """
        sizes = self.observations.sizes
        if sizes.sum() <= n_rows:
            return self
        images = self.features.coordinates.images(self.prior.permutations)[0]
        rng = np.random.default_rng(seed)
        chosen = farthest_points(self.features.x, images, sizes, n_rows, rng)
        return replace(
            self,
            features=self.features.take(chosen),
            observations=self.observations.take(chosen),
            coef=None,
            factor=None,
            log_marginal_likelihood=None,
        )

    def prepare(self) -> None:
        """Make the factor unless it is there; `InputError` if there is no memory."""
        if self.factor is not None:
            return
        n = self.observations.n_rows
        forecast = Forecast.of(n, 2.0 * self.max_bytes)
        _log.info("factoring again for standard deviations: %s", forecast)
        forecast.require_memory("standard deviation", "use a subset of")
        K = _assemble(self.prior, self.features, self.observations)
        variance = self.prior.noise.variance(self.observations)
        with progress_bar(n, "factoring") as advance:
            Cholesky().factor(K, variance, advance)
        self.factor = K

    def _batches(self, n: int, width: int) -> Iterator[slice]:
        """Cut queries of `width` columns into parts of bounded memory."""
        distances = len(self.features.x) * self._cross.n_images
        entries = 24 * self.observations.n_rows * width + 72 * distances
        return slices(n, max(1, int(self.max_bytes // entries)))

    @cached_property
    def _energies(self):
        return EnergyPrior(self.prior, self.features, self.observations, self.reference)

    @cached_property
    def _cross(self):
        return CrossCovariance(self.prior, self.features, self.observations)

    def _half_solve(self, columns):
        self.prepare()
        return self.factor.half_solve(columns)

    def _joint(self, queries):
        """Prior (n, w, w) and H (n_observations, n, w) of forces and energies."""
        prior = prior_blocks(self.prior, queries)
        columns = self._cross(queries)
        shape = (len(columns), *prior.shape[:2])
        if self.reference is not None:
            prior[:, -1, -1] = self._energies.variance(queries.x)
            last = prior.shape[1] - 1
            columns[:, last :: last + 1] -= self._energies.of_mean[:, None]
        return prior, self._half_solve(columns).reshape(shape)


def condition(
    prior: Prior,
    features: Features,
    observations: Observations,
    free_amplitude: bool = False,
) -> Posterior:
    """Condition a Gaussian process on observed forces and energies.

    With `free_amplitude` kernel and noise are scaled together by the amplitude of
    largest likelihood, which leaves the mean as it is; no label may bring a noise of
    its own then. An `InputError` says that the covariance matrix cannot be factored.
    """
    n, y = observations.n_rows, observations.y
    K = _assemble(prior, features, observations)
    prior = replace(prior, noise=prior.noise.resolved(observations, K.diagonal()))
    variance = prior.noise.variance(observations)
    with progress_bar(n, "factoring") as advance:
        solution = Cholesky().solve(K, y, variance, progress=advance)
    # One step of refinement: K coef is the model's own prediction, so its residual
    # costs next to nothing, and takes back most of what rounding lost.
    mean = _expand(prior, features, observations, solution.coef)
    residual = y - variance * solution.coef - observations.of(mean, features)
    solution = solution.refined(residual)
    quadratic = float(y @ solution.coef)
    if free_amplitude and quadratic > 0.0:
        prior = prior.scaled(np.sqrt(quadratic / n))
        solution = solution.scaled(quadratic / n)
    return Posterior(
        prior,
        features,
        observations,
        coef=solution.coef,
        factor=solution.factor,
        log_marginal_likelihood=solution.log_likelihood(y),
    )


def _assemble(prior, features, observations):
    n = observations.n_rows
    with progress_bar(n * (n + 1) // 2, "assembling") as advance:
        return covariance(prior, features, observations, progress=advance)


def _expand(prior, features, observations, coef):
    forces, energies = observations.split(coef)
    return Expansion(
        kernel=prior.kernel,
        x_train=features.x,
        directions=-features.push(forces),
        weights=energies if len(observations.energy_rows) else None,
        feature_perms=features.coordinates.images(prior.permutations)[0],
    )
