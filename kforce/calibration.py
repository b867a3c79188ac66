"""Measures of calibration; moved to `kforce.evaluation.calibration`."""

from kforce.evaluation.calibration import *  # noqa: F403
