"""Fewer structures: a bound that is never below the exact standard deviations."""

import numpy as np
import pytest
from toys import AMMONIA, toy_frames
from uncertainty_toys import MODES, NOISE_ENERGY, build, compare, features_of


@pytest.mark.parametrize("noise_energy", MODES.values(), ids=MODES)
@pytest.mark.parametrize("seed", range(6))
def test_a_subset_is_never_more_certain(seed, noise_energy):
    frames = toy_frames(AMMONIA, 20, seed)
    rng = np.random.default_rng(seed)
    known = rng.random(16) < 0.7 if noise_energy is None else None
    uncertainty = build(frames[:16], noise_energy, known=known, calibration=0.7)
    part = uncertainty.subset(n_rows=int(rng.integers(8, 80)), seed=seed)
    assert 1 <= len(part.features.x) < 16
    assert part.calibration == uncertainty.calibration
    queries = features_of(frames)
    rounding = 1 - 1e-9
    for exact, bound in zip(
        uncertainty.deviations(queries), part.deviations(queries), strict=True
    ):
        assert (bound >= rounding * exact).all()
        assert bound.sum() > 1.01 * exact.sum()
    # Of all linear combinations as well.
    gain = part.energy_covariance(queries) - uncertainty.energy_covariance(queries)
    assert np.linalg.eigvalsh(gain)[0] > -1e-9


def test_a_subset_is_what_a_model_of_these_structures_knows():
    frames = toy_frames(AMMONIA, 12)
    part = build(frames[:10], NOISE_ENERGY).subset(n_rows=45)
    # Seven rows a structure.
    assert len(part.observations.positions) == 6
    chosen = [
        next(f for f in frames if np.array_equal(f.positions, p))
        for p in part.observations.positions
    ]
    compare(part, chosen, frames[9:])
    everything = build(frames[:10])
    assert everything.subset(n_rows=60) is everything
