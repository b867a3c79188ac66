"""Objects as one JSON tree and named arrays, and back: the only way into a file.

A tree holds None, numbers and text as they are. An array is ``{"array": name}``, a
tuple ``{"tuple": [...]}``, a dictionary ``{"items": [[key, value], ...]}``, and an
object of a registered class ``{"class": name, field: ...}``. What the fields are stands
at the class:

* of a dataclass, its fields;
* of an estimator, its parameters and the fitted attributes (with an underscore at the
  end) that the class annotates, as in ``noise_forces_: float | None``;
* of any class with the methods ``to_fields(with_factor) -> dict`` and ``from_fields``,
  a classmethod with one keyword for each field, what these say.

Files come from strangers. No class but registered ones is ever made, no field may be
missing or unknown, values are of the annotated types, numbers are finite, and a class
says in ``from_fields``, or in a method ``check_stored``, what else has to hold. What is
wrong raises one of `DAMAGE`, of which `kforce.load` makes one sentence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from sklearn.base import BaseEstimator

from kforce.errors import InputError, one_line
from kforce.registry import is_registered, registered

#: What wrong values in a file can lead to.
DAMAGE = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
)  # fmt: skip

#: Numbers beyond it come from damage, and their squares would overflow.
LARGEST_NUMBER = 1e100

#: Types of arrays: booleans, whole numbers and real ones.
_DTYPES = {"b": np.bool_, "i": np.int64, "u": np.int64, "f": np.float64}


class NotRestorableError(InputError):
    """A file is intact, but what it describes cannot be built here."""


def encode(value, with_factor: bool | None = None) -> tuple[Any, dict[str, np.ndarray]]:
    """Return a value as a tree for JSON, and the arrays that it refers to.

    `with_factor` is for the classes that may leave something large out. An InputError
    says if something in it is not of kforce.

    Examples
    --------
    >>> encode({"pair": (6, 1)})
    ({'items': [['pair', {'tuple': [6, 1]}]]}, {})
    >>> from kforce import Matern52
    >>> encode(Matern52(length_scale=2.0))[0]
    {'class': 'Matern52', 'length_scale': 2.0}
    """
    arrays = {}
    return _written(value, "", arrays, with_factor), arrays


def _written(value, place, arrays, with_factor):
    """Return the tree of a value; its arrays are named by their places in the whole."""

    def inner(part, key):
        name = f"{place}.{key}" if place else str(key)
        return _written(part, name, arrays, with_factor)

    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"A model with {place} = {value} cannot be saved.")
        return value
    if isinstance(value, np.ndarray):
        while place in arrays:  # as of {1: x, "1": y}
            place += "'"
        arrays[place] = value
        return {"array": place}
    if isinstance(value, list | tuple):
        parts = [inner(part, k) for k, part in enumerate(value)]
        return parts if isinstance(value, list) else {"tuple": parts}
    if isinstance(value, dict):  # JSON itself has texts as keys only
        pairs = [[inner(key, "key"), inner(part, key)] for key, part in value.items()]
        return {"items": pairs}
    name = type(value).__name__
    if not is_registered(type(value)):
        raise InputError(
            f"A model with {name}, which is not part of kforce, cannot be saved: make "
            "it known, with @kforce.registry.register above its class."
        )
    if hasattr(value, "to_fields"):
        fields = value.to_fields(with_factor)
    else:
        fields = stored_attributes(value)
    return {"class": name} | {key: inner(part, key) for key, part in fields.items()}


def stored_attributes(value) -> dict[str, Any]:
    """Return the stored attributes by name; a fitted one that is not set is None."""
    return {
        name: getattr(value, name, None) if name.endswith("_") else getattr(value, name)
        for name in _stored_types(type(value))
    }


@cache
def _stored_types(cls) -> dict[str, Any]:
    """Return the types of the fields of a dataclass or an estimator."""
    types = get_type_hints(cls)
    if is_dataclass(cls):
        return {field.name: types[field.name] for field in dataclass_fields(cls)}
    if not issubclass(cls, BaseEstimator):
        raise TypeError(f"{cls.__name__} does not say what its fields are")
    fitted = {name: known for name, known in types.items() if name.endswith("_")}
    return dict.fromkeys(cls._get_param_names(), Any) | fitted


def decode(tree, arrays: Mapping[str, np.ndarray]):
    """Return the value that `encode` has written down.

    One of `DAMAGE` is raised if the tree describes nothing that could have been
    written, or not all of the arrays.
    """
    used = set()
    value = _read(tree, arrays, used)
    if lost := sorted(arrays.keys() - used):
        raise ValueError(f"nothing in it refers to {lost[0]}")
    return value


def _read(tree, arrays, used):
    def inner(part):
        return _read(part, arrays, used)

    if isinstance(tree, list):
        return [inner(part) for part in tree]
    if not isinstance(tree, dict):
        if isinstance(tree, Real) and not abs(tree) < LARGEST_NUMBER:
            raise ValueError(f"{_short(tree)} is no number of a model")
        return tree
    if tree.keys() == {"array"}:
        used.add(tree["array"])
        return _numbers(tree["array"], arrays[tree["array"]])
    if tree.keys() == {"tuple"}:
        return tuple(map(inner, _listed(tree["tuple"])))
    if tree.keys() == {"items"}:
        return {inner(key): inner(part) for key, part in _listed(tree["items"])}
    fields = {key: inner(part) for key, part in tree.items()}
    name = fields.pop("class")
    try:
        cls = registered(name)
    except KeyError:
        raise TypeError(f"{_short(name)} is no class of kforce") from None
    if hasattr(cls, "from_fields"):
        return cls.from_fields(**fields)
    value = build(cls, fields)
    if hasattr(value, "check_stored"):
        value.check_stored()
    return value


def _listed(parts):
    if not isinstance(parts, list):
        raise TypeError(f"expected a list, found {type(parts).__name__}")
    return parts


def _numbers(name, array):
    """Return an array in rows of doubles, whole numbers or booleans."""
    kind = array.dtype.kind
    if kind not in _DTYPES:
        raise TypeError(f"{name} has the type {array.dtype}, expected numbers")
    if kind == "u" and array.max(initial=0) > np.iinfo(np.int64).max:
        raise ValueError(f"{name} holds numbers that are too large")
    array = np.asarray(array, dtype=_DTYPES[kind], order="C")
    largest = max(-array.min(), array.max()) if kind == "f" and array.size else 0.0
    if not largest < LARGEST_NUMBER:
        raise ValueError(f"{name} holds values that are not finite")
    return array


def build(cls: type, fields: Mapping[str, Any]):
    """Make an object of its stored attributes.

    A TypeError names the first that is missing, unknown or of another type.
    """
    types = _stored_types(cls)
    if different := sorted(types.keys() ^ fields.keys()):
        what = "lacks" if different[0] in types else "does not know"
        raise TypeError(f"{cls.__name__} {what} {different[0]}")
    for name, value in fields.items():
        if not _is_of(value, types[name]):
            raise TypeError(f"{cls.__name__} has {name} = {_short(value)}")
    if is_dataclass(cls):
        return cls(**fields)
    parameters = {k: v for k, v in fields.items() if not k.endswith("_")}
    value = cls(**parameters)
    for name in fields.keys() - parameters.keys():
        setattr(value, name, fields[name])
    return value


def _is_of(value, known) -> bool:
    """Whether a value is of an annotated type."""
    origin, inner = get_origin(known), get_args(known)
    if known is Any:
        return True
    if origin in (Union, UnionType):
        return any(_is_of(value, one) for one in inner)
    if origin is tuple and inner[-1] is not ...:
        fits = isinstance(value, tuple) and len(value) == len(inner)
        return fits and all(map(_is_of, value, inner))
    if origin in (list, tuple, Sequence):
        return isinstance(value, origin) and all(_is_of(v, inner[0]) for v in value)
    if origin in (dict, Mapping):
        pairs = value.items() if isinstance(value, dict) else [(None, None)]
        return all(_is_of(k, inner[0]) and _is_of(v, inner[1]) for k, v in pairs)
    if known in (int, float):
        number = Real if known is float else Integral
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, known)


def _short(value):
    return one_line(repr(value), 60)


def check_array(
    name: str, array: np.ndarray, shape: tuple[int | None, ...], kind: str = "f"
) -> None:
    """Raise an error unless an array has a type and a shape.

    None in the shape stands for any length but 0; the kinds of whole numbers, booleans
    and real numbers are "i", "b" and "f".
    """
    fits = array.ndim == len(shape) and all(
        wanted in (None, n) for wanted, n in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind != kind or array.size == 0:
        wanted = tuple("any" if n is None else n for n in shape)
        raise ValueError(
            f"{name} has shape {array.shape} and type {array.dtype}, expected {wanted}"
        )


def check_evaluates(*values: np.ndarray) -> None:
    """Raise an error unless what a model gives at a point of its own is finite."""
    if not all(np.isfinite(value).all() for value in values):
        raise ValueError("the model predicts numbers that are not finite")
