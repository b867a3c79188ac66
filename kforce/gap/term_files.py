"""Terms of a sparse local model from YAML files."""

from __future__ import annotations

import inspect
import os
import reprlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ase.data import atomic_numbers

from kforce import kernels
from kforce.descriptors.local_checks import check_parameters, n_features
from kforce.descriptors.soap.soap import SOAP
from kforce.descriptors.three_body import ThreeBody
from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError
from kforce.gap.term import Term
from kforce.kernels.dot_product import Polynomial

_DESCRIPTORS = {"two_body": TwoBody, "three_body": ThreeBody, "soap": SOAP}

_KERNELS = {
    "rbf": kernels.RBF,
    "matern32": kernels.Matern32,
    "matern52": kernels.Matern52,
    "matern72": kernels.Matern72,
    "polynomial": Polynomial,
}

#: What a term is made of beside its descriptor.
_OF_TERM = ("n_inducing", "length_scales", "selection", "stratify", "constant")
_OF_KERNEL = ("kernel", "zeta", "amplitude")

#: Keys whose values are elements, are words, or are true or false; all others are
#: numbers.
_ELEMENTS = ("species", "centre")
_WORDS = ("descriptor", "kernel", "selection", "radial_basis")
_FLAGS = (
    "stratify",
    "normalise",
    "central_everywhere",
    "diagonal_radial",
    "legacy_factor",
)

#: Numbers beyond it are slips, and whole ones would not fit into an array.
_LARGEST = 1e15

#: Keys that may hold several numbers.
_LISTS = ("length_scales", "exponents", "tail", "damping")


def read_terms(path: str | os.PathLike) -> list[Term]:
    """Read the terms of a `GAPRegressor` from a YAML file.

    The file is a list. Each entry names its ``descriptor``, ``two_body``,
    ``three_body`` or ``soap``, with the parameters of `TwoBody`, `ThreeBody` or `SOAP`
    (elements by symbol) and of `Term`, and its ``kernel``: ``rbf``, ``matern32``,
    ``matern52``, ``matern72`` or ``polynomial`` with ``zeta``. An ``amplitude`` in eV
    that is left out is learned, as are ``length_scales``.

    Parameters
    ----------
    path : path-like
        The file.

    Raises
    ------
    InputError
        If it is no such file; for wrong entries and keys it names them.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> text = "- {descriptor: two_body, cutoff: 4.0, n_inducing: 15, species: [C, H]}"
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "terms.yaml"
    ...     _ = path.write_text(text)
    ...     read_terms(path)
    [Term(descriptor=TwoBody(cutoff=4.0, species=(6, 1)), n_inducing=15)]
    """
    entries = _entries(path)
    terms = []
    for number, entry in enumerate(entries, 1):
        where = f"{path}, entry {number}"
        if not isinstance(entry, Mapping):
            raise InputError(
                f"{where}: expected keys and values such as 'descriptor: two_body', "
                f"found {_short(entry)}."
            )
        if entry.get("descriptor") in (*_DESCRIPTORS,):
            where += f" ({entry['descriptor']})"
        try:
            terms.append(_term(entry))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    return terms


def _entries(path):
    import yaml

    path = Path(path)
    if not path.is_file():
        raise InputError(f"Expected a YAML file with terms, but there is no {path}.")
    try:
        entries = _load(path.read_text(encoding="utf-8"), path)
    except InputError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise InputError(
            f"Expected a YAML file with terms, but {path} is not YAML{place}: check "
            "its indentation, colons and dashes."
        ) from None
    except OSError as error:
        raise InputError(f"Could not read {path}: {error.strerror or error}.") from None
    if not isinstance(entries, list) or not entries:
        raise InputError(
            f"Expected a list of terms in {path}, each an entry that starts with "
            f"'- descriptor: ...', found {_short(entries)}."
        )
    return entries


def _load(text, path):
    """Return what YAML says, once no key stands twice: YAML itself takes the last."""
    import yaml

    def name(key):
        return (key.tag, key.value) if key.id == "scalar" else id(key)

    class Loader(yaml.SafeLoader):
        def flatten_mapping(self, node):
            once = set()
            for key, _ in node.value:
                if name(key) in once:
                    raise InputError(
                        f"{path}, line {key.start_mark.line + 1}: the key "
                        f"{key.value!r} stands twice in one entry: remove one."
                    )
                once.add(name(key))
            super().flatten_mapping(node)
            # Merges of merges of aliases could fill the memory.
            node.value = list({name(pair[0]): pair for pair in node.value}.values())

    return yaml.load(text, Loader)


def _term(entry):
    cls = _DESCRIPTORS[_one_of(_DESCRIPTORS, "descriptor", entry.get("descriptor"))]
    parameters = inspect.signature(cls).parameters
    known = (*parameters, *_OF_TERM, *_OF_KERNEL)
    for key in entry:
        if key not in ("descriptor", *known):
            raise InputError(
                f"unknown key {key!r}; known are descriptor, {', '.join(known)}."
            )
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in entry:
            raise InputError(f"the key {key!r} is missing.")
    values = {key: _value(key, value) for key, value in entry.items()}
    descriptor = cls(**{key: values[key] for key in values if key in parameters})
    check_parameters(descriptor)
    of_term = {key: values[key] for key in _OF_TERM if key in values}
    term = Term(descriptor, _kernel(values, descriptor), **of_term)
    term.check()
    _check_length_scales(term)
    return term


def _kernel(values, descriptor):
    """Return the kernel, None where nothing is said about it."""
    if not any(key in values for key in _OF_KERNEL):
        return None
    usual = "polynomial" if isinstance(descriptor, SOAP) else "rbf"
    name = _one_of(_KERNELS, "kernel", values.get("kernel", usual))
    if name == "polynomial":
        kernel = Polynomial(zeta=values.get("zeta", 4))
        kernel(0.0)  # raises where zeta makes no sense
    elif "zeta" in values:
        raise InputError(f"zeta belongs to 'kernel: polynomial', found {name!r}.")
    else:
        kernel = _KERNELS[name]()
    if "amplitude" not in values:
        return kernel
    amplitude = values["amplitude"]
    if not amplitude > 0.0:
        raise InputError(
            f"amplitude must be a positive number in eV, found {amplitude!r}."
        )
    return kernels.Scaled(kernel, amplitude=float(amplitude))


def _check_length_scales(term):
    if term.length_scales is None:
        return
    soap = isinstance(term.descriptor, SOAP)
    if (term.kernel is None and soap) or getattr(term.kernel, "is_product", False):
        raise InputError("length_scales do not belong to 'kernel: polynomial'.")
    if isinstance(term.length_scales, tuple):
        found = len(term.length_scales)
        if soap or found != n_features(term.descriptor):
            expected = "" if soap else f", or {n_features(term.descriptor)} of them"
            raise InputError(
                f"length_scales must be one number{expected}, found {found} numbers."
            )


def _value(key, value):
    """Return a value as the parameters of terms and descriptors take it."""
    if key in _WORDS:
        if not isinstance(value, str):
            raise InputError(f"{key} must be a word, found {_short(value)}.")
        return value
    if key in _FLAGS:
        if not isinstance(value, bool):
            raise InputError(f"{key} must be true or false, found {_short(value)}.")
        return value
    one = _element if key in _ELEMENTS else _number
    if isinstance(value, list) and key in _LISTS + _ELEMENTS:
        return tuple(one(key, part) for part in value)
    return one(key, value)


def _number(key, value):
    if isinstance(value, str):  # YAML takes 1e-3 for a text, as it has no point
        with suppress(ValueError):
            value = float(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < float("inf"):
        raise InputError(f"{key} must be a number, found {_short(value)}.")
    if abs(value) > _LARGEST:
        raise InputError(
            f"{key} must be at most {_LARGEST:g} in size, found {_short(value)}."
        )
    return value


def _element(key, value):
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and atomic_numbers.get(value):
        return atomic_numbers[value]
    raise InputError(
        f"{key} must be given as symbols of elements, such as Si, found "
        f"{_short(value)}."
    )


def _one_of(known, key, found):
    if not isinstance(found, str) or found not in known:
        what = "is missing" if found is None else f"is {_short(found)}"
        raise InputError(f"the key {key!r} {what}; choose one of {', '.join(known)}.")
    return found


def _short(value):
    # The whole text of aliases of aliases could fill the memory.
    text = "nothing" if value is None else " ".join(reprlib.repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
