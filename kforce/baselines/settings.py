"""Calculators by name and settings: what a cache or a file can say of them."""

from __future__ import annotations

import inspect
import json
import logging
import math
import sys
from importlib import import_module, metadata

import numpy as np

from kforce.storage.codec import NotRestorableError

log = logging.getLogger("kforce.baseline")

#: Calculators that a file may build, and what to install for them. Files come from
#: strangers, and other calculators of ASE run shell commands or read files that their
#: settings name; these compute within the process from plain numbers.
RESTORABLE = {
    "tblite.ase:TBLite": "kforce[baseline]",
    "ase.calculators.emt:EMT": "ase",
    "ase.calculators.lj:LennardJones": "ase",
    "kforce.baselines.zbl:ZBL": "kforce",
}

# Arguments of ASE's own constructor: they name files or a structure, no settings.
_NO_SETTINGS = {"self", "atoms", "restart", "label", "directory"}
_NO_SETTINGS |= {"ignore_bad_restart_file"}


def name_of(calculator) -> str:
    """Return module and class of a calculator, as 'ase.calculators.emt:EMT'."""
    cls = type(calculator)
    return f"{cls.__module__}:{cls.__qualname__}"


def version_of(name: str) -> str:
    """Return the version of the package of a calculator; '' where it is not known."""
    package = name.partition(":")[0].partition(".")[0]
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(package), "__version__", ""))


def settings_of(calculator) -> dict | None:
    """Return all settings of a calculator for JSON, None if they do not describe it.

    They describe it if each argument of the constructor is found again in
    ``parameters``, and all are plain values. Attributes that were changed afterwards
    are not seen.
    """
    parameters = getattr(calculator, "parameters", None)
    if not isinstance(parameters, dict):
        return None
    try:
        arguments = inspect.signature(type(calculator).__init__).parameters.values()
        settings = _encode(dict(parameters))
    except (TypeError, ValueError):  # compiled classes can lack a signature
        return None
    named = {a.name for a in arguments if a.kind is not a.VAR_KEYWORD}
    return settings if named - _NO_SETTINGS <= settings.keys() else None


def identity_of(calculator) -> str | None:
    """Return a text that stands for all results of a calculator, or None.

    Name, settings and version of the package. A class of a script or a function has no
    name that would mean the same tomorrow.
    """
    name, settings = name_of(calculator), settings_of(calculator)
    if settings is None or name.startswith("__main__:") or "<locals>" in name:
        return None
    parts = {"calculator": name, "settings": settings, "version": version_of(name)}
    return json.dumps(parts, sort_keys=True)


def rebuild(name: str, settings: dict | None, saved: str = ""):
    """Return a new calculator of a name and settings, if that is safe and possible.

    `saved` is the version of its package that the settings are of, if that is known. A
    NotRestorableError is raised if the calculator is none that a file may build, its
    package is missing, or the installed version does not know a setting.
    """
    if name not in RESTORABLE or settings is None:
        raise NotRestorableError(
            f"The baseline {name} cannot be built from a file: give it when loading, "
            "kforce.load(path, baseline=your_calculator)."
        )
    module, _, cls = name.partition(":")
    try:
        cls = getattr(import_module(module), cls)
    except ImportError as error:
        raise NotRestorableError(
            f"The baseline {name} cannot be imported ({error}): install it, pip "
            f'install "{RESTORABLE[name]}".'
        ) from None
    settings = {key: _decode(value) for key, value in settings.items()}
    installed = version_of(name)
    unknown = sorted(settings.keys() - cls.default_parameters.keys())
    if unknown:
        raise NotRestorableError(
            f"The baseline {name} of version {installed} has no setting {unknown[0]!r}:"
            f" install version {saved or 'that it comes from'}, or give a calculator, "
            "kforce.load(path, baseline=your_calculator)."
        )
    if saved and saved != installed:
        log.warning("%s was of version %s, found version %s", name, saved, installed)
    return cls(**settings)


def _encode(value):
    """Return plain values for JSON; an array stays one; TypeError for all else."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"__array__": _encode(value.tolist())}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return [_encode(part) for part in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _encode(part) for key, part in value.items()}
    finite = not isinstance(value, float) or math.isfinite(value)
    if value is None or (isinstance(value, str | bool | int | float) and finite):
        return value
    raise TypeError(f"{type(value).__name__} is no plain value")


def _decode(value):
    if isinstance(value, list):
        return [_decode(part) for part in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"__array__"}:
        return np.array(value["__array__"])
    return {key: _decode(part) for key, part in value.items()}
