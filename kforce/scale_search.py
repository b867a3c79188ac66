"""The marginal likelihood as a function of scales, amplitudes and noises."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kforce.additive import Additive
from kforce.evidence import RELATIVE_NOISE, log_evidence
from kforce.kernels import Kernel, Scaled

#: How far scales may go from their start, as logarithms: far enough to switch a feature
#: off, and no farther than the arithmetic stays conditioned.
_SCALES = (-8.0, 8.0)

#: The same for the amplitude of the parts beside that of the whole.
_AMPLITUDES = (-12.0, 12.0)

#: Noises over the prior standard deviation: start, least and largest. The matrix of
#: many more structures must stay well-conditioned; energies have a common constant of
#: large variance, which costs no digits of their differences.
_NOISE_FORCES = (1e-4, RELATIVE_NOISE, 1.0)
_NOISE_ENERGY = (3e-6, 3e-7, 1.0)

#: Width of the normal prior of the logarithm of a scale around that of its kind: with
#: few structures, hundreds of free scales would fit their accidents, and the predicted
#: deviations would be too small.
_WIDTH = 1.0


@dataclass(frozen=True)
class LearnedPrior:
    """A prior of largest marginal likelihood.

    Attributes
    ----------
    kernel : Kernel
        With its amplitude.
    noise_forces : float or None
        In eV/Å; None where it was given.
    noise_energy : float or None
        In eV for the energy of a structure; None where it was given, or not used.
    log_evidence : float
        Of the structures it was learned from.
    """

    kernel: Kernel
    noise_forces: float | None
    noise_energy: float | None
    log_evidence: float


class ScaleSearch:
    """The likelihood as a function of one vector of logarithms.

    It holds the scales, the amplitudes of the parts over that of the whole, this one
    where a noise is given (it has a closed form otherwise), and the noises over the
    prior standard deviation.
    """

    def __init__(self, features, observations, permutations, profile, parts, free):
        self.features, self.observations = features, observations
        self.permutations, self.profile = permutations, profile
        of_forces, open_ones = observations.is_force, ~observations.is_given
        #: Rows of each noise that is learned.
        self.learned = [
            rows if is_free and rows.any() else None
            for rows, is_free in zip(
                (of_forces & open_ones, ~of_forces & open_ones), free, strict=True
            )
        ]
        covered = sum(rows.sum() for rows in self.learned if rows is not None)
        self.is_scale_free = covered == len(of_forces)
        feature_perms, _ = features.coordinates.images(permutations)
        orbit = np.unique(feature_perms.min(axis=0), return_inverse=True)[1]
        masks = [np.ones((1, len(orbit)), dtype=bool), *parts]
        self.kind = np.repeat(np.arange(len(masks)), [len(m) for m in masks])
        self.masks = np.concatenate(masks)
        ties = orbit + (orbit.max() + 1) * self.kind[:, None]
        self.ties = np.zeros(ties.shape, dtype=np.intp)
        self.ties[self.masks] = np.unique(ties[self.masks], return_inverse=True)[1]
        self.n_scales = int(self.ties.max()) + 1
        self.n_parts = len(parts)
        self.kind_of_scale = np.empty(self.n_scales, dtype=np.intp)
        for mask, ties, kind in zip(self.masks, self.ties, self.kind, strict=True):
            self.kind_of_scale[ties[mask]] = kind
        self.typical = self._typical_scales()

    def _typical_scales(self):
        """Logarithms of scales that share a typical distance of 1/3 evenly."""
        spread = np.maximum(self.features.x.var(axis=0), 1e-8)
        total, count = np.zeros(self.n_scales), np.zeros(self.n_scales)
        for mask, ties in zip(self.masks, self.ties, strict=True):
            np.add.at(total, ties[mask], spread[mask] * mask.sum())
            np.add.at(count, ties[mask], 1)
        return -0.5 * np.log(18.0 * total / count)

    def start(self):
        """Return names, first values and bounds: typical scales."""
        scales = self.typical
        names = ["scale"] * len(scales)
        start, bounds = [*scales], [(s + _SCALES[0], s + _SCALES[1]) for s in scales]
        names += ["amplitude of parts"] * self.n_parts
        start += [0.0] * self.n_parts
        bounds += [_AMPLITUDES] * self.n_parts
        noises = [_NOISE_FORCES, _NOISE_ENERGY]
        if not self.is_scale_free:
            first = [np.log(noise[0]) for noise in noises]
            kernel = self._kernel(scales, start[self.n_scales :])
            rough = self._evidence(kernel, 0.0, first, None)
            names.append("amplitude")
            start.append(0.5 * np.log(rough.variance))
            bounds.append((start[-1] - 8.0, start[-1] + 8.0))
        kinds = ("noise_forces", "noise_energy")
        for kind, rows, noise in zip(kinds, self.learned, noises, strict=True):
            if rows is not None:
                names.append(kind)
                start.append(np.log(noise[0]))
                bounds.append((np.log(noise[1]), np.log(noise[2])))
        return names, np.array(start), bounds

    def cost(self, point):
        """Return −log p(y), with the prior of the scales, and its gradient."""
        scales, log_parts, log_all, noises = self._unpack(point)
        factor = None if self.is_scale_free else np.exp(2.0 * log_all)
        try:
            found = self._evidence(
                self._kernel(scales, log_parts), log_all, noises, factor
            )
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(point)
        slopes = np.zeros(self.n_scales)
        np.add.at(slopes, self.ties[self.masks], found.scales[self.masks])
        gradient = [*slopes]
        gradient += [*np.bincount(self.kind, found.amplitudes)[1:]]
        by_noise = [found.noises[r].sum() for r in self.learned if r is not None]
        if not self.is_scale_free:
            gradient.append(found.amplitudes.sum())
        gradient = -np.array(gradient + by_noise)
        # What all scales of a kind have in common is free.
        odd = (scales - self.typical) / _WIDTH
        mean = np.bincount(self.kind_of_scale, odd) / np.bincount(self.kind_of_scale)
        odd -= mean[self.kind_of_scale]
        gradient[: self.n_scales] += odd / _WIDTH
        return -found.value + 0.5 * float(odd @ odd), gradient

    def result(self, point):
        """Return the prior that a point stands for."""
        scales, log_parts, log_all, noises = self._unpack(point)
        kernel = self._kernel(scales, log_parts)
        factor = None if self.is_scale_free else np.exp(2.0 * log_all)
        found = self._evidence(kernel, log_all, noises, factor)
        amplitude = float(np.sqrt(found.variance))
        learned = [
            None if rows is None else amplitude * float(np.sqrt(found.noise[rows][0]))
            for rows in self.learned
        ]
        return LearnedPrior(Scaled(kernel, amplitude), *learned, found.value)

    def _kernel(self, scales, log_parts):
        table = np.where(self.masks, np.exp(scales)[self.ties], 0.0)
        amplitudes = np.exp(np.append(0.0, log_parts))[self.kind]
        return Additive(self.profile, table, amplitudes)

    def _unpack(self, point):
        """Scales, log amplitudes of parts and of all, logarithms of both noises."""
        scales, log_parts, rest = np.split(
            point, [self.n_scales, self.n_scales + self.n_parts]
        )
        rest = list(rest)
        log_all = 0.0 if self.is_scale_free else rest.pop(0)
        noises = [None if rows is None else rest.pop(0) for rows in self.learned]
        return scales, log_parts, log_all, noises

    def _evidence(self, kernel, log_all, noises, factor):
        """Evidence of the kernel times `factor`, noises included."""
        variance = self.observations.variance * np.exp(-2.0 * log_all)
        observations = replace(self.observations, variance=variance)
        relative = np.full(len(variance), np.nan)
        for rows, log_noise in zip(self.learned, noises, strict=True):
            if rows is not None:
                relative[rows] = np.exp(log_noise)
        return log_evidence(
            self.features, observations, kernel, self.permutations, factor, relative
        )
