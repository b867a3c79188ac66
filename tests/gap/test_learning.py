"""What sparse models learn when they are left to."""

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from sparse_toys import crystal, labelled, mixed_frames

from kforce.descriptors.two_body import TwoBody
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import Term
from kforce.kernels.base import Scaled
from kforce.kernels.stationary import RBF
from kforce.labels import Labels

ONE = TwoBody(cutoff=3.9, transition_width=0.9)


def noisy(n, noise, seed=0, **kwargs):
    """Labels with white noise, that of energies 0.04 times as large per atom."""
    rng = np.random.default_rng(seed)
    frames = mixed_frames(n, seed=seed, stress=False, **kwargs)
    for frame in frames:
        results = frame.calc.results
        results["forces"] = results["forces"] + noise * rng.normal(
            size=results["forces"].shape
        )
        results["energy"] += 0.04 * noise * np.sqrt(len(frame)) * rng.normal()
    return frames


def test_noise_is_found():
    """Of forces that are nothing but noise, and in the ratio that is assumed."""
    frames = noisy(8, 2.0)
    term = Term(ONE, RBF(length_scale=0.5), n_inducing=15)
    model = GAPRegressor([term]).fit(frames)
    np.testing.assert_allclose(model.noise_energy_, 0.04 * model.noise_forces_)
    np.testing.assert_allclose(model.noise_virial_, model.noise_forces_)
    # Of which the weights are best may be less; the predicted deviations are right.
    std = model.evaluate(noisy(8, 2.0, seed=2), return_std=True).forces_std
    assert 1.6 < np.median(np.concatenate(std)) < 2.6


def test_what_is_given_stays():
    term = Term(ONE, Scaled(RBF(length_scale=0.8), 1.7), n_inducing=8)
    model = GAPRegressor([term], noise_energy=0.03, noise_forces=0.4, noise_virial=0.1)
    model.fit(mixed_frames(4))
    assert (model.noise_energy_, model.noise_forces_, model.noise_virial_) == (
        0.03,
        0.4,
        0.1,
    )
    for fitted in model.terms_[:-1]:
        assert fitted.kernel.amplitude == 1.7
        assert (fitted.length_scales == 0.8).all()
    plain = GAPRegressor(
        [term], noise_energy=0.03, noise_forces=0.4, noise_virial=0.1, optimize=False
    ).fit(mixed_frames(4))
    np.testing.assert_array_equal(
        plain.predict([crystal(9)]), model.predict([crystal(9)])
    )


@pytest.mark.parametrize(
    ("term", "amplitude", "lengths"),
    [
        (Term(ONE, RBF(length_scale=0.8), 6), True, False),
        (Term(ONE, Scaled(RBF(), 1.7), 6), False, True),
        (Term(ONE, RBF(), 6, length_scales=0.8), True, False),
        (Term(ONE, None, 6), True, True),
    ],
)
def test_what_is_not_given_is_learned(term, amplitude, lengths):
    frames = mixed_frames(3)
    learned = GAPRegressor([term]).fit(frames)
    start = GAPRegressor([term], optimize=False).fit(frames)
    for new, old in zip(learned.terms_[:-1], start.terms_[:-1], strict=True):
        assert (new.kernel.amplitude != old.kernel.amplitude) == amplitude
        assert (new.length_scales != old.length_scales).all() == lengths
        np.testing.assert_array_equal(new.inducing_points, old.inducing_points)
        assert new.kernel.unscaled.length_scale == 1.0
    # The shift of energies of atoms is not learned.
    assert learned.terms_[-1].kernel.amplitude == start.terms_[-1].kernel.amplitude


def test_learning_helps():
    """Where pairs are all there is."""
    pairs = LennardJones(sigma=2.1, epsilon=0.2, rc=3.9, ro=2.9, smooth=True)
    frames = mixed_frames(6, calculator=pairs)
    new = mixed_frames(6, seed=4, calculator=pairs)
    terms = [Term(ONE, n_inducing=12)]
    learned = GAPRegressor(terms).fit(frames)
    fixed = GAPRegressor(terms, optimize=False).fit(frames)
    assert learned.score(new) > max(0.9, fixed.score(new) - 0.05)


def test_noises_of_frames_are_not_learned():
    frames = mixed_frames(6)
    for frame in frames:
        frame.info |= {"noise_energy": 0.1, "noise_forces": 0.5, "noise_virial": 0.2}
    model = GAPRegressor([Term(ONE, RBF(length_scale=0.8), 6)]).fit(frames)
    # Nothing tells what the noises of other frames would be.
    expected = np.array([0.002, 0.05, 0.05])
    found = [model.noise_energy_, model.noise_forces_, model.noise_virial_]
    ratios = found / expected
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-9)
    labels = Labels.from_frames(frames)
    assert labels.noise_energy.tolist() == [0.1] * 6


def test_calibration_of_fits():
    """A prior that was given is not doubted."""
    frames = mixed_frames(6)
    terms = [Term(ONE, RBF(length_scale=0.8), n_inducing=6)]
    assert GAPRegressor(terms).fit(frames).calibration_ != (1.0, 1.0)
    fixed = GAPRegressor(terms, optimize=False).fit(frames)
    assert fixed.calibration_ == (1.0, 1.0)


@pytest.mark.parametrize("kinds", [{"forces": False}, {"energy": False}])
def test_labels_of_one_kind(kinds):
    frames = [labelled(crystal(k), stress=False, **kinds) for k in range(3)]
    model = GAPRegressor([Term(ONE, n_inducing=6)]).fit(frames)
    assert np.isfinite(model.predict(frames)).all()
    assert 0.0 < model.noise_forces_ < 100.0
