"""Fields of a model's file: none is believed before it has been looked at.

All functions raise `ValueError`, `TypeError` or `LookupError` for what cannot be, and
`load` makes one sentence of it.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping

import numpy as np

from kforce.data.training import Training


def read_number(value) -> float | None:
    """Return a finite number, or None for None."""
    if value is not None:
        value = float(value)
        if not math.isfinite(value):
            raise ValueError(f"{value} is no number")
    return value


def read_noise(value) -> float | None:
    """Return a positive finite number, or None for None."""
    value = read_number(value)
    if value is not None and not value > 0.0:
        raise ValueError(f"{value} is no standard deviation")
    return value


def check_evaluates(*values: np.ndarray) -> None:
    """Raise an error unless what a model gives at a point of its own is finite."""
    if not all(np.isfinite(value).all() for value in values):
        raise ValueError("the model predicts numbers that are not finite")


def check_scalar(
    arrays: Mapping[str, np.ndarray], name: str, kinds: str, known: Container
) -> None:
    """Raise an error unless a field is one of the values that are known."""
    value = arrays[name]
    if value.shape != () or value.dtype.kind not in kinds or value.item() not in known:
        raise ValueError(f"{name} is {value}, expected one of {list(known)}")


def read_array(
    arrays: Mapping[str, np.ndarray], name: str, shape: tuple, kinds: str
) -> np.ndarray:
    """Return an array of a shape, in which None stands for any length but 0.

    Numbers of the kind "f" are finite, contiguous and doubles.

    Examples
    --------
    >>> read_array({"x": np.ones(2)}, "x", (3,), "f")
    Traceback (most recent call last):
    ValueError: x has shape (2,) and type float64, expected (3,)
    """
    array = arrays[name]
    fits = array.ndim == len(shape) and all(
        wanted in (None, n) for wanted, n in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind not in kinds or array.size == 0:
        raise ValueError(
            f"{name} has shape {array.shape} and type {array.dtype}, expected "
            f"{tuple('any' if n is None else n for n in shape)}"
        )
    if kinds == "f":
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")
        array = np.ascontiguousarray(array, dtype=float)
    return array


def read_training(facts: Mapping | None) -> Training | None:
    """Return the description of a training set, or None for None."""
    if facts is None:
        return None
    each = tuple(map(str, facts.get("frames", ())))
    whole, versions = str(facts["hash"]), dict(facts["versions"])
    return Training(int(facts["n_frames"]), whole, versions, each)
