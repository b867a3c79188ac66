"""Measures of calibration against integrals, simulations and known values."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from kforce.errors import InputError
from kforce.evaluation.calibration import (
    central_levels,
    coverage,
    crps,
    ence,
    miscalibration_area,
    nlpd,
    rank_correlation,
    recalibration_factor,
    reliability,
    rms_per_structure,
    summary,
)

N = 20_000


def simulated(scale=1.0, n=N, seed=0):
    """Gaussian residuals whose spread is `scale` times what is predicted."""
    rng = np.random.default_rng(seed)
    std = np.exp(rng.normal(size=n))
    return rng.normal(0.0, scale * std), std


def test_nlpd_is_the_density_of_scipy():
    residual, std = simulated(n=50)
    expected = -stats.norm(scale=std).logpdf(residual).mean()
    assert nlpd(residual, std) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(("residual", "std"), [(0.3, 0.5), (-2.0, 0.4), (0.0, 3.0)])
def test_crps_is_the_integral_that_defines_it(residual, std):
    def left(x):
        return stats.norm.cdf(x, scale=std) ** 2

    def right(x):
        return (1.0 - stats.norm.cdf(x, scale=std)) ** 2

    bound = 12.0 * std + abs(residual)
    expected = quad(left, -bound, residual)[0] + quad(right, residual, bound)[0]
    assert crps(np.array([residual]), std) == pytest.approx(expected, rel=1e-7)


def test_miscalibration_area_is_the_integral_that_defines_it():
    residual, std = simulated(1.4, n=7)
    p = (np.arange(200_000) + 0.5) / 200_000
    observed = np.mean(central_levels(residual, std)[:, None] <= p, axis=0)
    expected = np.abs(observed - p).mean()
    assert miscalibration_area(residual, std) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_simulated_residuals_give_the_analytic_values(scale):
    """Residuals are `scale` times as wide as predicted; four standard errors."""
    residual, std = simulated(scale)
    entropy = np.mean(np.log(std)) + 0.5 * np.log(2 * np.pi)
    assert nlpd(residual, std) - entropy == pytest.approx(0.5 * scale**2, rel=0.04)
    assert recalibration_factor(residual, std) == pytest.approx(scale, rel=0.02)
    # E[F(p)] integrates to P(|z₁| < |z₂| / scale), an angle in the plane.
    area = abs(2.0 / np.pi * np.arctan(1.0 / scale) - 0.5)
    assert miscalibration_area(residual, std) == pytest.approx(area, abs=0.01)
    assert ence(residual, std) == pytest.approx(abs(1.0 - scale), abs=0.05)
    for level in (0.5, 0.9, 0.95):
        expected = 1.0 - 2.0 * stats.norm.sf(stats.norm.isf(0.5 - level / 2) / scale)
        error = 4.0 * np.sqrt(expected * (1.0 - expected) / N)
        assert coverage(residual, std, level) == pytest.approx(expected, abs=error)


def test_crps_of_calibrated_residuals():
    residual, std = simulated()
    assert crps(residual / std, 1.0) == pytest.approx(1 / np.sqrt(np.pi), rel=0.02)


def test_proper_scores_are_best_for_the_right_std():
    residual, std = simulated()
    for score in (nlpd, crps):
        right = score(residual, std)
        assert right < score(residual, 0.8 * std)
        assert right < score(residual, 1.2 * std)


def test_the_recalibrated_residuals_are_the_most_likely():
    residual, std = simulated(1.7, n=100)
    factor = recalibration_factor(residual, std)
    best = nlpd(residual, factor * std)
    assert best < min(nlpd(residual, f * factor * std) for f in (0.99, 1.01))
    assert recalibration_factor(residual, factor * std) == pytest.approx(1.0)


def test_ence_of_few_calibrated_residuals_is_as_large_as_documented():
    m, rng = 50, np.random.default_rng(0)
    std = np.linspace(1.0, 1.5, 10 * m)
    found = np.mean([ence(rng.normal(0.0, std), std) for _ in range(300)])
    assert found == pytest.approx(1.0 / np.sqrt(np.pi * m), rel=0.05)


def test_reliability_against_bins_one_by_one():
    residual, std = simulated(n=23)
    order = sorted(range(23), key=lambda k: std[k])
    sizes = [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]
    rmv, rmse = reliability(residual, std)
    for b, size in enumerate(sizes):
        own = order[sum(sizes[:b]) :][:size]
        assert rmv[b] == pytest.approx(np.sqrt(np.mean(std[own] ** 2)))
        assert rmse[b] == pytest.approx(np.sqrt(np.mean(residual[own] ** 2)))


def test_rank_correlation():
    error, std = simulated(n=200)
    expected = stats.spearmanr(np.abs(error), std).statistic
    assert rank_correlation(error, std) == pytest.approx(expected)
    assert rank_correlation(-error, std**3) == pytest.approx(expected)
    assert np.isnan(rank_correlation(error, 1.0))
    assert np.isnan(rank_correlation(error[:1], 1.0))


MEASURES = [nlpd, crps, ence, miscalibration_area, coverage]
MEASURES += [rank_correlation, recalibration_factor]


@pytest.mark.parametrize("measure", MEASURES)
def test_entries_without_a_reference_do_not_count(measure):
    residual, std = simulated(n=40)
    gaps = np.where(np.arange(40) % 3 == 0, np.nan, residual)
    # A std that is not there does not matter where there is no reference.
    holes = np.where(np.arange(40) % 3 == 0, np.nan, std)
    there = np.isfinite(gaps)
    expected = measure(residual[there], std[there])
    assert measure(gaps, holes) == pytest.approx(expected, rel=1e-13)
    assert measure(-gaps, holes) == pytest.approx(expected, rel=1e-13)
    assert measure(gaps.reshape(8, 5), holes.reshape(8, 5)) == pytest.approx(expected)


def test_the_summary_pools_entries_and_correlates_structures():
    residual, std = simulated(n=300)
    sizes = np.repeat([2, 3], 60).cumsum()[:-1]
    residuals, stds = np.split(residual, sizes), np.split(std, sizes)
    residuals[4] = np.full(len(residuals[4]), np.nan)
    found = summary(residuals, stds)
    pooled = np.concatenate(residuals)
    assert found["crps"] == crps(pooled, std)
    assert found["coverage_95"] == coverage(pooled, std, 0.95)
    each = rms_per_structure(residuals), rms_per_structure(stds)
    assert found["spearman"] == pytest.approx(rank_correlation(*each))
    # Energies are structures of one entry.
    single = summary(residual, std)
    assert single["spearman"] == pytest.approx(rank_correlation(residual, std))


@pytest.mark.parametrize(
    ("residual", "std", "message"),
    [
        ([1.0, 2.0], [1.0, 0.0], "must be positive and finite, found 0"),
        ([1.0, 2.0], [1.0, -1.0], "must be positive and finite, found -1"),
        ([1.0, 2.0], [1.0, np.nan], "must be positive and finite, found nan"),
        ([1.0, 2.0], [1.0, np.inf], "must be positive and finite, found inf"),
        ([1.0, 2.0], [1.0, 1.0, 1.0], r"of shape \(2,\) .* found \(3,\)"),
        ([np.nan], [1.0], "needs references"),
        ([], [], "needs references"),
    ],
)
def test_what_cannot_be_measured(residual, std, message):
    with pytest.raises(InputError, match=message):
        nlpd(residual, std)
    with pytest.raises(InputError):
        summary(residual, std)
