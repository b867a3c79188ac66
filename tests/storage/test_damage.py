"""Files with wrong, missing or strange parts: refused in one sentence, or the same."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_frames import cells, clusters, isolated, local_model
from stored import changed
from toys import symmetric_group, toy_frames

import kforce
from kforce import GDMLRegressor, InputError, RationalQuadratic, Scaled
from kforce.storage.files import read, write
from kforce.storage.npz import read_arrays, write_arrays

OLD = Path(__file__).parents[1] / "data" / "version_0_1"
NUMBERS = np.array([8, 6, 1, 1])
SWAP = symmetric_group(4, 2)
FRAMES = {
    "gdml": toy_frames(NUMBERS, 8),
    "gap": cells(3) + clusters(1) + isolated(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damage")


@pytest.fixture(scope="module")
def models(folder):
    """One model of each kind, with all that a file can hold."""
    kernel = Scaled(RationalQuadratic(length_scale=1.3, alpha=0.7), amplitude=2.0)
    noises = {"noise_forces": 1e-3, "noise_energy": 1e-3}
    models = {
        "gdml": GDMLRegressor(kernel=kernel, permutations=SWAP, **noises),
        "gap": local_model(config_noises={"default": (0.002, 0.05, 0.05)}),
    }
    for name, model in models.items():
        model.fit(FRAMES[name]).save(folder / f"{name}.npz", with_factor=True)
    return models


def assert_refused(path, match=""):
    with pytest.raises(InputError, match=match) as error:
        kforce.load(path)
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    assert len(text) < len(str(path)) + 400


def assert_refused_or(path, check=lambda model: None):
    try:
        model = kforce.load(path)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        check(model)


KERNEL = ("kernel_", "kernel")
HUGE = 10**400

POSITIONS = "uncertainty_.observations.positions"

IN_GDML = [
    (("class",), "OtherRegressor", "'OtherRegressor' is no class of kforce"),
    (("class",), "Molecule", "Molecule does not know"),
    (("class",), ["GDMLRegressor"], "unhashable"),
    (("class",), "Training", "does not know"),
    (("molecule_",), None, "GDMLRegressor has molecule_ = None"),
    (("molecule_", "pbc"), None, "Molecule has pbc = None"),
    (("constant_",), None, "constant_ = None"),
    (("constant_",), "a", "constant_ = 'a'"),
    (("constant_",), True, "constant_ = True"),
    (("constant_",), HUGE, "is no number of a model"),
    (("noise_forces_",), [1.0], "noise_forces_ ="),
    (("noise_forces_",), None, "no noise of forces"),
    (("noise_forces_",), -1.0, "must be a positive standard"),
    (("noise_forces_",), 0.0, "must be a positive standard"),
    (("noise_energy_",), None, "no noise of energies"),
    (("noise_energy_",), -1.0, "must be a positive standard"),
    (("noise_energy",), -1.0, "noise_energy must be a positive"),
    (("seed",), -1, "seed must be"),
    (("variance",), "some", "variance must be"),
    (("unknown",), 1.0, "does not know unknown"),
    (("kernel",), {"class": "Polynomial", "zeta": 2}, "is a kernel of products"),
    (("kernel_",), None, "kernel_ = None"),
    (("kernel_", "class"), "Matern99", "'Matern99' is no class"),
    (("kernel_", "class"), "InverseDistances", "InverseDistances does not know"),
    (("kernel_", "amplitude"), 0.0, "amplitude must be a positive"),
    (("kernel_", "amplitude"), "two", "amplitude must be a positive"),
    (("kernel_", "amplitude"), 1e308, "is no number of a model"),
    ((*KERNEL, "length_scale"), None, "needs a length scale"),
    ((*KERNEL, "length_scale"), -1.0, "length scale must be a positive"),
    ((*KERNEL, "length_scale"), 1e-200, "length scale must be a positive"),
    ((*KERNEL, "length_scale"), HUGE, "is no number of a model"),
    ((*KERNEL, "unknown"), 1.0, "RationalQuadratic does not know unknown"),
    (("descriptor_", "class"), "RBF", "RBF lacks length_scale"),
    (
        ("descriptor_",),
        {"class": "InternalCoordinates", "bonds": [[0, 9], [0, 1]]},
        "of another molecule",
    ),
    (("expansion_",), {"items": []}, "weights"),
    (("expansion_", "items", 2, 1), None, "nothing in it refers to expansion_.weights"),
    (("uncertainty_",), None, "nothing in it refers to uncertainty_"),
    (("uncertainty_", "items", 3, 1), 0.0, "calibration is 0.0"),
    (("training_",), None, "training_ = None"),
    (("training_", "versions"), 3, "Training has versions = 3"),
    (("training_", "n_frames"), "many", "Training has n_frames = 'many'"),
    ("molecule_.numbers", None, "it lacks 'molecule_.numbers'"),
    ("molecule_.numbers", np.array([8, 6, 1]), r"must have shape \(n_perms, 3\)"),
    ("molecule_.numbers", NUMBERS + 200, "not the atomic numbers of a molecule"),
    ("molecule_.numbers", NUMBERS * 1.0, "numbers has shape .* and type float64"),
    ("molecule_.numbers", np.array("OCHH"), "has the type <U4, expected numbers"),
    ("molecule_.numbers", np.ones(10**6, dtype=np.int8), "not the atomic numbers"),
    ("molecule_.pbc", np.zeros(3), "pbc has shape"),
    ("molecule_.cell", np.full((3, 3), np.nan), "cell holds values that are not"),
    ("permutations_", SWAP[1:], "hold the identity"),
    ("permutations_", SWAP + 1, "Row 0 of permutations"),
    ("permutations_", np.zeros((0, 4), dtype=int), "permutations must have shape"),
    ("expansion_.x_train", np.ones((8, 5)), r"x_train has shape \(8, 5\)"),
    ("expansion_.x_train", np.full((8, 6), np.inf), "not finite"),
    ("expansion_.x_train", np.full((8, 6), 1e308), "not finite"),
    ("expansion_.directions", np.ones((7, 6)), r"directions has shape \(7, 6\)"),
    ("expansion_.weights", np.ones(3), r"weights has shape \(3,\)"),
    (
        "uncertainty_.observations.positions",
        np.ones((8, 3, 3)),
        r"positions has shape \(8, 3, 3\)",
    ),
    ("uncertainty_.observations.positions", np.ones((8, 4, 3)), "at the same place"),
    ("uncertainty_.factor.offsets", np.array([0, 3]), "the factor"),
    ("another", np.ones(2), "nothing in it refers to another"),
]

TERM = ("terms_", 0)

IN_GAP = [
    (("class",), "GDMLRegressor", "missing .* 'expansion_' and 'uncertainty_'"),
    (("terms_",), [], "no terms"),
    (("terms_",), None, "terms_ = None"),
    (("terms_",), [1], "terms_ ="),
    ((*TERM, "descriptor"), None, "SparseTerm has descriptor = None"),
    ((*TERM, "descriptor", "class"), "RBF", "RBF does not know"),
    ((*TERM, "descriptor"), {"class": "InverseDistances"}, "has descriptor ="),
    ((*TERM, "descriptor", "cutoff"), -1.0, "cutoff must be a positive length"),
    ((*TERM, "descriptor", "cutoff"), "far", "cutoff must be a positive length"),
    ((*TERM, "descriptor", "cutoff"), 1e6, "cutoff must be at most 50 Å"),
    (("terms_", -1, "descriptor", "cutoff"), 1e6, "cutoff must be at most 50 Å"),
    ((*TERM, "descriptor", "exponents"), {"tuple": 1}, "expected a list"),
    ((*TERM, "kernel", "amplitude"), 0.0, "amplitude must be a positive"),
    ((*TERM, "kernel", "kernel", "length_scale"), None, "needs a length scale"),
    ((*TERM, "kernel", "class"), "TwoBody", "TwoBody"),
    ((*TERM, "constant"), -1.0, "length scales or constants are not positive"),
    ((*TERM, "constant"), None, "constant = None"),
    ((*TERM, "class"), "PermutedTerm", "PermutedTerm lacks permutations"),
    ((*TERM, "constant"), 1e200, "is no number of a model"),
    (("terms_", -1, "descriptor", "n_max"), 10**9, "n_max must be at most"),
    (("terms_", -1, "descriptor", "n_max"), 4, "inducing_points has shape"),
    (("terms_", -1, "kernel", "kernel", "zeta"), 0.1, "zeta must be"),
    (("terms", 0, "n_inducing"), -1, "n_inducing must be"),
    (("solution_",), {"items": []}, "solution_ ="),
    (("solution_",), None, "nothing in it refers to solution_"),
    (("solution_", "jitter"), None, "float"),
    (("calibration_",), 0.0, "calibration_ = 0.0"),
    (("calibration_",), {"tuple": [1.0, 0.0]}, "the calibration is"),
    (("noise_forces_",), "a", "noise_forces_ = 'a'"),
    (("noise_forces_",), None, "there are no noises"),
    (("noise_forces_",), -1.0, "must be a positive standard"),
    (("config_noises",), {"items": 3}, "expected a list"),
    (("training_",), {}, "it lacks 'class'"),
    (("species_",), {"tuple": [29, 300]}, "species_ are no elements"),
    (("species_",), {"tuple": [29, 29]}, "an element twice"),
    (("species_",), {"tuple": [29, 6]}, "without reference energy"),
    (("reference_energies_",), {"items": [["Cu", 1.0]]}, "reference_energies_ ="),
    ("terms_.0.inducing_points", np.ones((8, 2)), r"inducing_points has shape \(8, 2"),
    ("terms_.0.weights", np.ones(3), r"weights has shape \(3,\)"),
    ("terms_.0.weights", np.ones(8), "the solution is of other terms"),
    ("terms_.0.f_cut", np.full(8, np.nan), "not finite"),
    ("terms_.0.length_scales", np.zeros(1), "not positive"),
    ("terms_.0.length_scales", np.full(1, 1e308), "not finite"),
    ("terms_.0.length_scales", np.full(1, 1e-308), "not finite"),
    ("terms_.0.weights", np.full(8, 1e308), "not finite"),
    ("terms_.0.inducing_points", np.full((8, 1), 1e308), "not finite"),
    ("solution_.prior", np.ones(5), r"prior has shape \(5,\)"),
    ("solution_.factor", None, "it lacks 'solution_.factor'"),
    ("solution_.factor", np.zeros(300), "factor"),
]


@pytest.mark.parametrize(
    ("name", "place", "value", "match"),
    [("gdml", *case) for case in IN_GDML] + [("gap", *case) for case in IN_GAP],
)
def test_what_makes_no_sense(tmp_path, folder, models, name, place, value, match):
    path = changed(tmp_path / "a.npz", folder / f"{name}.npz", place, value)
    assert_refused(path, match)


def test_a_singular_factor(tmp_path, folder, models):
    name = "solution_.factor"
    _, arrays = read(folder / "gap.npz")
    path = changed(tmp_path / "a.npz", folder / "gap.npz", name, 0.0 * arrays[name])
    assert_refused(path, "a factor is singular")


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("format_version", None, "it lacks 'format_version'"),
        ("format_version", np.array(0), "format_version is 0"),
        ("format_version", np.array([2]), "format_version is"),
        ("format_version", np.array("one"), "format_version is one"),
        ("checksum", None, "it lacks 'checksum'"),
        ("checksum", np.array(1), "do not belong together"),
        ("checksum", np.array([1, 2]), "do not belong together"),
        ("header", None, "it lacks 'header'"),
        ("header", np.array("{}"), "do not belong together"),
        ("expansion_.weights", np.ones(8), "do not belong together"),
        ("expansion_.weights", None, "do not belong together"),
        ("another", np.ones(8), "do not belong together"),
    ],
)
def test_parts_of_different_files(tmp_path, folder, models, field, value, match):
    fields = read_arrays(folder / "gdml.npz") | {field: value}
    path = tmp_path / "a.npz"
    write_arrays(path, {k: v for k, v in fields.items() if v is not None})
    assert_refused(path, match)


@pytest.mark.parametrize("tree", [[], 3, None, {}, {"tuple": []}, "GDMLRegressor"])
def test_what_is_no_model(tmp_path, tree):
    write(tmp_path / "a.npz", tree, {})
    assert_refused(tmp_path / "a.npz", "damaged")
    with pytest.raises(InputError, match="damaged"):
        kforce.load(tmp_path / "a.npz", baseline=kforce.ZBL())


def test_deep_trees(tmp_path):
    tree = []
    for _ in range(900):
        tree = [tree]
    write(tmp_path / "a.npz", tree, {})
    assert_refused(tmp_path / "a.npz", "damaged")


IN_OLD = [
    ("gdml_plain", ("noise_forces",), None, "no noise of forces"),
    ("gdml_plain", ("noise_forces",), -1.0, "must be a positive standard"),
    ("gdml_plain", ("weights",), True, "it lacks 'weights'"),
    ("gdml_plain", ("variance",), None, None),
    ("gdml_plain", ("descriptor", "class"), "RBF", "RBF lacks"),
    ("gdml_plain", ("training",), {}, "it lacks 'versions'"),
    ("gdml_plain", ("parameters",), [1, 2], "damaged"),
    ("gdml_learned", ("kernel", "kernel", "scales"), [[1e308]], "no number of a model"),
    ("gdml_on_model", ("baseline",), 3, "damaged"),
    ("gdml_on_model", ("baseline",), [{"model": 1}], "it lacks"),
    ("gap", ("noise_forces",), None, "there are no noises"),
    ("gap", ("noise_virial",), -1.0, "must be a positive standard"),
    ("gap", ("terms", 0, "constant"), 1e200, "no number of a model"),
    ("gap", ("terms", 0, "descriptor", "cutoff"), 1e6, "cutoff must be at most"),
    ("gap", ("terms", 0, "permuted"), True, "it lacks 'term_0.permutations'"),
    ("gap", ("solution",), {}, "it lacks 'calibration'"),
    ("gap", ("terms",), [], "damaged"),
]


@pytest.mark.parametrize(("name", "place", "value", "match"), IN_OLD)
def test_files_of_version_0_1(tmp_path, name, place, value, match):
    fields = read_arrays(OLD / f"{name}.npz")
    header = json.loads(str(fields["header"]))
    part = header
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    path = tmp_path / "a.npz"
    write_arrays(path, fields | {"header": np.array(json.dumps(header))})
    if match is None:  # what may be left out
        assert kforce.load(path).uncertainty_ is None
    else:
        assert_refused(path, match)


@pytest.fixture(scope="module")
def predictions(models):
    """What the models say of their frames."""
    return {
        name: model.evaluate(FRAMES[name], return_std=True)
        for name, model in models.items()
    }


def same_as(predictions, name):
    def check(again):
        ours = predictions[name]
        theirs = again.evaluate(FRAMES[name], return_std=True)
        np.testing.assert_array_equal(theirs.energy, ours.energy)
        np.testing.assert_allclose(theirs.energy_std, ours.energy_std, rtol=1e-6)

    return check


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(["gdml", "gap"]),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=4),
    cut=st.floats(0, 1) | st.just(1.0),
)
def test_flipped_bytes_and_cut_tails(folder, predictions, name, flips, cut):
    raw = bytearray((folder / f"{name}.npz").read_bytes())
    for where, mask in flips:
        raw[min(int(where * len(raw)), len(raw) - 1)] ^= mask
    (folder / "a.npz").write_bytes(raw[: round(cut * len(raw))])
    assert_refused_or(folder / "a.npz", same_as(predictions, name))


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1).map(np.array),
    st.floats().map(np.array),
    st.text(max_size=8).map(np.array),
    st.lists(st.floats(), max_size=30).map(np.array),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30).map(np.array),
    st.lists(st.booleans(), max_size=4).map(np.array),
    st.tuples(
        st.lists(st.integers(0, 9), max_size=3),
        st.sampled_from(["f2", "f4", "f8", "i1", "u8", "c16", "?", "S3", "U2"]),
    ).map(lambda shape_and_type: np.zeros(*shape_and_type)),
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["class", "tuple", "items", "array", "cutoff"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)


def replaced(data, tree, value):
    """Put a value somewhere into a tree."""
    part, keys = tree, list(tree)
    key = data.draw(st.sampled_from(keys))
    while isinstance(part[key], dict | list) and part[key] and data.draw(st.booleans()):
        part = part[key]
        keys = list(part) if isinstance(part, dict) else range(len(part))
        key = data.draw(st.sampled_from(keys))
    part[key] = value


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(["gdml", "gap"]), value=VALUES)
def test_any_field_of_the_file(folder, predictions, data, name, value):
    """Whatever the value is, the file is not what was written."""
    fields = read_arrays(folder / f"{name}.npz")
    fields[data.draw(st.sampled_from(list(fields)))] = value
    path = folder / "a.npz"
    write_arrays(path, {k: v for k, v in fields.items() if v is not None})
    assert_refused_or(path, same_as(predictions, name))


@settings(max_examples=250, deadline=None)
@given(data=st.data(), name=st.sampled_from(["gdml", "gap"]))
def test_files_by_strangers(folder, models, data, name):
    """Any value anywhere, in a file whose parts fit together."""
    tree, arrays = read(folder / f"{name}.npz")
    if data.draw(st.booleans()):
        replaced(data, tree, data.draw(JSON))
    else:
        arrays[data.draw(st.sampled_from(list(arrays)))] = data.draw(VALUES)
    try:
        write(
            folder / "a.npz", tree, {k: v for k, v in arrays.items() if v is not None}
        )
    except ValueError:  # JSON knows no infinity
        return
    assert_refused_or(folder / "a.npz")


@settings(max_examples=250, deadline=None)
@given(data=st.data(), name=st.sampled_from(["gdml_learned", "gdml_on_model", "gap"]))
def test_old_files_by_strangers(folder, data, name):
    fields = read_arrays(OLD / f"{name}.npz")
    if data.draw(st.booleans()):
        header = json.loads(str(fields["header"]))
        replaced(data, header, data.draw(JSON))
        fields["header"] = np.array(json.dumps(header))
    else:
        fields[data.draw(st.sampled_from(list(fields)))] = data.draw(VALUES)
    path = folder / "a.npz"
    write_arrays(path, {k: v for k, v in fields.items() if v is not None})
    assert_refused_or(path)
