"""Figures of how good a model is; they need matplotlib."""

from kforce.report.plots import (
    calibration_figure,
    error_figure,
    learning_curve_figure,
    parity_figure,
)
from kforce.report.writing import require_matplotlib, write_figures

__all__ = [
    "calibration_figure",
    "error_figure",
    "learning_curve_figure",
    "parity_figure",
    "require_matplotlib",
    "write_figures",
]
