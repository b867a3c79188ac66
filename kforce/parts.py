"""Kernels and descriptors as JSON: a class name and parameters."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator

from kforce import kernels
from kforce.additive import Additive
from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.errors import InputError

#: Parts of a model that are written as a class name and its parameters.
_PARTS = {
    cls.__name__: cls
    for cls in (
        kernels.Matern32,
        kernels.Matern52,
        kernels.Matern72,
        kernels.RBF,
        kernels.RationalQuadratic,
        kernels.Scaled,
        Additive,
        InverseDistances,
        InternalCoordinates,
    )
}


def is_simple(value) -> bool:
    """Return whether JSON knows a value as it is."""
    return value is None or isinstance(value, str | bool | int | float)


def to_json(value):
    """Return a parameter as JSON knows it.

    Raises
    ------
    InputError
        If it is, or has, a part of a class that is not in kforce.
    """
    if isinstance(value, BaseEstimator):
        name = type(value).__name__
        if _PARTS.get(name) is not type(value):
            raise InputError(
                f"A model with {name}, which is not part of kforce, cannot be saved."
            )
        parts = value.get_params(deep=False)
        return {"class": name} | {key: to_json(part) for key, part in parts.items()}
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [to_json(part) for part in value]
    if not is_simple(value):
        raise InputError(f"A parameter of type {type(value).__name__} cannot be saved.")
    return value


def from_json(value):
    """Return what `to_json` wrote down.

    Raises
    ------
    LookupError, TypeError
        If it does not describe parts of kforce.
    """
    if not isinstance(value, dict):
        return value
    parts = dict(value)
    cls = _PARTS[parts.pop("class")]
    return cls(**{key: from_json(part) for key, part in parts.items()})
