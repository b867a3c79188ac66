"""What is no model of sGDML, or a damaged one, ends in one clear sentence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sgdml_files import DATA, FIELDS, MODEL, changed, layout_of_2018

import kforce
from kforce.errors import InputError
from kforce.io import read_sgdml
from kforce.storage.npz import write_arrays

N_PERMS, N_ATOMS = FIELDS["perms"].shape


def other(name, value):
    """A field with one entry changed."""
    array = FIELDS[name].copy()
    array[(0,) * array.ndim] = value
    return {name: array}


CASES = {
    "data set": ({"type": np.array("d")}, "data set: read it with kforce.read_frames"),
    "task": ({"type": np.array(b"t")}, "task, which has not been trained yet"),
    "unknown type": ({"type": np.array("x")}, "with the fields R_desc"),
    "no centers": ({"R_desc": None}, "its fields are type, code_version"),
    "no directions": ({"R_d_desc_alpha": None}, "lacks the field R_d_desc_alpha"),
    "no constant": ({"c": None}, "lacks the field c"),
    "no length scale": ({"sig": None}, "lacks the field sig"),
    "no numbers": ({"z": None}, "lacks the field z"),
    "other molecule": ({"z": FIELDS["z"][:-1]}, r"perms has shape \(2, 9\)"),
    "empty molecule": ({"z": np.zeros(0, int)}, r"z has shape \(0,\)"),
    "one atom": ({"z": np.array([1])}, "z does not hold the atomic numbers"),
    "element 200": (other("z", 200), "z does not hold the atomic numbers"),
    "half elements": ({"z": FIELDS["z"] + 0.5}, "z does not hold the atomic numbers"),
    "text for numbers": ({"R_desc": np.array("a")}, "R_desc has shape"),
    "short centers": ({"R_desc": FIELDS["R_desc"][1:]}, r"expected .*\(36, 'any'\)"),
    "no structures": ({"R_desc": np.zeros((36, 0))}, r"shape \(36, 0\)"),
    "few directions": (
        {"R_d_desc_alpha": FIELDS["R_d_desc_alpha"][1:]},
        r"R_d_desc_alpha has shape \(39, 36\)",
    ),
    "few energies": ({"alphas_E": np.zeros(3)}, r"alphas_E has shape \(3,\)"),
    "nan": (other("R_desc", np.nan), "R_desc holds values that are not finite"),
    "infinite": (other("R_d_desc_alpha", np.inf), "R_d_desc_alpha holds values"),
    "overflow": (other("R_desc", 1e300), "R_desc holds values that are not finite"),
    "zero length": ({"sig": np.array(0)}, "sig is 0, expected a positive number"),
    "negative noise": ({"lam": np.array(-1.0)}, "lam is -1, expected a positive"),
    "many constants": ({"c": np.zeros(2)}, r"c has shape \(2,\)"),
    "from 1": ({"perms": FIELDS["perms"] + 1}, "perms is wrong. Row 0 .* start at 0"),
    "no permutation": (other("perms", 1), "perms is wrong. Row 0"),
    "other elements": (
        {"perms": np.array([np.arange(N_ATOMS), np.roll(np.arange(N_ATOMS), 1)])},
        "only equal elements",
    ),
    "no identity": ({"perms": FIELDS["perms"][1:]}, "must hold the identity"),
    "float permutations": ({"perms": FIELDS["perms"] * 1.0}, "must be integers"),
    "other pairs": (
        {"tril_perms_lin": np.arange(36 * N_PERMS)},
        "tril_perms_lin does not belong to perms",
    ),
    "few pairs": ({"tril_perms_lin": np.arange(36)}, "tril_perms_lin has shape"),
    "flat cell": ({"lattice": np.ones((3, 3))}, "span no volume"),
    "two vectors": ({"lattice": np.eye(3)[:2]}, "lattice has shape"),
    "unknown unit": ({"e_unit": np.array("cal")}, "'cal'.* unit='kcal/mol,Ang'"),
}


@pytest.mark.parametrize(("fields", "match"), CASES.values(), ids=CASES)
def test_changed_fields(tmp_path, fields, match):
    path = changed(tmp_path, **fields)
    with pytest.raises(InputError, match=match) as error:
        read_sgdml(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"perms": FIELDS["perms"]}, "perms is wrong. Row 0"),
        ({"Rt_d_desc_alpha": None}, "lacks the field R_d_desc_alpha"),
        ({"Rt_d_desc_alpha": np.zeros((40, 36, 2))}, r"shape \(40, 36, 2\)"),
    ],
)
def test_changed_fields_of_2018(tmp_path, fields, match):
    arrays = layout_of_2018() | fields
    write_arrays(tmp_path / "a.npz", {k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(InputError, match=match):
        read_sgdml(tmp_path / "a.npz")


def saved_by_kforce(path):
    kforce.GDMLRegressor().fit(kforce.datasets.load_methanol_ccsdt()[:3]).save(path)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: None, "there is no"),
        (lambda p: p.mkdir(), "not a regular file"),
        (lambda p: p.write_text("3\n\nO 0 0 0\n"), "damaged or of another kind"),
        (lambda p: p.write_bytes(MODEL.read_bytes()[:9000]), "damaged or of another"),
        (saved_by_kforce, "a model of kforce: use kforce.load"),
        (lambda p: write_arrays(p, {}), "its fields are none"),
        (
            lambda p: p.write_bytes((DATA / "sgdml_ethanol.npz").read_bytes()),
            "data set: read it with kforce.read_frames",
        ),
    ],
)
def test_other_files(tmp_path, make, match):
    make(tmp_path / "a.npz")
    with pytest.raises(InputError, match=match):
        read_sgdml(tmp_path / "a.npz")


@pytest.mark.parametrize("unit", ["bananas", "eV,Ang,Ang", "", "eV,", "eV,mile"])
def test_bad_units(unit):
    with pytest.raises(InputError, match=r"[uU]nit"):
        read_sgdml(MODEL, unit=unit)


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1).map(np.array),
    st.floats().map(np.array),
    st.text(max_size=5, alphabet="dtm1é").map(np.array),
    st.lists(st.floats(width=32), max_size=40).map(np.array),
    st.tuples(st.integers(0, 4), st.integers(0, 40)).map(np.ones),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(list(FIELDS)), VALUES, min_size=1, max_size=2))
def test_any_field(folder, fields):
    path = changed(folder, **fields)
    try:
        model = read_sgdml(path)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert model.expansion_.x_train.shape[1] == 36
