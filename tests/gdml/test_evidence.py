import numpy as np
import pytest
from toys import toy_frames

from kforce.descriptors.inverse_distances import InverseDistances
from kforce.gdml.covariance import covariance
from kforce.gdml.evidence import leave_one_out
from kforce.gdml.length_scale import learn_kernel, subset_of
from kforce.gdml.observations import Observations
from kforce.kernels.stationary import RBF, Matern52
from kforce.labels import Labels
from kforce.structures import Batch


def problem(sizes, seed=0):
    """A covariance with noise, and targets drawn from it."""
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    root = rng.normal(size=(n, n)) / np.sqrt(n)
    K = root @ root.T + 0.1 * np.eye(n)
    return K, np.linalg.cholesky(K) @ rng.normal(size=n)


def left_out(K, y, sizes):
    """Residual and predictive covariance of each block, from all others, by refits."""
    start = 0
    for size in sizes:
        out = np.arange(start, start + size)
        rest = np.setdiff1d(np.arange(len(y)), out)
        gain = np.linalg.solve(K[np.ix_(rest, rest)], K[np.ix_(rest, out)])
        yield (
            y[out] - gain.T @ y[rest],
            K[np.ix_(out, out)] - K[np.ix_(out, rest)] @ gain,
        )
        start += size


@pytest.mark.parametrize("sizes", [[1, 1, 1], [3, 3, 3], [3, 1, 4, 2]], ids=str)
def test_leave_one_out_against_refits(sizes):
    K, y = problem(sizes)
    residuals, _ = leave_one_out(K, y, sizes)
    expected = np.concatenate([r for r, _ in left_out(K, y, sizes)])
    np.testing.assert_allclose(residuals, expected, rtol=1e-10)


@pytest.mark.parametrize("sizes", [[1, 1, 1], [3, 1, 4, 2]], ids=str)
def test_the_density_is_that_of_the_best_amplitude(sizes):
    K, y = problem(sizes)

    def log_density(variance):
        total = 0.0
        for r, C in left_out(K, y, sizes):
            total -= 0.5 * r @ np.linalg.solve(variance * C, r)
            total -= 0.5 * np.linalg.slogdet(2 * np.pi * variance * C)[1]
        return total

    density = leave_one_out(K, y, sizes)[1]
    chi2 = sum(r @ np.linalg.solve(C, r) for r, C in left_out(K, y, sizes))
    best = chi2 / len(y)
    np.testing.assert_allclose(density, log_density(best), rtol=1e-10)
    assert log_density(0.9 * best) < density
    assert log_density(1.1 * best) < density


def test_the_amplitude_of_the_covariance_does_not_matter():
    K, y = problem([3, 3, 3])
    residuals, density = leave_one_out(K, y, [3, 3, 3])
    again, density_again = leave_one_out(50.0 * K, y, [3, 3, 3])
    np.testing.assert_allclose(again, residuals, rtol=1e-11)
    np.testing.assert_allclose(density_again, density, rtol=1e-11)


def test_a_subset_is_drawn_in_order_without_repetition():
    sizes = np.full(500, 12)
    x = np.random.default_rng(0).normal(size=(500, 3))
    chosen = subset_of(sizes, x, np.random.default_rng(0))
    # A thousand rows.
    assert len(chosen) == 1000 // 12
    assert (np.diff(chosen) > 0).all()
    assert chosen[-1] < 500
    np.testing.assert_array_equal(chosen, subset_of(sizes, x, np.random.default_rng(0)))
    assert not np.array_equal(chosen, subset_of(sizes, x, np.random.default_rng(1)))


def test_a_subset_of_few_structures_is_all_and_of_large_ones_at_least_two():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 3))
    np.testing.assert_array_equal(subset_of(np.full(7, 12), x, rng), np.arange(7))
    assert len(subset_of(np.full(7, 3000), x, rng)) == 2


def test_a_subset_holds_no_copies():
    x = np.repeat(np.arange(5.0)[:, None], 3, axis=0)
    chosen = subset_of(np.ones(15), x, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(x[chosen, 0]), np.arange(5.0))


@pytest.mark.parametrize("kernel", [Matern52(), RBF()], ids=repr)
def test_the_learned_length_scale_is_the_best_of_a_fine_grid(kernel):
    frames = toy_frames([8, 1, 1], 25)
    features = InverseDistances()(Batch.from_frames(frames))
    observations = Observations.build(
        Batch.from_frames(frames), Labels.from_frames(frames), 1.0
    )
    group, relative_noise = np.array([[0, 1, 2], [0, 2, 1]]), 1e-4

    def density(length):
        given = type(kernel)(length_scale=length)
        K = covariance(features, observations, given, group).to_dense()
        K += relative_noise * np.trace(K) / len(K) * np.eye(len(K))
        return leave_one_out(K, observations.y, observations.sizes)[1]

    score = learn_kernel(kernel, features, observations, group, relative_noise, False)
    learned, found = score.kernel, score.density
    np.testing.assert_allclose(found, density(learned.length_scale), rtol=1e-9)
    assert type(learned) is type(kernel)
    assert kernel.length_scale is None
    best = max(density(length) for length in np.geomspace(0.1, 10, 60))
    # The search stops when log ℓ is known to 0.05: that costs far less than one unit of
    # log density, which is what data can tell apart.
    assert density(learned.length_scale) > best - 0.5
