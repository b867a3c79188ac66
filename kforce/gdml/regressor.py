"""The gradient-domain force field of one molecule."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kforce.baselines.baseline import Baseline
from kforce.data.training import Training
from kforce.data.worst_frames import LARGEST_Z, WorstFrames
from kforce.descriptors.base import Descriptor, check_descriptor
from kforce.errors import InputError, check_count, check_noise, check_seed
from kforce.force_field import ForceField
from kforce.gdml.energy_differences import mismatch_complaint, scale_complaint
from kforce.gdml.label_errors import DISTRUSTED, find_label_errors, suspicious
from kforce.gdml.low_rank import LowRankPosterior, nearby
from kforce.gdml.model_selection import choose_prior
from kforce.gdml.molecule import Molecule, without_boxes
from kforce.gdml.observations import Observations
from kforce.gdml.posterior import Posterior, condition
from kforce.gdml.prior import Noise, Prior
from kforce.gdml.symmetry_selection import Symmetry, find_symmetry
from kforce.kernels.base import Kernel, check_kernel
from kforce.kernels.expansion import Expansion
from kforce.labels import Labels
from kforce.prediction import Prediction, describe_grades
from kforce.registry import register
from kforce.solvers.cholesky import workspace
from kforce.solvers.resources import Forecast
from kforce.storage.codec import check_array
from kforce.structures import Batch, as_frames
from kforce.symmetry.groups import validate_permutations
from kforce.symmetry.numbering import Numbering

_log = logging.getLogger("kforce.gdml")
_forecast_log = logging.getLogger("kforce.forecast")
_label_log = logging.getLogger("kforce.labels")

#: Frames among which wrong labels are told at least, and fits until they are.
_MIN_JUDGED, _ROBUST_FITS = 10, 4


@register
class GDMLRegressor(ForceField):
    """Gaussian process on the energy of one molecule, conditioned on its forces.

    The energy is E(R) = c + f(x(R)) with a zero-mean Gaussian process f on a descriptor
    x of the whole molecule; forces (and energies) are linear functionals of f, so the
    predicted forces are exactly the gradient of the predicted energy.

    A molecule in a periodic box with vacuum around it is put together where the
    boundary cuts it, and learned and predicted without the box; see
    `kforce.neighbours.unwrapping`. Frames of crystals and polymers share one cell.

    Parameters
    ----------
    descriptor : Descriptor, default=None
        With neither descriptor nor kernel, `InternalCoordinates` whose scales are
        learned by marginal likelihood (see `kforce.gdml.relevance`) are compared with
        `InverseDistances` by the forces of left-out structures: the lower error is
        kept, unless its intervals do not hold; periodic systems and fewer than 10
        frames take the latter. Otherwise None is `InverseDistances`.
    kernel : Kernel, default=None
        Covariance of f in eV². None is a Matérn kernel. A length scale of None is
        learned: the one of best leave-one-out density of a subset.
    noise_forces : float, default=None
        Standard deviation of the forces in eV/Å. None learns it with the scales, or
        takes the labels as converged where these are not learned, and only
        regularises: 1e-5 of the prior standard deviation of a force component. Frames
        may bring noises of their own, see `Labels.from_frames`.
    noise_energy : float, default=None
        Standard deviation of the energies in eV per atom (× √n_atoms). None learns it
        with the scales, or fits the forces alone where these are not learned; the
        energies then only give the constant c.
    permutations : {'auto', None} or ndarray of int, shape (n_perms, n_atoms)
        Group of atom permutations over which the kernel is summed. 'auto' recovers it
        from the training data, adds exchanges of like atoms whose bonds break, and
        numbers like atoms anew where they are in no consistent order; None uses no
        symmetry.
    max_permutations : int, default=1000
        Size of the largest group that is recovered.
    baseline : str, calculator, force field, or list of them, default=None
        A cheap model that this one corrects (Δ-learning): a method of tblite such as
        "GFN2-xTB", any calculator of ASE, a fitted kforce model, or their sum. It is
        evaluated once for the training frames, and added to all predictions.
    optimize : bool, default=True
        Learn what is not given. Otherwise the amplitude is 1 eV, the descriptor, if not
        given, is `InverseDistances`, only a length scale that is None is learned, and
        standard deviations are those of the prior as it is.
    variance : {'exact', 'subset', None}, default='exact'
        What standard deviations are computed with: the factor of the fit, which stays
        in memory (4 n² bytes for n equations); that of a subset of the structures with
        at most 6,000 equations, which is never below the exact one and cheap for large
        models (see `Posterior.subset`); or nothing.
    robust : bool, default=False
        Leave out energies that are beyond 6 standard deviations of what all other
        labels predict, and frames whose forces are, and fit again, until they stay the
        same; at least 10 frames are needed. Otherwise they are named in warnings, and
        kept. See `worst_frames`.
    solver : {'auto', 'cholesky'}, default='auto'
        Both factor the covariance matrix.
    seed : int, default=0
        Seed of the subsets.

    Attributes
    ----------
    permutations_ : ndarray of int, shape (n_perms, n_atoms)
        The group in use.
    numbering_ : Numbering or None
        How atoms are numbered before anything is predicted; None where they are taken
        as they come.
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
    baseline_ : Baseline or None
        The baseline in use.
    uncertainty_ : Posterior or None
        Posterior covariance; it holds the factor of the fit, 4 n² bytes for n
        equations, and the `calibration` that leave-one-out residuals ask for, a factor
        of all epistemic standard deviations. None in models read from sGDML.
    worst_frames_ : WorstFrames or None
        How far the labels of all frames are off, the farthest first; see
        `worst_frames`. None where it is not known.
    leave_one_out_ : LeaveOneOut or None
        How well training structures are predicted from all others, for free; None in a
        model that was loaded.

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
    >>> model = kforce.GDMLRegressor().fit(frames[:15])
    >>> bool(model.score(frames[-60:]) > 0.97)
    True
    """

    # In files; the other fitted attributes follow from these and those of `to_fields`.
    molecule_: Molecule
    permutations_: np.ndarray
    descriptor_: Descriptor
    kernel_: Kernel
    noise_forces_: float | None
    noise_energy_: float | None
    constant_: float
    log_marginal_likelihood_: float | None
    training_: Training
    baseline_: Baseline | None
    worst_frames_: WorstFrames | None = None
    numbering_: Numbering | None = None

    extrapolates_to = "its energy falls back to a constant away from the training data"

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
        variance="exact",
        robust=False,
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
        self.variance = variance
        self.robust = robust
        self.solver = solver
        self.seed = seed

    def to_fields(self, with_factor=None):
        """Return what a file holds; the factor only if that is asked for."""
        uncertainty = self.uncertainty_
        if uncertainty is not None:
            uncertainty = uncertainty.to_fields(bool(with_factor))
        expansion = self.expansion_.to_fields()
        fields = {"expansion_": expansion, "uncertainty_": uncertainty}
        return super().to_fields() | fields

    @classmethod
    def from_fields(cls, *, expansion_, uncertainty_, **fields):
        """Return the model of which a file holds this."""
        older = {"robust": False, "worst_frames_": None, "numbering_": None}
        model = super().from_fields(**older | fields)
        model._check_parameters()
        model._check_noises(expansion_, uncertainty_)
        check_kernel(model.kernel_)
        numbers = model.molecule_.numbers
        numbering = model.numbering_
        if numbering is not None and not np.array_equal(numbering.numbers, numbers):
            raise ValueError("the numbering is of another molecule")
        model.permutations_ = validate_permutations(model.permutations_, numbers)
        coordinates = model.descriptor_.coordinates(len(numbers))
        if not np.isin(coordinates.atoms, np.arange(len(numbers))).all():
            raise ValueError("the descriptor is of another molecule")
        images = coordinates.images(model.permutations_)[0]
        expansion = Expansion.from_fields(model.kernel_, images, **expansion_)
        if uncertainty_ is not None:
            positions = uncertainty_["observations"]["positions"]
            check_array("positions", positions, (None, len(numbers), 3))
            batch = model.molecule_.batch(positions)
            features = model.descriptor_(batch)
            noise = Noise(model.noise_forces_, model.noise_energy_)
            prior = Prior(model.kernel_, model.permutations_, noise)
            uncertainty_ = Posterior.from_fields(
                prior, expansion, batch, features, **uncertainty_
            )
        return model._restore(
            expansion_=expansion,
            uncertainty_=uncertainty_,
            leave_one_out_=None,
        )

    def _check_noises(self, expansion, uncertainty):
        """Raise an error unless there are the noises that the model needs."""
        check_noise("noise_forces_", self.noise_forces_)
        check_noise("noise_energy_", self.noise_energy_)
        if self.noise_forces_ is None:  # as in models of other programs
            if uncertainty is not None:
                raise ValueError("there is no noise of forces")
        elif self.noise_energy_ is None and expansion["weights"] is not None:
            raise ValueError("there is no noise of energies")

    def _fit(self, frames, labels):
        self.molecule_ = Molecule.of(frames[0])
        symmetry = self._symmetry(frames, labels)
        frames, labels = symmetry.frames, symmetry.labels
        self.numbering_ = symmetry.numbering
        self.permutations_ = symmetry.permutations
        worst, z, _ = self._fit_all(frames, labels)
        if self.robust:
            worst = self._fit_trusted(frames, labels, worst, z)
        self.worst_frames_ = worst.named(self._numbers)
        if len(frames) >= _MIN_JUDGED:
            for line in self.worst_frames_.advice():
                _label_log.warning("%s", line)

    def _fit_trusted(self, frames, labels, worst, z):
        """Fit without wrong labels until these stay the same; return all label errors.

        Kernel and noise of each fit judge the labels of all frames; `worst` and z
        (n_structures, 2) are what that of all labels finds. Labels that are only
        suspicious are left out at first, on trial: a noise that was learned from wrong
        ones hides them. Those that were wrong stay so while they are suspicious, lest
        they come and go. Where the forces are wrong, the energy is left out, too.
        """
        of_all, wrong, known = dict(vars(self)), suspicious(z), np.zeros(z.shape, bool)
        for _ in range(_ROBUST_FITS - 1):
            if not wrong.any():
                vars(self).update(of_all)
                return worst
            energy = np.where(wrong[:, 0], np.nan, labels.energy)
            kept = np.flatnonzero(~wrong[:, 1])
            trusted = replace(labels, energy=energy)
            _, _, learned_from = self._fit_all(
                [frames[s] for s in kept], trusted.take(kept)
            )
            left_out = wrong
            found, z = self._judge(frames, labels, left_out, kept[learned_from])
            wrong = known = (z > LARGEST_Z) | (known & (z > DISTRUSTED))
            if np.array_equal(wrong, left_out):
                break
        lacking = np.flatnonzero(left_out.any(axis=1))
        return replace(found, is_left_out=np.isin(found.frame, lacking))

    def _judge(self, frames, labels, left_out, learned_from):
        """Return the label errors of all frames, and their z.

        The fit knew nothing of the labels `left_out`, a mask (n_structures, 2).
        """
        batch = Batch.from_frames(frames)
        noise = Noise(self.noise_forces_, self.noise_energy_)
        prior = Prior(self.kernel_, self.permutations_, noise)
        with_energies = self.noise_energy_ is not None
        observations = Observations.build(batch, labels, with_energies, self.constant_)
        posterior = condition(prior, self.descriptor_(batch), observations)
        trusted = np.isfinite(labels.energy) & ~left_out.any(axis=1)
        if trusted.any() and not with_energies:
            posterior = posterior.relative_to_mean(trusted)
        return find_label_errors(
            posterior, labels.energy, learned_from, left_out, self.seed
        )

    def _fit_all(self, frames, labels):
        """Set the fitted attributes.

        Returned are how far the labels are off, z (n_structures, 2) of energies and of
        forces, and what the kernel was learned from.
        """
        batch = Batch.from_frames(frames)
        known = np.isfinite(labels.energy)
        offset = labels.energy[known].mean() if known.any() else 0.0
        selection = choose_prior(self, batch, labels, self.permutations_, offset)
        forces_alone = selection.prior.noise.energy is None
        features = selection.descriptor(batch)
        observations = Observations.build(batch, labels, not forces_alone, offset)
        n_rows = observations.n_rows
        forecast = Forecast.of(n_rows, features.b_matrix.nbytes + workspace(n_rows))
        _forecast_log.info("forecast: %s", forecast)
        forecast.require_memory()
        posterior = condition(
            selection.prior, features, observations, selection.free_amplitude
        )
        if forces_alone and known.any():
            posterior = posterior.relative_to_mean(known)
        left_out = posterior.leave_one_out(selection.learned_from, self.seed)
        if self.optimize:
            posterior.calibration = left_out.calibration
        uncertainty = posterior if self.variance else None
        if self.variance == "subset":
            uncertainty = posterior.subset(seed=self.seed)
        self._restore(
            descriptor_=selection.descriptor,
            kernel_=posterior.prior.kernel,
            noise_forces_=posterior.prior.noise.forces,
            noise_energy_=selection.prior.noise.energy,
            log_marginal_likelihood_=posterior.log_marginal_likelihood,
            expansion_=posterior.mean,
            constant_=float(offset),
            uncertainty_=uncertainty,
            leave_one_out_=left_out,
        )
        learned_from = np.asarray(selection.learned_from, dtype=int)
        worst, z = find_label_errors(
            posterior, labels.energy, learned_from, seed=self.seed
        )
        if known.any() and self.noise_energy is None:
            is_wrong = (z > LARGEST_Z).any(axis=1)
            self._check_energies(frames, features, labels, forces_alone, is_wrong)
        return worst, z, learned_from

    def _check_parameters(self):
        if self.variance not in ("exact", "subset", None):
            raise InputError(
                f"variance must be 'exact', 'subset' or None, found {self.variance!r}."
            )
        if not isinstance(self.robust, bool | np.bool_):
            raise InputError(f"robust must be True or False, found {self.robust!r}.")
        if self.solver not in ("auto", "cholesky"):
            raise InputError(
                f"solver must be 'auto' or 'cholesky', found {self.solver!r}."
            )
        if isinstance(self.permutations, str) and self.permutations != "auto":
            raise InputError(
                "permutations must be 'auto', None or an array of shape (n_perms, "
                f"n_atoms), found {self.permutations!r}."
            )
        check_noise("noise_forces", self.noise_forces)
        check_noise("noise_energy", self.noise_energy)
        check_kernel(self.kernel)
        check_descriptor(self.descriptor)
        check_seed(self.seed)

    def _training_set(self, frames):
        """Leave out the frames that no row of the system would come from."""
        labels = Labels.from_frames(frames)
        used = labels.has_forces
        if not used.any():
            raise InputError(
                "Expected forces on the training frames, found none: attach them with "
                "a calculator, or name their array when reading "
                "(forces_key, --forces-key)."
            )
        if self.noise_energy is not None:
            used = used | np.isfinite(labels.energy)
        if not used.all():
            _log.warning(
                "%d of %d frames have no forces and are left out (energies alone are "
                "used where noise_energy, --noise-energy, is given)",
                len(used) - used.sum(),
                len(used),
            )
        chosen = self._numbers = np.flatnonzero(used)
        if self.robust and len(chosen) < _MIN_JUDGED:
            raise InputError(
                f"robust=True (--robust) tells wrong labels from {_MIN_JUDGED} frames "
                f"on, found {len(chosen)}: add frames, or leave it out."
            )
        frames = [frames[s] for s in chosen]
        molecule = Molecule.of(frames[0])
        for s, frame in zip(chosen, frames, strict=True):
            molecule.check_atoms(frame, f"frame {s}")
        return frames, labels.take(chosen)

    def _without_boxes(self, frames):
        return without_boxes(frames)

    def _symmetry(self, frames, labels):
        if isinstance(self.permutations, str):
            return find_symmetry(frames, labels, self.max_permutations, self.seed)
        numbers = self.molecule_.numbers
        group = np.arange(len(numbers))[None]
        if self.permutations is not None:
            group = validate_permutations(self.permutations, numbers)
        return Symmetry(group, frames, labels)

    def _check_energies(self, frames, features, labels, forces_alone, is_wrong):
        """Compare energies with forces, which alone leave the constant c open.

        Single frames whose labels are wrong, a mask, say nothing of all others.
        """
        known = np.isfinite(labels.energy)
        predicted, _ = self.expansion_.jet(features.x)
        if forces_alone:
            self.constant_ = float(np.mean((labels.energy - predicted)[known]))
        known &= ~is_wrong
        labels = replace(labels, energy=np.where(known, labels.energy, np.nan))
        complaint = scale_complaint(labels.energy[known], predicted[known])
        if labels.noise_energy is None:  # otherwise they are said to miss
            complaint = complaint or mismatch_complaint(self, frames, labels)
        if complaint:
            warnings.warn(complaint, stacklevel=5 + bool(self.robust))

    def worst_frames(self, n: int = 10) -> WorstFrames:
        """Return the training frames whose labels are farthest from all others.

        Each label is compared with what all others predict of it, an energy also from
        the forces of its frame and these from the energy; labels that are found wrong
        predict nothing. z is the error over the predicted standard deviation, in units
        of what is typical of the labels: beyond 6 a label is hardly right.

        Parameters
        ----------
        n : int, default=10
            Frames to return at most.

        Returns
        -------
        WorstFrames
            A table of the worst first, of members with `frame`, the number among those
            given to `fit`, `label`, 'energy' or 'forces', `error` in eV or eV/Å (the
            label less its prediction), `z`, and `is_left_out`.

        Raises
        ------
        InputError
            If n is not a positive whole number, or the model does not know them: it is
            of another program or of an older version.

        Examples
        --------
        >>> import kforce
        >>> frames = kforce.datasets.load_methanol_ccsdt()[:20]
        >>> frames[7].calc.results["energy"] += 5.0
        >>> model = kforce.GDMLRegressor(kernel=kforce.Matern52()).fit(frames)
        >>> worst = model.worst_frames(n=3)
        >>> worst[0].frame, worst[0].label, round(worst[0].error)
        (7, 'energy', 5)
        """
        check_is_fitted(self)
        check_count("n", n)
        if self.worst_frames_ is None:
            raise InputError(
                f"{self!r} does not know how far its training labels are off, as "
                "models of other programs and older versions: fit it again."
            )
        return self.worst_frames_[:n]

    def check_frame(self, atoms, name="this structure"):  # noqa: D102
        self.molecule_.check(atoms, name)

    def _check_frames(self, frames):
        frames = super()._check_frames(frames)
        if any(frame.pbc.any() for frame in frames):
            Batch.from_frames(frames)  # refuses positions that are not finite
        return [self.molecule_.alone(frame, s) for s, frame in enumerate(frames)]

    @property
    def known_properties(self):
        """What `evaluate` knows, the energy first.

        The stress is that of a molecule in a box, zero.
        """
        molecule = getattr(self, "molecule_", None)
        if molecule is None or molecule.pbc.any():
            return super().known_properties
        return (*super().known_properties, "stress")

    @property
    def has_stress(self):
        """Whether stresses can be asked for: they are zero on any baseline."""
        return "stress" in self.known_properties

    def properties_of(self, frames):
        """Return what is worth predicting: energy and forces."""
        return ("energy", "forces")

    def evaluate(self, frames, properties=("energy", "forces"), return_std=False):
        """Predict several properties at once, see `ForceField.evaluate`.

        A molecule in a box is put together and predicted without it. The energy does
        not depend on the box: the stress on it is zero where there are three periodic
        directions, and can be asked for.
        """
        frames = as_frames(frames)
        properties = (properties,) if isinstance(properties, str) else properties
        in_box = np.array([frame.pbc.all() for frame in frames])
        with_stress = "stress" in properties and self.has_stress and in_box.any()
        if with_stress:
            properties = [name for name in properties if name != "stress"]
        numbered, orders = self._numbered(self._check_frames(frames))
        prediction = super().evaluate(numbered, properties, return_std)
        prediction = prediction.in_given_order(orders)
        if with_stress:
            stress = np.where(in_box[:, None], np.zeros(6), np.nan)
            prediction = replace(prediction, stress=stress)
        return prediction

    def evaluate_structure(self, atoms, properties, return_std=False, skin_list=None):  # noqa: D102
        (numbered,), orders = self._numbered([self.molecule_.alone(atoms)])
        prediction, inside = super().evaluate_structure(
            numbered, properties, return_std, skin_list
        )
        prediction = prediction.in_given_order(orders)
        if atoms.pbc.all() and self.has_stress:
            prediction = replace(prediction, stress=np.zeros((1, 6)))
        return prediction, inside

    def _numbered(self, frames):
        """Return frames in the numbering of the model, and the orders of their atoms.

        The orders are None where atoms are taken as they come.
        """
        if self.numbering_ is None:
            return frames, None
        return self.numbering_.apply(frames)

    def _features(self, frames):
        return self.descriptor_(Batch.from_frames(frames))

    def _evaluate(self, frames, properties, first):
        return self._predict(self._features(frames), "forces" in properties)

    def _evaluate_one(self, atoms, properties, skin_list, std):
        features = self.descriptor_(self.molecule_.batch_of_one(atoms.positions))
        prediction = self._predict(features, "forces" in properties)
        if std == "energy" and not self.molecule_.pbc.any():
            deviation = self._low_rank().deviation(features.x[0])
            prediction.energy_epistemic = np.array([deviation])
        return prediction, True

    def _low_rank(self):
        """Return the low-rank posterior, which is made when it is needed first."""
        posterior = self.uncertainty_
        known = getattr(self, "_low_rank_of", (None, None))
        if known[0] is not posterior:
            positions = posterior.observations.positions
            _log.info("comparing a low-rank posterior with the exact one")
            around = nearby(positions, self.permutations_, self.seed)
            near = self.descriptor_(self.molecule_.batch(around))
            # Displacements of two torsions may collide: the half within is taken.
            order = np.argsort(self.grade_.grades(near.x))
            near = near.take(np.sort(order[: len(order) // 2]))
            known = self._low_rank_of = posterior, LowRankPosterior.of(posterior, near)
        return known[1]

    @property
    def grade_(self):
        """Range of the training structures, of which grade 1 is the end."""
        return self.expansion_.training_range

    def _predict(self, features, with_forces):
        f, df_dx = self.expansion_.jet(features.x)
        forces = None
        if with_forces:
            gradient = features.pull(df_dx)
            forces = list(np.negative(gradient, out=gradient))
        grades = [np.full(features.n_atoms, g) for g in self.grade_.grades(features.x)]
        return Prediction(f + self.constant_, forces, extrapolation=grades)

    def describe_extrapolation(self, atoms, grades=None):  # noqa: D102
        (atoms,), orders = self._numbered([self.molecule_.alone(atoms)])
        x = self.descriptor_(self.molecule_.batch_of_one(atoms.positions)).x
        (own,), x = self.grade_.grades(x), x[0]
        if own <= 1.0:
            # Grades are those of what this model corrects.
            return None if grades is None else describe_grades(atoms, grades)
        low, high = self.grade_.low, self.grade_.high
        excess = np.maximum(low - x, x - high) / np.maximum(high - low, 1e-12)
        worst = int(np.argmax(excess))
        sentence = "No feature alone leaves its range in training."
        if excess[worst] > 0.0 and orders is not None:
            # The descriptor knows the atoms by other numbers.
            sentence = "A feature leaves its range in training."
        elif excess[worst] > 0.0:
            sentence = self.descriptor_.describe(
                len(atoms), worst, x[worst], low[worst], high[worst]
            )
        return (
            f"{sentence} The structure has the extrapolation grade {own:.3g} (1 is "
            "where the training set ends)."
        )

    def is_training_frame(self, frames):
        """Return which frames the model was trained on, (n_structures,).

        Up to rigid motions and the order of features; labels do not count.
        """
        frames = [self.molecule_.alone(frame, s) for s, frame in enumerate(frames)]
        frames, _ = self._numbered(frames)
        x = np.sort(self._features(frames).x, axis=1)
        x_train = np.sort(self.expansion_.x_train, axis=1)
        known = {row.tobytes() for row in x_train.round(7) + 0.0}
        return np.array([row.tobytes() in known for row in x.round(7) + 0.0])

    def _check_uncertainty(self):
        if getattr(self, "uncertainty_", None) is None:
            raise InputError(
                f"{self!r} has no predictive variance, as models read from sGDML or "
                "trained with variance=None: fit it to its training frames "
                "(variance='exact') for standard deviations, or leave them out "
                "(test --no-std, predict without --std)."
            )

    def _epistemic(self, frames, own, with_forces):
        parts = [
            self.uncertainty_.deviations(self._features(part), with_forces)
            for _, part in self._chunks(frames)
        ]
        energy = np.concatenate([e for e, _ in parts])
        return energy, [f for _, part in parts for f in part] if with_forces else None

    def _label_noises(self):
        return self.noise_energy_ or 0.0, self.noise_forces_

    def _energy_covariance(self, frames):
        frames, _ = self._numbered(frames)
        return self.uncertainty_.energy_covariance(self._features(frames))

    def _forces_covariance(self, frames):
        frames, orders = self._numbered(frames)
        covariances = [
            C
            for _, part in self._chunks(frames)
            for C in self.uncertainty_.forces_covariance(self._features(part))
        ]
        if orders is None:
            return covariances
        given = (np.argsort(order) for order in orders)
        rows = [(3 * atoms[:, None] + np.arange(3)).ravel() for atoms in given]
        return [C[np.ix_(r, r)] for C, r in zip(covariances, rows, strict=True)]
