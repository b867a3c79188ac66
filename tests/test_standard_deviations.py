"""Standard deviations of a whole model: shapes, parts, and whether they can be so."""

import copy

import numpy as np
import pytest
from toys import AMMONIA, WATER, regressor, toy_frames

from kforce.errors import InputError
from kforce.labels import Labels

MODES = {"forces": None, "energies too": 0.003}


@pytest.fixture(scope="module")
def fitted():
    """Models of twelve frames, and further frames."""
    frames = toy_frames(AMMONIA, 20)
    models = {
        name: regressor(noise_forces=0.02, noise_energy=noise).fit(frames[:12])
        for name, noise in MODES.items()
    }
    return models, frames[10:]


@pytest.mark.parametrize("mode", MODES)
def test_the_parts_add_up(fitted, mode):
    models, frames = fitted
    model = models[mode]
    p = model.evaluate(frames, return_std=True)
    noise = 0.0 if MODES[mode] is None else 2.0 * MODES[mode]
    np.testing.assert_allclose(p.energy_std, np.hypot(p.energy_epistemic, noise))
    for total, epistemic in zip(p.forces_std, p.forces_epistemic, strict=True):
        assert total.shape == epistemic.shape == (4, 3)
        np.testing.assert_allclose(total, np.hypot(epistemic, 0.02))
    plain = model.evaluate(frames)
    np.testing.assert_array_equal(p.energy, plain.energy)
    np.testing.assert_array_equal(p.forces, plain.forces)
    assert plain.energy_std is plain.forces_std is None


@pytest.mark.parametrize("mode", MODES)
def test_predict_gives_those_of_the_energies(fitted, mode):
    models, frames = fitted
    energy, std = models[mode].predict(frames, return_std=True)
    p = models[mode].evaluate(frames, return_std=True)
    np.testing.assert_array_equal(energy, p.energy)
    np.testing.assert_allclose(std, p.energy_std, rtol=1e-6)
    alone = models[mode].evaluate(frames, ("energy",), return_std=True)
    assert alone.forces is alone.forces_std is alone.forces_epistemic is None


@pytest.mark.parametrize("mode", MODES)
def test_covariances_have_these_variances(fitted, mode):
    models, frames = fitted
    model = models[mode]
    p = model.evaluate(frames, return_std=True)
    C = model.energy_covariance(frames)
    np.testing.assert_allclose(np.sqrt(np.diag(C)), p.energy_epistemic, rtol=1e-6)
    blocks = model.forces_covariance(frames)
    assert [block.shape for block in blocks] == [(12, 12)] * len(frames)
    for block, std in zip(blocks, p.forces_epistemic, strict=True):
        np.testing.assert_allclose(np.sqrt(np.diag(block)), std.ravel(), rtol=1e-8)


def test_many_frames_in_chunks(fitted, monkeypatch):
    models, frames = fitted
    model = models["forces"]
    whole, blocks = (
        model.evaluate(frames, return_std=True),
        model.forces_covariance(frames),
    )
    monkeypatch.setattr("kforce.force_field.CHUNK_ATOMS", 12)
    parts = model.evaluate(frames, return_std=True)
    close = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(parts.energy_std, whole.energy_std, **close)
    np.testing.assert_allclose(parts.forces_std, whole.forces_std, **close)
    np.testing.assert_allclose(model.forces_covariance(frames), blocks, **close)


def test_they_are_of_the_size_of_the_errors(methanol, methanol_model):
    test = methanol[-60:]
    p = methanol_model.evaluate(test, return_std=True)
    labels = Labels.from_frames(test)
    z = (np.array(p.forces) - labels.forces) / p.forces_std
    assert 0.75 < np.sqrt(np.mean(z**2)) < 1.35
    assert 0.55 < np.mean(np.abs(z) < 1) < 0.8
    errors, stds = np.abs(p.energy - labels.energy), p.energy_std
    assert 0.5 < np.sqrt(np.mean((errors / stds) ** 2)) < 2.0
    # Differences to one reference structure.
    C = methanol_model.energy_covariance(test)
    difference = np.sqrt(np.diag(C) + C[0, 0] - 2.0 * C[0])[1:]
    signed = p.energy - labels.energy
    z = (signed - signed[0])[1:] / difference
    assert 0.5 < np.sqrt(np.mean(z**2)) < 2.0


@pytest.mark.parametrize(
    "call",
    [
        lambda m, f: m.predict(f, return_std=True),
        lambda m, f: m.evaluate(f, return_std=True),
        lambda m, f: m.energy_covariance(f),
        lambda m, f: m.forces_covariance(f),
        lambda m, f: m.calculator(std=True),
    ],
)
def test_models_without_variance(call):
    frames = toy_frames(WATER, 3)
    model = copy.copy(regressor().fit(frames))._restore(uncertainty_=None)
    model.evaluate(frames)
    with pytest.raises(InputError, match=r"no predictive variance.* fit it to its"):
        call(model, frames)


@pytest.mark.parametrize("name", ["energy_covariance", "forces_covariance"])
def test_other_molecules_have_no_covariance(fitted, name):
    models, _ = fitted
    with pytest.raises(InputError, match="Expected structures of H3N, found H2O"):
        getattr(models["forces"], name)(toy_frames(WATER, 2))
