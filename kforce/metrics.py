"""Measures of errors; moved to `kforce.evaluation.metrics`."""

from kforce.evaluation.metrics import *  # noqa: F403
