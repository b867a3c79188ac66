"""How far predicted standard deviations can be trusted: arrays in, numbers out.

A residual is reference minus prediction (no function depends on its sign); residuals
that are NaN have no reference and do not count, as in `kforce.evaluation.metrics`.
Functions of `residual` and `std` pool all entries. Functions of `residuals` and `stds`
take one entry a structure, an energy or an array of force components: the components
of one structure are not independent of one another, structures are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import erf, ndtr
from scipy.stats import spearmanr

from kforce.errors import InputError

_ROOT_TWO_PI = np.sqrt(2.0 * np.pi)


def nlpd(residual: np.ndarray, std: np.ndarray) -> float:
    """Return the mean negative log predictive density of Gaussian predictions.

    mean( ½ ln(2π std²) + residual² / (2 std²) ), in nats; it depends on the unit.

    References
    ----------
    Gneiting & Raftery, J. Am. Stat. Assoc. 102, 359 (2007), section 4.1, the
    logarithmic score.

    Examples
    --------
    >>> nlpd(np.array([0.0, np.nan]), 1.0).__round__(3)  # ½ ln 2π
    0.919
    """
    residual, std = _pairs(residual, std)
    return float(np.mean(0.5 * (residual / std) ** 2 + np.log(std * _ROOT_TWO_PI)))


def crps(residual: np.ndarray, std: np.ndarray) -> float:
    """Return the mean continuous ranked probability score of Gaussian predictions.

    mean( std (z (2Φ(z) - 1) + 2φ(z) - 1/√π) ) with z = residual / std: an absolute
    error, in the unit of the residual, that rewards an honest std.

    References
    ----------
    Gneiting & Raftery, J. Am. Stat. Assoc. 102, 359 (2007), section 4.2, with the
    opposite sign.

    Examples
    --------
    >>> crps(np.array([0.3, -0.3]), 1e-9).__round__(3)  # the error of a sure prediction
    0.3
    """
    residual, std = _pairs(residual, std)
    z = residual / std
    density = np.exp(-0.5 * z**2) / _ROOT_TWO_PI
    score = z * (2.0 * ndtr(z) - 1.0) + 2.0 * density - 1.0 / np.sqrt(np.pi)
    return float(np.mean(std * score))


def ence(residual: np.ndarray, std: np.ndarray, n_bins: int = 10) -> float:
    """Return the expected normalised calibration error.

    mean over bins b of |RMV_b - RMSE_b| / RMV_b, where the bins hold equally many
    entries in the order of std, RMV is the root mean variance and RMSE the root mean
    square residual. Zero is perfect, but m independent entries in each bin show about
    1 / √(π m) even then: only equal numbers of entries and bins compare.

    References
    ----------
    Levi et al., Sensors 22, 5540 (2022); Pernot, arXiv:2305.11905 (2023) on the
    number of bins.

    Examples
    --------
    >>> ence(np.array([0.1, -0.1, 0.8, 0.8]), np.array([0.1, 0.1, 0.4, 0.4]), n_bins=2)
    0.5
    """
    rmv, rmse = reliability(residual, std, n_bins)
    return float(np.mean(np.abs(rmv - rmse) / rmv))


def reliability(
    residual: np.ndarray, std: np.ndarray, n_bins: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Return the root mean variance and root mean square residual of each bin of std.

    Examples
    --------
    >>> reliability(np.array([3.0, 1.0, 2.0]), np.array([4.0, 1.0, 2.0]), n_bins=3)
    (array([1., 2., 4.]), array([1., 2., 3.]))
    """
    residual, std = _pairs(residual, std)
    order = np.argsort(std, kind="stable")
    bins = np.array_split(order, min(n_bins, len(order)))
    mean_squares = [[np.mean(v[b] ** 2) for b in bins] for v in (std, residual)]
    rmv, rmse = np.sqrt(mean_squares)
    return rmv, rmse


def central_levels(residual: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return the levels of the central intervals that just reach each residual, sorted.

    erf(|residual| / (√2 std)); of a calibrated Gaussian they are uniform in [0, 1], and
    their cumulative distribution is the observed over the expected coverage.

    Examples
    --------
    >>> central_levels(np.array([1.0, -2.0]), 1.0).round(3)
    array([0.683, 0.954])
    """
    residual, std = _pairs(residual, std)
    return np.sort(erf(np.abs(residual) / (np.sqrt(2.0) * std)))


def coverage(residual: np.ndarray, std: np.ndarray, level: float = 0.95) -> float:
    """Return the fraction of residuals inside of their central interval of a level.

    Examples
    --------
    >>> coverage(np.array([0.5, -1.9, 2.1, np.nan]), 1.0, level=0.95).__round__(3)
    0.667
    """
    return float(np.mean(central_levels(residual, std) <= level))


def miscalibration_area(residual: np.ndarray, std: np.ndarray) -> float:
    """Return the area between observed and expected coverage of central intervals.

    ∫₀¹ |coverage(p) - p| dp, exact for the given residuals: 0 is perfect, and ½ the
    worst, where every std is far too small or far too large.

    References
    ----------
    Kuleshov, Fenner & Ermon, Proc. Mach. Learn. Res. 80, 2796 (2018); Tran et al.,
    Mach. Learn.: Sci. Technol. 1, 025006 (2020).

    Examples
    --------
    >>> miscalibration_area(np.array([1.0, -2.0, 0.5]), 1e-6).__round__(3)
    0.5
    """
    levels = central_levels(residual, std)
    edges = np.concatenate([[0.0], levels, [1.0]])
    observed = np.arange(len(levels) + 1) / len(levels)  # between two edges
    low, high = edges[:-1] - observed, edges[1:] - observed
    return float(np.sum(high * np.abs(high) - low * np.abs(low)) / 2.0)


def rank_correlation(error: np.ndarray, std: np.ndarray) -> float:
    """Return Spearman's correlation of absolute errors and standard deviations.

    NaN if one of them does not vary, or less than two errors are there.

    Examples
    --------
    >>> rank_correlation(np.array([0.1, -0.3, 0.2]), np.array([1.0, 3.0, 2.0]))
    1.0
    """
    error, std = _pairs(error, std)
    error = np.abs(error)
    if np.ptp(error) == 0.0 or np.ptp(std) == 0.0:
        return np.nan
    return float(spearmanr(error, std).statistic)


def recalibration_factor(residual: np.ndarray, std: np.ndarray) -> float:
    """Return the factor for all std under which the residuals are most likely.

    √mean( (residual / std)² ), the minimum of `nlpd` over a common factor. Take
    residuals that the model was not fitted to: of left-out structures, or a test set.

    References
    ----------
    Levi et al., Sensors 22, 5540 (2022), std scaling; Bachoc, Comput. Stat. Data Anal.
    66, 55 (2013), with leave-one-out residuals.

    Examples
    --------
    >>> recalibration_factor(np.array([0.2, -0.2]), 0.1)
    2.0
    """
    residual, std = _pairs(residual, std)
    return float(np.sqrt(np.mean((residual / std) ** 2)))


def rms_per_structure(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return the root mean square of each array, without NaN; NaN where nothing is.

    Examples
    --------
    >>> rms_per_structure([np.array([3.0, -3.0, np.nan]), np.array([np.nan])])
    array([ 3., nan])
    """
    finite = [np.ravel(a)[~np.isnan(np.ravel(a))] for a in arrays]
    return np.array([np.sqrt(np.mean(a**2)) if len(a) else np.nan for a in finite])


def summary(
    residuals: Sequence[np.ndarray], stds: Sequence[np.ndarray]
) -> dict[str, float]:
    """Return all measures of the calibration of one quantity.

    Parameters
    ----------
    residuals, stds : sequence of array_like
        An energy in eV or an array of force components in eV/Å for each structure.

    Returns
    -------
    dict
        'nlpd', 'crps', 'ence', 'miscalibration_area', 'coverage_50', 'coverage_90',
        'coverage_95' and 'recalibration_factor' of all entries, and 'spearman', the
        `rank_correlation` of the root mean squares of each structure.

    Raises
    ------
    InputError
        If shapes differ, no reference is there or a standard deviation is not positive.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> stds = rng.uniform(0.1, 0.5, (200, 6))
    >>> summary(rng.normal(0.0, stds), stds)["coverage_90"].__round__(2)
    0.89
    """
    residuals, stds = pairs_of_structures(residuals, stds)
    residual, std = np.concatenate(residuals), np.concatenate(stds)
    each = rms_per_structure(residuals), rms_per_structure(stds)
    return {
        "nlpd": nlpd(residual, std),
        "crps": crps(residual, std),
        "ence": ence(residual, std),
        "miscalibration_area": miscalibration_area(residual, std),
        **{f"coverage_{p}": coverage(residual, std, p / 100) for p in (50, 90, 95)},
        "spearman": rank_correlation(*each),
        "recalibration_factor": recalibration_factor(residual, std),
    }


def pairs_of_structures(residuals, stds):
    """Return lists of flat residuals and stds of the structures with references."""
    if len(residuals) != len(stds):
        raise InputError(
            f"Expected standard deviations for {len(residuals)} structures, found "
            f"{len(stds)}."
        )
    pairs = [
        _pairs(r, s)
        for r, s in zip(residuals, stds, strict=True)
        if not np.isnan(np.asarray(r, float)).all()
    ]
    if not pairs:
        raise InputError("Calibration needs references, and there are none.")
    return [r for r, _ in pairs], [s for _, s in pairs]


def _pairs(residual, std):
    """Return the residuals that are there and their standard deviations, flat."""
    residual = np.asarray(residual, dtype=float)
    try:
        std = np.broadcast_to(np.asarray(std, dtype=float), residual.shape)
    except ValueError:
        raise InputError(
            f"Residuals of shape {residual.shape} need standard deviations of that "
            f"shape, found {np.shape(std)}."
        ) from None
    has_reference = ~np.isnan(residual)
    residual, std = residual[has_reference], std[has_reference]
    if not len(residual):
        raise InputError("Calibration needs references, and there are none.")
    bad = std[~((std > 0.0) & (std < np.inf))]
    if len(bad):
        raise InputError(
            f"Standard deviations must be positive and finite, found {bad[0]:g}."
        )
    return residual, std
