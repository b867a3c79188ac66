"""The noise that predicts left-out frames best, against fits without them."""

import numpy as np
import pytest
from sparse_toys import TERMS, mixed_frames

from kforce.gap import leave_one_out as local_noise
from kforce.gap import posterior as local_training
from kforce.gap.leave_one_out import best_noise
from kforce.gap.prior import build_terms, composition_term
from kforce.gap.regressor import GAPRegressor
from kforce.gap.training_set import gather_rows, observed, whitened_rows
from kforce.labels import Labels, LocalLabels, Noises

NOISES = Noises(energy=0.04, forces=1.0, virial=1.0)


def problem(n=9, left="all"):
    frames = mixed_frames(n)
    labels = Labels.from_frames(frames)
    labels.energy[:] -= [3.0 * len(frame) for frame in frames]
    local = LocalLabels.collect(frames, labels, NOISES)
    if left == "energy":
        local.forces[:] = [np.full_like(f, np.nan) for f in local.forces]
    terms, _ = build_terms(TERMS, frames, (29, 79), np.random.default_rng(0))
    return [*terms, composition_term((29, 79))], frames, local


def without(local, s):
    """The labels of all other frames."""
    local.energy[s] = np.nan
    local.forces[s] = np.full_like(local.forces[s], np.nan)
    local.virial[s] = np.nan
    return local


@pytest.mark.parametrize("solver", ["qr", "normal"])
@pytest.mark.parametrize(("left", "deciding"), [("all", 1), ("energy", 0)])
def test_errors_are_those_of_fits_without_each_frame(
    monkeypatch, solver, left, deciding
):
    terms, frames, local = problem(left=left)
    kept = []
    monkeypatch.setattr(
        local_noise, "_largest_good", lambda squares: kept.append(squares) or 0
    )
    rng = np.random.default_rng(0)
    gathered = gather_rows(terms, frames, local, 1e-8, solver)
    assert best_noise(gathered, terms, frames, local, rng) == local_noise._FACTORS[0]
    order = np.random.default_rng(0).permutation(len(frames))
    for s, found in zip(order, kept[0], strict=True):
        rows, y, _ = whitened_rows(terms, frames[s], local, s)
        used = observed(local, s)[2] == deciding
        others = without(problem(left=left)[2], s)
        rest = gather_rows(terms, frames, others, 1e-8, solver)
        expected = [
            np.sum((y - rows @ rest.solve(factor)[0].coef)[used] ** 2)
            for factor in local_noise._FACTORS
        ]
        np.testing.assert_allclose(found, expected, rtol=5e-4)


def test_the_largest_that_is_not_worse_is_taken():
    # Five factors: far too large, worse for all frames, worse for some and better for
    # others, best, too small.
    squares = np.tile([9.0, 1.2, 1.08, 1.0, 2.0], (40, 1))
    squares[:, 2] += np.tile([-2.0, 2.0], 20)
    assert local_noise._largest_good(squares) == 2
    squares[:, 2] = 1.08
    assert local_noise._largest_good(squares) == 3
    # Hardly worse is good enough.
    squares[:, 2] = 1.02
    assert local_noise._largest_good(squares) == 2
    # One that could not be tried.
    squares[0, 4] = 1e100
    assert local_noise._largest_good(squares) == 2


def test_few_frames_decide_nothing():
    terms, frames, local = problem(4)
    gathered = gather_rows(terms, frames, local, 1e-8)
    assert best_noise(gathered, terms, frames, local, np.random.default_rng(0)) == 1.0


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
        local_training, "best_noise", lambda *args: asked.append(args) or 0.5
    )
    GAPRegressor(TERMS[:1], **given).fit(mixed_frames(6))
    assert bool(asked) == is_asked
