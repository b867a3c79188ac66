"""Frames: reading, splitting, checking and re-ordering them."""

from kforce.data.checks import Finding, Report, check_frames
from kforce.data.readers import read_frames, write_frames
from kforce.data.reorder import reorder_atoms
from kforce.data.splits import split, split_indices
from kforce.data.training import dataset_hash

__all__ = [
    "Finding",
    "Report",
    "check_frames",
    "dataset_hash",
    "read_frames",
    "reorder_atoms",
    "split",
    "split_indices",
    "write_frames",
]
