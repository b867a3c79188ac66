"""What a fit takes for descriptor, kernel and noises, as far as they are not given.

Internal coordinates with learned scales are compared with the plain kernel of inverse
distances by the errors of the forces of structures that are left out, as a user would;
the one length scale of the latter has the best leave-one-out density of a subset.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.base import clone

from kforce.descriptors.base import Descriptor, Features
from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.errors import InputError
from kforce.gdml.leave_one_out import Score, score
from kforce.gdml.observations import Observations
from kforce.gdml.prior import Noise, Prior
from kforce.gdml.relevance import learn_scales
from kforce.gdml.subsets import LENGTH_SCALE_ROWS, farthest_points, random_subset
from kforce.kernels.stationary import Matern52, Matern72
from kforce.labels import Labels
from kforce.progress import progress_bar
from kforce.structures import Batch

_log = logging.getLogger("kforce.choice")
_search_log = logging.getLogger("kforce.gdml.length_scale")

#: Plain kernels to choose from where none is given.
_CANDIDATES = (Matern52(), Matern72())

#: Structures and rows at most that scales are learned from.
MAX_STRUCTURES, _MAX_ROWS = 60, 3300

#: The same with all images under the permutations, on which the time of learning goes,
#: and how many structures are taken whatever it takes.
MAX_IMAGES, _LEAST_STRUCTURES = 4320, 15

#: With fewer structures than this, many scales would only fit their accidents.
_MIN_STRUCTURES = 10

#: Part of the left-out forces that 95 % intervals of a kernel must cover.
_LEAST_COVERAGE = 0.88


@dataclass(frozen=True)
class Selection:
    """What a fit conditions on its observations.

    The kernel of the `prior` has no open parameters, and its noise of energies is None
    where these are left out. With `free_amplitude` the amplitude is to be taken from
    all data, in closed form. Hyper-parameters were `learned_from` these structures.
    """

    descriptor: Descriptor
    prior: Prior
    free_amplitude: bool = False
    learned_from: np.ndarray = ()


def choose_prior(
    model, batch: Batch, labels: Labels, permutations: np.ndarray, offset: float
) -> Selection:
    """Return what the parameters of a GDMLRegressor and its training data give.

    The labels are what the model is to learn, its energies less the offset, in eV. An
    `InputError` says that there is nothing to learn from.
    """
    candidates = _Candidates(model, batch, labels, permutations, offset)
    if not candidates.learns_scales:
        return candidates.plain(model.descriptor or InverseDistances())
    if model.descriptor is not None or model.kernel is not None:
        return candidates.with_scales()
    plain = candidates.plain(InverseDistances())
    try:
        with_scales = candidates.with_scales()
    except InputError as error:
        _log.info("one scale for inverse distances is kept: %s", error)
        return plain
    return candidates.better(with_scales, plain)


class _Candidates:
    """The candidates for one training set."""

    def __init__(self, model, batch, labels, permutations, offset):
        self._model, self._batch, self._labels = model, batch, labels
        self._permutations, self._offset = permutations, offset
        self._noise = Noise(model.noise_forces, model.noise_energy)
        self._random = np.random.default_rng(model.seed)
        self._pairs = InverseDistances()(batch)

    @property
    def learns_scales(self):
        """Whether the features get scales of their own."""
        model = self._model
        if not model.optimize or self._batch.pbc.any():
            return False
        if model.descriptor is None and model.kernel is None:
            return self._batch.n_structures >= _MIN_STRUCTURES
        kernel, descriptor = model.kernel, model.descriptor
        is_open = kernel is None or not (kernel.is_scaled or kernel.is_sum)
        return is_open and descriptor is not None and descriptor.learns_scales

    def plain(self, descriptor):
        """One scale for all features, if any, and the noises that are given."""
        model = self._model
        descriptor = descriptor.bind(self._batch, self._permutations)
        kernels = _CANDIDATES if model.kernel is None else (model.kernel,)
        is_noise_free = self._noise == Noise() and self._labels.noise_forces is None
        is_scaled = model.kernel is not None and model.kernel.is_scaled
        learns_amplitude = model.optimize and not is_scaled
        # Without any noise given, the amplitude follows from all data in closed form.
        by_score = learns_amplitude and not is_noise_free
        prior, chosen = self._prior(clone(kernels[0])), ()
        if by_score or prior.kernel.needs_length_scale:
            features = descriptor(self._batch)
            chosen, subset = self._subset(features, LENGTH_SCALE_ROWS)
            features = features.take(chosen)
            scores = [
                learn_length_scale(self._prior(kernel), features, subset, by_score)
                for kernel in kernels
            ]
            prior = self._prior(max(scores, key=lambda one: one.density).kernel)
        free_amplitude = learns_amplitude and is_noise_free
        return Selection(clone(descriptor), prior, free_amplitude, chosen)

    def with_scales(self):
        """Scales of internal coordinates, and the noises that are not given."""
        model = self._model
        descriptor = model.descriptor or InternalCoordinates()
        descriptor = descriptor.bind(self._batch, self._permutations)
        with_energies = np.isfinite(self._labels.energy).sum() > 1
        observations = self._observations(with_energies)
        self._subset(
            self._pairs, LENGTH_SCALE_ROWS
        )  # raises where there is nothing to learn from
        sizes = observations.sizes
        count = max(_LEAST_STRUCTURES, MAX_IMAGES // len(self._permutations))
        count = min(MAX_STRUCTURES, count)
        chosen = farthest_points(
            self._pairs.x,
            self._pairs.coordinates.images(self._permutations)[0],
            sizes,
            min(_MAX_ROWS, count * int(sizes.max())),
            self._random,
        )
        profile = clone(model.kernel or Matern72())
        if profile.needs_length_scale:
            profile = profile.with_length_scale(1.0)
        prior, _ = learn_scales(
            self._prior(profile),
            descriptor(self._batch.take(chosen)),
            observations.take(chosen),
            descriptor.parts(self._pairs.n_atoms),
            model.seed,
        )
        if prior.noise.energy is None:
            # Energies bring their own noises, but not those of the chosen structures.
            noise = replace(prior.noise, energy=observations.mean_noise_energy)
            prior = replace(prior, noise=noise)
        return Selection(descriptor, prior, learned_from=chosen)

    def better(self, with_scales, plain):
        """Return the one that predicts the forces of left-out structures better."""
        # As many structures as the scales were learned from: with few, the comparison
        # would be one of the kernels for few.
        rows = int(self._observations().sizes.max()) * MAX_STRUCTURES
        rows = max(LENGTH_SCALE_ROWS, min(_MAX_ROWS, rows))
        chosen, subset = self._subset(self._pairs, rows)
        subset = subset.without_energies()
        batch = self._batch.take(chosen)
        first, second = (
            score(candidate.prior, candidate.descriptor(batch), subset)
            for candidate in (with_scales, plain)
        )
        # Errors of structures that the scales were learned from are small for that.
        judged = np.flatnonzero(~np.isin(chosen, with_scales.learned_from))
        if len(judged) < _MIN_STRUCTURES:
            judged = np.arange(len(chosen))
        keeps_scales, reason = _compare(first, second, judged)
        _log.info(
            "%d structures left out in turn: internal coordinates with learned scales "
            "have a force error of %.4g eV/Å and 95 %% intervals that cover %.0f %%, "
            "inverse distances with one scale %.4g eV/Å and %.0f %%; %s are kept: %s",
            len(judged),
            first.errors_of(judged).mean(),
            100.0 * first.coverage_of(judged),
            second.errors_of(judged).mean(),
            100.0 * second.coverage_of(judged),
            "internal coordinates" if keeps_scales else "inverse distances",
            reason,
        )
        return with_scales if keeps_scales else plain

    def _prior(self, kernel):
        return Prior(kernel, self._permutations, self._noise)

    def _observations(self, with_energies=False):
        """Rows of all structures; energies are there where their noise is given."""
        with_energies = with_energies or self._noise.energy is not None
        return Observations.build(
            self._batch, self._labels, with_energies, self._offset
        )

    def _subset(self, features, n_rows):
        """Different structures at random, and their observations, about `n_rows`."""
        observations = self._observations()
        # Sorted, the features of a structure and of its permuted images are the same.
        signature = np.sort(features.x, axis=1).round(8)
        chosen = random_subset(observations.sizes, signature, self._random, n_rows)
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
        if self._noise.forces is None:
            subset = subset.without_energies()
        return chosen, subset


def _compare(first, second, structures):
    """Say whether the first of two scores is the better one, and why."""
    if first.left_out is None or second.left_out is None:
        return second.left_out is None, "the covariance of the others is singular"
    difference = first.errors_of(structures) - second.errors_of(structures)
    mean, n = difference.mean(), len(structures)
    is_first, reason = bool(mean < 0.0), "their error is lower"
    if abs(mean) < difference.std(ddof=1) / np.sqrt(n):
        is_first = first.density >= second.density
        reason = (
            "their density is higher, and the errors differ by less than the standard "
            "error of the difference"
        )
    kept, other = (first, second) if is_first else (second, first)
    if kept.coverage_of(structures) < _LEAST_COVERAGE <= other.coverage_of(structures):
        return not is_first, (
            "their error is not lower, but the intervals of the others cover less than "
            f"{_LEAST_COVERAGE:.0%}"
        )
    return is_first, reason


def learn_length_scale(
    prior: Prior, features: Features, observations: Observations, free_amplitude: bool
) -> Score:
    """Find the length scale, where it is None, of the best leave-one-out density.

    `observations` are a subset of the training data; for the amplitude see `score`. The
    score has the kernel that was found.
    """

    def evaluate(kernel):
        candidate = replace(prior, kernel=kernel)
        result = score(candidate, features, observations, free_amplitude)
        advance(1)
        return result

    def of_length_scale(length):
        # A Python float: parameters should print and compare as plain numbers.
        return evaluate(prior.kernel.with_length_scale(float(length)))

    with progress_bar(19, "choosing the length scale") as advance:
        if prior.kernel.needs_length_scale:
            best = _search(of_length_scale, features)
        else:
            best = evaluate(clone(prior.kernel))
    _search_log.info(
        "%s: leave-one-out log density %.1f of %d structures",
        best.kernel,
        best.density,
        len(features.x),
    )
    return best


def _search(evaluate, features):
    """Look on a grid and then around its best point."""
    spread = np.log(np.sqrt(2.0 * features.x.var(axis=0).sum()))
    # Longer scales only cost digits: the prior amplitude grows with their square, and
    # predictions become differences of ever larger numbers.
    grid = np.linspace(spread - 1.0, spread + 3.5, 7)
    tried = [evaluate(np.exp(point)) for point in grid]
    best = int(np.argmax([result.density for result in tried]))

    def cost(point):
        tried.append(evaluate(np.exp(point)))
        return -tried[-1].density

    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    options = {"xatol": 0.05, "maxiter": 12}
    minimize_scalar(cost, bounds=bounds, method="bounded", options=options)
    return max(tried, key=lambda result: result.density)
