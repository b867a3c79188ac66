"""Learned scales: how much each feature of a descriptor counts, and in which term.

The energy of a molecule is a sum of parts as much as it is one function of everything:
the prior here has a term that looks at all features, and one for each of some parts of
the molecule. Features that the atom permutations take to one another share a scale
(anything else would break the symmetry), and so do all parts.
"""

from __future__ import annotations

import logging

import numpy as np
from scipy.optimize import minimize

from kforce.descriptors.base import Features
from kforce.errors import InputError
from kforce.kernels import Kernel
from kforce.observations import Observations
from kforce.progress import progress_bar
from kforce.scale_search import LearnedPrior, ScaleSearch
from kforce.solvers.cholesky import unfactored

_log = logging.getLogger("kforce.scales")

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
