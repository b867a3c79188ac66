"""Fields that a prediction depends on are never skipped for being of a wrong kind."""

import numpy as np
import pytest
from sgdml_files import FIELDS, MODEL, assert_reference, changed, layout_of_2018

from kforce import read_frames
from kforce.errors import InputError
from kforce.io import read_sgdml
from kforce.storage.npz import write_arrays

NEEDED = ["z", "perms", "R_desc", "R_d_desc_alpha", "c", "std", "sig", "lam"]
NEEDED += ["tril_perms_lin", "e_unit", "r_unit", "type"]


@pytest.mark.parametrize("name", [*NEEDED, "alphas_E", "lattice"])
def test_object_arrays(tmp_path, name):
    value = FIELDS.get(name, np.ones(3))
    np.savez(tmp_path / "a.npz", **FIELDS | {name: value.astype(object)})
    with pytest.raises(InputError, match=f"field {name} of .* found Python objects"):
        read_sgdml(tmp_path / "a.npz")


def test_object_arrays_that_nothing_depends_on_are_skipped(tmp_path):
    stored = np.load(MODEL, allow_pickle=False).files
    assert {"e_err", "md5_test"} <= {*stored} - {*FIELDS}
    assert_reference(read_sgdml(MODEL))


def test_a_scale_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="lacks the field std"):
        read_sgdml(changed(tmp_path, std=None))


def test_in_2018_there_was_no_scale(tmp_path):
    write_arrays(tmp_path / "a.npz", layout_of_2018())
    assert_reference(read_sgdml(tmp_path / "a.npz", unit="eV,Ang"))


@pytest.mark.parametrize("name", ["e_unit", "r_unit"])
def test_a_unit_that_is_no_text(tmp_path, name):
    with pytest.raises(InputError, match=f"{name} is no text"):
        read_sgdml(changed(tmp_path, **{name: np.array(1.0)}))


@pytest.mark.parametrize("name", ["E", "F", "e_unit", "lattice"])
def test_data_sets(tmp_path, name):
    arrays = {"z": np.array([1, 1]), "R": np.ones((2, 2, 3)).cumsum(axis=1)}
    arrays |= {"E": np.zeros(2), "F": np.zeros((2, 2, 3)), "lattice": 9.0 * np.eye(3)}
    arrays |= {"e_unit": np.array("eV")}
    np.savez(tmp_path / "a.npz", **arrays | {name: arrays[name].astype(object)})
    with pytest.raises(InputError, match=f"field {name} of .* found Python objects"):
        read_frames(tmp_path / "a.npz")
