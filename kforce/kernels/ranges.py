"""Where training points end: ranges of features, and grades of what is beyond.

The distance of features x from those of the training set is that of Mahalanobis, with
the covariance of a probabilistic principal component analysis: along the directions in
which training points vary it is measured by their spread, in all others by a small
share of it. It is divided by a high quantile of the largest distance of a frame that is
left out, so that 1 is where the training set ends. It does not depend on amplitudes,
nor on labels, and has no upper bound.

References
----------
Tipping and Bishop, J. R. Stat. Soc. B 61, 611 (1999). For grades of other kinds see
Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171 (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kforce.registry import register
from kforce.storage.codec import check_array

#: Share of the whole variance that directions count with in which training
#: environments do not vary.
LEAST_VARIANCE = 1e-4

#: Share of their mean square below which the variance of features is rounding.
ROUNDING = 1e-12

#: What lengths are multiplied by, so that rounding takes nothing out of a range.
MARGIN = 1.0 + 1e-6

#: Parts of the frames that are left out in turn.
N_FOLDS = 5

#: Quantile of the largest distance of a frame that is grade 1, and the share of frames
#: whose tail tells it.
QUANTILE, TAIL = 0.999, 0.25

#: The same of whole structures: twenty runs of 20 ps have about a million.
STRUCTURE_QUANTILE = 1.0 - 1e-6

#: A feature may be so many times as far from the middle as the ends of its range in
#: training, and more, in inverse proportion to their number, where structures are few;
#: these ends are a share of the middle away from it at least.
N_SPANS, FEW_STRUCTURES, LEAST_SPAN = 3.0, 5, 1e-3

#: What the largest distance is multiplied by where there is one frame only.
LONELY_MARGIN = 2.0


@register
@dataclass(frozen=True)
class TermRange:
    """Where the training environments of a term are.

    Their features have the mean `centre` (n_features,), and vary along orthonormal
    `axes` (n_features, n_axes); a distance of `lengths` (n_axes,) along these, and of
    `rest` along any other direction, is grade 1. An isolated atom is far from all that
    has neighbours: features `alone` (n_alone, n_features) of those in the training set
    are places of their own, with `rest` around them. Squared lengths along directions
    that are no features count beyond `outside`, the largest of the training set.
    """

    centre: np.ndarray
    axes: np.ndarray
    lengths: np.ndarray
    rest: float
    alone: np.ndarray
    outside: float = 0.0

    def check_stored(self) -> None:
        """Raise an error unless shapes fit and lengths are positive."""
        check_array("centre", self.centre, (None,))
        check_array("axes", self.axes, (len(self.centre), None))
        check_array("lengths", self.lengths, (self.axes.shape[1],))
        if len(self.alone):
            check_array("alone", self.alone, (None, len(self.centre)))
        if not min(self.lengths.min(initial=1.0), self.rest) > 0.0 <= self.outside:
            raise ValueError("lengths of a range are not positive")

    @classmethod
    def of(cls, x: np.ndarray, least_variance: float = LEAST_VARIANCE) -> TermRange:
        """Return the range of features (n_env, n_features), in standard deviations."""
        centre = x.mean(axis=0)
        return cls.along(centre, *_principal_axes(x - centre), least_variance)

    @classmethod
    def along(
        cls,
        centre: np.ndarray,
        variances: np.ndarray,
        axes: np.ndarray,
        least_variance: float = LEAST_VARIANCE,
    ) -> TermRange:
        """Return the range of variances along axes (n_features, n_variances)."""
        whole = variances.sum()
        if whole <= ROUNDING * np.square(centre).sum():
            whole = 1.0  # any other environment is beyond
        floor = least_variance * whole
        kept = variances >= min(floor, variances.max())
        lengths = np.sqrt(variances[kept] + floor)
        axes, alone = np.ascontiguousarray(axes[:, kept]), np.zeros((0, len(centre)))
        return cls(centre, axes, lengths, floor**0.5, alone)

    @classmethod
    def learned(
        cls,
        frames: Sequence[np.ndarray],
        quantile: float = QUANTILE,
        n_folds: int = N_FOLDS,
    ) -> TermRange:
        """Return the range of frames, each with features (n_env, n_features).

        They are left out in `n_folds` parts; a quantile of their largest distances is
        grade 1.
        """
        whole = cls.of(np.concatenate(frames))
        farthest = np.zeros(len(frames))
        for fold in range(min(n_folds, len(frames))):
            left_out = range(fold, len(frames), n_folds)
            others = [x for s, x in enumerate(frames) if s not in left_out] or frames
            own = cls.of(np.concatenate(others))
            for s in left_out:
                # Others that are all the same measure by no length of the data.
                farthest[s] = max(r.grades(frames[s]).max() for r in (own, whole))
        return whole.scaled(MARGIN * max(1.0, tail_quantile(farthest, quantile)))

    def scaled(self, factor: float) -> TermRange:
        """Return a range of which all lengths are multiplied by a number."""
        return replace(self, lengths=factor * self.lengths, rest=factor * self.rest)

    def grades(self, x: np.ndarray, outside: np.ndarray | float = 0.0) -> np.ndarray:
        """Return the distances (n_env,) of features (n_env, n_features).

        `outside` (n_env,) are squared lengths along directions that are no features.
        """
        outside = np.maximum(outside - self.outside, 0.0)
        away = x - self.centre
        along = away @ self.axes
        square = np.einsum("ed,ed->e", away, away) - np.einsum("ea,ea->e", along, along)
        square = (np.maximum(square, 0.0) + outside) / self.rest**2
        square += np.square(along / self.lengths).sum(axis=1)
        for x_alone in self.alone:
            apart = np.square(x - x_alone).sum(axis=1) + outside
            square = np.minimum(square, apart / self.rest**2)
        return np.sqrt(square)


def _principal_axes(x):
    """Return variances along orthonormal axes, and these, (n_features, n_axes)."""
    if len(x) < x.shape[1]:
        _, spread, axes = np.linalg.svd(x, full_matrices=False)
        return spread**2 / len(x), axes.T
    variances, axes = np.linalg.eigh(x.T @ x / len(x))
    return np.maximum(variances, 0.0), axes


def tail_quantile(
    values: np.ndarray, quantile: float = QUANTILE, tail: float = TAIL
) -> float:
    """Return a quantile of positive values beyond those that are there.

    The largest of them, a share of `tail`, are taken to fall off exponentially, so few
    values leave a margin above their largest one.

    >>> values = -np.log(1.0 - np.arange(0.5, 1000.0) / 1000.0)
    >>> round(tail_quantile(values), 1)  # log(1000)
    6.9
    """
    values = np.sort(values)
    n_tail = min(max(5, round(tail * len(values))), len(values) - 1)
    if n_tail < 1:
        return LONELY_MARGIN * float(values[-1])
    start = values[-n_tail - 1]
    excess = np.mean(values[-n_tail:] - start)
    share = n_tail / len(values) / (1.0 - quantile)
    return float(max(np.quantile(values, quantile), start + excess * np.log(share)))


@dataclass(frozen=True)
class StructureRange:
    """Where the training structures of a global model and their images are.

    Their features are in the range of the `spread`, and between `low` and `high`
    (n_features,). A feature that is `n_spans` times as far from the middle as these is
    grade 1 as well: few structures tell less of how features go together.
    """

    spread: TermRange
    low: np.ndarray
    high: np.ndarray
    n_spans: float

    @classmethod
    def of(cls, x: np.ndarray, feature_perms: np.ndarray) -> StructureRange:
        """Return the range of structures with features (n, n_features).

        Their images under permutations, `feature_perms` (n_perms, n_features), count as
        much as they do, so grades are the same for all. Structures are left out as in
        `TermRange.learned`.
        """
        low = x.min(axis=0)[feature_perms].min(axis=0)
        high = x.max(axis=0)[feature_perms].max(axis=0)
        origin = x.mean(axis=0)[feature_perms].mean(axis=0)
        whole = _Moments.of(x - origin, feature_perms)
        of_whole, farthest = whole.range_around(origin), np.zeros(len(x))
        for fold in range(min(N_FOLDS, len(x))):
            left_out = x[fold::N_FOLDS]
            ranges = [of_whole]
            if len(left_out) < len(x):
                others = whole.less(_Moments.of(left_out - origin, feature_perms))
                ranges.append(others.range_around(origin))
            farthest[fold::N_FOLDS] = np.max([r.grades(left_out) for r in ranges], 0)
        margin = max(1.0, tail_quantile(farthest, STRUCTURE_QUANTILE))
        n_spans = N_SPANS * (1.0 + FEW_STRUCTURES / len(x))
        return cls(of_whole.scaled(MARGIN * margin), low, high, n_spans)

    @cached_property
    def _middle_and_span(self):
        """Middle and half the range of each feature: the same in every step."""
        middle, span = 0.5 * (self.low + self.high), 0.5 * (self.high - self.low)
        return middle, np.maximum(span, LEAST_SPAN * np.abs(middle))

    def grades(self, x: np.ndarray) -> np.ndarray:
        """Return the grades (n,) of features (n, n_features)."""
        middle, span = self._middle_and_span
        of_features = np.max(np.abs(x - middle) / (self.n_spans * span), axis=1)
        return np.maximum(self.spread.grades(x), of_features)


@dataclass(frozen=True)
class _Moments:
    """The count of points, their sum, and that of x xᵀ, both averaged over images."""

    count: int
    total: np.ndarray
    square: np.ndarray

    @classmethod
    def of(cls, x, feature_perms):
        square, images = x.T @ x, np.zeros((x.shape[1], x.shape[1]))
        for perm in feature_perms:
            images += square[np.ix_(perm, perm)]
        total = x.sum(axis=0)[feature_perms].mean(axis=0)
        return cls(len(x), total, images / len(feature_perms))

    def less(self, other):
        """Return the moments of all points but others."""
        parts = (self.count, self.total, self.square)
        others = (other.count, other.total, other.square)
        return _Moments(*(a - b for a, b in zip(parts, others, strict=True)))

    def range_around(self, origin):
        """Return the range of these points, which are relative to an origin."""
        mean = self.total / self.count
        covariance = self.square / self.count - np.outer(mean, mean)
        variances, axes = np.linalg.eigh(covariance)
        return TermRange.along(origin + mean, np.maximum(variances, 0.0), axes)
