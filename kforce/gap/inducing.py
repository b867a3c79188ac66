"""Choice of inducing environments among those of the training set.

==========  ===========================================================================
method      takes
==========  ===========================================================================
random      any
uniform     one of each cell of a grid over the range of the features (few of them)
farthest    the one farthest from all before, again and again
kmeans      those next to the centres of clusters
cur         those of large leverage in the space of the leading singular vectors
variance    the one whose energy the ones before leave most uncertain, again and again
==========  ===========================================================================

References
----------
Mahoney and Drineas, Proc. Natl. Acad. Sci. 106, 697 (2009), for CUR; Bartók and Csányi,
Int. J. Quantum Chem. 115, 1051 (2015), for its use with inducing environments.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import qr, svd

from kforce.errors import InputError

#: Environments that differ by less in every feature are the same.
MIN_DIFFERENCE = 1e-10

#: Singular values and variances below this, relative to the largest, are rounding.
ROUNDING = 1e-13


def choose_inducing(
    x: np.ndarray,
    n: int,
    method: str,
    rng: np.random.Generator,
    groups: np.ndarray | None = None,
    covariance: Callable | None = None,
) -> np.ndarray:
    """Choose environments; copies of one another count once.

    Of the features x (n_env, n_features), scaled as the kernel sees them, the indices
    of n are returned in ascending order, or of all where there are no more. `method` is
    one of `METHODS`; 'variance' needs `covariance`, k(x, y) of arrays of points. Each
    of the `groups` (n_env,) gets the same number, as far as it is large enough. Raises
    `InputError` if there are no environments.

    >>> x = np.array([[0.0], [0.1], [0.1], [1.0]])
    >>> choose_inducing(x, 2, "farthest", np.random.default_rng(1))
    array([1, 3])
    """
    if len(x) == 0:
        raise InputError("There are no environments to choose inducing ones from.")
    different = _without_copies(x)
    if len(different) <= n:
        return different
    if groups is None:
        chosen = METHODS[method](x[different], n, rng, covariance)
        return np.sort(different[chosen])
    _, members = np.unique(groups[different], return_inverse=True)
    chosen = []
    for group, quota in enumerate(_quotas(np.bincount(members), n)):
        of_group = different[members == group]
        if quota == len(of_group):
            chosen.append(of_group)
        elif quota:
            picked = METHODS[method](x[of_group], quota, rng, covariance)
            chosen.append(of_group[picked])
    return np.sort(np.concatenate(chosen))


def _without_copies(x):
    """Return the indices of all points but later copies of others."""
    # A random direction: points that differ hardly ever have the same projection.
    direction = np.random.default_rng(0).random(x.shape[1]) / max(1, x.shape[1])
    key = x @ direction
    order = np.argsort(key, kind="stable")
    candidates = np.flatnonzero(np.diff(key[order]) < MIN_DIFFERENCE)
    apart = np.abs(x[order[candidates]] - x[order[candidates + 1]]).max(axis=1)
    # Chains of copies become runs, of which the earliest point stays.
    starts = np.ones(len(x), dtype=bool)
    starts[candidates[apart < MIN_DIFFERENCE] + 1] = False
    runs = np.cumsum(starts) - 1
    earliest = np.full(runs[-1] + 1, len(x))
    np.minimum.at(earliest, runs, order)
    return np.sort(earliest)


def _quotas(sizes, n):
    """Divide n among groups evenly, but give none more than it has."""
    quotas = np.zeros(len(sizes), dtype=int)
    while n > quotas.sum():
        open_groups = np.flatnonzero(quotas < sizes)
        more = max(1, (n - quotas.sum()) // len(open_groups))
        for group in open_groups:
            quotas[group] += min(more, sizes[group] - quotas[group], n - quotas.sum())
    return quotas


def _random(x, n, rng, covariance):
    return rng.choice(len(x), n, replace=False)


def _farthest(x, n, rng, covariance):
    chosen = [int(rng.integers(len(x)))]
    nearest = np.full(len(x), np.inf)
    while len(chosen) < n:
        difference = x - x[chosen[-1]]
        np.minimum(nearest, np.einsum("ed,ed->e", difference, difference), out=nearest)
        nearest[chosen[-1]] = -1.0
        chosen.append(int(np.argmax(nearest)))
    return np.array(chosen)


def _kmeans(x, n, rng, covariance):
    from sklearn.cluster import KMeans

    clusters = KMeans(n, n_init=1, random_state=int(rng.integers(2**31))).fit(x)
    # A point next to two centres stands for the first.
    nearest = np.unique(np.argmin(clusters.transform(x), axis=0))
    return _filled_up(nearest, len(x), n, rng)


def _filled_up(chosen, n_points, n, rng):
    """Add random points up to n."""
    others = np.setdiff1d(np.arange(n_points), chosen)
    return np.concatenate([chosen, rng.choice(others, n - len(chosen), replace=False)])


def _cur(x, n, rng, covariance):
    """Bernoulli-like choice by leverage, drawn without replacement in one pass."""
    if len(x) > x.shape[1]:
        (triangle,) = qr(x, mode="r", check_finite=False)
        _, s, right = svd(triangle[: x.shape[1]], full_matrices=False)
    else:
        _, s, right = svd(x, full_matrices=False)
    rank = max(1, int((s > ROUNDING).sum()) // 2)
    leverage = np.square(x @ (right[:rank].T / s[:rank])).sum(axis=1) / rank
    draw = rng.random(len(x)) - np.minimum(1.0, n * leverage)
    return np.argsort(draw, kind="stable")[:n]


def _uniform(x, n, rng, covariance):
    """First point of each cell of a grid; random ones where cells are empty."""
    n_features = x.shape[1]
    cells = int(np.ceil(n ** (1.0 / n_features) - 1e-9))
    spread = np.ptp(x, axis=0)
    position = (x - x.min(axis=0)) / np.where(spread > 0.0, spread, 1.0)
    index = np.floor(position * (cells - 1) + 0.5).astype(int)
    flat = index @ cells ** np.arange(n_features)
    _, first = np.unique(flat, return_index=True)
    if len(first) >= n:
        return np.sort(first)[:n]
    return _filled_up(first, len(x), n, rng)


def _variance(x, n, rng, covariance):
    """Pivoted Cholesky factorisation of the covariance of all points."""
    remaining = np.array([covariance(point[None], point[None])[0, 0] for point in x])
    largest = remaining.max()
    columns = np.zeros((len(x), n))
    chosen = []
    for k in range(n):
        pivot = int(np.argmax(remaining))
        chosen.append(pivot)
        column = covariance(x, x[pivot : pivot + 1])[:, 0]
        column -= columns[:, :k] @ columns[pivot, :k]
        if remaining[pivot] > ROUNDING * largest:
            columns[:, k] = column / np.sqrt(remaining[pivot])
            remaining -= columns[:, k] ** 2
        remaining[chosen] = -np.inf
    return np.array(chosen)


#: Functions of (x, n, rng, covariance) that return indices.
METHODS: dict[str, Callable] = {
    "random": _random,
    "uniform": _uniform,
    "farthest": _farthest,
    "kmeans": _kmeans,
    "cur": _cur,
    "variance": _variance,
}
