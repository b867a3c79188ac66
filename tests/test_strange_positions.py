"""Positions and elements that no structure has are refused in a sentence."""

import numpy as np
import pytest
from ase.build import bulk

import kforce
from kforce import InputError
from kforce.datasets import load_methanol_ccsdt
from kforce.structures import Batch

FRAMES = load_methanol_ccsdt()


def fit_gap():
    terms = [kforce.Term(kforce.TwoBody(cutoff=3.0), n_inducing=5)]
    return kforce.GAPRegressor(terms, optimize=False).fit(FRAMES[:4])


MODELS = {
    "default": lambda: kforce.GDMLRegressor().fit(FRAMES[:12]),
    "plain": lambda: kforce.GDMLRegressor(kernel=kforce.Matern52()).fit(FRAMES[:4]),
    "local": fit_gap,
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e200, -1e12])
def test_far_positions(model, value):
    atoms = FRAMES[0].copy()
    atoms.positions[2, 1] = value
    for ask in (model.predict, model.evaluate):
        with pytest.raises(InputError, match=r"Positions must be .* frame 1"):
            ask([FRAMES[0], atoms])
    atoms.calc = model.calculator()
    with pytest.raises(InputError, match="Positions must be"):
        atoms.get_forces()


def test_single_precision(model):
    single = FRAMES[1].copy()
    single.arrays["positions"] = single.positions.astype(np.float32)
    double = FRAMES[1].copy()
    double.positions = single.positions.astype(float)
    found, expected = model.evaluate([single]), model.evaluate([double])
    np.testing.assert_array_equal(found.energy, expected.energy)
    np.testing.assert_array_equal(found.forces, expected.forces)
    single.calc = model.calculator()
    assert single.get_potential_energy() == pytest.approx(expected.energy[0])


def test_single_precision_of_a_crystal():
    atoms = bulk("Si", cubic=True)
    atoms.arrays["positions"] = atoms.positions.astype(np.float32)
    assert Batch.from_frames([atoms]).positions.dtype == float


@pytest.mark.parametrize("number", [119, -7, 1000])
def test_unknown_elements(model, number):
    atoms = FRAMES[0].copy()
    atoms.numbers[2] = number
    match = f"Atomic numbers must be .* found {number} in frame"
    with pytest.raises(InputError, match=match):
        model.predict([FRAMES[0], atoms])
    atoms.calc = model.calculator()
    with pytest.raises(InputError, match=match):
        atoms.get_potential_energy()


@pytest.mark.parametrize("number", [119, -7])
@pytest.mark.parametrize("regressor", [kforce.GDMLRegressor, kforce.GAPRegressor])
def test_nothing_is_trained_on_unknown_elements(regressor, number):
    frames = [frame.copy() for frame in FRAMES[:4]]
    for frame, labelled in zip(frames, FRAMES, strict=False):
        frame.numbers[2] = number
        frame.calc = labelled.calc
        frame.calc.atoms = frame.copy()
    with pytest.raises(InputError, match=f"found {number} in frame 0"):
        regressor().fit(frames)
