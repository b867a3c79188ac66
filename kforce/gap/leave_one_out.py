"""Errors of training frames that are predicted from all others, in closed form.

They decide on the noises and on the calibration of standard deviations. For the noises
the free energy asks for more: it is a bound, far from tight where inducing environments
are few, and what a sparse model cannot represent is not white. Errors of left-out
frames need no belief in the model.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh, solve_triangular
from scipy.stats import norm

from kforce.gap.covariance import ENERGY, FORCES, VIRIAL, prior_variances
from kforce.gap.posterior import LeastSquares, Posterior
from kforce.gap.sparse_term import largest_cutoff
from kforce.gap.training_set import TrainingSet
from kforce.structures import is_isolated

_log = logging.getLogger("kforce.gap")

#: Errors of left-out frames over the spread of labels (rms) from which a fit is
#: worthless.
MAX_RELATIVE_ERROR = 0.7

#: Frames that are left out in turn, and rows of them, at most.
MAX_LEFT_OUT_FRAMES, MAX_LEFT_OUT_ROWS = 50, 3000

#: Errors of fewer frames say too little of the noise.
MIN_LEFT_OUT_FRAMES = 5

#: Factors of the noise that are tried, in descending order.
NOISE_FACTORS = 2.0 ** np.arange(2.0, -6.5, -0.5)

#: Errors, over the noise, where there is too little noise to tell.
HOPELESS_ERROR = 1e50

#: The largest noise is taken whose squared errors are above the least ones by less than
#: this share of the standard error of the difference, or than this share of them.
MAX_STANDARD_ERRORS, MAX_EXCESS = 0.3, 0.04

#: Share of the errors within what deviations say, and errors from which it is known;
#: of fewer the middle has to fit as well.
CALIBRATED_SHARE, MANY_ERRORS, MIDDLE_SHARE = 0.95, 200, 0.68


class LeftOutFrame(NamedTuple):
    """A frame by its number, with its rows, targets and noises as they were fitted."""

    frame: int
    rows: np.ndarray
    y: np.ndarray
    noise: np.ndarray


def frames_to_leave_out(
    system: LeastSquares,
    training: TrainingSet,
    rng: np.random.Generator,
    n_frames: int = MAX_LEFT_OUT_FRAMES,
) -> list[LeftOutFrame]:
    """Choose frames with labels, without isolated atoms: no other frame tells those."""
    chosen = training.sample(rng, MAX_LEFT_OUT_ROWS, n_frames)
    return [
        LeftOutFrame(s, *system.whitened(training, s))
        for s in chosen
        if not is_isolated(training.frames[s])
    ]


def left_out(
    H: np.ndarray, residual: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the errors of labels that are left out together, and their variances.

    H (n, n) is what the fitted values of these labels are in terms of them, in units of
    the noise: their block of the hat matrix. 1 − H is the inverse of the predictive
    covariance of all of them by all others, of which the variances lack the part that
    inducing environments leave open. The residuals of the fit, the errors and the
    variances (n,) are in units of the noise as well. None stands for so little noise
    that these labels alone decide on some of them.
    """
    try:
        factor = cho_factor(np.eye(len(residual)) - H)
    except np.linalg.LinAlgError:
        return None
    inverse = cho_solve(factor, np.eye(len(residual)))
    return inverse @ residual, np.diag(inverse) - 1.0 - np.diag(H)


@dataclass(frozen=True)
class LeftOutErrors:
    """Errors of energies and forces of left-out frames, all arrays of shape (n,).

    `errors` and `epistemic`, the posterior standard deviations, are divided by the
    noise of the label; `kinds` are ENERGY or FORCES.
    """

    errors: np.ndarray
    epistemic: np.ndarray
    kinds: np.ndarray

    def rms(self, kind: int) -> float:
        """Return the root mean square of the errors of one kind."""
        return float(np.sqrt(np.mean(self.errors[self.kinds == kind] ** 2)))

    def calibration(self) -> tuple[float, float]:
        """Return the factors of standard deviations that the errors ask for.

        With them 95 % of the errors are within 1.96 standard deviations, and, where
        errors are few, 68 % within one. Where there are errors of one kind only, its
        factor is that of both; without errors the factors are 1.
        """
        energy, forces = self._factor(ENERGY), self._factor(FORCES)
        return energy or forces or 1.0, forces or energy or 1.0

    def _factor(self, kind):
        """Return the factor by which deviations are too small; 0 if it is not known."""
        own = self.kinds == kind
        ratio = np.abs(self.errors[own]) / np.hypot(1.0, self.epistemic[own])
        if len(ratio) == 0:
            return 0.0
        is_many = len(ratio) >= MANY_ERRORS
        levels = [CALIBRATED_SHARE] if is_many else [CALIBRATED_SHARE, MIDDLE_SHARE]
        expected = norm.ppf(0.5 + 0.5 * np.array(levels))
        return float((np.quantile(ratio, levels) / expected).max())

    def report(self, training: TrainingSet) -> None:
        """Log the errors, and warn if they say that labels are wrong."""
        relative = {}
        for kind, name in ((ENERGY, "energies"), (FORCES, "forces")):
            y = [
                (observed.y / training.noise(s))[observed.of(kind)]
                for s, observed in enumerate(training.observations)
            ]
            spread = np.std(np.concatenate(y) if training.counts[kind] else 0.0)
            if spread > 0.0 and (self.kinds == kind).any():
                relative[name] = self.rms(kind) / spread
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


def leave_one_out(
    posterior: Posterior,
    training: TrainingSet,
    frames: Sequence[LeftOutFrame],
    factor: float = 1.0,
) -> LeftOutErrors:
    """Predict energies and forces of some frames from all others.

    The noises of the fit are `factor` times those of the frames.
    """
    parts = [(np.zeros(0), np.zeros(0), np.zeros(0, dtype=int))]
    for s, rows, y, noise in frames:
        frame = LeftOutFrame(s, rows / factor, y / factor, noise * factor)
        errors = _left_out_frame(posterior, training, frame)
        if errors is not None:
            parts.append(errors)
    return LeftOutErrors(*map(np.concatenate, zip(*parts, strict=True)))


def _left_out_frame(posterior, training, frame):
    """Return errors, deviations and kinds of one frame, None if they are not known."""
    terms, solution = posterior.terms, posterior.solution
    s, rows, y, noise = frame
    half = solve_triangular(solution.factor, rows.T, trans="T", check_finite=False).T
    alone = left_out(half @ half.T, y - rows @ solution.coef)
    if alone is None:
        return None
    # What the inducing environments leave open stays as it is.
    observed = training.observations[s]
    structure = training.neighbours.of(s, largest_cutoff(terms))
    prior = prior_variances(terms, *structure, observed.has(FORCES), with_energy=False)[
        observed.rows
    ]
    remaining = prior + solution.unexplained(rows * noise[:, None])
    energy, _ = posterior.variances_of(*structure, with_forces=False)
    remaining[observed.of(ENERGY)] = energy
    of_label, (error, variance) = training.noise(s), alone
    added = noise / of_label
    variance = added**2 * variance + remaining / of_label**2
    kind = observed.kind
    used = kind != VIRIAL
    spread = np.sqrt(np.maximum(variance[used], 0.0))
    return (added * error)[used], spread, kind[used]


def best_noise_factor(
    system: LeastSquares, training: TrainingSet, frames: Sequence[LeftOutFrame]
) -> float:
    """Return the factor of all noises that predicts frames best that are left out.

    What is least are the errors of forces (of energies or virials where there are
    none). Of factors that are about as good the largest is taken: little noise makes
    large weights.
    """
    if len(frames) < MIN_LEFT_OUT_FRAMES:
        return 1.0
    squares = squared_errors(system, training, frames)
    return float(NOISE_FACTORS[largest_good(squares)])


def squared_errors(
    system: LeastSquares, training: TrainingSet, frames: Sequence[LeftOutFrame]
) -> np.ndarray:
    """Return the sums of squared errors of left-out frames, (n_frames, n_factors).

    Those of forces, if there are any, else of energies, else of virials, by the factors
    of the noise.
    """
    gram, right = system.system.whitened()
    # With its eigenvectors, all factors are one matrix product each.
    strength, axes = eigh(gram, overwrite_a=True, check_finite=False, driver="evd")
    strength, right = np.maximum(strength, 0.0), axes.T @ right
    observations = [training.observations[frame.frame] for frame in frames]
    (deciding, *_) = [
        kind
        for kind in (FORCES, ENERGY, VIRIAL)
        if any(observed.has(kind) for observed in observations)
    ]
    squares = np.zeros((len(frames), len(NOISE_FACTORS)))
    for i, (frame, observed) in enumerate(zip(frames, observations, strict=True)):
        y = frame.y
        rows = solve_triangular(
            system.system.prior, frame.rows.T, trans="T", check_finite=False
        )
        rows = rows.T @ axes
        for k, factor in enumerate(NOISE_FACTORS):
            weights = rows / (strength + factor**2)
            alone = left_out(weights @ rows.T, y - weights @ right)
            error = np.full(len(y), HOPELESS_ERROR) if alone is None else alone[0]
            squares[i, k] = np.sum(error[observed.of(deciding)] ** 2)
    return squares


def largest_good(squares: np.ndarray) -> int:
    """Return the first column whose sum is hardly above the least one.

    squares : (n_frames, n_factors), sums of squares of errors.
    """
    total = squares.sum(axis=0)
    excess = squares - squares[:, [np.argmin(total)]]
    spread = np.sqrt(np.square(excess - excess.mean(axis=0)).sum(axis=0))
    allowed = np.maximum(MAX_STANDARD_ERRORS * spread, MAX_EXCESS * total.min())
    return int(np.argmax(excess.sum(axis=0) <= allowed))
