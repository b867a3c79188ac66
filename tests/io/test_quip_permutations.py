"""Terms whose kernel is averaged over permutations of features."""

from dataclasses import replace

import numpy as np
import pytest
from quip_files import CRYSTAL, SWAP, model, triplet

from kforce.descriptors.local import Environments
from kforce.errors import InputError
from kforce.kernels.stationary import PiecewisePolynomial

KERNELS = [None, PiecewisePolynomial(n_features=3, length_scale=2.5)]


@pytest.mark.parametrize("kernel", KERNELS)
def test_covariances(kernel):
    term = triplet(kernel=kernel, permutations=SWAP)
    K = term.covariance() / term.f_cut / term.f_cut[:, None]
    np.testing.assert_allclose(K, K.T, rtol=1e-12)
    np.testing.assert_allclose(np.diag(K), 0.7**2 + 0.2**2, rtol=1e-12)
    images = replace(term, inducing_points=term.inducing_points[:, SWAP[1]])
    np.testing.assert_allclose(images.covariance(), term.covariance(), rtol=1e-12)


def test_one_permutation_is_none():
    plain = triplet()
    term = triplet(permutations=[[0, 1, 2]])
    plain = replace(plain, length_scales=term.length_scales)
    found, expected = (model(t).evaluate([CRYSTAL]) for t in (term, plain))
    np.testing.assert_allclose(found.energy, expected.energy, rtol=1e-12)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("permutations", [SWAP, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]])
def test_derivatives(kernel, permutations):
    term = triplet(kernel=kernel, permutations=permutations)
    rng = np.random.default_rng(0)
    x = term.inducing_points + rng.normal(scale=0.3, size=term.inducing_points.shape)
    f_cut = rng.uniform(0.2, 1.0, len(x))

    def jet(x):
        return term.jet(Environments(x, f_cut, np.arange(len(x)), 2))

    energy, by_x, by_f_cut = jet(x)
    np.testing.assert_allclose(energy, f_cut * by_f_cut, rtol=1e-14)
    k, _ = term.compare(x)
    np.testing.assert_allclose(energy, 2 * f_cut * (k @ term.weights), rtol=1e-12)
    for q, step in enumerate(1e-5 * np.eye(3)):
        slope = (jet(x + step)[0] - jet(x - step)[0]) / 2e-5
        np.testing.assert_allclose(by_x[:, q], slope, rtol=1e-6, atol=1e-9)


def test_variances():
    term = triplet(permutations=SWAP)
    environments = Environments(term.inducing_points, term.f_cut, np.arange(4), 2)
    variance = np.diag(term.covariance())
    np.testing.assert_allclose(term.prior_variance(environments), variance, rtol=1e-12)


def test_what_it_does_not_know():
    term = triplet(permutations=SWAP)
    with pytest.raises(InputError, match="predicts only"):
        term.compare(term.inducing_points, orders=(0, 1))
    with pytest.raises(InputError, match="must be a group"):
        replace(term, permutations=np.array([[0, 1, 2], [1, 2, 0]]))
    with pytest.raises(InputError, match="length_scales must not change"):
        replace(term, length_scales=np.array([1.0, 2.0, 3.0]))
