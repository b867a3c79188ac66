"""What the observations leave open: posterior covariance, leave-one-out, storage."""

from kforce.uncertainty.leave_one_out import LeaveOneOut, leave_one_out_from_factor
from kforce.uncertainty.posterior import Uncertainty

__all__ = ["LeaveOneOut", "Uncertainty", "leave_one_out_from_factor"]
