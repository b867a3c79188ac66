"""Classes that model files, YAML files and the command line know by name."""

from __future__ import annotations

import re
from collections.abc import Callable

from kforce.errors import InputError

_CLASSES: dict[str, type] = {}
_SHORT_NAMES: dict[str, type] = {}


def register(cls: type | None = None, *, short: str | None = None) -> type | Callable:
    """Make a class known by its name; a class decorator.

    A kernel, a descriptor, or any other estimator whose parameters say all; `short` is
    one more name that users may write. Raises `InputError` if the name belongs to
    another class.

    >>> from kforce.kernels import Matern52
    >>> registered("Matern52") is Matern52
    True
    """
    if cls is None:
        return lambda cls: register(cls, short=short)
    name, other = cls.__name__, _CLASSES.get(cls.__name__)
    if other is not None and _place(other) != _place(cls):
        raise InputError(
            f"The name {name} belongs to {_place(other)}: give {_place(cls)} another "
            "name."
        )
    _CLASSES[name] = cls
    if short is not None:
        _SHORT_NAMES[short] = cls
    return cls


def registered(name: str) -> type:
    """Return the class of a name; a KeyError says that there is none."""
    return _CLASSES[name]


def is_registered(cls: type) -> bool:
    """Return whether files know a class."""
    return _CLASSES.get(cls.__name__) is cls


def registered_names(base: type) -> dict[str, type]:
    """Return the subclasses of a base by the names that users write: ``two_body``."""
    names = {
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): cls
        for name, cls in _CLASSES.items()
    }
    names |= _SHORT_NAMES
    return {name: cls for name, cls in names.items() if issubclass(cls, base)}


def check_instance(name: str, value, base: type, expected: str) -> None:
    """Raise an error unless a value that a user gave is of a class of kforce."""
    if not isinstance(value, base):
        raise InputError(f"{name} must be {expected}, found {value!r}.")


def _place(cls):
    return f"{cls.__module__}.{cls.__qualname__}"
