"""What the command line prints: text for people, or one JSON object for programs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from ase.units import GPa

from kforce.data.findings import plural
from kforce.errors import InputError
from kforce.evaluation import calibration, metrics
from kforce.labels import Labels, read_label
from kforce.units import energy_unit


class Output(logging.Handler):
    """Where commands put their results, and the library its log.

    With `json`, it prints one JSON object at the end instead of text; with `quiet`,
    results, but nothing on the way to them.
    """

    def __init__(self, json: bool = False, quiet: bool = False):
        super().__init__()
        self.json = json
        self.quiet = quiet
        self._values = {}
        self._heard = True

    def note(self, text: str) -> None:
        """Print a line on the way to the result."""
        if self._heard and not (self.json or self.quiet):
            try:
                print(text, flush=True)
            except OSError:
                # Nobody reads on, but the job still has a file to write.
                self._heard = False

    def result(self, values: Mapping, text: str) -> None:
        """Add to the result, as values for programs and as text for people."""
        self._values.update(values)
        if not self.json:
            _print_result(text)

    def finish(self) -> None:
        """Print the JSON object, if one is wanted."""
        if self.json:
            _print_result(json.dumps(self._values, indent=2, default=_plain))

    def error(self, message: str) -> None:
        """Print an error on standard error."""
        _say(f"kforce: error: {message}")

    def warning(self, message: str) -> None:
        """Print a warning on standard error, unless quiet."""
        if not self.quiet:
            _say(f"warning: {message}")

    def emit(self, record: logging.LogRecord) -> None:
        """Print what the library logs, on standard error."""
        if record.levelno >= logging.WARNING:
            self.warning(record.getMessage())
        else:
            _say(record.getMessage())

    def show_warning(self, message, category, filename, lineno, file=None, line=None):
        """Stand in for `warnings.showwarning`, without file names and line numbers."""
        self.warning(str(message))


def _print_result(text):
    """Print what the command was called for."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(
            f"The result could not be printed: {error.strerror or error}."
        ) from error


def _say(text):
    """Print on standard error; where that fails, nobody is there to be told."""
    with suppress(OSError):
        print(text, file=sys.stderr)


def _plain(value):
    """Turn NumPy's numbers and arrays into what JSON knows."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value)


def warn_unfamiliar(model, data, prediction, output) -> None:
    """Warn about structures of a data set outside of the range of the training data."""
    frames = data.frames
    grades = prediction.extrapolation or [None] * len(frames)
    sentences = list(map(model.describe_extrapolation, frames, grades))
    outside = [s for s, sentence in enumerate(sentences) if sentence]
    if outside:
        first = outside[0]
        name = data.names[first]
        output.warning(
            f"{len(outside)} of {plural(len(frames), 'structure')} "
            f"{'leaves' if len(outside) == 1 else 'leave'} the range of the "
            f"training data, where predictions are not reliable (frame {name}: "
            f"{sentences[first].rstrip('.')})."
        )


def errors(model, frames, labels: Labels, prediction) -> dict[str, float]:
    """Return the errors of a prediction, in eV and eV/Å; only of what has labels.

    Of a local model also those of energies per atom in eV, and of stresses in eV/Å³.
    """
    pairs = labels.pairs(prediction)
    if "energy" in pairs and model.cutoff_ is not None:
        size = np.array([len(frame) for frame in frames])
        pairs["energy_per_atom"] = tuple(energy / size for energy in pairs["energy"])
    if prediction.stress is not None:
        stress = np.full_like(prediction.stress, np.nan)
        for s in np.flatnonzero(np.isfinite(prediction.stress).all(axis=1)):
            stress[s] = read_label(frames[s], s, "stress")
        if np.isfinite(stress).any():
            pairs["stress"] = prediction.stress, stress
    found = {"n_structures": len(frames)}
    for name, (predicted, reference) in pairs.items():
        found[f"{name}_mae"] = metrics.mae(predicted, reference)
        found[f"{name}_rmse"] = metrics.rmse(predicted, reference)
    return found


#: Recalibration factors beyond which, or below whose inverse, standard deviations are
#: not those of the errors.
_LARGE_FACTOR = 2.0


def warn_of_miscalibration(measures, output) -> None:
    """Warn where errors are not as large as standard deviations say."""
    for name, of_kind in measures.items():
        factor = of_kind["recalibration_factor"]
        if factor is not None and not 1.0 / _LARGE_FACTOR < factor < _LARGE_FACTOR:
            size = "too small" if factor > 1.0 else "too large"
            output.warning(
                f"the standard deviations of {name} are {size} for these frames: "
                f"with {factor:.3g} times as large ones (recalibration factor) errors "
                "would be as expected."
            )


def error_table(found: Mapping[str, float]) -> str:
    """Lay the result of `errors` out for people."""
    kcal = energy_unit("kcal/mol")
    title = f"errors of {plural(found['n_structures'], 'structure')}"
    lines = [f"{title:<26}{'MAE':>13}{'RMSE':>13}"]
    for name, rows in {
        "energy": [("eV", 1.0, 5), ("kcal/mol", 1.0 / kcal, 4)],
        "energy_per_atom": [("meV/atom", 1e3, 3)],
        "forces": [("meV/Å", 1e3, 3), ("kcal/mol/Å", 1.0 / kcal, 3)],
        "stress": [("meV/Å³", 1e3, 3), ("GPa", 1.0 / GPa, 4)],
    }.items():
        if f"{name}_mae" not in found:
            continue
        for k, (unit, factor, digits) in enumerate(rows):
            mae, rmse = (found[f"{name}_{kind}"] * factor for kind in ("mae", "rmse"))
            label = name.removesuffix("_per_atom") if k == 0 else ""
            lines.append(
                f"  {label:<9}{unit:<15}{mae:>13.{digits}f}{rmse:>13.{digits}f}"
            )
    return "\n".join(lines)


def residuals(prediction, labels: Labels) -> dict[str, tuple]:
    """Return residuals and standard deviations of each structure, where labels are.

    Of 'energy' and 'forces', one entry a structure: in eV and eV/Å.
    """
    found = {}
    if np.isfinite(labels.energy).any():
        residual = labels.energy - prediction.energy
        found["energy"] = residual, prediction.energy_std
    if labels.has_forces.any():
        pairs = zip(labels.forces, prediction.forces, strict=True)
        found["forces"] = [r - p for r, p in pairs], prediction.forces_std
    return found


def calibrations(prediction, labels: Labels) -> dict[str, dict]:
    """Return what `calibration.summary` does, of what has labels; None for NaN."""
    return {
        name: finite_or_none(calibration.summary(*pair))
        for name, pair in residuals(prediction, labels).items()
    }


def finite_or_none(values: Mapping[str, float]) -> dict[str, float | None]:
    """Replace NaN, which JSON has no word for."""
    return {k: None if np.isnan(value) else value for k, value in values.items()}


def predict_with_calibration(model, frames, labels, output, is_required=False):
    """Return the prediction for labelled frames, and its calibration.

    The latter is None, and this is said, where the model has no standard deviations;
    if it is required, that is an error.
    """
    properties = model.properties_of(frames)
    try:
        prediction = model.evaluate(frames, properties, True)
        return prediction, calibrations(prediction, labels)
    except InputError as error:
        if is_required:
            raise
        # Says it, if the frames are what is wrong.
        prediction = model.evaluate(frames, properties)
        output.note(f"the calibration is left out: {error}")
        return prediction, None


def calibration_line(found: Mapping[str, Mapping[str, float]]) -> str:
    """Say in a line what `calibrations` found."""
    parts = []
    for name, measures in found.items():
        factor = measures["recalibration_factor"]
        fit = ""
        if factor is not None:
            excess = 100.0 * (1.0 / factor - 1.0)
            size = "wide" if excess > 0.0 else "narrow"
            fit = f" (error bars {abs(excess):.0f} % too {size})"
        what = {"energy": "energies", "forces": "force components"}[name]
        parts.append(f"{100 * measures['coverage_95']:.0f} % of the {what}{fit}")
    return f"95 % intervals cover {' and '.join(parts)}"


#: Name, factor and digits of every measure in a table; scores in meV and meV/Å.
_MEASURES = {
    "nlpd": ("NLPD     eV, eV/Å", 1.0, 3),
    "crps": ("CRPS     meV, meV/Å", 1e3, 3),
    "ence": ("ENCE", 1.0, 3),
    "miscalibration_area": ("miscalibration area", 1.0, 3),
    "coverage_50": ("coverage at 50 %", 100.0, 1),
    "coverage_90": ("coverage at 90 %", 100.0, 1),
    "coverage_95": ("coverage at 95 %", 100.0, 1),
    "spearman": ("rank corr. error, std", 1.0, 3),
    "recalibration_factor": ("recalibration factor", 1.0, 3),
    "conformal_factor_95": ("conformal factor, 95 %", 1.0, 3),
}


def calibration_table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Lay the result of `calibrations` out for people."""
    lines = [f"{'calibration':<26}" + "".join(f"{name:>13}" for name in found)]
    for key, (label, factor, digits) in _MEASURES.items():
        if not any(key in measures for measures in found.values()):
            continue
        row = f"  {label:<24}"
        for measures in found.values():
            value = measures.get(key)
            text = "-" if value is None else f"{factor * value:.{digits}f}"
            row += f"{text:>13}"
        lines.append(row)
    lines.append(
        "  coverage: labels within the interval of that probability around predictions"
    )
    return "\n".join(lines)
