"""Posterior covariance of energies and forces: what the observations leave open.

With K_* = cov(y, ·_*) and K + Σ = L Lᵀ, the covariance of any forces and energies is

    C = K_** − Hᵀ H,      H = L⁻¹ K_*

one triangular solve (Rasmussen and Williams, Gaussian Processes for Machine Learning,
eq. 2.26; the rows are derivatives as in sec. 9.4). It is the part of the error that
more data would take away (epistemic); the noise of labels comes on top.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kforce.descriptors.base import Features
from kforce.errors import InputError
from kforce.gdml.covariance import CrossCovariance, covariance, prior_blocks
from kforce.gdml.energy_differences import EnergyPrior, mean_energy
from kforce.gdml.farthest_points import farthest_points
from kforce.gdml.observations import Observations
from kforce.kernels.base import Kernel
from kforce.kernels.expansion import Expansion
from kforce.progress import progress_bar
from kforce.solvers.cholesky import Cholesky
from kforce.solvers.resources import Forecast
from kforce.solvers.tiles import TiledMatrix
from kforce.storage.codec import check_array
from kforce.structures import Batch

_log = logging.getLogger("kforce.uncertainty")

#: Bytes that the right-hand sides of one triangular solve may take, and their copies.
_BYTES = 2e8


@dataclass(eq=False, repr=False)
class Uncertainty:
    """The posterior covariance of a force field.

    Parameters
    ----------
    kernel : Kernel
        Prior covariance of the latent energy.
    permutations : ndarray of int, shape (n_perms, n_atoms)
        Symmetries of the kernel.
    features, observations : Features, Observations
        Where and what is observed, and with which noise.
    reference : Expansion or None
        cov(f̄, f(·)) of the mean f̄ that energies are relative to, see `mean_energy`;
        None in a fit of energies, and where nothing is known of the constant.
    calibration : float, default=1.0
        All standard deviations of the posterior are multiplied by it.
    factor : TiledMatrix or None
        Cholesky factor of the covariance of the observations, noise included. It takes
        as much memory as the fit, 4 n² bytes: 1.9 GB for n = 21,000 rows. None makes
        it, in the time of the fit, when it is needed.
    positions : ndarray of shape (n_structures, n_atoms, 3) or None
        The observed structures in Å; a file holds them.

    Examples
    --------
    >>> import kforce
    >>> from kforce.descriptors.inverse_distances import InverseDistances
    >>> from kforce.gdml.observations import Observations
    >>> from kforce.structures import Batch, Labels
    >>> frames = kforce.datasets.load_methanol_ccsdt()[:4]
    >>> batch = Batch.from_frames(frames[:3])
    >>> labels = Labels.from_frames(frames[:3])
    >>> uncertainty = Uncertainty(
    ...     kforce.Matern52(length_scale=1.0),
    ...     permutations=np.arange(6)[None],
    ...     features=InverseDistances()(batch),
    ...     observations=Observations.build(batch, labels, noise_forces=0.01),
    ... )
    >>> queries = InverseDistances()(Batch.from_frames(frames))
    >>> energy, forces = uncertainty.deviations(queries)
    >>> bool(forces[:3].max() <= 0.01 < forces[3].max())
    True
    """

    kernel: Kernel
    permutations: np.ndarray
    features: Features
    observations: Observations
    reference: Expansion | None = None
    calibration: float = 1.0
    factor: TiledMatrix | None = None
    positions: np.ndarray | None = None

    def to_fields(self, with_factor: bool = False) -> dict:
        """Return what a file holds of it, beside the model that it belongs to.

        The factor takes 4 n² bytes for n rows; without it the first standard deviation
        of the restored model takes the time of a fit.

        Raises
        ------
        InputError
            If it does not hold the positions of its structures.
        """
        if self.positions is None:
            raise InputError(
                "Standard deviations cannot be saved without the positions of the "
                "training structures: give them to `condition`."
            )
        if with_factor:
            self.prepare()
        return {
            "positions": self.positions,
            "observations": self.observations.to_fields(),
            "reference": None if self.reference is None else self.reference.weights,
            "calibration": self.calibration,
            "factor": self.factor if with_factor else None,
        }

    @classmethod
    def from_fields(
        cls,
        batch: Batch,
        features: Features,
        expansion: Expansion,
        permutations: np.ndarray,
        *,
        positions: np.ndarray,
        observations: dict[str, np.ndarray],
        reference: np.ndarray | None,
        calibration: float,
        factor: TiledMatrix | None,
    ) -> Uncertainty:
        """Return the uncertainty of a model of which a file holds this.

        `batch` and `features` are of the structures at the positions.

        Raises
        ------
        TypeError, ValueError
            If they do not fit together.
        """
        known = Observations.from_fields(batch, **observations)
        if not calibration > 0.0:
            raise ValueError(f"the calibration is {calibration}")
        if reference is not None:
            check_array("reference", reference, (len(expansion.x_train),))
            reference = mean_energy(expansion, reference)
        if factor is not None and factor.n_rows != len(known.variance):
            raise ValueError(
                f"the factor has {factor.n_rows} rows, expected {len(known.variance)}"
            )
        return cls(
            expansion.kernel,
            permutations,
            features,
            known,
            reference,
            float(calibration),
            factor,
            positions,
        )

    def deviations(
        self, queries: Features, with_forces: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return standard deviations of energies and of force components.

        Parameters
        ----------
        queries : Features
            Descriptors of n structures.
        with_forces : bool, default=True
            Energies alone cost less.

        Returns
        -------
        energy : ndarray of shape (n,)
            In eV, without the noise of labels.
        forces : ndarray of shape (n, n_atoms, 3), or None
            In eV/Å.
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

        Parameters
        ----------
        queries : Features
            Descriptors of n structures.

        Returns
        -------
        ndarray of shape (n, 3 n_atoms, 3 n_atoms)
            In (eV/Å)², without the noise of labels.
        """
        n, n_cart = len(queries.x), 3 * queries.n_atoms
        C = np.empty((n, n_cart, n_cart))
        for part in self._batches(n, n_cart + 1):
            prior, half = self._joint(queries.take(part))
            half = half[:, :, :-1].transpose(1, 2, 0)
            C[part] = prior[:, :-1, :-1] - half @ half.transpose(0, 2, 1)
        return self.calibration**2 * C

    def energy_covariance(self, queries: Features) -> np.ndarray:
        """Return the covariance of the energies of structures.

        The variance of a difference is C_ii + C_jj − 2 C_ij; no constant enters it.

        Parameters
        ----------
        queries : Features
            Descriptors of n structures; n × (n_observations + n) numbers are held in
            memory.

        Returns
        -------
        ndarray of shape (n, n)
            In eV², without the noise of labels.
        """
        n = len(queries.x)
        half = np.empty((len(self.observations.variance), n), order="F")
        for part in self._batches(n, 1):
            half[:, part] = self._half_solve(self._energies.columns(queries.x[part]))
        C = self._energies.covariance(queries.x) - half.T @ half
        return self.calibration**2 * C

    def subset(self, n_rows: int = 6000, seed: int = 0) -> Uncertainty:
        """Return the uncertainty that remains when only some structures are known.

        It is a cheap bound: the prior and the noise are the same, and who knows less is
        less certain, so no variance is below the exact one. The calibration is kept for
        the same reason: one of its own, which takes wider distributions back, could
        fall below. Energies stay relative to the mean over all training structures.

        Parameters
        ----------
        n_rows : int, default=6000
            Observations to keep at most: 0.2 GB, and seconds to factor.
        seed : int, default=0
            Of the first structure; each further one is the farthest from all before,
            in the descriptor, up to symmetry.

        Returns
        -------
        Uncertainty
            itself, where it is small enough.
        """
        sizes = self.observations.sizes
        if sizes.sum() <= n_rows:
            return self
        rng = np.random.default_rng(seed)
        x = self.features.x
        chosen = farthest_points(x, self._feature_perms, sizes, n_rows, rng)
        positions = None if self.positions is None else self.positions[chosen]
        return replace(
            self,
            positions=positions,
            features=self.features.take(chosen),
            observations=self.observations.take(chosen),
            factor=None,
        )

    def prepare(self) -> None:
        """Make the factor unless it is there.

        Raises
        ------
        InputError
            If there is too little memory.
        """
        if self.factor is not None:
            return
        n = len(self.observations.variance)
        forecast = Forecast.of(n, 2.0 * _BYTES)
        _log.info("factoring again for standard deviations: %s", forecast)
        forecast.require_memory("standard deviation", "use a subset of")
        with progress_bar(n * (n + 1) // 2, "assembling") as advance:
            K = covariance(
                self.features,
                self.observations,
                self.kernel,
                self.permutations,
                progress=advance,
            )
        with progress_bar(n, "factoring") as advance:
            Cholesky().factor(K, self.observations.variance, advance)
        self.factor = K

    def _batches(self, n: int, width: int) -> Iterator[slice]:
        """Cut queries of `width` columns into parts of bounded memory."""
        n_rows = len(self.observations.variance)
        distances = len(self.features.x) * self._cross.n_images
        step = max(1, int(_BYTES // (24 * n_rows * width + 72 * distances)))
        return (slice(k, min(k + step, n)) for k in range(0, n, step))

    @cached_property
    def _feature_perms(self):
        return self.features.coordinates.images(self.permutations)[0]

    @cached_property
    def _energies(self):
        return EnergyPrior(
            self.kernel,
            self._feature_perms,
            self.features,
            self.observations,
            self.reference,
        )

    @cached_property
    def _cross(self):
        return CrossCovariance(
            self.features, self.observations, self.kernel, self.permutations
        )

    def _half_solve(self, columns):
        self.prepare()
        return self.factor.half_solve(columns)

    def _joint(self, queries):
        """Prior (n, w, w) and H (n_observations, n, w) of forces and energies."""
        prior = prior_blocks(queries, self.kernel, self.permutations)
        columns = self._cross(queries)
        shape = (len(columns), *prior.shape[:2])
        if self.reference is not None:
            prior[:, -1, -1] = self._energies.variance(queries.x)
            last = prior.shape[1] - 1
            columns[:, last :: last + 1] -= self._energies.of_mean[:, None]
        return prior, self._half_solve(columns).reshape(shape)
