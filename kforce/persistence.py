"""Fitted models as .npz files: plain arrays and one JSON text, never a pickle."""

from __future__ import annotations

import json
import math
import os

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kforce.additive import terms_of
from kforce.errors import InputError
from kforce.expansion import Expansion
from kforce.models.baseline import as_baseline
from kforce.models.baseline import restore as restore_baseline
from kforce.models.gdml import GDMLRegressor
from kforce.models.molecule import Molecule, Training
from kforce.npz import read_arrays, write_arrays
from kforce.parts import from_json, is_simple, to_json
from kforce.permutations import validate_permutations
from kforce.uncertainty.storage import from_arrays, to_arrays

#: Version of the layout that this program writes; it reads this one and older ones.
FORMAT_VERSION = 1

_FORMAT = "kforce model"

#: No global model has so many atoms: a file that claims them is damaged, and the pairs
#: of them would fill the memory.
_MAX_ATOMS = 3000

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
    model: GDMLRegressor, path: str | os.PathLike, with_factor: bool = False
) -> None:
    """Write a fitted model to an .npz file, all or nothing.

    A baseline is written by its name and settings, or whole if it is a kforce model.

    Parameters
    ----------
    model : GDMLRegressor
        A fitted model.
    path : path-like
        An existing file is replaced once the new one is complete.
    with_factor : bool, default=False
        Include what standard deviations are computed with: 4 n² bytes for n equations
        (70 MB for 200 structures of ethanol). Without it they work as well, but the
        first takes the time of a fit.

    Raises
    ------
    InputError
        If the file cannot be written, or the model uses a kernel or descriptor that is
        not part of kforce.
    sklearn.exceptions.NotFittedError
        If the model has not been fitted.
    """
    check_is_fitted(model, "expansion_")
    arrays = _arrays_of(model, with_factor)
    write_arrays(path, {"format": np.array(_FORMAT), **arrays})


def _arrays_of(model, with_factor):
    parameters = model.get_params(deep=False)
    permutations = parameters.pop("permutations")
    parameters.pop("baseline")
    baseline = model.baseline_
    header = {
        "parameters": {name: to_json(value) for name, value in parameters.items()},
        "kernel": to_json(model.kernel_),
        "descriptor": to_json(model.descriptor_),
        "noise_forces": to_json(model.noise_forces_),
        "noise_energy": to_json(model.noise_energy_),
        "weights": model.expansion_.weights is not None,
        "constant": to_json(model.constant_),
        "log_marginal_likelihood": to_json(model.log_marginal_likelihood_),
        "training": vars(model.training_),
        "permutations": permutations if is_simple(permutations) else "given",
        "baseline": None if baseline is None else baseline.describe(),
        "variance": model.uncertainty_ is not None,
    }
    arrays = {
        "format_version": np.array(FORMAT_VERSION),
        "model": np.array(type(model).__name__),
        "header": np.array(json.dumps(header, allow_nan=False)),
        **vars(model.molecule_),
        "permutations": model.permutations_,
        "centers": model.expansion_.centers,
        "directions": model.expansion_.directions,
    }
    if model.expansion_.weights is not None:
        arrays["weights"] = model.expansion_.weights
    if model.uncertainty_ is not None:
        arrays |= to_arrays(model.uncertainty_, with_factor)
    for k, level in enumerate([] if baseline is None else baseline.models):
        inner = _arrays_of(level, with_factor)
        arrays |= {f"baseline_{k}.{name}": array for name, array in inner.items()}
    return arrays


def load(path: str | os.PathLike, baseline=None) -> GDMLRegressor:
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


def _with_baseline(model, described):
    """Add the baseline that `_restore` found the description of."""
    if described is None:
        return model
    description, levels = described
    models = [_with_baseline(*level) for level in levels]
    return _on(model, restore_baseline(description, models))


def _on(model, baseline):
    return model.set_params(baseline=baseline).restore(baseline_=baseline)


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
    _scalar(arrays, "format_version", "iu", range(1, FORMAT_VERSION + 1))
    _scalar(arrays, "model", "U", (GDMLRegressor.__name__,))
    header = json.loads(str(arrays["header"]))
    molecule = _molecule(arrays)
    permutations = validate_permutations(
        _array(arrays, "permutations", (None, len(molecule.numbers)), "iu"),
        molecule.numbers,
    )
    parameters = {k: from_json(v) for k, v in header["parameters"].items()}
    simple = header["permutations"] != "given"
    parameters["permutations"] = header["permutations"] if simple else permutations
    descriptor = from_json(header["descriptor"])
    coordinates = descriptor.coordinates(len(molecule.numbers))
    expansion = _expansion(arrays, header, coordinates, permutations)
    uncertainty = None
    # What a file of an older version does not know of, it does not have.
    if header.get("variance"):
        positions = _array(arrays, "train_positions", (None, None, 3), "f")
        batch = molecule.batch(positions)
        uncertainty = from_arrays(
            arrays, batch, descriptor(batch), expansion, permutations
        )
    model = GDMLRegressor(**parameters).restore(
        molecule_=molecule,
        permutations_=permutations,
        descriptor_=descriptor,
        kernel_=expansion.kernel,
        noise_forces_=_number(header["noise_forces"]),
        noise_energy_=_number(header["noise_energy"]),
        constant_=float(_number(header["constant"])),
        log_marginal_likelihood_=_number(header["log_marginal_likelihood"]),
        training_=_training(header["training"]),
        expansion_=expansion,
        uncertainty_=uncertainty,
        leave_one_out_=None,
        baseline_=None,
    )
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


def _molecule(arrays):
    numbers = _array(arrays, "numbers", (None,), "iu").astype(int)
    if len(numbers) > _MAX_ATOMS or not ((numbers >= 0) & (numbers <= 118)).all():
        raise ValueError("numbers are not the atomic numbers of a molecule")
    pbc = _array(arrays, "pbc", (3,), "b")
    return Molecule(numbers, pbc, _array(arrays, "cell", (3, 3), "f"))


def _expansion(arrays, header, coordinates, permutations):
    n_features = int(coordinates.first[-1])
    centers = _array(arrays, "centers", (None, n_features), "f")
    weights = None
    # A lost optional field must not turn into another model.
    if header["weights"]:
        weights = _array(arrays, "weights", (len(centers),), "f")
    kernel = from_json(header["kernel"])
    terms_of(kernel, n_features).profile(np.zeros(1))  # raises where it makes no sense
    return Expansion(
        kernel=kernel,
        centers=centers,
        directions=_array(arrays, "directions", centers.shape, "f"),
        weights=weights,
        feature_perms=coordinates.images(permutations)[0],
    )


def _training(facts):
    return Training(int(facts["n_frames"]), str(facts["hash"]), dict(facts["versions"]))


def _number(value):
    """Return a finite number or None."""
    if value is not None:
        value = float(value)
        if not math.isfinite(value):
            raise ValueError(f"{value} is no number")
    return value


def _scalar(arrays, name, kind, known):
    value = arrays[name]
    if value.shape != () or value.dtype.kind not in kind or value.item() not in known:
        raise ValueError(f"{name} is {value}, expected one of {list(known)}")


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
