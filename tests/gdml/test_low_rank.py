"""The low-rank posterior of energies: against the exact one, and its own bounds."""

import copy
from dataclasses import replace

import numpy as np
import pytest

import kforce
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.gdml import low_rank
from kforce.gdml.low_rank import EnergyColumns, LowRankPosterior, nearby
from kforce.gdml.regressor import GDMLRegressor
from kforce.kernels.stationary import Matern52
from kforce.kernels.symmetrised import SymmetrisedKernel
from kforce.structures import Batch


@pytest.fixture(scope="module")
def rest(methanol):
    return methanol[40:]


@pytest.fixture(scope="module", params=["learned", "forces alone"])
def model(request, methanol, methanol_model):
    """One of forces and energies, and one whose energies are relative to a mean."""
    if request.param == "learned":
        return copy.copy(methanol_model)._restore()
    return GDMLRegressor(kernel=Matern52()).fit(methanol[:30])


def near(model):
    positions = nearby(model.uncertainty_.observations.positions, model.permutations_)
    features = model.descriptor_(model.molecule_.batch(positions))
    order = np.argsort(model.grade_.grades(features.x))
    return features.take(np.sort(order[: len(order) // 2]))


def found(posterior, model, frames):
    return np.array([posterior.deviation(x) for x in model._features(frames).x])


def test_columns_are_those_of_the_kernel(model, rest):
    perms, points = model.expansion_.feature_perms, model.expansion_.x_train
    columns = EnergyColumns(model.kernel_, points, perms)
    kernel = SymmetrisedKernel(model.kernel_, perms)
    x = model._features(rest[:1]).x[0]
    values, slopes = columns(x)
    scale = columns.variance(x)
    expected = kernel.covariance(x[None], points)[0]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-13 * scale)
    np.testing.assert_allclose(scale, kernel.variance(x[None])[0], rtol=1e-14)
    direction = np.random.default_rng(0).normal(size=points.shape)
    h = 1e-4
    both = [
        kernel.covariance(x[None], points + sign * h * direction)[0] for sign in (1, -1)
    ]
    difference = (both[0] - both[1]) / (2.0 * h)
    along = np.einsum("md,md->m", slopes, direction)
    np.testing.assert_allclose(along, difference, rtol=0, atol=1e-5 * abs(along).max())


def test_bounds_are_never_below_the_exact_ones(model, rest, monkeypatch):
    exact, _ = model.uncertainty_.deviations(model._features(rest[:60]), False)
    one = {"bounds": np.ones(1), "ratios": np.ones(1)}
    before = np.inf
    for rank, rows in ((30, 100), (60, 200), (low_rank.RANK, low_rank.MAX_ROWS)):
        monkeypatch.setattr(low_rank, "RANK", rank)
        monkeypatch.setattr(low_rank, "MAX_ROWS", rows)
        posterior = LowRankPosterior.of(model.uncertainty_, near(model))
        bound = found(replace(posterior, **one), model, rest[:60])
        assert (bound > 0.99 * exact).all()
        # Who knows more is more certain.
        assert np.median(bound) < before
        before = np.median(bound)


def test_calibrated_deviations_are_near_the_exact_ones(model, rest, monkeypatch):
    exact, _ = model.uncertainty_.deviations(model._features(rest), False)
    monkeypatch.setattr(low_rank, "RANK", 100)
    monkeypatch.setattr(low_rank, "MAX_ROWS", 200)
    posterior = LowRankPosterior.of(model.uncertainty_, near(model))
    ratio = found(posterior, model, rest) / exact
    assert np.quantile(ratio, 0.05) > 0.8
    assert np.median(ratio) < 4.0
    assert (np.diff(posterior.bounds) > 0.0).all()
    assert (np.diff(posterior.ratios) <= 0.0).all()
    assert posterior.ratios[-1] == 1.0


def test_far_from_the_data_it_is_a_bound(model, rest):
    far = [frame.copy() for frame in rest[:20]]
    for frame, scale in zip(far, np.linspace(1.2, 2.0, 20), strict=True):
        frame.positions *= scale
    exact, _ = model.uncertainty_.deviations(model._features(far), False)
    ratio = found(model._low_rank(), model, far) / exact
    assert ratio.min() > 0.99
    assert ratio.max() < 3.0


def test_the_calculator_takes_it_for_energies_alone(model, rest):
    atoms = rest[0].copy()
    atoms.calc = model.calculator(std="energy")
    std = atoms.calc.get_property("energy_std", atoms)
    own = found(model._low_rank(), model, [atoms])[0]
    noise = (model.noise_energy_ or 0.0) * 6**0.5
    assert std == pytest.approx(np.hypot(own, noise), rel=1e-6)
    again = model._low_rank()
    atoms.rattle(0.01)
    atoms.get_forces()
    assert model._low_rank() is again  # made once
    atoms.calc = model.calculator(std="forces")
    std = atoms.calc.get_property("energy_std", atoms)
    exact = model.evaluate([atoms], return_std=True).energy_std[0]
    assert std == pytest.approx(exact, rel=1e-2)


def test_a_model_of_a_file_has_the_same(methanol_model, rest, tmp_path):
    atoms = rest[0].copy()
    std = []
    methanol_model.save(tmp_path / "model.npz")
    for model in (methanol_model, kforce.load(tmp_path / "model.npz")):
        atoms.calc = model.calculator(std="energy")
        std.append(atoms.calc.get_property("energy_std", atoms))
    assert std[0] == pytest.approx(std[1], rel=0.05)


def test_a_fit_makes_it_anew(methanol):
    model = GDMLRegressor(kernel=Matern52(length_scale=10.0)).fit(methanol[:5])
    few = model._low_rank()
    assert model.fit(methanol[:10])._low_rank() is not few


def test_structures_nearby_are_like_the_training_set(methanol):
    positions = np.array([frame.positions for frame in methanol[:30]])
    group = np.array([[0, 1, 2, 3, 4, 5], [0, 1, 3, 4, 2, 5], [0, 1, 4, 2, 3, 5]])
    found = nearby(positions, group, seed=1)
    np.testing.assert_array_equal(found, nearby(positions, group, seed=1))
    frames = [methanol[0].copy() for _ in found]
    for frame, r in zip(frames, found, strict=True):
        frame.positions = r
    known, new = (InverseDistances()(Batch.from_frames(f)).x
                  for f in (methanol[:30], frames))  # fmt: skip
    # Most distances are about as long, and vary as much.
    assert np.median(new.max(axis=1)) < known.max()
    spread = [np.subtract(*np.quantile(x, (0.75, 0.25), axis=0)) for x in (known, new)]
    ratio = spread[1] / spread[0]
    assert 0.5 < ratio.min() < ratio.max() < 2.5
