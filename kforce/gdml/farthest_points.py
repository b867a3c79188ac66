"""Which structures stand for all of them."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist


def farthest_points(
    x: np.ndarray,
    feature_perms: np.ndarray,
    sizes: np.ndarray,
    n_rows: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Choose points that are far from one another, up to symmetry.

    The first is drawn at random, each further one is the farthest from all before.

    Parameters
    ----------
    x : ndarray of shape (n, n_features)
        Descriptors.
    feature_perms : ndarray of int, shape (n_perms, n_features)
        Images of the features under the atom permutations.
    sizes : ndarray of int, shape (n,)
        Observations at each point.
    n_rows : int
        Observations of the chosen points together, at most; one point is always chosen.
    rng : numpy.random.Generator
        Source of the first point.

    Returns
    -------
    ndarray of int
        Indices in ascending order.

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
