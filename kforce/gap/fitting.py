"""From terms and a training set to the posterior: what is learned, and the solution."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.base import BaseEstimator

from kforce.gap.covariance import ENERGY, FORCES
from kforce.gap.hyperparameters import FreeParameters, maximise_free_energy
from kforce.gap.leave_one_out import best_noise_factor, leave_one_out
from kforce.gap.posterior import Posterior, gather
from kforce.gap.sparse_term import SparseTerm
from kforce.gap.training_set import TrainingSet

_log = logging.getLogger("kforce.gap")

#: Errors of left-out frames over the spread of labels (rms) from which a fit is
#: worthless.
MAX_RELATIVE_ERROR = 0.7


def fit_posterior(
    model: BaseEstimator,
    terms: Sequence[SparseTerm],
    free: FreeParameters,
    training: TrainingSet,
    rng: np.random.Generator,
) -> tuple[Posterior, np.ndarray]:
    """Learn what a `GAPRegressor` leaves open, and condition its terms on observations.

    Return the posterior and the noises (3,) in use.
    """
    if model.optimize:
        terms, noises = maximise_free_energy(terms, training, free, rng)
        training = training.with_noises(noises)
    system = gather(terms, training, model.jitter, model.solver, model.approximation)
    factor = 1.0
    if _learns_all_noises(model, free, training):
        factor = best_noise_factor(system, training, rng)
        training = training.with_noises(factor * training.noises)
    if model.optimize:
        _log.info("noises: %s", _named(training.noises, training.counts))
    posterior = system.condition(factor)
    jitter = posterior.solution.jitter
    if jitter > model.jitter:
        _log.warning(
            "the jitter had to be raised from %.1e to %.1e eV²", model.jitter, jitter
        )
    # Standard deviations of a prior that was given are not doubted.
    if model.optimize:
        errors = leave_one_out(posterior, training, rng, model.approximation)
        posterior = replace(posterior, calibration=errors.calibration())
        _report(errors, training)
    return posterior, training.noises


def _learns_all_noises(model, free, training):
    """Whether one factor can be that of the noises of all rows."""
    is_free = np.array(free.noises)[training.counts > 0].all()
    is_default = all(observed.is_default.all() for observed in training.observations)
    return model.optimize and is_free and is_default and model.approximation == "dtc"


def _report(errors, training):
    """Log errors of left-out frames, and warn if they say that labels are wrong."""
    relative = {}
    for kind, name in ((ENERGY, "energies"), (FORCES, "forces")):
        if not (errors.kinds == kind).any():
            continue
        y = [
            (observed.y / training.noise(s))[observed.of(kind)]
            for s, observed in enumerate(training.observations)
        ]
        spread = np.std(np.concatenate(y))
        if spread > 0.0:
            relative[name] = errors.rms(kind) / spread
    if not relative:
        return
    text = "errors of left-out frames, as a share of the spread: " + ", ".join(
        f"{name} {value:.2g}" for name, value in relative.items()
    )
    if max(relative.values()) < MAX_RELATIVE_ERROR:
        _log.info(text)
    else:
        _log.warning(
            "%s. Are the units right, and the signs of forces? Are there enough "
            "frames?",
            text,
        )


def _named(noises, counts):
    """Name the noises of the labels that there are."""
    energy, forces, virial = noises
    named = (
        f"energies {energy:.3g} eV per atom",
        f"forces {forces:.3g} eV/Å",
        f"virials {virial:.3g} eV per atom",
    )
    return ", ".join(text for text, count in zip(named, counts, strict=True) if count)
