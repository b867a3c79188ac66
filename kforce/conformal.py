"""Conformal intervals; moved to `kforce.evaluation.conformal`."""

from kforce.evaluation.conformal import *  # noqa: F403
