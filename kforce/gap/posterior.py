"""From labels to the posterior of a sparse model: what is learned, and the solution."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from sklearn.base import BaseEstimator

from kforce.gap.hyperparameters import learn
from kforce.gap.leave_one_out import best_noise
from kforce.gap.parameters import freedom_of
from kforce.gap.sparse_term import SparseTerm
from kforce.gap.term import Term
from kforce.gap.training_set import gather_rows
from kforce.gap.uncertainty import calibration_of, leave_one_out
from kforce.labels import LocalLabels, Noises
from kforce.solvers.least_squares import SparseSolution

_log = logging.getLogger("kforce.gap")

#: A model is, if its errors are so large a share of the spread of the labels (rms).
_WORTHLESS = 0.7


@dataclass(frozen=True)
class Conditioned:
    """A sparse model that knows its training data.

    Attributes
    ----------
    terms : list of SparseTerm
        With their weights.
    noises : Noises
        Those in use.
    solution : SparseSolution
        Posterior of the weights.
    log_evidence : float
        See `GatheredRows.solve`.
    calibration : tuple of (float, float)
        Factors of standard deviations of energies and of forces.
    """

    terms: list[SparseTerm]
    noises: Noises
    solution: SparseSolution
    log_evidence: float
    calibration: tuple[float, float]


def condition(
    model: BaseEstimator,
    terms: Sequence[SparseTerm],
    origins: Sequence[Term],
    frames: Sequence[Atoms],
    labels: LocalLabels,
    noises: Noises,
    rng: np.random.Generator,
) -> Conditioned:
    """Learn what a `GAPRegressor` leaves open, and condition its terms on labels.

    Parameters
    ----------
    model : GAPRegressor
        With its parameters.
    terms : sequence of SparseTerm
        Without weights.
    origins : sequence of Term
        The description that each comes from; there are none for further terms.
    frames : sequence of ase.Atoms
        Training set.
    labels : LocalLabels
        Its labels, with their noises.
    noises : Noises
        Those of the labels whose noise is the model's.
    rng : numpy.random.Generator
        Source of random numbers.
    """
    terms, freedom = list(terms), freedom_of(model, terms, origins)
    if model.optimize:
        terms, noises = learn(terms, frames, labels, noises, freedom, rng)
        labels = labels.with_noises(noises)
    gathered = gather_rows(
        terms, frames, labels, model.jitter, model.solver, model.approximation
    )
    factor = 1.0
    if _learns_all_noises(model, freedom, labels):
        factor = best_noise(gathered, terms, frames, labels, rng)
        noises = noises.times(factor)
        labels = labels.with_noises(noises)
    if model.optimize:
        _log.info("noises: %s", _named(noises, labels.counts))
    solution, log_evidence = gathered.solve(factor)
    if solution.jitter > model.jitter:
        _log.warning(
            "the jitter had to be raised from %.1e to %.1e eV²",
            model.jitter,
            solution.jitter,
        )
    terms = _with_weights(terms, solution.coef)
    calibration = 1.0, 1.0  # of a prior that was given
    if model.optimize:
        found = leave_one_out(terms, solution, frames, labels, rng, model.approximation)
        calibration = calibration_of(*found)
        _say_how_good(labels, *found)
    return Conditioned(terms, noises, solution, log_evidence, calibration)


def _learns_all_noises(model, freedom, labels):
    """Whether one factor can be that of the noises of all rows."""
    free = np.array(freedom.noises)
    is_free = bool(free[labels.counts > 0].all() and labels.is_default.all())
    return model.optimize and is_free and model.approximation == "dtc"


def _say_how_good(labels, errors, _, kinds):
    """Log errors of left-out frames, and warn if they say that labels are wrong."""
    pairs = zip(labels.forces, labels.noise_forces, strict=True)
    values = (
        labels.energy / labels.noise_energy,
        np.concatenate([(f / noise[:, None]).ravel() for f, noise in pairs]),
    )
    shares = {}
    for k, (name, y) in enumerate(zip(("energies", "forces"), values, strict=True)):
        spread = np.nanstd(y) if (kinds == k).any() else 0.0
        if spread > 0.0:
            shares[name] = np.sqrt(np.mean(errors[kinds == k] ** 2)) / spread
    if not shares:
        return
    text = "errors of left-out frames, as a share of the spread: " + ", ".join(
        f"{name} {share:.2g}" for name, share in shares.items()
    )
    if max(shares.values()) < _WORTHLESS:
        _log.info(text)
    else:
        _log.warning(
            "%s. Are the units right, and the signs of forces? Are there enough "
            "frames?",
            text,
        )


def _named(noises, counts):
    """Name the noises of the labels that there are."""
    named = (
        f"energies {noises.energy:.3g} eV per atom",
        f"forces {noises.forces:.3g} eV/Å",
        f"virials {noises.virial:.3g} eV per atom",
    )
    pairs = zip(named, counts, strict=True)
    return ", ".join(text for text, count in pairs if count)


def _with_weights(terms, coef):
    bounds = np.cumsum([0] + [term.n_inducing for term in terms])
    return [
        replace(term, weights=coef[a:b])
        for term, a, b in zip(terms, bounds[:-1], bounds[1:], strict=True)
    ]
