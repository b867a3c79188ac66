"""The prior of a molecule: descriptor, kernel and noises, as far as they are not given.

Internal coordinates with learned scales are compared with the plain kernel of inverse
distances by how well both predict the forces of structures that are left out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from sklearn.base import clone

from kforce.descriptors.base import Descriptor
from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.errors import InputError
from kforce.gdml.evidence import RELATIVE_NOISE
from kforce.gdml.farthest_points import farthest_points
from kforce.gdml.length_scale import learn_kernel, score, subset_of
from kforce.gdml.observations import Observations
from kforce.gdml.relevance import learn_scales
from kforce.kernels.additive import Additive
from kforce.kernels.base import Kernel, Scaled, unscaled
from kforce.kernels.stationary import Matern52, Matern72
from kforce.labels import Labels
from kforce.structures import Batch

_log = logging.getLogger("kforce.choice")

#: Plain kernels to choose from where none is given.
_CANDIDATES = (Matern52(), Matern72())

#: Structures and rows at most that scales are learned from.
_STRUCTURES, _ROWS = 60, 3300

#: With fewer structures than this, many scales would only fit their accidents.
_FEW = 10


@dataclass(frozen=True)
class Prior:
    """What a fit conditions on its observations.

    Attributes
    ----------
    descriptor : Descriptor
        Ready to be called.
    kernel : Kernel
        Without open parameters.
    noise_forces : float or None
        In eV/Å; None is a small share of the prior standard deviation.
    noise_energy : float or None
        In eV per atom (× √n_atoms); None leaves the energies out.
    free_amplitude : bool
        Whether the amplitude is to be taken from all data, in closed form.
    learned_from : ndarray of int or None
        Structures that hyper-parameters were learned from.
    """

    descriptor: Descriptor
    kernel: Kernel
    noise_forces: float | None
    noise_energy: float | None
    free_amplitude: bool
    learned_from: np.ndarray | None = None


def choose_prior(
    model, batch: Batch, labels: Labels, permutations: np.ndarray, offset: float
) -> Prior:
    """Return the prior that a model's parameters and its training data give.

    Parameters
    ----------
    model : GDMLRegressor
        Its parameters say what is given.
    batch, labels : Batch, Labels
        Training structures and what the model is to learn of them.
    permutations : ndarray of int, shape (n_perms, n_atoms)
        Symmetries.
    offset : float
        Subtracted from the energies, in eV.

    Raises
    ------
    InputError
        If there is nothing to learn from.
    """
    choice = _Choice(model, batch, labels, permutations, offset)
    if not choice.learns_scales:
        return choice.plain(model.descriptor or InverseDistances())
    if model.descriptor is not None or model.kernel is not None:
        return choice.learned()
    plain = choice.plain(InverseDistances())
    try:
        learned = choice.learned()
    except InputError as error:
        _log.info("one scale for inverse distances is kept: %s", error)
        return plain
    return choice.better(learned, plain)


class _Choice:
    """The candidates for one training set."""

    def __init__(self, model, batch, labels, permutations, offset):
        self._model, self._batch, self._labels = model, batch, labels
        self._permutations, self._offset = permutations, offset
        self._random = np.random.default_rng(model.seed)
        self._pairs = InverseDistances()(batch)

    @property
    def learns_scales(self):
        """Whether the features get scales of their own."""
        model = self._model
        if not model.optimize or self._batch.pbc.any():
            return False
        if model.descriptor is None and model.kernel is None:
            return self._batch.n_structures >= _FEW
        is_open = not isinstance(model.kernel, Scaled | Additive)
        return isinstance(model.descriptor, InternalCoordinates) and is_open

    def plain(self, descriptor):
        """One scale for all features, if any, and the noises that are given."""
        model = self._model
        descriptor = descriptor.bind(self._batch, self._permutations)
        kernels = _CANDIDATES if model.kernel is None else (model.kernel,)
        is_noise_free = model.noise_forces is None and model.noise_energy is None
        is_noise_free &= self._labels.noise_forces is None
        learns_amplitude = model.optimize and not isinstance(model.kernel, Scaled)
        # Without any noise given, the amplitude follows from all data in closed form.
        scales = learns_amplitude and not is_noise_free
        kernel, chosen = clone(kernels[0]), None
        if scales or getattr(unscaled(kernel), "length_scale", 1.0) is None:
            features = descriptor(self._batch)
            chosen, subset = self._subset(features)
            found = [
                learn_kernel(
                    kernel,
                    features.take(chosen),
                    subset,
                    self._permutations,
                    RELATIVE_NOISE**2 if model.noise_forces is None else None,
                    scales,
                )
                for kernel in kernels
            ]
            kernel = max(found, key=lambda one: one.density).kernel
        return Prior(
            clone(descriptor),
            kernel,
            model.noise_forces,
            model.noise_energy,
            learns_amplitude and is_noise_free,
            chosen,
        )

    def learned(self):
        """Scales of internal coordinates, and the noises that are not given."""
        model = self._model
        descriptor = model.descriptor or InternalCoordinates()
        descriptor = descriptor.bind(self._batch, self._permutations)
        observations = self._observations(with_energies=True)
        self._subset(self._pairs)  # raises where there is nothing to learn from
        sizes = observations.sizes
        chosen = farthest_points(
            self._pairs.x,
            self._pairs.coordinates.images(self._permutations)[0],
            sizes,
            min(_ROWS, _STRUCTURES * int(sizes.max())),
            self._random,
        )
        profile = clone(model.kernel or Matern72())
        if profile.length_scale is None:
            profile.set_params(length_scale=1.0)
        n_atoms = self._pairs.n_atoms
        found = learn_scales(
            descriptor(self._batch.take(chosen)),
            observations.take(chosen),
            self._permutations,
            profile,
            descriptor.parts(n_atoms),
            model.noise_forces is None,
            model.noise_energy is None,
            model.seed,
        )
        noise_energy = model.noise_energy
        if found.noise_energy is not None:
            noise_energy = found.noise_energy / np.sqrt(n_atoms)
        elif noise_energy is None:
            # Energies bring their own noise, or the chosen structures have none.
            rows = observations.energy_rows
            rows = rows[observations.is_given[rows]]
            if len(rows):
                mean = observations.variance[rows].mean()
                noise_energy = float(np.sqrt(mean / n_atoms))
        noise_forces = found.noise_forces or model.noise_forces
        return Prior(
            descriptor,
            found.kernel,
            noise_forces,
            noise_energy,
            False,
            chosen,
        )

    def better(self, learned, plain):
        """Return the one that predicts the forces of left-out structures better."""
        chosen, subset = self._subset(self._pairs)
        subset = subset.without_energies()
        scores = []
        for prior in (learned, plain):
            noise, noisy = prior.noise_forces, subset
            if noise is not None:
                variance = np.where(subset.is_given, subset.variance, noise**2)
                noisy = replace(subset, variance=variance)
            relative = RELATIVE_NOISE**2 if noise is None else None
            found = score(
                prior.kernel,
                prior.descriptor(self._batch.take(chosen)),
                noisy,
                self._permutations,
                relative,
                False,
            )
            scores.append(found)
        first, second = scores
        kept = learned if first.density >= second.density else plain
        _log.info(
            "leave-one-out force error of %d structures: %.4g eV/Å with internal "
            "coordinates and learned scales, %.4g eV/Å with inverse distances and one "
            "scale; the %s are kept",
            len(chosen),
            first.rmse,
            second.rmse,
            "former" if kept is learned else "latter",
        )
        return kept

    def _observations(self, with_energies):
        """Rows of all structures; a noise that is learned has a variance of 1."""
        model = self._model
        noise_energy = model.noise_energy
        known = np.isfinite(self._labels.energy)
        if noise_energy is None and with_energies and known.sum() > 1:
            noise_energy = 1.0 / np.sqrt(self._pairs.n_atoms)
        return Observations.build(
            self._batch,
            self._labels,
            1.0 if model.noise_forces is None else model.noise_forces,
            noise_energy,
            self._offset,
        )

    def _subset(self, features):
        """Structures for the search of one scale, and their observations."""
        observations = self._observations(with_energies=False)
        # Sorted, the features of a structure and of its permuted images are the same.
        signature = np.sort(features.x, axis=1).round(8)
        chosen = subset_of(observations.sizes, signature, self._random)
        if len(chosen) < 2:
            raise InputError(
                "A length scale is learned from at least two different structures: add "
                "structures, or give one, as in kernel=Matern52(length_scale=10.0) "
                "(--length-scale 10)."
            )
        if not observations.y.any():
            raise InputError(
                "All forces are zero, and nothing can be learned from them: check the "
                "labels."
            )
        subset = observations.take(chosen)
        if self._model.noise_forces is None:
            subset = subset.without_energies()
        return chosen, subset
