"""Figures of predictions next to references, of their uncertainty and of learning.

Every function returns a `matplotlib.figure.Figure` of its own, with which
``figure.savefig("name.png")`` or a notebook can be served: no backend is chosen and no
global state of matplotlib is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from ase import Atoms

from kforce.errors import InputError
from kforce.evaluation.calibration import (
    central_levels,
    miscalibration_area,
    reliability,
)
from kforce.evaluation.learning_curve import LearningCurve
from kforce.labels import Labels
from kforce.storage.npz import replaced_file

# Okabe & Ito's colours, which colour-blind people can tell apart.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#7F7F7F"

_POINT = {"alpha": 0.5, "mew": 0, "ms": 5}

#: More points than this are counted in hexagons instead of drawn.
_MANY_POINTS = 2000


def parity_figure(prediction, frames: Sequence[Atoms]):
    """Draw predictions and their errors over the references.

    The prediction is what `evaluate` returns for the labelled frames: energies in eV,
    forces in eV/Å. Without matplotlib or labels there is an `InputError`.
    """
    shown = _compared(prediction, frames)
    figure = _figure(4.2 * len(shown), 5.4)
    axes = figure.subplots(
        2, len(shown), squeeze=False, sharex="col", height_ratios=(2.2, 1)
    )
    for (top, bottom), one in zip(axes.T, shown, strict=True):
        # An energy means something next to other energies only.
        origin = one.reference.mean() if one.name == "energy" else 0.0
        relative = " - mean" if one.name == "energy" else ""
        x = one.reference - origin
        top.plot(x, one.predicted - origin, ".", color=one.color, **_POINT)
        top.axline((0, 0), slope=1, color=_GREY, lw=1, zorder=0)
        top.set_ylabel(f"predicted {one.name}{relative} ({one.unit})")
        _cloud(figure, bottom, x, 1e3 * (one.predicted - one.reference), one.color)
        bottom.axhline(0, color=_GREY, lw=1, zorder=0)
        bottom.set_xlabel(f"reference {one.name}{relative} ({one.unit})")
        bottom.set_ylabel(f"error (m{one.unit})")
    return figure


def calibration_figure(prediction, frames: Sequence[Atoms]):
    """Draw the observed over the expected coverage of central intervals.

    As `parity_figure`, of a prediction with ``return_std=True``.
    """
    shown = _compared(prediction, frames, with_std=True)
    figure = _figure(4.6, 5.3)
    axes = figure.subplots()
    level = np.linspace(0, 100, 201)
    scatter = 1.96 * np.sqrt(level * (100 - level) / len(frames))
    axes.fill_between(
        level, level - scatter, level + scatter, color=_GREY, alpha=0.2, lw=0,
        label=f"95 % scatter of {len(frames)} structures",
    )  # fmt: skip
    axes.plot(level, level, color=_GREY, lw=1)
    for one in shown:
        levels = central_levels(one.residual, one.std)
        area = miscalibration_area(one.residual, one.std)
        observed = np.arange(len(levels) + 1) / len(levels)
        axes.step(
            100 * np.append(levels, 1.0), 100 * observed, where="pre",
            color=one.color, lw=1.8, label=f"{one.name}, area {area:.3f}",
        )  # fmt: skip
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.set_xlabel("expected coverage (%)")
    axes.set_ylabel("observed coverage (%)")
    figure.legend(loc="outside upper center", frameon=False)
    return figure


def error_figure(prediction, frames: Sequence[Atoms]):
    """Draw absolute errors over standard deviations; as `calibration_figure`."""
    shown = _compared(prediction, frames, with_std=True)
    figure = _figure(4.4 * len(shown), 4.2)
    for axes, one in zip(np.ravel(figure.subplots(1, len(shown))), shown, strict=True):
        std, error = 1e3 * one.std, 1e3 * np.abs(one.residual)
        # On logarithmic axes small errors go far down, and nobody looks for them.
        low, high = std.min() / 1.3, std.max() * 1.3
        floor, top = 0.03 * low, max(4.0 * high, 1.3 * error.max())
        seen = error > floor
        _cloud(figure, axes, std[seen], error[seen], one.color, "log")
        _make_logarithmic(axes)
        axes.set(xlim=(low, high), ylim=(floor, top))
        ends = np.array([low, high])
        axes.fill_between(
            ends, 0.0627 * ends, 1.96 * ends, color=_GREY, alpha=0.2, lw=0, zorder=0,
            label="90 % of the errors, if calibrated",
        )  # fmt: skip
        axes.plot(ends, ends, color=_GREY, lw=1, zorder=2)
        n_bins = int(np.clip(len(std) // 5, 1, 10))
        axes.plot(
            *reliability(error, std, n_bins), "o", color="black", mec="white", ms=6,
            zorder=3, label="root mean square error in bins of the std",
        )  # fmt: skip
        axes.set_xlabel(f"predicted std of the {one.name} (m{one.unit})")
        axes.set_ylabel(f"absolute error (m{one.unit})")
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", frameon=False)
    return figure


def learning_curve_figure(curve: LearningCurve):
    """Draw the test errors of a `LearningCurve` over its sizes."""
    shown = [("forces", "meV/Å", curve.forces_mae, curve.forces_rmse, _ORANGE)]
    if np.isfinite(curve.energy_mae).all():
        energy = ("energy", "meV", curve.energy_mae, curve.energy_rmse, _BLUE)
        shown.insert(0, energy)
    figure = _figure(4.2 * len(shown), 4.0)
    slope, error = curve.slope()
    for axes, (name, unit, mae, rmse, color) in zip(
        np.ravel(figure.subplots(1, len(shown))), shown, strict=True
    ):
        _make_logarithmic(axes)
        axes.plot(curve.sizes, 1e3 * rmse, "s--", color=color, ms=5, mfc="white")
        axes.plot(curve.sizes, 1e3 * mae, "o-", color=color, ms=5)
        axes.lines[0].set_label("RMSE")
        axes.lines[1].set_label("MAE")
        if name == "forces" and np.isfinite(slope):
            axes.lines[1].set_label(f"MAE, slope {slope:.2f} ± {error:.2f}")
        axes.set_xticks(curve.sizes, [str(size) for size in curve.sizes])
        axes.minorticks_off()
        axes.set_xlabel("training frames")
        axes.set_ylabel(f"error of the {name} ({unit})")
        axes.legend(frameon=False)
    return figure


@dataclass(frozen=True)
class _Compared:
    """Entries of one quantity that have a reference, flat."""

    name: str
    unit: str
    color: str
    predicted: np.ndarray
    reference: np.ndarray
    std: np.ndarray | None

    @property
    def residual(self):
        return self.reference - self.predicted


def _compared(prediction, frames, with_std=False):
    """Return the energies and forces that have a reference."""
    labels = Labels.from_frames(frames)
    compared = []
    for name, unit, color in (("energy", "eV", _BLUE), ("forces", "eV/Å", _ORANGE)):
        reference = np.concatenate([np.ravel(v) for v in getattr(labels, name)])
        has_reference = np.isfinite(reference)
        if not has_reference.any():
            continue
        columns = [name, f"{name}_std"] if with_std else [name]
        values = [getattr(prediction, column, None) for column in columns]
        if any(value is None for value in values):
            raise InputError(
                f"The prediction has no {columns[-1]}: evaluate the model with "
                "return_std=True."
            )
        flat = [np.concatenate([np.ravel(v) for v in value]) for value in values]
        flat = [values[has_reference] for values in flat]
        std = flat[1] if with_std else None
        compared.append(
            _Compared(name, unit, color, flat[0], reference[has_reference], std)
        )
    if not compared:
        raise InputError("The frames have neither energies nor forces to compare with.")
    return compared


def _figure(width, height):
    """Return an empty figure; sizes are in inches."""
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _make_logarithmic(axes):
    """Make both axes logarithmic, with plain numbers on them."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def _cloud(figure, axes, x, y, color, scale="linear"):
    """Draw points; where they are many, how many there are."""
    if len(x) <= _MANY_POINTS:
        axes.plot(x, y, ".", color=color, **_POINT)
        return
    counts = axes.hexbin(
        x, y, gridsize=50, mincnt=1, bins="log", cmap="cividis", lw=0.2,
        xscale=scale, yscale=scale,
    )  # fmt: skip
    figure.colorbar(counts, ax=axes, label="number", shrink=0.8)


def require_matplotlib() -> None:
    """Raise an `InputError` unless figures can be drawn."""
    if find_spec("matplotlib") is None:
        raise InputError(
            'Figures need matplotlib: install it with pip install "kforce[report]".'
        )


def write_figures(figures: Mapping) -> None:
    """Write figures by path as PNG, all or none.

    Files that exist are replaced, and a folder that does not exist is made in one that
    does.
    """
    # Drawing is what may fail, so no file is begun before all is drawn.
    drawn = {Path(path): _png(figure) for path, figure in figures.items()}
    made = []
    try:
        with ExitStack() as stack:
            for path, content in drawn.items():
                if not path.parent.exists():
                    path.parent.mkdir()
                    made.append(path.parent)
                stack.enter_context(replaced_file(path)).write_bytes(content)
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


def _png(figure) -> bytes:
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    return stream.getvalue()
