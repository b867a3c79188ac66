"""Errors of left-out frames, against fits without them, and what they decide."""

import numpy as np
import pytest
from sparse_toys import (
    TERMS,
    cluster,
    crystal,
    mixed_frames,
    terms_named,
    training_set,
    without,
)

from kforce.gap import regressor
from kforce.gap.leave_one_out import (
    NOISE_FACTORS,
    LeftOutErrors,
    best_noise_factor,
    frames_to_leave_out,
    largest_good,
    leave_one_out,
    squared_errors,
)
from kforce.gap.posterior import gather
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import build_terms, composition_term

JITTER = 1e-7


def fitted(frames, names=("pairs", "triplets", "densities", "elements"), **kwargs):
    training = training_set(frames, (0.02, 0.3, 0.1), atom_energy=2.0)
    return gather(terms_named(names), training, JITTER, **kwargs), training


@pytest.mark.parametrize("kind", ["all", "energies", "no energies", "some missing"])
@pytest.mark.parametrize("approximation", ["dtc", "fitc"])
def test_leaving_frames_out(kind, approximation):
    """The closed form is what a fit without the frame gives."""
    options = {
        "energies": {"forces": False, "stress": False},
        "no energies": {"energy": False},
    }.get(kind, {})
    frames = mixed_frames(5, **options)
    if kind == "some missing":
        frames[1].calc.results["forces"][0, 1] = np.nan
        frames[2].calc.results["stress"][2] = np.nan
        del frames[3].calc.results["energy"]
    system, training = fitted(frames, approximation=approximation)
    posterior = system.condition()
    left_out = frames_to_leave_out(system, training, np.random.default_rng(7))
    found = leave_one_out(posterior, training, left_out)
    errors, spreads, kinds = [], [], []
    for s in np.random.default_rng(7).permutation(len(frames)):
        rest = gather(
            posterior.terms, without(training, s), JITTER, "qr", approximation
        ).condition()
        known = training.observations[s]
        rows, y, noise = training.whitened(posterior.terms, s)
        used = known.kind < 2
        energy, forces = rest.variances(frames[s])
        variances = np.append(energy, forces)[known.rows[used]]
        errors.append((y - rows @ rest.solution.coef)[used])
        spreads.append(np.sqrt(variances) / noise[used])
        kinds.append(known.kind[used])
    errors, spreads = map(np.concatenate, (errors, spreads))
    np.testing.assert_array_equal(found.kinds, np.concatenate(kinds))
    scale = np.abs(errors).max()
    np.testing.assert_allclose(found.errors, errors, rtol=1e-4, atol=1e-5 * scale)
    scale = spreads.max()
    np.testing.assert_allclose(found.epistemic, spreads, rtol=1e-4, atol=1e-4 * scale)


def test_some_frames_are_left_out():
    system, training = fitted(mixed_frames(5), ("pairs",))
    rng = np.random.default_rng(3)
    left_out = frames_to_leave_out(system, training, rng, n_frames=2)
    found = leave_one_out(system.condition(), training, left_out)
    chosen = np.random.default_rng(3).permutation(5)[:2]
    expected = sum(3 * len(training.frames[s]) + 1 for s in chosen)
    assert len(found.errors) == expected
    assert (found.kinds == 0).sum() == 2


def test_frames_without_labels_say_nothing():
    frames = [*mixed_frames(3), crystal(60), cluster(61)]
    system, training = fitted(frames, ("pairs", "elements"))
    left_out = frames_to_leave_out(system, training, np.random.default_rng(0))
    found = leave_one_out(system.condition(), training, left_out)
    assert len(found.errors) == sum(3 * len(frame) + 1 for frame in frames[:3])


def test_noises_that_are_multiplied():
    """Rows that were read with other noises say the same."""
    system, training = fitted(mixed_frames(5))
    left_out = frames_to_leave_out(system, training, np.random.default_rng(0))
    doubled = training.with_noises(2.0 * training.noises)
    posterior = system.condition(2.0)
    found = leave_one_out(posterior, doubled, left_out, 2.0)
    again = gather(posterior.terms, doubled, JITTER)
    left_out = frames_to_leave_out(again, doubled, np.random.default_rng(0))
    expected = leave_one_out(again.condition(), doubled, left_out)
    np.testing.assert_allclose(found.errors, expected.errors, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.epistemic, expected.epistemic, rtol=1e-6)


@pytest.mark.parametrize("n", [150, 20_000])
def test_calibration(n):
    """Of energies and of forces each, by the tail or, of few, by the middle."""
    rng = np.random.default_rng(0)
    epistemic = rng.uniform(0.0, 3.0, 2 * n)
    kinds = np.repeat([0, 1], n)
    factors = np.repeat([0.3, 2.5], n)
    errors = rng.normal(size=2 * n) * factors * np.hypot(1.0, epistemic)
    found = LeftOutErrors(errors, epistemic, kinds).calibration()
    np.testing.assert_allclose(found, (0.3, 2.5), rtol=0.02 if n > 1000 else 0.2)
    # What has no errors of its own is as far off as the other.
    for k, factor in enumerate(found):
        own = kinds == k
        part = LeftOutErrors(errors[own], epistemic[own], kinds[own])
        alone = part.calibration()
        assert alone == (factor, factor)
    swapped = LeftOutErrors(errors, epistemic, 1 - kinds)
    assert swapped.calibration() == found[::-1]
    # No errors, and errors that are all zero, say nothing.
    for n_errors in (0, 5):
        nothing = LeftOutErrors(*np.zeros((2, n_errors)), np.ones(n_errors, dtype=int))
        assert nothing.calibration() == (1.0, 1.0)


def noise_problem(n=9, forces=True):
    options = {} if forces else {"forces": False}
    training = training_set(mixed_frames(n, **options), (0.04, 1.0, 1.0), 3.0)
    terms, _ = build_terms(TERMS, training, (29, 79), np.random.default_rng(0))
    return [*terms, composition_term((29, 79))], training


@pytest.mark.parametrize("solver", ["qr", "normal"])
@pytest.mark.parametrize("deciding", [1, 0])
def test_errors_are_those_of_fits_without_each_frame(solver, deciding):
    terms, training = noise_problem(forces=deciding == 1)
    system = gather(terms, training, 1e-8, solver)
    left_out = frames_to_leave_out(system, training, np.random.default_rng(0))
    squares = squared_errors(system, training, left_out)
    chosen = [frame.frame for frame in left_out]
    assert sorted(chosen) == list(range(9))
    for s, found in zip(chosen[:3], squares[:3], strict=True):
        rows, y, _ = training.whitened(terms, s)
        used = training.observations[s].kind == deciding
        rest = gather(terms, without(training, s), 1e-8, solver)
        expected = [
            np.sum((y - rows @ rest.condition(factor).solution.coef)[used] ** 2)
            for factor in NOISE_FACTORS
        ]
        np.testing.assert_allclose(found, expected, rtol=5e-4)
    factor = best_noise_factor(system, training, left_out)
    assert factor == NOISE_FACTORS[largest_good(squares)]


def test_the_largest_that_is_not_worse_is_taken():
    # Five factors: far too large, worse for all frames, worse for some and better for
    # others, best, too small.
    squares = np.tile([9.0, 1.2, 1.08, 1.0, 2.0], (40, 1))
    squares[:, 2] += np.tile([-2.0, 2.0], 20)
    assert largest_good(squares) == 2
    squares[:, 2] = 1.08
    assert largest_good(squares) == 3
    # Hardly worse is good enough.
    squares[:, 2] = 1.02
    assert largest_good(squares) == 2
    # One that could not be tried.
    squares[0, 4] = 1e100
    assert largest_good(squares) == 2


def test_few_frames_decide_nothing():
    terms, training = noise_problem(4)
    system = gather(terms, training, 1e-8)
    left_out = frames_to_leave_out(system, training, np.random.default_rng(0))
    assert len(left_out) == 4
    assert best_noise_factor(system, training, left_out) == 1.0


@pytest.mark.parametrize(
    ("given", "is_asked"),
    [
        ({}, True),
        ({"noise_forces": 0.5}, False),
        ({"approximation": "fitc"}, False),
        ({"optimize": False}, False),
        ({"config_noises": {"default": (0.1, 0.5, 0.5)}}, False),
    ],
)
def test_only_noises_that_are_all_open_change(monkeypatch, given, is_asked):
    """One factor is that of all rows, or of none."""
    asked = []
    monkeypatch.setattr(
        regressor, "best_noise_factor", lambda *args: asked.append(args) or 0.5
    )
    GAPRegressor(TERMS[:1], **given).fit(mixed_frames(6))
    assert bool(asked) == is_asked
