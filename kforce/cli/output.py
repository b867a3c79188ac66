"""What the command line prints: text for people, or one JSON object for programs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping

import numpy as np

from kforce import metrics
from kforce.structures import Labels
from kforce.units import energy_unit


class Output(logging.Handler):
    """Where commands put their results, and the library its log.

    Parameters
    ----------
    json : bool
        Print one JSON object at the end instead of text.
    quiet : bool
        Print results, but nothing on the way to them.
    """

    def __init__(self, json: bool = False, quiet: bool = False):
        super().__init__()
        self.json = json
        self.quiet = quiet
        self._values = {}

    def note(self, text: str) -> None:
        """Print a line on the way to the result."""
        if not (self.json or self.quiet):
            try:
                print(text, flush=True)
            except BrokenPipeError:
                # Nobody reads on, but the job still has a file to write.
                self.quiet = True

    def result(self, values: Mapping, text: str) -> None:
        """Add to the result, as values for programs and as text for people."""
        self._values.update(values)
        if not self.json:
            print(text, flush=True)

    def finish(self) -> None:
        """Print the JSON object, if one is wanted."""
        if self.json:
            print(json.dumps(self._values, indent=2, default=_plain))

    def error(self, message: str) -> None:
        """Print an error on standard error."""
        print(f"kforce: error: {message}", file=sys.stderr)

    def warning(self, message: str) -> None:
        """Print a warning on standard error, unless quiet."""
        if not self.quiet:
            print(f"warning: {message}", file=sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        """Print what the library logs, on standard error."""
        if record.levelno >= logging.WARNING:
            self.warning(record.getMessage())
        else:
            print(record.getMessage(), file=sys.stderr)

    def show_warning(self, message, category, filename, lineno, file=None, line=None):
        """Stand in for `warnings.showwarning`, without file names and line numbers."""
        self.warning(str(message))


def _plain(value):
    """Turn NumPy's numbers and arrays into what JSON knows."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value)


def errors(prediction, labels: Labels) -> dict[str, float]:
    """Return the errors of a prediction, in eV and eV/Å; only of what has labels."""
    found = {"n_structures": len(labels.energy)}
    if np.isfinite(labels.energy).any():
        found["energy_mae"] = metrics.mae(prediction.energy, labels.energy)
        found["energy_rmse"] = metrics.rmse(prediction.energy, labels.energy)
    if labels.has_forces.any():
        predicted = np.concatenate(prediction.forces)
        reference = np.concatenate(labels.forces)
        found["forces_mae"] = metrics.mae(predicted, reference)
        found["forces_rmse"] = metrics.rmse(predicted, reference)
    return found


def error_table(found: Mapping[str, float]) -> str:
    """Lay the result of `errors` out for people.

    Examples
    --------
    >>> values = {"n_structures": 2, "forces_mae": 0.01, "forces_rmse": 0.02}
    >>> print(error_table(values))
    errors of 2 structures              MAE         RMSE
      forces   meV/Å                 10.000       20.000
               kcal/mol/Å             0.231        0.461
    """
    kcal = energy_unit("kcal/mol")
    count = found["n_structures"]
    noun = "structure" if count == 1 else "structures"
    lines = [f"{f'errors of {count} {noun}':<26}{'MAE':>13}{'RMSE':>13}"]
    for name, rows in {
        "energy": [("eV", 1.0, 5), ("kcal/mol", 1.0 / kcal, 4)],
        "forces": [("meV/Å", 1e3, 3), ("kcal/mol/Å", 1.0 / kcal, 3)],
    }.items():
        if f"{name}_mae" not in found:
            continue
        for k, (unit, factor, digits) in enumerate(rows):
            mae, rmse = (found[f"{name}_{kind}"] * factor for kind in ("mae", "rmse"))
            label = name if k == 0 else ""
            lines.append(
                f"  {label:<9}{unit:<15}{mae:>13.{digits}f}{rmse:>13.{digits}f}"
            )
    return "\n".join(lines)
