"""Fitted models as .npz files: plain arrays and one JSON text, never a pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from zipfile import is_zipfile

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kforce.baselines.baseline import as_baseline
from kforce.baselines.baseline import restore as restore_baseline
from kforce.errors import InputError
from kforce.force_field import ForceField
from kforce.gap import storage as gap_storage
from kforce.gap.regressor import GAPRegressor
from kforce.gdml import storage as gdml_storage
from kforce.gdml.regressor import GDMLRegressor
from kforce.storage.fields import check_scalar
from kforce.storage.npz import read_arrays, write_arrays

#: Version of the layout that this program writes; it reads this one and older ones.
FORMAT_VERSION = 1

_FORMAT = "kforce model"

#: What turns each kind of model into arrays and back.
_STORAGE = {
    GDMLRegressor.__name__: gdml_storage,
    GAPRegressor.__name__: gap_storage,
}

# What wrong values in a file can lead to.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def save(
    model: ForceField, path: str | os.PathLike, with_factor: bool | None = None
) -> None:
    """Write a fitted model to an .npz file, all or nothing.

    A baseline is written by its name and settings, or whole if it is a kforce model.

    Parameters
    ----------
    model : GDMLRegressor or GAPRegressor
        A fitted model.
    path : path-like
        An existing file is replaced once the new one is complete.
    with_factor : bool, default=None
        Include what standard deviations are computed with.

        Of a `GDMLRegressor` these are 4 n² bytes for n equations (70 MB for 200
        structures of ethanol). Without it they work as well, but the first takes the
        time of a fit; None leaves it out.

        Of a `GAPRegressor` these are 8 m² bytes for m inducing environments (8 MB for
        1,000). The training frames are not in the file, so without it there are no
        standard deviations; None includes it.

    Raises
    ------
    InputError
        If the file cannot be written, or the model uses a kernel or descriptor that is
        not part of kforce.
    sklearn.exceptions.NotFittedError
        If the model has not been fitted.
    """
    if type(model).__name__ not in _STORAGE:
        raise InputError(
            f"Only models of {' and '.join(_STORAGE)} can be saved, found "
            f"{type(model).__name__}."
        )
    check_is_fitted(model)
    arrays = _arrays_of(model, with_factor)
    write_arrays(path, {"format": np.array(_FORMAT), **arrays})


def _arrays_of(model, with_factor):
    kind = type(model).__name__
    header, fields = _STORAGE[kind].to_arrays(model, with_factor)
    baseline = model.baseline_
    header["baseline"] = None if baseline is None else baseline.describe()
    arrays = {
        "format_version": np.array(FORMAT_VERSION),
        "model": np.array(kind),
        "header": np.array(json.dumps(header, allow_nan=False)),
        **fields,
    }
    for k, level in enumerate([] if baseline is None else baseline.models):
        inner = _arrays_of(level, with_factor)
        arrays |= {f"baseline_{k}.{name}": array for name, array in inner.items()}
    return arrays


def load(path: str | os.PathLike, baseline=None) -> ForceField:
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
    >>> model = kforce.GDMLRegressor().fit(frames[:10])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "methanol.npz"
    ...     model.save(path)
    ...     again = kforce.load(path)
    >>> bool(again.predict(frames[:1]) == model.predict(frames[:1]))
    True
    """
    refuse_structures(path)
    arrays = read_arrays(path)
    if str(arrays.get("format")) != _FORMAT:
        raise InputError(f"{path} is not a model of kforce.{_hint(arrays)}")
    version = arrays.get("format_version", np.array(""))
    if version.shape == () and version.dtype.kind in "iu" and version > FORMAT_VERSION:
        raise InputError(
            f"{path} has the format version {version} and this version of kforce "
            f"reads up to {FORMAT_VERSION}: install a newer kforce."
        )
    try:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            model, described = _restore(arrays)
    except _DAMAGE as error:
        raise _damaged(path, error) from None
    if baseline is not None:
        if described is None:
            raise InputError(f"{path} has no baseline: load it without one.")
        return _on(model, as_baseline(baseline))
    try:
        return _with_baseline(model, described)
    except InputError:  # a package that is missing is no damage
        raise
    except _DAMAGE as error:
        raise _damaged(path, error) from None


def _damaged(path, error):
    return InputError(
        f"{path} is damaged ({_reason(error)}): save it again, or get a fresh copy."
    )


def refuse_structures(path: str | os.PathLike) -> None:
    """Raise an error if a file is given as a model and looks like another kind.

    Raises
    ------
    InputError
        If its name does not end in .npz, and it is none.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() != ".npz" and not is_zipfile(path):
        raise InputError(
            f"{path} is no model of kforce (.npz): the model comes first, then the "
            "structures. Models of GAP are read with kforce.io.read_quip_xml."
        )


def _with_baseline(model, described):
    """Add the baseline that `_restore` found the description of."""
    if described is None:
        return model
    description, levels = described
    models = [_with_baseline(*level) for level in levels]
    return _on(model, restore_baseline(description, models))


def _on(model, baseline):
    return model.set_params(baseline=baseline)._restore(baseline_=baseline)


def _hint(arrays):
    if arrays.keys() & {"R_desc", "Rt_desc"}:
        return " It looks like a model of sGDML: use kforce.io.read_sgdml."
    if arrays.keys() & {"R", "coords", "R_train"}:
        return " It looks like a data set: use kforce.read_frames."
    return ""


def _reason(error):
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def _restore(arrays):
    """Return a model, and the description of its baseline or None."""
    check_scalar(arrays, "format_version", "iu", range(1, FORMAT_VERSION + 1))
    check_scalar(arrays, "model", "U", tuple(_STORAGE))
    header = json.loads(str(arrays["header"]))
    model = _STORAGE[str(arrays["model"])].from_arrays(header, arrays)
    description = header.get("baseline")
    if description is None:
        return model, None
    if not description or not all(isinstance(term, dict) for term in description):
        raise ValueError("the baseline is no list of terms")
    levels = []
    for k in range(sum("model" in term for term in description)):
        start = f"baseline_{k}."
        inner = {n[len(start) :]: a for n, a in arrays.items() if n.startswith(start)}
        levels.append(_restore(inner))
    return model, (description, levels)
