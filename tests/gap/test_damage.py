"""Files of local models with wrong or missing fields: one sentence says what it is."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_frames import cells, clusters, isolated, local_model

import kforce
from kforce import InputError
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.storage.npz import read_arrays, write_arrays


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gap")


@pytest.fixture(scope="module")
def saved(folder):
    noises = {"default": (0.002, 0.05, 0.05)}
    frames = cells(3) + clusters(1) + isolated()
    local_model(config_noises=noises).fit(frames).save(folder / "intact.npz")
    return folder / "intact.npz"


def changed(path, saved, **fields):
    """Write the saved model with some fields changed; None leaves one out."""
    arrays = read_arrays(saved) | fields
    write_arrays(path, {k: v for k, v in arrays.items() if v is not None})
    return path


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("model", np.array("GDMLRegressor"), "KeyError: 'numbers'"),
        ("species", None, "KeyError: 'species'"),
        ("species", np.array([29, 300]), "species are no elements"),
        ("species", np.array([29, 29]), "species are no elements"),
        ("species", np.array([29, 6]), "without reference energy"),
        ("reference_energies", np.ones(3), "reference_energies has shape"),
        ("term_0.centers", np.ones((8, 2)), r"term_0.centers has shape \(8, 2\)"),
        ("term_0.weights", np.ones(3), r"term_0.weights has shape \(3,\)"),
        ("term_0.fade", np.full(8, np.nan), "not finite"),
        ("term_0.length_scales", np.zeros(1), "not positive"),
        ("prior", np.ones(5), r"prior has shape \(5,\)"),
        ("factor", None, "KeyError: 'factor'"),
    ],
)
def test_damaged_field(tmp_path, saved, field, value, match):
    path = changed(tmp_path / "a.npz", saved, **{field: value})
    with pytest.raises(InputError, match=match) as error:
        kforce.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_singular_factor(tmp_path, saved):
    zeros = np.zeros_like(read_arrays(saved)["factor"])
    with pytest.raises(InputError, match="a factor is singular"):
        kforce.load(changed(tmp_path / "a.npz", saved, factor=zeros))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("terms",), []),
        (("terms",), None),
        (("terms",), [1]),
        (("terms", 0, "descriptor"), None),
        (("terms", 0, "descriptor", "class"), "RBF"),
        (("terms", 0, "descriptor", "class"), InverseDistances.__name__),
        (("terms", 0, "descriptor", "cutoff"), -1.0),
        (("terms", 0, "descriptor", "cutoff"), "far"),
        (("terms", 0, "descriptor", "exponents"), {"tuple": 1}),
        (("terms", 0, "kernel", "amplitude"), 0.0),
        (("terms", 0, "kernel", "kernel", "length_scale"), None),
        (("terms", 0, "kernel", "class"), "TwoBody"),
        (("terms", 0, "constant"), -1.0),
        (("terms", 0, "constant"), None),
        (("terms", 0, "permuted"), True),
        (("terms", -1, "descriptor", "n_max"), 10**9),
        (("terms", -1, "kernel", "kernel", "zeta"), 0.1),
        (("solution",), {}),
        (("solution", "jitter"), None),
        (("solution", "calibration"), 0.0),
        (("noise_forces",), "a"),
        (("parameters", "unknown"), 1.0),
        (("parameters", "config_noises"), {"items": 3}),
        (("training",), {}),
    ],
)
def test_damaged_header(tmp_path, saved, place, value):
    header = json.loads(str(read_arrays(saved)["header"]))
    part = header
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    path = changed(tmp_path / "a.npz", saved, header=np.array(json.dumps(header)))
    with pytest.raises(InputError, match=r"a\.npz is damaged"):
        kforce.load(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["class", "tuple", "items", "cutoff"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), value=JSON)
def test_any_part_of_the_header(folder, saved, data, value):
    header = json.loads(str(read_arrays(saved)["header"]))
    part, key = header, data.draw(st.sampled_from(list(header)))
    while isinstance(part[key], dict | list) and part[key] and data.draw(st.booleans()):
        part = part[key]
        keys = list(part) if isinstance(part, dict) else range(len(part))
        key = data.draw(st.sampled_from(keys))
    part[key] = value
    path = changed(folder / "a.npz", saved, header=np.array(json.dumps(header)))
    try:
        kforce.load(path)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
