"""Learned scales: the marginal likelihood of the observations, and its maximum.

The energy of a molecule is a sum of parts as much as it is one function of everything:
the kernel here has a component that looks at all features, and one for each of some
parts of the molecule. Features that the atom permutations take to one another share a
scale (anything else would break the symmetry), and so do all parts of a kind.

With C = v (K + R) + Σ and G = C⁻¹ y yᵀ C⁻¹ − C⁻¹::

    log p    = −½ (yᵀ C⁻¹ y + log det C + n log 2π)
    ∂ log p  = ½ ⟨G, ∂C⟩

(Rasmussen and Williams, Gaussian Processes for Machine Learning, sec. 5.4.1).
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from kforce.descriptors.base import Features
from kforce.errors import InputError
from kforce.gdml.covariance import covariance, sensitivity
from kforce.gdml.observations import Observations
from kforce.gdml.prior import RELATIVE_NOISE, Noise, Prior
from kforce.kernels.base import Scaled, Sum
from kforce.parallel import single_threaded_blas
from kforce.progress import progress_bar
from kforce.solvers.cholesky import unfactored

_log = logging.getLogger("kforce.gdml.relevance")

#: Steps of the search.
_STEPS = 30

#: Starts, and how far their scales are spread, as logarithms. A few steps on every
#: third structure show which of them to follow.
_STARTS, _START_SPREAD, _TRIAL_STRIDE, _TRIAL_STEPS = 3, 0.7, 3, 8

#: Factor of the noises from one start to the next.
_NOISE_RATIO = 30.0

#: How far scales may go from their start, as logarithms: far enough to switch a feature
#: off, and no farther than the arithmetic stays conditioned.
_SCALE_BOUNDS = (-8.0, 8.0)

#: The same for the amplitudes of the parts beside that of the whole, and for this one.
_PART_BOUNDS, _AMPLITUDE_BOUNDS = (-12.0, 12.0), (-8.0, 8.0)

#: Noises over the prior standard deviation: start, least and largest. The matrix of
#: many more structures must stay well-conditioned; energies have a common constant of
#: large variance, which costs no digits of their differences.
_NOISE_FORCES = (1e-4, RELATIVE_NOISE, 1.0)
_NOISE_ENERGY = (3e-6, 3e-7, 1.0)

#: Width of the normal prior of the logarithm of a scale around that of its kind: with
#: few structures, hundreds of free scales would fit their accidents, and the predicted
#: deviations would be too small.
_SCALE_WIDTH = 1.0

#: Logarithms this close to a bound are at it.
_AT_BOUND = 1e-3

#: Fewer rows than this are factored by one thread: the threads of BLAS gain little on
#: small matrices, and wait for one another very long where other programs run.
_ONE_THREAD_ROWS = 4000


def learn_scales(
    prior: Prior,
    features: Features,
    observations: Observations,
    parts: list[np.ndarray],
    seed: int = 0,
) -> tuple[Prior, float]:
    """Maximise the marginal likelihood of some structures, with a prior of the scales.

    The kernel of `prior` is the profile, of length scale and amplitude 1, and its
    noises that are None are learned. `parts` are kinds of components beside the one
    that looks at everything: masks (n_parts, n_features) of the features that each
    looks at. A kind is closed under the permutations, and its components share scales
    and amplitude. `observations` are a subset of the training data, and `seed` is that
    of the starts beside the first.

    Returned are the prior of largest likelihood, and the logarithm of this. An
    `InputError` says that the covariance matrix cannot be factored.
    """
    search = ScaleSearch(prior, features, observations, parts)
    names, start, bounds = search.start()
    thin = np.arange(0, len(features.x), _TRIAL_STRIDE)
    trial = ScaleSearch(prior, features.take(thin), observations.take(thin), parts)
    # A trial without energies would have no noise of theirs.
    count = _STARTS if len(trial.start()[0]) == len(names) else 1
    spread = np.where(np.array(names) == "scale", _START_SPREAD, 0.0)
    shifts = np.random.default_rng(seed).normal(size=(count, len(start)))
    shifts[0] = 0.0
    starts = start + spread * shifts
    # Noisy labels need a start that explains them as noise, or the scales will.
    is_noise = np.char.startswith(names, "noise")
    starts += np.outer(np.arange(count), is_noise * np.log(_NOISE_RATIO))
    starts = np.clip(starts, *np.transpose(bounds))
    with progress_bar(_STEPS, "learning the kernel") as advance:
        best = 0
        if count > 1:
            trials = [_minimise(trial, point, bounds, _TRIAL_STEPS) for point in starts]
            best = int(np.argmin([minimum.fun for minimum in trials]))
        minimum = _minimise(search, starts[best], bounds, _STEPS, advance)
    learned, evidence = search.result(minimum.x)
    _log.info(
        "%d hyper-parameters from %d structures in %d evaluations from start %d of %d: "
        "log evidence %.1f",
        len(start),
        len(features.x),
        minimum.nfev,
        best + 1,
        count,
        evidence,
    )
    _report_bounds(names, minimum.x, bounds)
    return learned, evidence


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
    low, high = np.transpose(bounds)
    at_low, at_high = point < low + _AT_BOUND, point > high - _AT_BOUND
    for name, is_low, is_high in zip(names, at_low, at_high, strict=True):
        if name.startswith("noise") and is_low:
            _log.info(
                "the learned %s is at its lower bound: the labels are exact as far as "
                "can be told, and it only regularises",
                name,
            )
        if name.startswith("amplitude") and (is_low or is_high):
            _log.info("the learned %s is at a bound: it hardly matters", name)
        if name.startswith("noise") and is_high:
            _log.warning(
                "the learned %s is at its upper bound: no smooth energy surface fits "
                "these labels. Check units, signs and that all are of one level of "
                "theory.",
                name,
            )
    is_scale = np.array(names) == "scale"
    _log.info(
        "%d scales are at their lower bound: those features do not count",
        (at_low & is_scale).sum(),
    )
    if (at_high & is_scale).any():
        _log.warning(
            "%d scales are at their upper bound: the energy changes faster with these "
            "features than the structures resolve; add structures",
            (at_high & is_scale).sum(),
        )


class ScaleSearch:
    """The likelihood as a function of one vector of logarithms.

    It holds the scales, the amplitudes of the parts over that of the whole, this one
    where a noise is given (it has a closed form otherwise), and the noises over the
    prior standard deviation.
    """

    def __init__(self, prior, features, observations, parts):
        self.prior, self.features, self.observations = prior, features, observations
        of_forces, is_open = observations.is_force, ~observations.is_given
        #: Rows of each noise that is learned.
        self.learned = [
            rows & is_open if noise is None and (rows & is_open).any() else None
            for rows, noise in (
                (of_forces, prior.noise.forces),
                (~of_forces, prior.noise.energy),
            )
        ]
        covered = sum(rows.sum() for rows in self.learned if rows is not None)
        self.is_scale_free = covered == len(of_forces)
        feature_perms, _ = features.coordinates.images(prior.permutations)
        orbit = np.unique(feature_perms.min(axis=0), return_inverse=True)[1]
        masks = [np.ones((1, len(orbit)), dtype=bool), *parts]
        self.kind = np.repeat(np.arange(len(masks)), [len(m) for m in masks])
        self.masks = np.concatenate(masks)
        ties = orbit + (orbit.max() + 1) * self.kind[:, None]
        #: Which scale each feature has in each component.
        self.ties = np.zeros(ties.shape, dtype=np.intp)
        self.ties[self.masks] = np.unique(ties[self.masks], return_inverse=True)[1]
        self.n_scales = int(self.ties.max()) + 1
        self.n_parts = len(parts)
        self.kind_of_scale = np.empty(self.n_scales, dtype=np.intp)
        for mask, ties, kind in zip(self.masks, self.ties, self.kind, strict=True):
            self.kind_of_scale[ties[mask]] = kind
        self.typical = self._typical_scales(orbit)

    def _typical_scales(self, orbit):
        """Logarithms of scales that share a typical distance of 1/3 evenly.

        Features of an `orbit` (n_features,) spread around one mean: which of the
        permuted structures is in the data does not matter.
        """
        x, size = self.features.x, np.bincount(orbit)
        mean = np.bincount(orbit, x.mean(axis=0)) / size
        squares = np.mean((x - mean[orbit]) ** 2, axis=0)
        spread = np.maximum(np.bincount(orbit, squares) / size, 1e-8)[orbit]
        total, count = np.zeros(self.n_scales), np.zeros(self.n_scales)
        for mask, ties in zip(self.masks, self.ties, strict=True):
            np.add.at(total, ties[mask], spread[mask] * mask.sum())
            np.add.at(count, ties[mask], 1)
        return -0.5 * np.log(18.0 * total / count)

    def start(self):
        """Return names, first values and bounds: typical scales."""
        scales, no_amplitudes = self.typical, np.zeros(self.n_parts)
        far = np.array(_SCALE_BOUNDS)
        entries = [("scale", scale, tuple(scale + far)) for scale in scales]
        entries += [("amplitude of parts", 0.0, _PART_BOUNDS)] * self.n_parts
        noises = {"noise_forces": _NOISE_FORCES, "noise_energy": _NOISE_ENERGY}
        if not self.is_scale_free:
            first = [np.log(noise[0]) for noise in noises.values()]
            kernel = self._kernel(scales, no_amplitudes)
            rough = 0.5 * np.log(self._evidence(kernel, first, None).variance)
            bounds = tuple(rough + np.array(_AMPLITUDE_BOUNDS))
            entries.append(("amplitude", rough, bounds))
        for (name, noise), rows in zip(noises.items(), self.learned, strict=True):
            if rows is not None:
                first, low, high = np.log(noise)
                entries.append((name, first, (low, high)))
        names, start, bounds = zip(*entries, strict=True)
        return list(names), np.array(start), list(bounds)

    def cost(self, point):
        """Return −log p(y), with the prior of the scales, and its gradient."""
        try:
            _, evidence = self._at(point)
        except InputError:
            return 1e10, np.zeros_like(point)
        by_scale = np.zeros(self.n_scales)
        np.add.at(by_scale, self.ties[self.masks], evidence.scales[self.masks])
        gradient = [*by_scale, *np.bincount(self.kind, evidence.amplitudes)[1:]]
        if not self.is_scale_free:
            gradient.append(evidence.amplitudes.sum())
        gradient += [evidence.noises[r].sum() for r in self.learned if r is not None]
        gradient = -np.array(gradient)
        # What all scales of a kind have in common is free.
        odd = (point[: self.n_scales] - self.typical) / _SCALE_WIDTH
        mean = np.bincount(self.kind_of_scale, odd) / np.bincount(self.kind_of_scale)
        odd -= mean[self.kind_of_scale]
        gradient[: self.n_scales] += odd / _SCALE_WIDTH
        return -evidence.value + 0.5 * float(odd @ odd), gradient

    def result(self, point) -> tuple[Prior, float]:
        """Return the prior that a point stands for, and its log evidence."""
        kernel, evidence = self._at(point)
        amplitude = float(np.sqrt(evidence.variance))
        forces, energy = (
            None
            if rows is None
            else amplitude * float(np.sqrt(evidence.noise[rows][0]))
            for rows in self.learned
        )
        if energy is not None:
            energy = float(energy / np.sqrt(self.observations.n_atoms))
        noise = Noise(
            self.prior.noise.forces if forces is None else forces,
            self.prior.noise.energy if energy is None else energy,
        )
        kernel = Scaled(kernel, amplitude)
        return replace(self.prior, kernel=kernel, noise=noise), evidence.value

    def _at(self, point):
        """Return the kernel that a point stands for, without amplitude, and evidence.

        A point holds logarithms of scales, of amplitudes of parts and, where they are
        free, of the amplitude of all and of both noises.
        """
        scales, log_parts, rest = np.split(
            point, [self.n_scales, self.n_scales + self.n_parts]
        )
        rest = list(rest)
        variance = None if self.is_scale_free else np.exp(2.0 * rest.pop(0))
        noises = [None if rows is None else rest.pop(0) for rows in self.learned]
        kernel = self._kernel(scales, log_parts)
        return kernel, self._evidence(kernel, noises, variance)

    def _kernel(self, scales, log_parts):
        table = np.where(self.masks, np.exp(scales)[self.ties], 0.0)
        amplitudes = np.exp(np.append(0.0, log_parts))[self.kind]
        return Sum(self.prior.kernel, table, amplitudes)

    def _evidence(self, kernel, log_noises, variance) -> Evidence:
        relative = np.full(self.observations.n_rows, np.nan)
        for rows, log_noise in zip(self.learned, log_noises, strict=True):
            if rows is not None:
                relative[rows] = np.exp(log_noise)
        prior = replace(self.prior, kernel=kernel)
        small = self.observations.n_rows < _ONE_THREAD_ROWS
        with single_threaded_blas if small else nullcontext():
            return log_evidence(
                prior, self.features, self.observations, relative, variance
            )


@dataclass(frozen=True)
class Evidence:
    """The `value` of log p(y), and its derivatives with respect to logarithms.

    They are those of the `scales` (n_components, n_features) and `amplitudes`
    (n_components,) of the kernel's components, and of the `noises` (n_observations,) of
    the rows. `variance` is the factor v of the covariance, noise included, and `noise`
    (n_observations,) the noise variances without that factor.
    """

    value: float
    variance: float
    noise: np.ndarray
    scales: np.ndarray
    amplitudes: np.ndarray
    noises: np.ndarray


def log_evidence(
    prior: Prior,
    features: Features,
    observations: Observations,
    relative_noise: np.ndarray | None = None,
    variance: float | None = 1.0,
) -> Evidence:
    """Return the marginal likelihood of the observations, with its gradient.

    R are the squares of `relative_noise` (n_observations,) times the prior variance:
    the mean of all forces, or of all energies. Where that is NaN the noise is the
    prior's, Σ. A `variance` v of None takes v (K + R + Σ) with the most likely v,
    yᵀ (K + R + Σ)⁻¹ y / n. An `InputError` says that C is not positive definite in
    double precision.
    """
    n, y = observations.n_rows, observations.y
    # One tile is the lower triangle in the layout that LAPACK works on in place.
    K = covariance(prior, features, observations, tile_rows=n)
    of_forces, prior_variance = observations.is_force, K.diagonal()
    kinds = [rows for rows in (of_forces, ~of_forces) if rows.any()]
    noise = prior.noise.variance(observations)
    if variance is not None:
        noise /= variance
    relative = np.zeros(n)
    if relative_noise is not None:
        relative = np.nan_to_num(relative_noise) ** 2
        for rows in kinds:
            learned = rows & (relative > 0.0)
            noise[learned] = relative[learned] * prior_variance[rows].mean()
    K.add_diagonal(noise)
    try:
        factor, _ = cho_factor(
            K.tile(0, 0), lower=True, overwrite_a=True, check_finite=False
        )
    except np.linalg.LinAlgError as error:
        raise InputError(unfactored(error)) from None
    alpha = cho_solve((factor, True), y, check_finite=False)
    quadratic = float(y @ alpha)
    variance = quadratic / n if variance is None else float(variance)
    log_det = 2.0 * np.log(factor.diagonal()).sum() + n * np.log(variance)
    value = -0.5 * (quadratic / variance + log_det + n * np.log(2.0 * np.pi))
    G, _ = dpotri(factor, lower=1, overwrite_c=1)
    # The upper triangle was never written: whatever is there is not read either.
    with np.errstate(all="ignore"):
        np.subtract(np.outer(alpha, alpha / variance).T, G, out=G)
    noises = noise * G.diagonal()
    # A relative noise grows with the prior variance, as if all of it were on G.
    for rows in kinds:
        G[rows, rows] += (relative * G.diagonal())[rows].sum() / rows.sum()
    scales, amplitudes = sensitivity(prior, features, observations, G)
    return Evidence(float(value), variance, noise, 0.5 * scales, amplitudes, noises)
