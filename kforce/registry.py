"""Classes that model files, YAML files and the command line know by name."""

from __future__ import annotations

import re

_CLASSES: dict[str, type] = {}


def register(cls: type) -> type:
    """Make a class known by its name; a class decorator.

    Examples
    --------
    >>> from kforce.kernels import Kernel
    >>> @register
    ... class Cubic(Kernel):
    ...     pass
    >>> registered("Cubic") is Cubic
    True
    """
    _CLASSES[cls.__name__] = cls
    return cls


def registered(name: str) -> type:
    """Return the class of a name; a KeyError says that there is none."""
    return _CLASSES[name]


def registered_names(base: type) -> dict[str, type]:
    """Return the subclasses of a base by the names that users write: ``two_body``."""
    return {
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): cls
        for name, cls in _CLASSES.items()
        if issubclass(cls, base)
    }
