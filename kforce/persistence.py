"""Fitted models as .npz files: plain arrays and one JSON text, never a pickle."""

from __future__ import annotations

import json
import os
from dataclasses import fields

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from kforce import kernels
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.errors import InputError
from kforce.expansion import Expansion
from kforce.models.gdml import GDMLRegressor
from kforce.models.molecule import Molecule, Training
from kforce.npz import read_arrays, write_arrays
from kforce.permutations import validate_permutations

#: Version of the layout that this program writes; it reads this one and older ones.
FORMAT_VERSION = 1

_FORMAT = "kforce model"

#: Parts of a model that are written as a class name and its parameters.
_PARTS = {
    cls.__name__: cls
    for cls in (
        kernels.Matern32,
        kernels.Matern52,
        kernels.Matern72,
        kernels.RBF,
        kernels.RationalQuadratic,
        kernels.Scaled,
        InverseDistances,
    )
}


def save(model: GDMLRegressor, path: str | os.PathLike) -> None:
    """Write a fitted model to an .npz file, all or nothing.

    Parameters
    ----------
    model : GDMLRegressor
        A fitted model.
    path : path-like
        An existing file is replaced once the new one is complete.

    Raises
    ------
    InputError
        If the file cannot be written, or the model uses a kernel or descriptor that is
        not part of kforce.
    sklearn.exceptions.NotFittedError
        If the model has not been fitted.
    """
    check_is_fitted(model, "expansion_")
    parameters = model.get_params(deep=False)
    permutations = parameters.pop("permutations")
    header = {
        "parameters": {name: _to_json(value) for name, value in parameters.items()},
        "kernel": _to_json(model.kernel_),
        "descriptor": _to_json(model.descriptor_),
        "noise_forces": model.noise_forces_,
        "noise_energy": model.noise_energy_,
        "constant": model.constant_,
        "log_marginal_likelihood": model.log_marginal_likelihood_,
        "training": vars(model.training_),
        "permutations": permutations if _is_simple(permutations) else "given",
    }
    arrays = {
        "format": np.array(_FORMAT),
        "format_version": np.array(FORMAT_VERSION),
        "model": np.array(type(model).__name__),
        "header": np.array(json.dumps(header, allow_nan=False)),
        **vars(model.molecule_),
        "permutations": model.permutations_,
        "x_range": model.x_range_,
        "centers": model.expansion_.centers,
        "directions": model.expansion_.directions,
    }
    if model.expansion_.weights is not None:
        arrays["weights"] = model.expansion_.weights
    write_arrays(path, arrays)


def load(path: str | os.PathLike) -> GDMLRegressor:
    """Read a model that was written by `save`.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    GDMLRegressor
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
    arrays = read_arrays(path)
    if str(arrays.get("format")) != _FORMAT:
        hint = ""
        if {"R_desc", "Rt_desc"} & arrays.keys():
            hint = " It looks like a model of sGDML: use kforce.io.read_sgdml."
        elif {"R", "coords"} & arrays.keys():
            hint = " It looks like a data set: use kforce.read_frames."
        raise InputError(f"{path} is not a model of kforce.{hint}")
    try:
        version = int(arrays["format_version"])
        if version > FORMAT_VERSION:
            raise InputError(
                f"{path} has the format version {version} and this version of kforce "
                f"reads up to {FORMAT_VERSION}: install a newer kforce."
            )
        return _restore(arrays)
    except InputError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {error}): save it again."
        ) from None


def _restore(arrays):
    header = json.loads(str(arrays["header"]))
    numbers = _array(arrays, "numbers", (None,), "iu")
    permutations = validate_permutations(
        _array(arrays, "permutations", (None, len(numbers)), "iu"), numbers
    )
    parameters = {k: _from_json(v) for k, v in header["parameters"].items()}
    simple = header["permutations"] != "given"
    parameters["permutations"] = header["permutations"] if simple else permutations
    model = GDMLRegressor(**parameters)
    descriptor = _from_json(header["descriptor"])
    coordinates = descriptor.coordinates(len(numbers))
    n_features = int(coordinates.first[-1])
    centers = _array(arrays, "centers", (None, n_features), "f")
    weights = None
    if "weights" in arrays:
        weights = _array(arrays, "weights", (len(centers),), "f")
    expansion = Expansion(
        kernel=_from_json(header["kernel"]),
        centers=centers,
        directions=_array(arrays, "directions", centers.shape, "f"),
        weights=weights,
        feature_perms=coordinates.images(permutations)[0],
    )
    expansion.kernel.profile(np.zeros(1))
    names = [field.name for field in fields(Training)]
    return model.restore(
        molecule_=Molecule(
            numbers,
            _array(arrays, "pbc", (3,), "b"),
            _array(arrays, "cell", (3, 3), "f"),
        ),
        permutations_=permutations,
        descriptor_=descriptor,
        kernel_=expansion.kernel,
        noise_forces_=_number(header["noise_forces"]),
        noise_energy_=_number(header["noise_energy"]),
        constant_=float(header["constant"]),
        log_marginal_likelihood_=_number(header["log_marginal_likelihood"]),
        x_range_=_array(arrays, "x_range", (2, n_features), "f"),
        training_=Training(**{name: header["training"][name] for name in names}),
        expansion_=expansion,
    )


def _number(value):
    return None if value is None else float(value)


def _array(arrays, name, shape, kinds):
    array = arrays[name]
    fits = array.ndim == len(shape) and all(
        wanted in (None, n) for wanted, n in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind not in kinds or array.size == 0:
        raise ValueError(
            f"{name} has shape {array.shape} and type {array.dtype}, expected "
            f"{tuple('any' if n is None else n for n in shape)}"
        )
    if kinds == "f":
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")
        array = np.ascontiguousarray(array, dtype=float)
    return array


def _is_simple(value):
    return value is None or isinstance(value, str | bool | int | float)


def _to_json(value):
    if isinstance(value, BaseEstimator):
        name = type(value).__name__
        if _PARTS.get(name) is not type(value):
            raise InputError(
                f"A model with {name}, which is not part of kforce, cannot be saved."
            )
        parts = value.get_params(deep=False)
        return {"class": name, **{key: _to_json(part) for key, part in parts.items()}}
    if isinstance(value, np.generic):
        value = value.item()
    if not _is_simple(value):
        raise InputError(f"A parameter of type {type(value).__name__} cannot be saved.")
    return value


def _from_json(value):
    if not isinstance(value, dict):
        return value
    parts = dict(value)
    cls = _PARTS[parts.pop("class")]
    return cls(**{key: _from_json(part) for key, part in parts.items()})
