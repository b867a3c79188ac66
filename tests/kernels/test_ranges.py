"""Ranges of whole structures, against loops over images and left-out structures."""

import numpy as np
import pytest

from kforce.kernels.ranges import (
    MARGIN,
    N_FOLDS,
    N_SPANS,
    STRUCTURE_QUANTILE,
    StructureRange,
    TermRange,
    tail_quantile,
)

#: Permutations of six features that are a group: of three pairs.
PERMS = np.array([[0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 0, 1], [4, 5, 0, 1, 2, 3]])


def points(n, seed=0):
    rng = np.random.default_rng(seed)
    return 2.0 + rng.normal(size=(n, 6)) @ rng.normal(size=(6, 6))


def slow_spread(x, perms):
    """The range of all images, with the margin of those that are left out."""

    def of(points):
        return TermRange.of(np.concatenate([row[perms] for row in points]))

    farthest = np.zeros(len(x))
    for fold in range(N_FOLDS):
        others = [row for s, row in enumerate(x) if s % N_FOLDS != fold]
        for s in range(fold, len(x), N_FOLDS):
            both = [r.grades(x[s : s + 1])[0] for r in (of(others), of(x))]
            farthest[s] = max(both)
    margin = tail_quantile(farthest, STRUCTURE_QUANTILE)
    return of(x).scaled(MARGIN * max(1.0, margin))


@pytest.mark.parametrize("n", [7, 40])
def test_grades_of_structures(n):
    x, new = points(n), 3.0 * points(5, seed=1)
    found = StructureRange.of(x, PERMS)
    expected = slow_spread(x, PERMS)
    images = np.concatenate([row[PERMS] for row in x])
    low, high = images.min(axis=0), images.max(axis=0)
    np.testing.assert_allclose(found.low, low)
    np.testing.assert_allclose(found.high, high)
    away = np.abs(new - 0.5 * (low + high)) / (0.5 * found.n_spans * (high - low))
    assert found.n_spans == N_SPANS * (1.0 + 5.0 / n)
    expected = np.maximum(expected.grades(new), away.max(axis=1))
    np.testing.assert_allclose(found.grades(new), expected, rtol=1e-9)


def test_all_images_have_one_grade():
    found = StructureRange.of(points(20), PERMS)
    (new,) = points(1, seed=1)
    np.testing.assert_allclose(*np.broadcast_arrays(
        found.grades(new[PERMS]), found.grades(new[None])
    ), rtol=1e-9)  # fmt: skip


def test_few_new_structures_of_one_kind_are_outside():
    found = StructureRange.of(points(200), PERMS)
    grades = found.grades(points(20_000)[200:])
    assert np.mean(grades > 1.0) < 2e-3


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_structures_have_a_range(n):
    x = points(n)
    found = StructureRange.of(x, PERMS[:1])
    assert (found.grades(x) <= 1.0).all()
    assert (found.grades(100.0 * x) > 1.0).all()


def test_structures_that_are_all_the_same():
    x = np.tile(points(1), (8, 1))
    found = StructureRange.of(x, PERMS[:1])
    assert (found.grades(x) <= 1.0).all()
    assert (found.grades(1.1 * x) > 1.0).all()
