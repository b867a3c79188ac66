"""The gradient-domain force field of one molecule."""

from __future__ import annotations

import logging
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from kforce.arguments import check_noise, check_seed
from kforce.descriptors.base import check_descriptor
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.errors import InputError
from kforce.evidence import RELATIVE_NOISE, learn_kernel, subset_of
from kforce.kernels import Matern52, Matern72, Scaled, check_kernel, unscaled
from kforce.models.base import ForceField
from kforce.models.energy_check import mismatch_complaint, scale_complaint
from kforce.models.molecule import Molecule, Training
from kforce.observations import Observations
from kforce.permutations import validate_permutations
from kforce.posterior import condition
from kforce.solvers.forecast import Forecast
from kforce.structures import Batch, Labels, as_frames
from kforce.symmetry import find_permutations

_log = logging.getLogger("kforce.gdml")
_forecast_log = logging.getLogger("kforce.forecast")


#: Kernels to choose from where none is given.
_CANDIDATES = (Matern52(), Matern72())


class GDMLRegressor(ForceField):
    """Gaussian process on the energy of one molecule, conditioned on its forces.

    The energy is E(R) = c + f(x(R)) with a zero-mean Gaussian process f on a descriptor
    x of the whole molecule; forces (and energies) are linear functionals of f, so the
    predicted forces are exactly the gradient of the predicted energy.

    Parameters
    ----------
    descriptor : Descriptor, default=None
        None is `InverseDistances`.
    kernel : Kernel, default=None
        Covariance of f in eV². None is `Matern52` or `Matern72`, whichever predicts the
        forces of left-out structures better; a length scale of None is learned by the
        same criterion, the leave-one-out density of a subset.
    noise_forces : float, default=None
        Standard deviation of the forces in eV/Å. None takes the labels as converged,
        and only regularises: 1e-5 of the prior standard deviation of a force component.
    noise_energy : float, default=None
        Standard deviation of the energies in eV per atom (× √n_atoms). None fits the
        forces alone; the energies then only give the constant c.
    permutations : {'auto', None} or ndarray of int, shape (n_perms, n_atoms)
        Group of atom permutations over which the kernel is summed. 'auto' recovers it
        from the training data, None uses no symmetry.
    max_permutations : int, default=1000
        Size of the largest group that is recovered.
    baseline : None
        Reserved for a physical model that is corrected.
    optimize : bool, default=True
        Learn the amplitude of the kernel, unless the kernel is `Scaled`. Otherwise it
        is 1 eV.
    solver : {'auto', 'cholesky'}, default='auto'
        Both factor the covariance matrix.
    seed : int, default=0
        Seed of the subsets.

    Attributes
    ----------
    permutations_ : ndarray of int, shape (n_perms, n_atoms)
        The group in use.
    kernel_ : Kernel
        The kernel with all values that were learned.
    noise_forces_, noise_energy_ : float
        The noises in use; noise_energy_ is None in a fit of forces alone.
    expansion_ : Expansion
        The fitted function f of the descriptor.
    constant_ : float
        c, in eV.
    molecule_ : Molecule
        Atoms, their order, and boundary conditions.
    log_marginal_likelihood_ : float
        Of the projected training data.
    training_ : Training
        What the model was trained on.

    Raises
    ------
    InputError
        By `fit`, if the frames are not one molecule in one atom order, carry no forces,
        or need more memory than there is.

    References
    ----------
    Chmiela et al., Sci. Adv. 3, e1603015 (2017); Nat. Commun. 9, 3887 (2018).

    Examples
    --------
    >>> import kforce
    >>> frames = kforce.datasets.load_methanol_ccsdt()
    >>> model = kforce.GDMLRegressor().fit(frames[:25])
    >>> bool(model.score(frames[-60:]) > 0.97)
    True
    """

    def __init__(
        self,
        *,
        descriptor=None,
        kernel=None,
        noise_forces=None,
        noise_energy=None,
        permutations="auto",
        max_permutations=1000,
        baseline=None,
        optimize=True,
        solver="auto",
        seed=0,
    ):
        self.descriptor = descriptor
        self.kernel = kernel
        self.noise_forces = noise_forces
        self.noise_energy = noise_energy
        self.permutations = permutations
        self.max_permutations = max_permutations
        self.baseline = baseline
        self.optimize = optimize
        self.solver = solver
        self.seed = seed

    def fit(self, frames, y=None):
        """Fit the force field to labelled structures of one molecule.

        Parameters
        ----------
        frames : list of ase.Atoms
            Structures with forces (and energies) on their calculators, in eV and eV/Å.
            What has no label is left out of the fit.
        y : None
            Not used: the labels live on the frames.

        Returns
        -------
        GDMLRegressor
            self.
        """
        self._check_parameters()
        frames = as_frames(frames)
        Batch.from_frames(frames)  # refuses positions that are not finite
        frames, labels = self._labelled(frames)
        molecule = Molecule.of(frames[0])
        for s, frame in enumerate(frames):
            molecule.check(frame, f"frame {s}")
        permutations = self._group(frames, molecule)
        descriptor = self._own_descriptor()
        batch = Batch.from_frames(frames)
        features = descriptor(batch)
        known = np.isfinite(labels.energy)
        offset = labels.energy[known].mean() if known.any() else 0.0
        noise = 1.0 if self.noise_forces is None else self.noise_forces
        observations = Observations.build(
            batch, labels, noise, self.noise_energy, offset
        )
        forecast = Forecast.of(len(observations.y), features.wilson.nbytes)
        _forecast_log.info("forecast: %s", forecast)
        forecast.require_memory()
        posterior = condition(
            self._learned_kernel(features, observations, permutations),
            features,
            observations,
            permutations,
            self.noise_forces,
            self._learns_amplitude() and self._is_noise_free(),
        )
        self.restore(
            molecule_=molecule,
            permutations_=permutations,
            descriptor_=descriptor,
            kernel_=posterior.kernel,
            noise_forces_=posterior.noise_forces,
            noise_energy_=self.noise_energy,
            log_marginal_likelihood_=posterior.log_marginal_likelihood,
            expansion_=posterior.expansion,
            constant_=float(offset),
            training_=Training.on(frames, labels),
        )
        if self.noise_energy is None and known.any():
            self._set_constant(frames, features, labels)
        return self

    def restore(self, **fitted):
        """Set the fitted attributes of a model that was trained before.

        Parameters
        ----------
        **fitted
            All attributes that end in an underscore.

        Returns
        -------
        GDMLRegressor
            self.
        """
        for name, value in fitted.items():
            setattr(self, name, value)
        return self

    def _check_parameters(self):
        if self.baseline is not None:
            raise InputError("This version has no baselines: use baseline=None.")
        if self.solver not in ("auto", "cholesky"):
            raise InputError(
                f"solver must be 'auto' or 'cholesky', found {self.solver!r}."
            )
        check_noise("noise_forces", self.noise_forces)
        check_noise("noise_energy", self.noise_energy)
        check_kernel(self.kernel)
        check_descriptor(self.descriptor)
        check_seed(self.seed)

    def _labelled(self, frames):
        """Leave out the frames that no row of the system would come from."""
        labels = Labels.from_frames(frames)
        used = labels.has_forces
        if self.noise_energy is not None:
            used = used | np.isfinite(labels.energy)
        if not labels.has_forces.any():
            raise InputError(
                "Expected forces on the training frames, found none: attach them with "
                "a calculator, or name their array when reading (forces_key)."
            )
        if not used.all():
            left_out = len(used) - used.sum()
            _log.warning(
                "%d of %d frames have no forces and are left out", left_out, len(used)
            )
        keep = np.flatnonzero(used)
        forces = [labels.forces[s] for s in keep]
        return [frames[s] for s in keep], Labels(labels.energy[keep], forces)

    def _group(self, frames, molecule):
        if self.permutations is None:
            return np.arange(len(molecule.numbers))[None]
        if isinstance(self.permutations, str):
            if self.permutations != "auto":
                raise InputError(
                    "permutations must be 'auto', None or an array of shape (n_perms, "
                    f"n_atoms), found {self.permutations!r}."
                )
            return find_permutations(
                frames, max_permutations=self.max_permutations, seed=self.seed
            )
        return validate_permutations(self.permutations, molecule.numbers)

    def _own_descriptor(self):
        if self.descriptor is None:
            return InverseDistances()
        return clone(self.descriptor)

    def _learned_kernel(self, features, observations, permutations):
        """Return the kernel, with what is not given learned from a subset."""
        kernels = _CANDIDATES if self.kernel is None else (self.kernel,)
        has_length = getattr(unscaled(kernels[0]), "length_scale", 1.0) is not None
        # Without any noise given, the amplitude follows from all data in closed form.
        scales = self._learns_amplitude() and not self._is_noise_free()
        if has_length and not scales:
            return clone(kernels[0])
        rng = np.random.default_rng(self.seed)
        # Sorted, the features of a structure and of its permuted images are the same.
        signature = np.sort(features.x, axis=1).round(8)
        chosen = subset_of(observations.sizes, signature, rng)
        if len(chosen) < 2:
            raise InputError(
                "A length scale is learned from at least two different structures: add "
                "structures, or give one, as in kernel=Matern52(length_scale=10.0)."
            )
        if not observations.y.any():
            raise InputError(
                "All forces are zero, and nothing can be learned from them: check the "
                "labels."
            )
        subset = observations.take(chosen)
        if self.noise_forces is None:
            subset = subset.without_energies()
        learned = [
            learn_kernel(
                kernel,
                features.take(chosen),
                subset,
                permutations,
                RELATIVE_NOISE**2 if self.noise_forces is None else None,
                scales,
            )
            for kernel in kernels
        ]
        return max(learned, key=lambda found: found[1])[0]

    def _set_constant(self, frames, features, labels):
        """Take c as the mean residual of the energies; compare energies with forces."""
        known = np.isfinite(labels.energy)
        energy = labels.energy[known]
        predicted, _ = self.expansion_.jet(features.x[known])
        self.constant_ = float(np.mean(energy - predicted))
        complaint = scale_complaint(energy, predicted)
        complaint = complaint or mismatch_complaint(self, frames, labels)
        if complaint:
            warnings.warn(complaint, stacklevel=3)

    def _learns_amplitude(self):
        return self.optimize and not isinstance(self.kernel, Scaled)

    def _is_noise_free(self):
        return self.noise_forces is None and self.noise_energy is None

    def _check_frames(self, frames):
        check_is_fitted(self, "expansion_")
        frames = as_frames(frames)
        for s, frame in enumerate(frames):
            self.molecule_.check(frame, f"frame {s}")
        return frames

    def _evaluate(self, frames, with_forces):
        features = self.descriptor_(Batch.from_frames(frames))
        f, slope = self.expansion_.jet(features.x)
        forces = list(-features.pull(slope)) if with_forces else None
        return f + self.constant_, forces

    def evaluate_one(self, positions):
        """Return energy and forces of one structure at low latency.

        Parameters
        ----------
        positions : ndarray of shape (n_atoms, 3)
            Positions in Å of the atoms of the training molecule; not checked.

        Returns
        -------
        energy : float
            In eV.
        forces : ndarray of shape (n_atoms, 3)
            In eV/Å.
        inside : bool
            Whether the descriptor is within the range of the training data.
        """
        features = self.descriptor_(self.molecule_.batch_of_one(positions))
        f, slope = self.expansion_.jet(features.x)
        forces = features.pull(slope)[0]
        np.negative(forces, out=forces)
        inside = self.expansion_.is_inside(features.x[0])
        return float(f[0]) + self.constant_, forces, inside

    def describe_extrapolation(self, positions):
        """Say in a sentence how a structure leaves the range of the training data."""
        x = self.descriptor_(self.molecule_.batch_of_one(positions)).x[0]
        low, high = self.expansion_.trusted_range
        excess = np.maximum(low - x, x - high) / np.maximum(high - low, 1e-12)
        worst = int(np.argmax(excess))
        return self.descriptor_.describe(worst, x[worst], low[worst], high[worst])
