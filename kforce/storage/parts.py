"""Kernels, descriptors and terms as JSON: a class name and parameters."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator

from kforce.errors import InputError
from kforce.registry import is_registered, registered

#: Names of classes in files of version 0.1, where they have changed.
_NEW_NAMES = {"Additive": "Sum"}


def is_simple(value) -> bool:
    """Return whether JSON knows a value as it is."""
    return value is None or isinstance(value, str | bool | int | float)


def to_json(value):
    """Return a parameter as JSON knows it.

    Parts, tuples and dictionaries become objects that say what they are; arrays become
    lists.

    Raises
    ------
    InputError
        If it is, or has, a part of a class that is not registered.

    Examples
    --------
    >>> to_json({"pair": (6, 1)})
    {'items': [['pair', {'tuple': [6, 1]}]]}
    """
    if isinstance(value, BaseEstimator):
        name = type(value).__name__
        if not is_registered(type(value)):
            raise InputError(
                f"A model with {name}, which is not part of kforce, cannot be saved: "
                "make it known, with @kforce.registry.register above its class."
            )
        parts = value.get_params(deep=False)
        return {"class": name} | {key: to_json(part) for key, part in parts.items()}
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, tuple):
        return {"tuple": [to_json(part) for part in value]}
    if isinstance(value, list):
        return [to_json(part) for part in value]
    if isinstance(value, dict):  # JSON itself has texts as keys only
        return {"items": [[to_json(part) for part in item] for item in value.items()]}
    if not is_simple(value):
        raise InputError(f"A parameter of type {type(value).__name__} cannot be saved.")
    return value


def from_json(value):
    """Return what `to_json` wrote down.

    Raises
    ------
    LookupError, TypeError, ValueError
        If it does not describe parts of kforce.

    Examples
    --------
    >>> from_json({"items": [["pair", {"tuple": [6, 1]}]]})
    {'pair': (6, 1)}
    """
    if isinstance(value, list):
        return [from_json(part) for part in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(from_json(value["tuple"]))
    if "items" in value:
        return dict(from_json(value["items"]))
    parts = dict(value)
    name = parts.pop("class")
    cls = registered(_NEW_NAMES.get(name, name))
    return cls(**{key: from_json(part) for key, part in parts.items()})
