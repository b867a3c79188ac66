"""Choice of inducing environments."""

import numpy as np
import pytest

from kforce.errors import InputError
from kforce.gap.inducing import METHODS, choose_inducing


def rng(seed=0):
    return np.random.default_rng(seed)


def narrow(a, b):
    """A covariance of which no point is explained by the others."""
    return np.exp(-200.0 * np.square(a[:, None] - b).sum(axis=2))


def choose(x, n, method, seed=0, groups=None):
    return choose_inducing(x, n, method, rng(seed), groups, narrow)


def points(n=60, d=3, seed=1):
    return rng(seed).normal(size=(n, d))


class Scripted:
    """A source of random numbers that are known."""

    def __init__(self, draws):
        self.draws = draws

    def random(self, n):
        return self.draws[:n]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 2, 13, 59])
@pytest.mark.parametrize("d", [1, 3, 40, 90])
def test_distinct_indices_in_ascending_order(method, n, d):
    x = points(d=d)
    found = choose(x, n, method)
    assert found.shape == (n,)
    assert found.dtype.kind == "i"
    assert (np.diff(found) > 0).all()
    assert found.min() >= 0
    assert found.max() < len(x)


@pytest.mark.parametrize("method", METHODS)
def test_seeds(method):
    x, before = points(), points()
    np.testing.assert_array_equal(choose(x, 9, method, 3), choose(x, 9, method, 3))
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("method", ["random", "farthest", "cur", "kmeans"])
def test_other_seeds_choose_others(method):
    x = points(200)
    found = {tuple(choose(x, 9, method, seed)) for seed in range(5)}
    assert len(found) > 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [20, 21, 1000])
def test_all_of_few(method, n):
    np.testing.assert_array_equal(choose(points(20), n, method), np.arange(20))


@pytest.mark.parametrize("method", METHODS)
def test_copies_count_once(method):
    x = np.repeat(points(15), 3, axis=0)
    x[1::3] += 3e-12  # closer than what tells environments apart
    found = choose(x, 15, method)
    np.testing.assert_array_equal(found // 3, np.arange(15))
    fewer = choose(x, 6, method)
    assert len(np.unique(fewer // 3)) == 6
    np.testing.assert_array_equal(choose(np.ones((7, 2)), 3, method), [0])


@pytest.mark.parametrize(("second", "n"), [((-1, 2, 0, 3), 4), ((1, 2, 2, 1), 2)])
def test_points_of_equal_sums_are_no_copies(second, n):
    """And copies are found though others have the same sum of features."""
    x = np.reshape([1.0, 2.0, 2.0, 1.0, *second], (4, 2))
    np.testing.assert_array_equal(choose(x, 9, "random"), np.arange(n))


@pytest.mark.parametrize("method", METHODS)
def test_groups_get_equal_shares(method):
    x = points(60)
    groups = np.array(["a"] * 40 + ["b"] * 17 + ["c"] * 3)
    found = choose(x, 12, method, groups=groups)
    assert (np.diff(found) > 0).all()
    # Four each, but c has three only; what is left goes to the first.
    counts = {g: int((groups[found] == g).sum()) for g in "abc"}
    assert counts["c"] == 3
    assert sorted((counts["a"], counts["b"])) == [4, 5]
    single = choose(x, 1, method, groups=groups)
    assert len(single) == 1
    everything = choose(x, 60, method, groups=groups)
    np.testing.assert_array_equal(everything, np.arange(60))


def test_one_group_is_no_group():
    x = points()
    found = choose(x, 7, "cur", groups=np.array(["same"] * 60))
    np.testing.assert_array_equal(found, choose(x, 7, "cur"))


def test_the_farthest():
    x = points(30)
    found = choose(x, 8, "farthest")
    start = int(rng(0).integers(30))
    chosen = [start]
    while len(chosen) < 8:
        nearest = [min(np.linalg.norm(p - x[c]) for c in chosen) for p in x]
        chosen.append(int(np.argmax(nearest)))
    np.testing.assert_array_equal(found, sorted(chosen))


def test_the_most_uncertain():
    """One after the other, by the variance that a Gaussian process would have."""
    x = points(25, seed=4)
    x[:, 0] *= 3
    found = METHODS["variance"](x, 6, rng(), lambda a, b: (2.0 + a @ b.T) ** 2)
    K = (2.0 + x @ x.T) ** 2
    chosen = []
    for _ in range(6):
        left = np.diag(K).copy()
        if chosen:
            k = K[:, chosen]
            inner = K[np.ix_(chosen, chosen)]
            left -= np.einsum("nm,mn->n", k, np.linalg.solve(inner, k.T))
            left[chosen] = -1.0
        chosen.append(int(np.argmax(left)))
    np.testing.assert_array_equal(found, chosen)


def test_more_than_the_rank_of_the_covariance():
    """Three features and a product: the fourth point leaves nothing uncertain."""
    x = points(300, 3, seed=11)
    found = METHODS["variance"](x, 40, rng(), lambda a, b: a @ b.T)
    assert len(set(found)) == 40
    # What is not explained does not grow: the first three are those of the full rank.
    first = METHODS["variance"](x, 3, rng(), lambda a, b: a @ b.T)
    np.testing.assert_array_equal(found[:3], first)


@pytest.mark.parametrize("shape", [(50, 4), (12, 40), (30, 30), (200, 1)])
def test_leverage(shape):
    """The n points of smallest u_j − min(1, n π_j)."""
    x, n = rng(5).normal(size=shape), 7
    x[:3] *= 5.0
    _, s, right = np.linalg.svd(x.T, full_matrices=False)
    rank = max(1, (s > 1e-13).sum() // 2)
    leverage = (right[:rank] ** 2).sum(axis=0) / rank
    draws = rng(6).random(shape[0])
    expected = np.argsort(draws - np.minimum(1.0, n * leverage))[:n]
    found = METHODS["cur"](x, n, Scripted(draws), None)
    np.testing.assert_array_equal(np.sort(found), np.sort(expected))


def test_leverage_of_points_of_low_rank():
    x = rng(7).normal(size=(40, 2)) @ rng(8).normal(size=(2, 6))
    found = choose(x, 5, "cur")
    assert len(found) == 5


@pytest.mark.parametrize(("d", "n"), [(1, 7), (2, 9), (3, 20)])
def test_a_grid(d, n):
    """The first point of each cell in the order of points."""
    x = rng(9).uniform(size=(400, d)) * [3.0, 0.2, 7.0][:d]
    cells = int(np.ceil(n ** (1 / d)))
    low, high = x.min(axis=0), x.max(axis=0)
    taken, expected = set(), []
    for k, point in enumerate(x):
        where = (point - low) / (high - low) * (cells - 1)
        cell = tuple(int(np.floor(w + 0.5)) for w in where)
        if cell not in taken and len(expected) < n:
            taken.add(cell)
            expected.append(k)
    assert len(expected) == n
    np.testing.assert_array_equal(choose(x, n, "uniform"), expected)


def test_a_grid_with_empty_cells():
    """All cells that are not empty, and others at random."""
    x = np.concatenate([rng(1).uniform(0, 0.1, 30), [10.0]])[:, None]
    found = choose(x, 6, "uniform")
    assert len(found) == 6
    assert {0, 30} <= set(found)
    np.testing.assert_array_equal(choose(x, 1, "uniform"), [0])


def test_a_feature_without_spread():
    x = np.column_stack([rng(2).uniform(size=50), np.ones(50)])
    assert len(choose(x, 9, "uniform")) == 9


def test_clusters():
    """One of each of three clusters that are far apart, and next to its centre."""
    central_atoms = np.array([[0.0, 0], [50, 0], [0, 50]])
    x = np.concatenate([c + rng(3).normal(size=(20, 2)) for c in central_atoms])
    found = choose(x, 3, "kmeans")
    np.testing.assert_array_equal(found // 20, [0, 1, 2])
    for k, f in enumerate(found):
        own = x[20 * k : 20 * (k + 1)]
        nearest = np.argmin(np.linalg.norm(own - own.mean(axis=0), axis=1))
        assert f == 20 * k + nearest


def test_gap_fit_has_chosen_the_same(shared):
    """Its pseudo-random numbers, and our formulas: the points of its CUR method."""
    from ase.io import read

    from kforce.descriptors.soap.soap import SOAP
    from kforce.neighbours.search import find_neighbours
    from kforce.structures import Batch

    folder = shared / "reference" / "gap" / "si_2b_soap"
    if not folder.is_dir():
        pytest.skip(f"no reference data: {folder} is missing")
    soap = SOAP(
        cutoff=4.5,
        n_max=6,
        l_max=4,
        atom_sigma=0.5,
        transition_width=0.8,
        species=(14,),
        centre=14,
    )
    batch = Batch.from_frames(read(folder / "train.xyz", ":"))
    x = soap(batch.numbers, find_neighbours(batch, 4.5)).x
    state, draws = 42, []
    for _ in range(100 + len(x)):
        state = 16807 * state % (2**31 - 1)
        draws.append(state / (2**31 - 1))
    # Its first descriptor, on a grid without empty cells, has drawn nothing.
    found = METHODS["cur"](x, 60, Scripted(np.array(draws[100:])), None)
    stored = np.load(folder / "linear_system.npz")["idxsoap"] - 1
    np.testing.assert_array_equal(np.sort(found), np.sort(stored))


@pytest.mark.parametrize("method", METHODS)
def test_no_points(method):
    with pytest.raises(InputError, match="no environments to choose"):
        choose(np.zeros((0, 3)), 5, method)
