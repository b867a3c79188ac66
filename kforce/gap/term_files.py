"""Terms of a sparse local model from YAML files."""

from __future__ import annotations

import inspect
import os
import reprlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ase.data import atomic_numbers

from kforce.descriptors.local import LocalDescriptor
from kforce.errors import InputError
from kforce.gap.term import Term
from kforce.kernels.base import Kernel, Scaled
from kforce.registry import registered_names

#: What a term is made of beside its descriptor and kernel.
_OF_TERM = ("n_inducing", "length_scales", "selection", "stratify", "constant")

#: Keys that say something about the kernel, with its parameters; length scales are
#: those of the term.
_OF_KERNEL = ("kernel", "amplitude")
_NOT_OF_KERNEL = ("length_scale", "n_features")

#: Keys whose values are elements, or are true or false. All others are words, true or
#: false, or numbers as their defaults are.
_ELEMENTS = ("species", "centre")
_FLAGS = ("stratify", "central_everywhere")
_WORDS = ("descriptor", "kernel", "selection")

#: Numbers beyond it are slips, and whole ones would not fit into an array.
_LARGEST = 1e15

#: Keys that may hold several numbers, beside those whose defaults do.
_LISTS = ("length_scales", "tail", "damping")


def read_terms(path: str | os.PathLike) -> list[Term]:
    """Read the terms of a `GAPRegressor` from a YAML file.

    The file is a list. Each entry names its ``descriptor``, such as ``two_body``,
    ``three_body`` or ``soap``, with the parameters of `TwoBody`, `ThreeBody` or `SOAP`
    (elements by symbol) and of `Term`, and its ``kernel``, such as ``rbf``,
    ``matern52`` or ``polynomial`` with ``zeta``. An ``amplitude`` in eV that is left
    out is learned, as are ``length_scales``. All descriptors and kernels that are
    registered have a name. Raises `InputError`, which names wrong entries and keys.

    >>> from tempfile import TemporaryDirectory
    >>> text = "- {descriptor: two_body, cutoff: 4.0, n_inducing: 15, species: [C, H]}"
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "terms.yaml"
    ...     _ = path.write_text(text)
    ...     read_terms(path)
    [Term(descriptor=TwoBody(cutoff=4.0, species=(6, 1)), n_inducing=15)]
    """
    terms = []
    for number, entry in enumerate(_entries(path), 1):
        where = f"{path}, entry {number}"
        if not isinstance(entry, Mapping):
            raise InputError(
                f"{where}: expected keys and values such as 'descriptor: two_body', "
                f"found {_short(entry)}."
            )
        if entry.get("descriptor") in [*descriptor_names()]:
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


def descriptor_names() -> dict[str, type]:
    """Return the descriptors by the names that users write: not those of others."""
    return {
        name: cls
        for name, cls in registered_names(LocalDescriptor).items()
        if "descriptor" not in _parameters(cls)
    }


def _term(entry):
    descriptors = descriptor_names()
    cls = descriptors[_one_of(descriptors, "descriptor", entry.get("descriptor"))]
    parameters = _parameters(cls)
    of_kernel = _kernel_parameters()
    names = dict.fromkeys((*parameters, *_OF_TERM, *_OF_KERNEL, *of_kernel))
    for key in entry:
        if key not in ("descriptor", *names):
            raise InputError(
                f"unknown key {key!r}; known are descriptor, {', '.join(names)}."
            )
    for key, default in parameters.items():
        if default is inspect.Parameter.empty and key not in entry:
            raise InputError(f"the key {key!r} is missing.")
    values = {
        key: _value(key, value, parameters.get(key)) for key, value in entry.items()
    }
    descriptor = cls(**{key: values[key] for key in values if key in parameters})
    descriptor.check()
    of_term = {key: values[key] for key in _OF_TERM if key in values}
    of_kernel = {key: values[key] for key in of_kernel if key in values}
    kernel = _kernel(values, of_kernel, descriptor.defaults.kernel)
    term = Term(descriptor, kernel, **of_term)
    term.check()
    _check_length_scales(term)
    return term


def _parameters(cls):
    """Return the parameters of a class with their defaults."""
    parameters = inspect.signature(cls).parameters
    return {key: parameter.default for key, parameter in parameters.items()}


def _kernels():
    """Return the kernels that a name is enough for: not those of other kernels."""
    return {
        name: cls
        for name, cls in registered_names(Kernel).items()
        if inspect.Parameter.empty not in _parameters(cls).values()
    }


def _kernel_parameters():
    """Return the names of the parameters of all kernels."""
    names = [key for cls in _kernels().values() for key in _parameters(cls)]
    return [key for key in dict.fromkeys(names) if key not in _NOT_OF_KERNEL]


def _kernel(values, parameters, default):
    """Return the kernel, None where nothing is said about it."""
    if not parameters and not any(key in values for key in _OF_KERNEL):
        return None
    kernels = _kernels()
    usual = next(name for name, cls in kernels.items() if cls is type(default))
    name = _one_of(kernels, "kernel", values.get("kernel", usual))
    for key in parameters:
        if key not in _parameters(kernels[name]):
            owner = next(each for each in kernels if key in _parameters(kernels[each]))
            raise InputError(f"{key} belongs to 'kernel: {owner}', found {name!r}.")
    kernel = kernels[name](**parameters)
    if "amplitude" not in values:
        return kernel
    amplitude = values["amplitude"]
    if not amplitude > 0.0:
        raise InputError(
            f"amplitude must be a positive number in eV, found {amplitude!r}."
        )
    return Scaled(kernel, amplitude=float(amplitude))


def _check_length_scales(term):
    if term.length_scales is None:
        return
    if (term.kernel or term.descriptor.defaults.kernel).is_product:
        raise InputError("length_scales do not belong to 'kernel: polynomial'.")
    if not isinstance(term.length_scales, tuple):
        return
    descriptor, n_lengths = term.descriptor, len(term.length_scales)
    # Some descriptors have features for each element, which are not known yet.
    numbers = {each.n_features for each in descriptor.for_species((1, 6))}
    is_fixed = numbers == {descriptor.n_features}
    if not is_fixed or n_lengths != descriptor.n_features:
        expected = f", or {descriptor.n_features} of them" if is_fixed else ""
        raise InputError(
            f"length_scales must be one number{expected}, found {n_lengths} numbers."
        )


def _value(key, value, default):
    """Return a value as the parameters of terms, descriptors and kernels take it."""
    if key in _WORDS or isinstance(default, str):
        if not isinstance(value, str):
            raise InputError(f"{key} must be a word, found {_short(value)}.")
        return value
    if key in _FLAGS or isinstance(default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{key} must be true or false, found {_short(value)}.")
        return value
    one = _element if key in _ELEMENTS else _number
    takes_lists = key in _LISTS + _ELEMENTS or isinstance(default, tuple)
    if isinstance(value, list) and takes_lists:
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


def _one_of(names, key, value):
    if not isinstance(value, str) or value not in names:
        what = "is missing" if value is None else f"is {_short(value)}"
        raise InputError(f"the key {key!r} {what}; choose one of {', '.join(names)}.")
    return value


def _short(value):
    # The whole text of aliases of aliases could fill the memory.
    text = "nothing" if value is None else " ".join(reprlib.repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
