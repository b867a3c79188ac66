"""The fields of an sGDML model file, each checked before it is used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kforce.data.npz_datasets import NPZ_UNITS
from kforce.errors import InputError
from kforce.storage.npz import as_text
from kforce.symmetry.groups import validate_permutations
from kforce.units import parse_model_units

# What today's fields were called in the layout of 2018.
_RENAMED = {"R_desc": "Rt_desc", "R_d_desc_alpha": "Rt_d_desc_alpha"}

#: Fields, by today's names, that a prediction depends on.
NEEDED = (
    *("type", "z", "perms", "tril_perms_lin", "lattice", "e_unit", "r_unit"),
    *("R_desc", "R_d_desc_alpha", "alphas_E", "c", "std", "sig", "lam"),
    *_RENAMED.values(),
)

# Numbers beyond it come from damage, and would overflow.
_LARGEST = 1e100


def modern_fields(path, arrays: dict[str, np.ndarray]) -> Fields:
    """Return the fields of a model file of either layout in today's layout.

    `InputError` if the file is not a model of sGDML.
    """
    kind = as_text(arrays.get("type", "m"))
    is_model = bool(arrays.keys() & {"R_desc", "Rt_desc"})
    if kind == "d" or (not is_model and arrays.keys() & {"R", "coords"}):
        raise _another_kind(path, "data set: read it with kforce.read_frames")
    if kind == "t":
        raise _another_kind(
            path,
            "task, which has not been trained yet: read the data set that it was made "
            "from with kforce.read_frames and fit a model to it",
        )
    if as_text(arrays.get("format")) == "kforce model":
        raise _another_kind(path, "model of kforce: use kforce.load")
    arrays = dict(arrays)
    if "Rt_desc" in arrays:
        for name, old in _RENAMED.items():
            if old in arrays:
                arrays[name] = arrays.pop(old)
        _from_2018(arrays)
    if kind != "m" or not is_model:
        found = ", ".join(list(arrays)[:8]) or "none"
        raise InputError(
            "Expected a model of sGDML, with the fields R_desc and R_d_desc_alpha, but "
            f"{path} is none: its fields are {found}."
        )
    return Fields(path, arrays)


def _another_kind(path, what):
    return InputError(f"Expected a model of sGDML, but {path} is a {what}.")


def _from_2018(arrays):
    """Permutations counted from 1, directions sometimes were columns, std was 1."""
    arrays.setdefault("std", np.array(1.0))
    if arrays.get("perms", np.array("")).dtype.kind in "iu":
        arrays["perms"] = arrays["perms"].astype(int) - 1
    directions = arrays.get("R_d_desc_alpha")
    if directions is not None and directions.ndim == 3 and directions.shape[2] == 1:
        arrays["R_d_desc_alpha"] = directions[:, :, 0]


@dataclass(frozen=True)
class Fields:
    """Checked access to the arrays of one file; what is wrong is an `InputError`."""

    path: object
    arrays: dict[str, np.ndarray]

    def array(self, name: str, shape: tuple) -> np.ndarray:
        """Return finite numbers of a shape, in which None stands for any length."""
        if name not in self.arrays:
            raise self._damaged(f"it lacks the field {name}")
        array = self.arrays[name]
        fits = array.ndim == len(shape) and all(
            wanted in (None, n) for wanted, n in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype.kind not in "iuf" or array.size == 0:
            wanted = tuple("any" if n is None else n for n in shape)
            raise self._damaged(
                f"{name} has shape {array.shape} and type {array.dtype}, expected "
                f"numbers of shape {wanted}"
            )
        array = array.astype(float)
        if not (np.abs(array) < _LARGEST).all():
            raise self._damaged(f"{name} holds values that are not finite")
        return array

    def number(self, name: str) -> float:
        """Return one finite number."""
        if name in self.arrays and self.arrays[name].shape == (1,):
            return float(self.array(name, (1,))[0])
        return float(self.array(name, ()))

    def positive(self, name: str) -> float:
        """Return one positive number."""
        value = self.number(name)
        if not value > 1.0 / _LARGEST:
            raise self._damaged(f"{name} is {value:g}, expected a positive number")
        return value

    def text(self, name: str) -> str:
        """Return a text; '' if there is none."""
        return as_text(self.arrays.get(name))

    def numbers(self) -> np.ndarray:
        """Return the atomic numbers."""
        numbers = self.array("z", (None,))
        if len(numbers) < 2 or not np.isin(numbers, np.arange(1, 119)).all():
            raise self._damaged("z does not hold the atomic numbers of a molecule")
        return numbers.astype(int)

    def permutations(self, numbers: np.ndarray) -> np.ndarray:
        """Return the group of atom permutations, counted from 0."""
        self.array("perms", (None, len(numbers)))
        try:
            return validate_permutations(self.arrays["perms"], numbers)
        except InputError as error:
            raise self._damaged(f"perms is wrong. {error}") from None

    def compare_images(self, feature_perms: np.ndarray) -> None:
        """Raise an error if the permuted pairs of the file are not the given ones."""
        if "tril_perms_lin" not in self.arrays:
            return
        n_perms, n_features = feature_perms.shape
        stored = self.array("tril_perms_lin", (feature_perms.size,))
        stored = stored.reshape(n_features, n_perms).T % n_features
        # Either program may list the inverse permutations: the group is the same.
        if sorted(stored.tolist()) != sorted(feature_perms.tolist()):
            raise self._damaged("tril_perms_lin does not belong to perms")

    def cell(self) -> np.ndarray:
        """Return the cell vectors as rows, zeros for a free molecule."""
        if "lattice" not in self.arrays:
            return np.zeros((3, 3))
        columns = self.array("lattice", (3, 3))
        if np.linalg.matrix_rank(columns) < 3:
            raise self._damaged("the vectors of its lattice span no volume")
        return columns.T

    def units(self, given: str | None) -> tuple[str, str]:
        """Return the names of the units of energy and length."""
        energy, length = (
            self._unit(name) or usual
            for name, usual in zip(("e_unit", "r_unit"), NPZ_UNITS, strict=True)
        )
        if given is not None:
            return parse_model_units(given, length)
        try:
            return parse_model_units(f"{energy},{length}")
        except InputError as error:
            raise InputError(
                f"{self.path}: {error} Say which units it has, as in "
                "unit='kcal/mol,Ang' (kforce convert --units kcal/mol,Ang)."
            ) from None

    def _unit(self, name):
        if name in self.arrays and self.arrays[name].dtype.kind not in "SU":
            raise self._damaged(f"{name} is no text")
        return self.text(name)

    def _damaged(self, what):
        return InputError(
            f"Expected an intact model of sGDML, but {self.path} is not: {what}."
        )
