"""Subsets of points: far from one another, and random ones without copies."""

import numpy as np

from kforce.gdml.subsets import farthest_points, random_subset


def slow(x, images, first, count):
    """Which points come one after another, by all distances."""
    dist = np.array(
        [[min(np.linalg.norm(a - b[p]) for p in images) for b in x] for a in x]
    )
    chosen = [first]
    while len(chosen) < count:
        rest = [i for i in range(len(x)) if i not in chosen]
        chosen.append(max(rest, key=lambda i: dist[i, chosen].min()))
    return chosen


def test_against_all_distances():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(25, 3))
    images = np.array([[0, 1, 2], [0, 2, 1]])
    for seed in range(4):
        first = int(np.random.default_rng(seed).integers(25))
        chosen = farthest_points(
            x, images, np.full(25, 3), 24, np.random.default_rng(seed)
        )
        np.testing.assert_array_equal(chosen, sorted(slow(x, images, first, 8)))


def test_copies_come_last_and_nothing_twice():
    x = np.repeat(np.arange(4.0), 3)[:, None]
    order = np.array([[0]])
    rng = np.random.default_rng(0)
    chosen = farthest_points(x, order, np.ones(12, dtype=int), 4, rng)
    np.testing.assert_array_equal(np.sort(x[chosen, 0]), np.arange(4.0))
    chosen = farthest_points(x, order, np.ones(12, dtype=int), 99, rng)
    np.testing.assert_array_equal(chosen, np.arange(12))


def test_rows_are_counted_and_one_point_is_always_chosen():
    x, order = np.arange(5.0)[:, None], np.array([[0]])
    sizes = np.array([2, 9, 9, 9, 3])
    rng = np.random.default_rng(0)
    assert sizes[farthest_points(x, order, sizes, 14, rng)].sum() <= 14
    assert len(farthest_points(x, order, sizes, 1, rng)) == 1


def test_a_random_subset_is_drawn_in_order_without_repetition():
    sizes = np.full(500, 12)
    x = np.random.default_rng(0).normal(size=(500, 3))
    chosen = random_subset(sizes, x, np.random.default_rng(0))
    # A thousand rows.
    assert len(chosen) == 1000 // 12
    assert (np.diff(chosen) > 0).all()
    assert chosen[-1] < 500
    again = random_subset(sizes, x, np.random.default_rng(0))
    np.testing.assert_array_equal(chosen, again)
    assert not np.array_equal(chosen, random_subset(sizes, x, np.random.default_rng(1)))


def test_a_random_subset_is_all_of_few_points_and_at_least_two():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 3))
    np.testing.assert_array_equal(random_subset(np.full(7, 12), x, rng), np.arange(7))
    assert len(random_subset(np.full(7, 3000), x, rng)) == 2


def test_a_random_subset_holds_no_copies():
    x = np.repeat(np.arange(5.0)[:, None], 3, axis=0)
    chosen = random_subset(np.ones(15), x, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(x[chosen, 0]), np.arange(5.0))
