"""Files of models with values of the right kind that make no sense."""

import json

import numpy as np
import pytest
from local_frames import cells, local_model

import kforce
from kforce import InputError
from kforce.datasets import load_methanol_ccsdt

FRAMES = load_methanol_ccsdt()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Saved models: a learned one, a plain one, and a local one."""
    folder = tmp_path_factory.mktemp("models")
    kforce.GDMLRegressor().fit(FRAMES[:12]).save(folder / "default.npz")
    plain = kforce.GDMLRegressor(kernel=kforce.Matern52(), noise_energy=1e-3)
    plain.fit(FRAMES[:4]).save(folder / "plain.npz")
    local_model().fit(cells(3)).save(folder / "local.npz")
    return folder


def damaged(path, place, value):
    """Write a model with another value in its header."""
    arrays = dict(np.load(path))
    header = part = json.loads(str(arrays["header"]))
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    np.savez(
        path.with_name("a.npz"), **arrays | {"header": np.array(json.dumps(header))}
    )
    return path.with_name("a.npz")


@pytest.mark.parametrize(
    ("name", "place", "value", "match"),
    [
        ("default", ("noise_forces",), None, "noise_forces is not there"),
        ("plain", ("noise_forces",), None, "noise_forces is not there"),
        ("local", ("noise_forces",), None, "a noise is not there"),
        ("local", ("noise_energy",), None, "a noise is not there"),
        ("default", ("noise_forces",), -1.0, "no standard deviation"),
        ("plain", ("noise_forces",), 0.0, "no standard deviation"),
        ("plain", ("noise_energy",), -1.0, "no standard deviation"),
        ("local", ("noise_forces",), -1.0, "no standard deviation"),
        ("local", ("noise_virial",), -1e-3, "no standard deviation"),
        ("local", ("terms", 0, "constant"), 1e200, "not finite|Overflow"),
    ],
)
def test_headers(folder, name, place, value, match):
    path = folder / f"{name}.npz"
    kforce.load(path)
    with pytest.raises(InputError, match=f"is damaged .*({match})"):
        kforce.load(damaged(path, place, value))


def test_a_huge_scale_of_a_term(folder):
    arrays = dict(np.load(folder / "default.npz"))
    header = json.loads(str(arrays["header"]))
    kernel = header["kernel"]
    while kernel["class"] != "Sum":
        kernel = kernel["kernel"]
    kernel["scales"][0][0] = 1e308
    arrays["header"] = np.array(json.dumps(header))
    np.savez(folder / "a.npz", **arrays)
    with pytest.raises(InputError, match=r"is damaged"):
        kforce.load(folder / "a.npz")


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("local", "term_0.length_scales", 1e-308),
        ("local", "term_0.centers", 1e308),
        ("local", "term_0.weights", 1e308),
        ("plain", "centers", 1e308),
        ("plain", "directions", 1e308),
    ],
)
def test_huge_numbers(folder, name, field, value):
    arrays = dict(np.load(folder / f"{name}.npz"))
    arrays[field] = np.full_like(arrays[field], value)
    np.savez(folder / "a.npz", **arrays)
    with pytest.raises(InputError, match=r"is damaged .*"):
        kforce.load(folder / "a.npz")
