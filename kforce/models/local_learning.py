"""Amplitudes, length scales and noises of a sparse model, by variational free energy.

A random part of the frames and of the inducing environments decides: few numbers are
learned, and each evaluation costs rows × inducing².

Noises that are learned keep their ratios. What a sparse model cannot represent is not
white, and evidence gives the few energies up for the many forces.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
from ase import Atoms
from scipy.optimize import minimize

from kforce.models.local_labels import LocalLabels, Noises
from kforce.models.local_problem import Freedom, FreeEnergyProblem
from kforce.sparse.term import SparseTerm
from kforce.threads import single_threaded_blas

_log = logging.getLogger("kforce.gap")

#: Width of the prior around the start, and bounds, of the logarithms.
_WIDTH, _RANGE = 3.0, 9.0

_STEPS = 40

#: Inducing environments up to which BLAS has one thread.
_SMALL = 500


def learn(
    terms: Sequence[SparseTerm],
    frames: Sequence[Atoms],
    labels: LocalLabels,
    noises: Noises,
    freedom: Freedom,
    rng: np.random.Generator,
) -> tuple[list[SparseTerm], Noises]:
    """Return terms and noises of largest free energy.

    Parameters
    ----------
    terms : sequence of SparseTerm
        Without weights, and with the inducing environments they will have.
    frames : sequence of ase.Atoms
        Training set.
    labels : LocalLabels
        Its labels, with the noises that are not learned.
    noises : Noises
        Those of the labels whose noise is the model's.
    freedom : Freedom
        What may be learned.
    rng : numpy.random.Generator
        Chooses the part that decides.
    """
    problem = FreeEnergyProblem(terms, frames, labels, noises, freedom, rng)
    start = problem.start()
    if len(start) == 0:
        return list(terms), noises

    def objective(theta):
        value, gradient = problem.evaluate(theta)
        away = (theta - start) / _WIDTH
        return -value + 0.5 * away @ away, -gradient + away / _WIDTH

    # The threads of BLAS gain little on small matrices, and wait for one another very
    # long where other programs run.
    with single_threaded_blas if problem.n_inducing < _SMALL else nullcontext():
        found = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(x - _RANGE, x + _RANGE) for x in start],
            options={"maxiter": _STEPS},
        )
    learned, noises = problem.result(found.x, terms)
    pairs = zip(learned, freedom.amplitudes, strict=True)
    amplitudes = [f"{term.kernel.amplitude:.3g}" for term, free in pairs if free]
    if amplitudes:
        _log.info("learned amplitudes: %s eV", ", ".join(amplitudes))
    return learned, noises
