"""Learned scales: how much each feature of a descriptor counts, and in which term.

The energy of a molecule is a sum of parts as much as it is one function of everything:
the prior here has a term that looks at all features, and one for each of some parts of
the molecule. Features that the atom permutations take to one another share a scale
(anything else would break the symmetry), and so do all parts.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from kforce.descriptors.base import Features
from kforce.errors import InputError
from kforce.gdml.evidence import RELATIVE_NOISE, log_evidence
from kforce.gdml.observations import Observations
from kforce.kernels.base import Kernel, Scaled, Sum
from kforce.progress import progress_bar
from kforce.solvers.cholesky import unfactored

_log = logging.getLogger("kforce.gdml.relevance")


_STEPS = 30


#: Starts, and how far their scales are spread, as logarithms. A few steps on every
#: third structure show which of them to follow.
_STARTS, _SPREAD, _THIN, _TRIAL_STEPS = 3, 0.7, 3, 8


#: Factor of the noises from one start to the next.
_NOISIER = 30.0


def learn_scales(
    features: Features,
    observations: Observations,
    permutations: np.ndarray,
    profile: Kernel,
    parts: list[np.ndarray],
    free_forces: bool = True,
    free_energy: bool = True,
    seed: int = 0,
) -> LearnedPrior:
    """Maximise the marginal likelihood of some structures, with a prior of the scales.

    Parameters
    ----------
    features, observations : Features, Observations
        A subset of the training data.
    permutations : ndarray of int, shape (n_perms, n_atoms)
        Symmetries of the kernel.
    profile : Kernel
        Of length scale and amplitude 1.
    parts : list of ndarray of bool, shape (n_parts, n_features)
        Kinds of terms beside the one that looks at everything: the features that each
        term looks at. A kind is closed under the permutations, and its terms share
        scales and amplitude.
    free_forces, free_energy : bool
        Whether the noises are learned, or those of the observations.
    seed : int
        Of the starts beside the first.

    Raises
    ------
    InputError
        If the covariance matrix cannot be factored.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning, sec. 5.4.1.
    """
    try:
        return _learn(
            features,
            observations,
            (permutations, profile, parts, (free_forces, free_energy)),
            seed,
        )
    except np.linalg.LinAlgError as error:
        raise InputError(unfactored(error)) from None


def _learn(features, observations, fixed, seed):
    search = ScaleSearch(features, observations, *fixed)
    names, start, bounds = search.start()
    few = np.arange(0, len(features.x), _THIN)
    trial = ScaleSearch(features.take(few), observations.take(few), *fixed)
    # A trial without energies would have no noise of theirs.
    count = _STARTS if len(trial.start()[0]) == len(names) else 1
    spread = np.where(np.array(names) == "scale", _SPREAD, 0.0)
    shifts = np.random.default_rng(seed).normal(size=(count, len(start)))
    shifts[0] = 0.0
    starts = start + spread * shifts
    # Noisy labels need a start that explains them as noise, or the scales will.
    is_noise = np.char.startswith(names, "noise")
    starts += np.outer(np.arange(count), is_noise * np.log(_NOISIER))
    starts = np.clip(starts, *np.transpose(bounds))
    with progress_bar(_STEPS, "learning the kernel") as advance:
        best = 0
        if count > 1:
            trials = [_minimise(trial, point, bounds, _TRIAL_STEPS) for point in starts]
            best = int(np.argmin([found.fun for found in trials]))
        found = _minimise(search, starts[best], bounds, _STEPS, advance)
    learned = search.result(found.x)
    _log.info(
        "%d hyper-parameters from %d structures in %d evaluations from start %d of %d: "
        "log evidence %.1f",
        len(start),
        len(features.x),
        found.nfev,
        best + 1,
        count,
        learned.log_evidence,
    )
    _report_bounds(names, found.x, bounds)
    return learned


def _minimise(search, start, bounds, steps, advance=None):
    return minimize(
        search.cost,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": steps, "maxcor": 20},
        callback=None if advance is None else lambda _: advance(1),
    )


def _report_bounds(names, point, bounds):
    """Say which hyper-parameters the data would take beyond their bounds."""
    for name, value, (low, high) in zip(names, point, bounds, strict=True):
        if name.startswith("noise") and value < low + 1e-3:
            _log.info(
                "the learned %s is at its lower bound: the labels are exact as far as "
                "can be told, and it only regularises",
                name,
            )
        if name.startswith("amplitude") and not low + 1e-3 < value < high - 1e-3:
            _log.info("the learned %s is at a bound: it hardly matters", name)
        if name.startswith("noise") and value > high - 1e-3:
            _log.warning(
                "the learned %s is at its upper bound: no smooth energy surface fits "
                "these labels. Check units, signs and that all are of one level of "
                "theory.",
                name,
            )
    at_low = sum(
        name == "scale" and value < low + 1e-3
        for name, value, (low, _) in zip(names, point, bounds, strict=True)
    )
    at_high = sum(
        name == "scale" and value > high - 1e-3
        for name, value, (_, high) in zip(names, point, bounds, strict=True)
    )
    _log.info("%d scales are at their lower bound: those features do not count", at_low)
    if at_high:
        _log.warning(
            "%d scales are at their upper bound: the energy changes faster with these "
            "features than the structures resolve; add structures",
            at_high,
        )


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
        return Sum(self.profile, table, amplitudes)

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
