"""Calculators of ASE as members of a baseline, and what name and settings say."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import math
import sys
import threading
from contextlib import nullcontext, suppress
from dataclasses import replace
from importlib import import_module, metadata

import numpy as np
from ase.calculators.calculator import PropertyNotImplementedError
from threadpoolctl import ThreadpoolController

from kforce.baselines.cache import ResultCache
from kforce.errors import InputError, one_line
from kforce.prediction import Prediction
from kforce.progress import progress_bar
from kforce.registry import register
from kforce.storage.codec import NotRestorableError

log = logging.getLogger("kforce.baseline")

# Two computations of one structure differ by less, in eV/Å (rms) and eV per atom. The
# forces of GFN2-xTB vary by up to 3e-4 eV/Å with the start of the self-consistency,
# other versions and settings by far more.
MAX_FORCE_CHANGE = 1e-3
MAX_ENERGY_CHANGE = 1e-5

# Up to about so many atoms, threads within one calculation of tblite gain little, and
# where the processors are shared they cost factors of 100.
MAX_SERIAL_ATOMS = 100

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


@register
class CalculatorMember:
    """A calculator of ASE, copied for each thread."""

    def __init__(self, calculator):
        self.name = type(calculator).__name__
        self._pristine = _copy(calculator)
        self._local = threading.local()

    def __getstate__(self):
        # What a calculator holds after use often cannot be copied: that stays here.
        return {k: v for k, v in vars(self).items() if k != "_local"}

    def __setstate__(self, state):
        vars(self).update(state, _local=threading.local())

    def to_fields(self, with_factor=None):
        """Return name, settings (None if they say too little) and version."""
        name = name_of(self._pristine)
        settings = settings_of(self._pristine)
        return {"calculator": name, "settings": settings, "version": version_of(name)}

    @classmethod
    def from_fields(cls, calculator, settings, version):
        """Return the member that a file describes, see `rebuild`."""
        return cls(rebuild(calculator, settings, version))

    @property
    def has_stress(self):
        """Whether stresses can be asked for."""
        return "stress" in self._pristine.implemented_properties

    def evaluate(self, frames, properties, return_std=False):
        """Return the `Prediction` of a list of structures."""
        parts = []
        with progress_bar(len(frames), f"baseline {self.name}") as advance:
            for s, atoms in enumerate(frames):
                parts.append(self._predict(atoms, f"frame {s}", properties, return_std))
                advance(1)
        return Prediction.joined(parts)

    def evaluate_one(self, atoms, properties, return_std=False):
        """Return the `Prediction` of one structure."""
        return self._predict(atoms, "this structure", properties, return_std)

    def _predict(self, atoms, where, properties, return_std):
        """Return the `Prediction` of one structure; nothing of it is uncertain."""
        energy, forces = self._compute(atoms, where, "forces" in properties)
        stress = self._stress(atoms, where)[None] if "stress" in properties else None
        prediction = Prediction(
            np.array([energy]), None if forces is None else [forces], stress
        )
        if not return_std:
            return prediction
        return replace(
            prediction,
            energy_epistemic=np.zeros(1),
            forces_epistemic=None if forces is None else [np.zeros_like(forces)],
        )

    def evaluate_training(self, frames):
        """Return energies and forces as a `Prediction`: from the disk, and checked."""
        cache = ResultCache(identity_of(self._pristine))
        results = [cache.get(atoms) for atoms in frames]
        try:
            self._check_reproducible(results, frames, cache)
            self._fill(results, frames, cache)
        finally:
            cache.save()  # what was computed before a failure, too
        energy, forces = zip(*results, strict=True)
        return Prediction(np.array(energy), list(forces))

    def _fill(self, results, frames, cache):
        """Compute what is None in `results`, and keep it."""
        missing = [s for s, result in enumerate(results) if result is None]
        with progress_bar(len(missing), f"baseline {self.name}") as advance:
            for s in missing:
                results[s] = self._compute(frames[s], f"frame {s}")
                cache.put(frames[s], *results[s])
                advance(1)

    def _check_reproducible(self, results, frames, cache):
        """Compute one frame once more than needed, a known one if there is any."""
        s = next((k for k, known in enumerate(results) if known is not None), 0)
        first = results[s]
        if first is None:
            first = self._compute(frames[s], f"frame {s}")
            self._calculator().results.clear()  # or ASE gives the same numbers again
        energy, forces = self._compute(frames[s], f"frame {s}")
        energy_change = abs(energy - first[0])
        force_change = np.sqrt(np.mean((forces - first[1]) ** 2))
        same_energy = energy_change < MAX_ENERGY_CHANGE * len(frames[s])
        if same_energy and force_change < MAX_FORCE_CHANGE:
            if results[s] is None:
                results[s] = first
                cache.put(frames[s], *first)
            return
        found = (
            f"Expected the same result whenever the baseline {self.name} computes frame"
            f" {s}, found energies that differ by {energy_change:.2g} eV and forces by "
            f"{force_change:.2g} eV/Å (rms)"
        )
        if results[s] is None:
            raise InputError(
                f"{found}: it is not reproducible. Converge it tighter, or fix its "
                "random seeds."
            )
        raise InputError(
            f"{found}: the results kept in {cache.path} come from another version, or "
            "it is not reproducible. Delete that file to compute all anew."
        )

    def _compute(self, atoms, where, with_forces=True):
        names = ("forces", "energy") if with_forces else ("energy",)
        *forces, energy = self._results(atoms, where, names)
        forces = forces[0] if forces else None
        found = _fault(energy, forces, len(atoms))
        if found:
            self._forget()
            raise InputError(
                f"Expected from the baseline {self.name} at {where} a finite energy and"
                f" finite forces of shape ({len(atoms)}, 3), found {found}: remove that"
                " structure, or choose another baseline."
            )
        return float(energy.item()), forces

    def _stress(self, atoms, where):
        if not atoms.pbc.all():
            return np.full(6, np.nan)
        (stress,) = self._results(atoms, where, ("stress",))
        if stress.shape == (6,) and np.isfinite(stress).all():
            return stress
        self._forget()
        raise InputError(
            f"Expected from the baseline {self.name} at {where} six finite components "
            f"of the stress, found {stress}: remove that structure, or choose another "
            "baseline."
        )

    def _results(self, atoms, where, names):
        """Return results as arrays; most codes give the energy along with forces."""
        calculator = self._calculator()
        try:
            with self._few_threads(atoms):
                return [
                    np.array(calculator.get_property(name, atoms), dtype=float)
                    for name in names
                ]
        except PropertyNotImplementedError as error:
            raise InputError(
                f"Expected {' and '.join(sorted(names))} from the baseline {self.name},"
                f" found that it lacks {'it' if len(names) == 1 else 'one of them'} "
                f"({error}): choose another one."
            ) from error
        # Programs of others fail in all ways.
        except Exception as error:
            self._forget()
            reason = one_line(f"{type(error).__name__}: {error}")
            raise InputError(
                f"The baseline {self.name} failed at {where} ({reason}): remove that "
                "structure, or change the settings of the baseline."
            ) from error

    def _forget(self):
        """Keep the next structure from starting at what a failure left behind."""
        vars(self._local).clear()

    def _calculator(self):
        """Return the calculator of this thread."""
        if not hasattr(self._local, "calculator"):
            self._local.calculator = _copy(self._pristine)
            self._local.threads = ThreadpoolController()  # sees what is loaded by now
        return self._local.calculator

    def _few_threads(self, atoms):
        is_tblite = type(self._pristine).__module__.startswith("tblite.")
        if not is_tblite or len(atoms) > MAX_SERIAL_ATOMS:
            return nullcontext()
        return self._local.threads.limit(limits=1, user_api="openmp")


def _copy(calculator):
    """Return a copy, or the calculator itself if it can be neither copied nor rebuilt.

    One that holds handles of a library after use cannot be copied.
    """
    with suppress(Exception):
        return copy.deepcopy(calculator)
    if settings_of(calculator) is not None:
        with suppress(Exception):
            return type(calculator)(**calculator.parameters)
    return calculator


def _fault(energy, forces, n_atoms):
    if energy.size != 1:
        return f"an energy of shape {energy.shape}"
    if forces is not None and forces.shape != (n_atoms, 3):
        return f"forces of shape {forces.shape}"
    finite = np.isfinite(energy).all() and (forces is None or np.isfinite(forces).all())
    return None if finite else "NaN or infinity"


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
