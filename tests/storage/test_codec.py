"""The codec: what comes back, and what it refuses."""

import json
from dataclasses import dataclass, field, make_dataclass

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from stored import through_file

import kforce
from kforce import SOAP, InputError, Polynomial, Scaled, Term, ThreeBody, TwoBody
from kforce.data.training import Training
from kforce.descriptors.composition import Composition
from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.descriptors.projected import Projected
from kforce.gdml.molecule import Molecule
from kforce.kernels.base import Kernel, Sum
from kforce.kernels.stationary import RBF, Matern52, PiecewisePolynomial
from kforce.registry import _CLASSES, register, registered_names
from kforce.solvers.least_squares import SparseSolution
from kforce.solvers.tiles import TiledMatrix
from kforce.storage.codec import DAMAGE, check_array, decode, encode

VALUES = [
    None,
    True,
    3,
    0.1,
    "a text",
    [],
    (),
    (1, (2.5, None)),
    [(1, 2), [3]],
    {},
    {"Cu": 3.51, 79: 3.8, (1, 6): [True]},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_plain_values(value):
    found = through_file(value)
    assert found == value
    assert type(found) is type(value)


def test_arrays_at_places_of_one_name_stay_apart():
    found = through_file({1: np.zeros(1), "1": np.ones(1)})
    assert (found[1].item(), found["1"].item()) == (0.0, 1.0)


def test_numbers_of_numpy_become_plain_ones():
    found = through_file([np.float32(1.5), np.int64(3), np.bool_(True), np.str_("a")])
    assert found == [1.5, 3, True, "a"]
    assert list(map(type, found)) == [float, int, bool, str]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.random.default_rng(0).normal(size=(3, 2))),
        np.zeros((0, 3)),
        np.array([True, False]),
        np.array(2.5),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays(array):
    tree, arrays = encode({"a": [array]})
    assert json.dumps(tree) == '{"items": [["a", [{"array": "a.0"}]]]}'
    assert arrays["a.0"] is array
    (found,) = decode(tree, arrays)["a"]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype
    assert found.flags.c_contiguous


OBJECTS = [
    *(
        cls(length_scale=1.3)
        for cls in registered_names(Kernel).values()
        if "length_scale" in cls._get_param_names()
    ),
    Polynomial(zeta=2.5),
    PiecewisePolynomial(n_features=3, length_scale=2.0),
    Scaled(Matern52(length_scale=2.0), amplitude=3.0),
    Sum(RBF(), np.array([[1.0, 0.0], [0.5, 0.5]]), amplitudes=[1.0, 2.0]),
    InverseDistances(),
    InternalCoordinates(bonds=((0, 1), (1, 2))),
    TwoBody(cutoff=4.0, species=(29, None), exponents=(-1, -2), tail=(2, 0.5)),
    ThreeBody(cutoff=3.0, centre=29),
    SOAP(cutoff=3.0, n_max=3, l_max=2, atom_sigma=0.5, species=(1, 6)),
    Projected(
        SOAP(cutoff=3.0, n_max=3, l_max=2, atom_sigma=0.5, species=(1, 6)),
        np.eye(64)[:, :5],
    ),
    Composition(species=(29, 79)),
    Term(TwoBody(cutoff=4.0), Polynomial(), length_scales=[1.0], n_inducing=3),
]


@pytest.mark.parametrize("value", OBJECTS, ids=lambda v: type(v).__name__)
def test_kernels_descriptors_and_terms(value):
    found = through_file(value)
    assert type(found) is type(value)
    assert repr(found) == repr(value)


def test_every_kernel_and_descriptor_is_tried():
    tried = {type(value) for value in OBJECTS}
    ours = {c for c in _CLASSES.values() if c.__module__.startswith("kforce")}
    bases = (kforce.kernels.Kernel, type(OBJECTS[-2]).__mro__[1])
    for base in bases:
        assert {cls for cls in ours if issubclass(cls, base)} <= tried


def test_dataclasses():
    molecule = Molecule(np.array([8, 1, 1]), np.zeros(3, bool), np.eye(3))
    found = through_file(molecule)
    for name, value in vars(molecule).items():
        np.testing.assert_array_equal(getattr(found, name), value)
    training = Training(2, "abc", {"kforce": "1"}, ("a", "b"))
    assert through_file(training) == training


def test_factors():
    A = np.random.default_rng(0).normal(size=(7, 7))
    tiled = TiledMatrix.from_dense(A @ A.T + np.eye(7), tile_rows=3)
    tiled.factor()
    found = through_file(tiled)
    assert found.n_tiles == tiled.n_tiles == 3
    np.testing.assert_array_equal(found.solve(np.ones(7)), tiled.solve(np.ones(7)))
    upper = np.triu(A) + 3.0 * np.eye(7)
    solution = SparseSolution(A[0], upper, 2.0 * upper, 1e-8, 3.5)
    assert encode(solution)[1]["factor"].shape == (28,)
    found = through_file(solution)
    for name, value in vars(solution).items():
        np.testing.assert_array_equal(getattr(found, name), value)


def test_what_is_above_the_diagonal_of_a_factor_is_not_stored():
    tiled = TiledMatrix.from_dense(np.eye(3))
    tiled.tile(0, 0)[np.triu_indices(3, 1)] = np.nan
    through_file(tiled)
    assert np.isnan(tiled.tile(0, 0)).any()


TILES = {"offsets": np.array([0, 2, 3]), "t": np.eye(2), "row": np.ones((2, 1))}
TILES |= {"last": np.ones((1, 1))}
_FACTOR = {
    "class": "TiledMatrix",
    "offsets": {"array": "offsets"},
    "tiles": [[{"array": "t"}], [{"array": "row"}, {"array": "last"}]],
}


@pytest.mark.parametrize(
    ("name", "array", "match"),
    [
        ("offsets", np.array([0, 2]), "offsets has shape"),
        ("offsets", np.array([0, 0, 3]), "do not ascend"),
        ("offsets", np.array([1, 3, 4]), "do not ascend"),
        ("offsets", np.array([0.0, 2.0, 3.0]), "offsets has shape"),
        ("t", -np.eye(2), "not one of a positive definite"),
        ("t", np.eye(3), "a tile of the factor has shape"),
        ("row", np.ones((1, 2)), "a tile of the factor has shape"),
        ("last", np.full((1, 1), np.nan), "not finite"),
    ],
)
def test_damaged_factors(name, array, match):
    assert decode(_FACTOR, TILES).n_rows == 3
    with pytest.raises(ValueError, match=match):
        decode(_FACTOR, TILES | {name: array})


class OwnKernel(Matern52):
    pass


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (OwnKernel(length_scale=1.3), "with OwnKernel, which is not part of kforce"),
        (Scaled(OwnKernel(length_scale=1.3)), "with OwnKernel"),
        (type("RBF", (Matern52,), {})(), "with RBF, which is not part of kforce"),
        ([{"a": 1 + 2j}], "with complex"),
        ({"a": np.sin}, "with ufunc"),
        ({"a": [np.nan]}, "a.0 = nan cannot be saved"),
        (float("inf"), "inf cannot be saved"),
    ],
)
def test_what_cannot_be_written(value, match):
    with pytest.raises(InputError, match=match):
        encode(value)


@pytest.mark.parametrize(
    ("tree", "match"),
    [
        (float("nan"), "nan is no number"),
        ([-float("inf")], "inf is no number"),
        (10**400, "is no number"),
        (1e308, "is no number"),
        ({}, "class"),
        ({"class": "os.system"}, "'os.system' is no class"),
        ({"class": "dict", "a": 1}, "'dict' is no class"),
        ({"class": "RBF"}, "RBF lacks length_scale"),
        ({"class": "RBF", "length_scale": 1.0, "__class__": 1}, "does not know"),
        ({"class": {"class": "RBF", "length_scale": 1.0}}, "is no class|unhashable"),
        ({"tuple": "ab"}, "expected a list, found str"),
        ({"tuple": {"array": "a"}}, "expected a list"),
        ({"items": [[1, 2, 3]]}, "unpack"),
        ({"items": [[[], 1]]}, "unhashable"),
        ({"array": "b"}, "b"),
        ({"array": ["a"]}, "unhashable"),
        ({"array": "a", "tuple": []}, "class"),
        (3, "nothing in it refers to a"),
    ],
)
def test_trees_that_nobody_has_written(tree, match):
    with pytest.raises(DAMAGE, match=match):
        decode(tree, {"a": np.ones(2)})


@pytest.mark.parametrize(
    "array",
    [
        np.array("text"),
        np.array([1 + 2j]),
        np.array([np.nan]),
        np.array([1.0, -np.inf]),
        np.array([1e101]),
        np.array([2**63], dtype=np.uint64),
    ],
    ids=str,
)
def test_arrays_that_no_model_holds(array):
    with pytest.raises(DAMAGE):
        decode({"array": "a"}, {"a": array})


def test_other_types_of_numbers_become_ours():
    arrays = {"a": np.ones(2, dtype=">f4"), "b": np.arange(2, dtype=np.uint8)}
    a, b = decode([{"array": "a"}, {"array": "b"}], arrays)
    assert a.dtype == float
    assert b.dtype == np.int64


@pytest.fixture
def forget():
    """Make the registry what it was before."""
    before = dict(_CLASSES)
    yield
    _CLASSES.clear()
    _CLASSES.update(before)


def test_a_new_field_of_a_dataclass_is_one_line(forget):
    @register
    @dataclass
    class Point:
        x: float

    old, _ = encode(Point(1.0))
    assert through_file(Point(2)) == Point(2)
    _CLASSES["Point"] = make_dataclass(
        "Point", [("x", float), ("name", str, field(default=""))]
    )
    assert through_file(_CLASSES["Point"](1.0, "a")).name == "a"
    # A field that is lost is not the default.
    with pytest.raises(TypeError, match="Point lacks name"):
        decode(old, {})


def test_a_new_fitted_attribute_of_an_estimator_is_one_line(forget):
    @register
    class Model(BaseEstimator):
        slope_: np.ndarray
        name_: str | None

        def __init__(self, order=1):
            self.order = order

    model = Model(order=3)
    model.slope_, model.other_ = np.arange(3.0), 3
    found = through_file(model)
    assert found.order == 3
    assert found.name_ is None
    assert not hasattr(found, "other_")
    np.testing.assert_array_equal(found.slope_, model.slope_)


# Annotated types, what is of them, and what is not.
TYPES = [
    (int, [3, np.int64(3)], [3.0, "3", None, True]),
    (float, [3, 3.5], ["3", None, True, [3.0]]),
    (str, [""], [3, None]),
    (bool, [True], [1, None]),
    (float | None, [None, 1.0], ["1.0"]),
    (np.ndarray, [np.ones(2)], [[1.0]]),
    (np.ndarray | None, [None], [1.0]),
    (Kernel, [RBF()], [TwoBody(cutoff=3.0), None, "RBF"]),
    (list[Kernel], [[], [RBF()]], [[None], RBF(), (RBF(),)]),
    (tuple[int, ...], [(), (1, 2)], [[1], (1, "a"), 1]),
    (tuple[int, float], [(1, 2.0)], [(1,), (1, 2.0, 3), [1, 2.0], ("a", 1.0)]),
    (dict[int, float], [{}, {1: 2.0}], [{"a": 2.0}, {1: "a"}, [], None]),
    (dict[str, tuple[int, ...]], [{"a": (1,)}], [{"a": [1]}]),
]


@pytest.mark.parametrize(("annotation", "good", "bad"), TYPES)
def test_types_of_fields(forget, annotation, good, bad):
    register(make_dataclass("Held", [("value", annotation)]))
    for value in good:
        decode({"class": "Held", "value": encode(value)[0]}, encode(value)[1])
    for value in bad:
        tree, arrays = encode(value)
        with pytest.raises(TypeError, match="Held has value ="):
            decode({"class": "Held", "value": tree}, arrays)


@pytest.mark.parametrize(
    ("array", "shape", "kind"),
    [
        (np.ones(2), (3,), "f"),
        (np.ones((2, 3)), (2,), "f"),
        (np.ones((2, 3)), (None, 2), "f"),
        (np.ones(2), (2,), "i"),
        (np.ones(2, dtype=bool), (2,), "i"),
        (np.zeros(0), (None,), "f"),
    ],
)
def test_shapes_and_types_of_arrays(array, shape, kind):
    check_array("x", np.ones((2, 3)), (None, 3))
    with pytest.raises(ValueError, match="x has shape"):
        check_array("x", array, shape, kind)
