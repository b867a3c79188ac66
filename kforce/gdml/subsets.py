"""Which structures stand for all of them: at random, or far from one another."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

#: Rows of the subset that a length scale is learned from: a second or two.
LENGTH_SCALE_ROWS = 1000


def random_subset(
    sizes: np.ndarray,
    x: np.ndarray,
    rng: np.random.Generator,
    n_rows: int = LENGTH_SCALE_ROWS,
) -> np.ndarray:
    """Choose different points, two at least, with about `n_rows` observations.

    `sizes` (n,) are the observations at each of the points x (n, n_features), whose
    equal rows are copies: a point whose copy is in the subset would be predicted from
    it. The indices are in ascending order.
    """
    count = max(2, int(n_rows // max(1.0, float(np.mean(sizes)))))
    _, different = np.unique(x, axis=0, return_index=True)
    return np.sort(rng.permutation(np.sort(different))[:count])


def farthest_points(
    x: np.ndarray,
    feature_perms: np.ndarray,
    sizes: np.ndarray,
    n_rows: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Choose points that are far from one another, up to symmetry.

    The first is drawn at random, each further one is the farthest from all before, as
    long as the observations `sizes` (n,) at the chosen points are `n_rows` together at
    most; one point is always chosen. x are (n, n_features), and feature_perms
    (n_perms, n_features) their images under the atom permutations. The indices are in
    ascending order.

    Examples
    --------
    >>> x, rng = np.array([[0.0], [0.1], [1.0]]), np.random.default_rng(1)
    >>> farthest_points(x, np.array([[0]]), np.ones(3, dtype=int), 2, rng)
    array([1, 2])
    """
    chosen = [int(rng.integers(len(x)))]
    nearest = np.full(len(x), np.inf)
    while len(chosen) < len(x):
        images = x[chosen[-1]][feature_perms]
        nearest = np.minimum(nearest, cdist(x, images).min(axis=1))
        nearest[chosen] = -1.0  # copies are at distance zero and come after all others
        chosen.append(int(np.argmax(nearest)))
        if sizes[chosen].sum() > n_rows:
            chosen.pop()
            break
    return np.sort(chosen)
