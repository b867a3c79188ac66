"""Errors of predictions: arrays in, numbers out."""

from __future__ import annotations

import numpy as np


def mae(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean absolute error of the entries that have a reference.

    Examples
    --------
    >>> mae(np.array([1.0, 2.0]), np.array([1.5, np.nan]))
    0.5
    """
    return float(np.nanmean(np.abs(np.subtract(predicted, reference))))


def rmse(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Return the root mean square error of the entries that have a reference.

    Examples
    --------
    >>> rmse(np.array([1.0, 2.0]), np.array([4.0, 6.0])).__round__(3)
    3.536
    """
    return float(np.sqrt(np.nanmean(np.subtract(predicted, reference) ** 2)))


def r2(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Return the coefficient of determination over the entries with a reference.

    Examples
    --------
    >>> r2(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    1.0
    """
    has_reference = np.isfinite(reference)
    reference, predicted = reference[has_reference], predicted[has_reference]
    total = np.sum((reference - reference.mean()) ** 2)
    residual = np.sum((reference - predicted) ** 2)
    if total == 0.0:
        return 1.0 if residual == 0.0 else 0.0
    return float(1.0 - residual / total)
