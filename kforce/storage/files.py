"""Fitted models as .npz files: one JSON text and plain arrays, never a pickle."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
from sklearn.base import BaseEstimator, is_regressor
from sklearn.utils.validation import check_is_fitted

from kforce.errors import InputError, one_line
from kforce.registry import registered
from kforce.storage import version_0_1
from kforce.storage.codec import DAMAGE, NotRestorableError, decode, encode
from kforce.storage.npz import as_text, read_arrays, write_arrays

#: Version of the layout that this program writes; it reads this one and older ones.
FORMAT_VERSION = 2

_FORMAT = "kforce model"

#: Fields of a file that are no arrays of the model.
_ABOUT = ("format", "format_version", "checksum", "header")


def save(
    model: BaseEstimator, path: str | os.PathLike, with_factor: bool | None = None
) -> None:
    """Write a fitted model to an .npz file, all or nothing; see `ForceField.save`."""
    check_is_fitted(model)
    write(path, *encode(model, with_factor))


def write(path: str | os.PathLike, tree: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the tree and the arrays of `kforce.storage.codec.encode` to a file."""
    header = json.dumps(tree, allow_nan=False)
    about = {
        "format": np.array(_FORMAT),
        "format_version": np.array(FORMAT_VERSION),
        "checksum": np.array(_checksum(header, arrays)),
        "header": np.array(header.encode()),
    }
    write_arrays(path, about | dict(arrays))


def load(path: str | os.PathLike, baseline=None) -> BaseEstimator:
    """Read a model that was written by `save`.

    Parameters
    ----------
    path : path-like
        The file.
    baseline : optional
        The baseline of the model, as given to `GDMLRegressor`, where it is a calculator
        that name and settings do not describe.

    Returns
    -------
    GDMLRegressor or GAPRegressor
        The fitted model.

    Raises
    ------
    InputError
        If the file is not a model of kforce, is damaged, or was written by a newer
        version.

    Examples
    --------
    >>> import kforce, tempfile, pathlib
    >>> frames = kforce.datasets.load_methanol_ccsdt()
    >>> model = kforce.GDMLRegressor(kernel=kforce.Matern52()).fit(frames[:5])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "methanol.npz"
    ...     model.save(path)
    ...     again = kforce.load(path)
    >>> bool(again.predict(frames[:1]) == model.predict(frames[:1]))
    True
    """
    refuse_structures(path)
    tree, arrays = read(path)
    strict = np.errstate(over="raise", divide="raise", invalid="raise")
    with _one_sentence(path), strict:
        if baseline is not None:
            has_baseline = tree["baseline_"] is not None
            tree = tree | {"baseline_": None}
            arrays = {k: v for k, v in arrays.items() if not k.startswith("baseline_.")}
        model = decode(tree, arrays)
        if not (isinstance(model, BaseEstimator) and is_regressor(model)):
            raise TypeError(f"{type(model).__name__} is no model")
    if baseline is None:
        return model
    if not has_baseline:
        raise InputError(f"{path} has no baseline: load it without one.")
    model.baseline_ = registered("Baseline").of(baseline)
    return model.set_params(baseline=model.baseline_)


def read(path: str | os.PathLike) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the tree and the arrays of a file, in the present layout."""
    arrays = read_arrays(path)
    if as_text(arrays.get("format")) != _FORMAT:
        raise InputError(f"{path} is not a model of kforce.{_hint(arrays)}")
    with _one_sentence(path):
        version = arrays["format_version"]
        if version.shape != () or version.dtype.kind not in "iu" or version < 1:
            raise ValueError(f"format_version is {version}")
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path} has the format version {version} and this version of kforce "
            f"reads up to {FORMAT_VERSION}: install a newer kforce."
        )
    with _one_sentence(path):
        if version == 1:
            return version_0_1.upgraded(arrays)
        _, _, checksum, header = (arrays.pop(name) for name in _ABOUT)
        header = as_text(header)
        if checksum.shape != () or checksum.item() != _checksum(header, arrays):
            raise ValueError("its parts do not belong together")
        return json.loads(header), arrays


def _checksum(header, arrays):
    """Return a number that changes with any part of a file."""
    number = zlib.crc32(header.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        about = f"{name} {array.dtype.str} {arrays[name].shape}"
        number = zlib.crc32(about.encode(), number)
        number = zlib.crc32(array.reshape(-1).view(np.uint8), number)
    return number


@contextmanager
def _one_sentence(path) -> Iterator[None]:
    """Say of what comes of wrong values that the file is damaged."""
    try:
        yield
    except NotRestorableError:  # a package that is missing is no damage
        raise
    except DAMAGE as error:
        text = str(error) or type(error).__name__
        text = one_line(f"it lacks {text}" if isinstance(error, KeyError) else text)
        raise InputError(
            f"{path} is damaged ({text}): save it again, or get a fresh copy."
        ) from None


def refuse_structures(path: str | os.PathLike) -> None:
    """Raise an error if a file of another kind and name is given as a model."""
    path = Path(path)
    if path.is_file() and path.suffix.lower() != ".npz" and not is_zipfile(path):
        raise InputError(
            f"{path} is no model of kforce (.npz): the model comes first, then the "
            "structures. Models of GAP are read with kforce.io.read_quip_xml."
        )


def _hint(arrays):
    if arrays.keys() & {"R_desc", "Rt_desc"}:
        return " It looks like a model of sGDML: use kforce.io.read_sgdml."
    if arrays.keys() & {"R", "coords", "R_train"}:
        return " It looks like a data set: use kforce.read_frames."
    return ""
