"""Finite-sample coverage of conformal intervals, by simulation with grouped data."""

from math import ceil

import numpy as np
import pytest

from kforce.errors import InputError
from kforce.evaluation.conformal import conformal_factor


def structures(n, rng):
    """Heavy-tailed residuals of n structures of 2 to 29 entries, alike within each."""
    spread = np.exp(1.5 * rng.normal(size=n))
    return [s * rng.standard_t(3, size=rng.integers(2, 30)) for s in spread]


def ones(residuals):
    return [np.ones_like(r) for r in residuals]


def covered(residuals, factor):
    """Mean over structures of the fraction of their entries that are covered."""
    return np.mean([np.mean(np.abs(r) <= factor) for r in residuals])


def pooled_factor(residuals, level):
    """What one would take if all entries were exchangeable, which they are not."""
    score = np.sort(np.abs(np.concatenate(residuals)))
    return score[ceil(level * (len(score) + 1)) - 1]


def mean_coverage(n, level, factor_of, repeats=1000):
    """Coverage of further structures, and its standard error over calibration sets."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(repeats):
        factor = factor_of(structures(n, rng), level)
        found.append(covered(structures(20, rng), factor))
    return np.mean(found), np.std(found) / np.sqrt(repeats)


@pytest.mark.parametrize(("n", "level"), [(19, 0.95), (39, 0.95), (24, 0.8), (9, 0.5)])
def test_entries_of_further_structures_are_covered(n, level):
    mean, error = mean_coverage(
        n, level, lambda residuals, p: conformal_factor(residuals, ones(residuals), p)
    )
    assert mean > level - 3.0 * error
    assert mean < level + 2.0 / (n + 1) + 3.0 * error


def test_pooled_entries_break_the_promise():
    mean, error = mean_coverage(19, 0.95, pooled_factor)
    assert mean < 0.95 - 5.0 * error


@pytest.mark.parametrize(("n", "level"), [(19, 0.95), (50, 0.95), (50, 0.5)])
def test_single_entries_are_covered_exactly(n, level):
    """Continuous exchangeable scores are covered with probability k / (n + 1)."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(600):
        std = rng.uniform(0.1, 2.0, n + 50)
        residual = std * rng.laplace(size=n + 50)
        factor = conformal_factor(residual[:n], std[:n], level)
        found.append(np.mean(np.abs(residual[n:]) <= factor * std[n:]))
    expected = ceil(level * (n + 1) - 1e-9) / (n + 1)
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(expected, abs=3.5 * error)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_against_the_definition_tried_at_every_score(level):
    rng = np.random.default_rng(2)
    residuals = structures(30, rng)
    stds = [rng.uniform(0.5, 2.0, len(r)) for r in residuals]
    scores = [np.abs(r) / s for r, s in zip(residuals, stds, strict=True)]
    slow = min(
        t
        for t in np.concatenate(scores)
        if sum(np.mean(s <= t) for s in scores) / 31 >= level
    )
    assert conformal_factor(residuals, stds, level) == slow


def test_one_entry_a_structure_is_split_conformal():
    scores = np.random.default_rng(3).permutation(np.arange(1.0, 101.0))
    for level in (0.5, 0.9, 0.95, 0.99):
        rank = ceil(level * 101 - 1e-9)
        assert conformal_factor(scores, np.ones(100), level) == rank


def test_entries_without_a_reference_do_not_count():
    residuals = structures(30, np.random.default_rng(4))
    expected = conformal_factor(residuals, ones(residuals))
    gaps = [np.append(r, np.nan) for r in residuals] + [np.array([np.nan])]
    assert conformal_factor(gaps, ones(gaps)) == expected


@pytest.mark.parametrize(
    ("n", "level", "message"),
    [
        (18, 0.95, "95 % takes at least 19 structures with references, found 18"),
        (98, 0.99, "99 % takes at least 99 structures"),
        (30, 1.0, "level must be between 0 and 1, found 1.0"),
        (30, 95, "level must be between 0 and 1, found 95"),
        (0, 0.95, "needs references"),
    ],
)
def test_what_cannot_be_promised(n, level, message):
    with pytest.raises(InputError, match=message):
        conformal_factor(np.ones(n), np.ones(n), level)


def test_every_structure_needs_its_std():
    with pytest.raises(InputError, match="for 20 structures, found 19"):
        conformal_factor(np.ones(20), np.ones(19))
