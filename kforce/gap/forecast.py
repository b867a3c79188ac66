"""How much memory and time a fit will take, before its long part starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kforce.errors import InputError
from kforce.gap.posterior import ROWS_AT_A_TIME
from kforce.gap.sparse_term import SparseTerm
from kforce.gap.training_set import TrainingSet
from kforce.parallel import n_threads
from kforce.solvers.resources import available_memory, dgemm_rate, readable

#: Square matrices of all inducing environments that exist at the same time, and arrays
#: of rows of the frames that are worked on.
N_SQUARES, N_ROW_ARRAYS = 8, 4

#: Seconds that rows of a sample are computed for, about.
SAMPLE_SECONDS = 0.1

#: Rate of the elimination of rows, as a share of that of matrix products.
ELIMINATION_RATE = 0.5


@dataclass(frozen=True)
class SparseForecast:
    """Memory, in bytes, and time, in seconds, of a fit on `threads` threads.

    The time is a lower bound: that of all rows, from a measured sample, and of their
    elimination. What else a fit does depends on samples of the data, not on all.
    """

    n_rows: int
    n_inducing: int
    memory: float
    seconds: float
    threads: int

    @classmethod
    def of(cls, terms: Sequence[SparseTerm], training: TrainingSet) -> SparseForecast:
        """Forecast the fit of terms without weights to a training set."""
        m = sum(term.n_inducing for term in terms)
        sizes = np.array([len(frame) for frame in training.frames])
        n_rows, threads = int(training.counts.sum()), n_threads()
        at_a_time = max(ROWS_AT_A_TIME, 3 * int(sizes.max()) + 7)
        memory = 8.0 * m * (N_SQUARES * m + N_ROW_ARRAYS * at_a_time)
        seconds = _seconds_per_atom(terms, training, sizes) * sizes.sum() / threads
        seconds += 2.0 * n_rows * m**2 / (ELIMINATION_RATE * dgemm_rate())
        return cls(n_rows, m, memory, seconds, threads)

    def __str__(self) -> str:
        plural = "s" if self.threads > 1 else ""
        took = f"at least {self.seconds:.0f} s" if self.seconds >= 1 else "about 1 s"
        return (
            f"{self.n_rows} labels, {self.n_inducing} inducing environments: expect "
            f"{took} and {max(self.memory / 1e9, 0.01):.2g} GB on {self.threads} "
            f"thread{plural}"
        )

    def require_memory(self) -> None:
        """Raise an `InputError` when there is too little memory."""
        available = available_memory()
        if self.memory > available:
            share = (available / self.memory) ** 0.5
            raise InputError(
                f"The fit needs {readable(self.memory)} for {self.n_inducing} inducing "
                f"environments, and {readable(available)} are available: lower "
                f"n_inducing of the terms to about {100 * share:.0f} % of what it is, "
                "cut large frames, or use a larger machine."
            )


def _seconds_per_atom(terms, training, sizes):
    """Measure how long rows take on one thread, the first time not counted."""
    order = np.argsort(sizes, kind="stable")
    # Frames of the middle: their first call compiles what is not compiled yet.
    chosen = order[len(order) // 2 :]
    training.whitened(terms, chosen[0])
    n_atoms, start = 0, time.perf_counter()
    for s in chosen:
        training.whitened(terms, s)
        n_atoms += sizes[s]
        if time.perf_counter() - start > SAMPLE_SECONDS:
            break
    return (time.perf_counter() - start) / n_atoms
