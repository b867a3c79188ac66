import numpy as np
import pytest
from toys import KERNELS, additive_kernel, name_of, symmetric_group

from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.gdml.covariance import Assembly
from kforce.gdml.prior import Prior
from kforce.kernels.base import Scaled, Sum
from kforce.kernels.stationary import Matern52
from kforce.kernels.symmetrised import SymmetrisedKernel

BONDS = ((0, 1), (0, 2), (0, 3))
GROUP = symmetric_group(4, 3)
STAR = InternalCoordinates(bonds=BONDS)
PAIRS = InverseDistances().coordinates(4).images(GROUP)[0]
WITH_ANGLES = STAR.coordinates(4).images(GROUP)[0]


def slow_values(kernel, feature_perms, x, y):
    """Σ_t Σ_s a_t² φ(|s_t (x − P_s y)|²), with a loop over each of the sums."""
    terms = kernel.components(x.shape[1])
    K = np.zeros((len(x), len(y)))
    for i, one in enumerate(x):
        for j, other in enumerate(y):
            for w, variance in zip(terms.scales, terms.variances, strict=True):
                for p in feature_perms:
                    u = np.sum(w**2 * (one - other[p]) ** 2)
                    K[i, j] += variance * float(terms.profile(u))
    return K


def points(n, n_features, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n_features))


def check(kernel, feature_perms):
    x = points(4, feature_perms.shape[1])
    y = np.vstack([x[:1], points(3, feature_perms.shape[1], seed=1)])
    slow = slow_values(kernel, feature_perms, x, y)
    fast = SymmetrisedKernel(kernel, feature_perms).covariance(x, y)
    np.testing.assert_allclose(fast, slow, rtol=1e-13)
    slow = np.diag(slow_values(kernel, feature_perms, x, x))
    np.testing.assert_allclose(
        SymmetrisedKernel(kernel, feature_perms).variance(x), slow, rtol=1e-13
    )


@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
def test_plain_kernels_against_loops(kernel):
    check(kernel, PAIRS)


@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
def test_sums_against_loops(kernel):
    additive = additive_kernel(kernel, STAR, GROUP, 4)
    check(additive, WITH_ANGLES)
    check(Scaled(additive, amplitude=1.7), WITH_ANGLES)


def test_arbitrary_scales_against_loops():
    # Not closed under the group: the sum is what it says all the same.
    rng = np.random.default_rng(3)
    scales = rng.uniform(size=(5, 6)) * (rng.uniform(size=(5, 6)) < 0.4)
    scales[:, 2] += 0.1
    check(Sum(Matern52(1.3), scales, rng.uniform(size=5)), PAIRS)


def test_permutations_with_one_image_are_counted_not_repeated():
    # Feature 0 is the pair (1, 0): two of the six permutations take it to each of three
    # places. The pairs of equal atoms and both of one atom tell them all apart.
    one, two = np.eye(6)[0], np.eye(6)[[0, 1]].sum(axis=0)
    kernel = Sum(Matern52(1.0), [one, two], [1.0, 3.0])
    components = SymmetrisedKernel(kernel, PAIRS).components
    assert [len(component.images) for component in components] == [3, 6]
    assert [component.weight for component in components] == [2.0, 9.0]
    for component in components:
        expected = PAIRS[component.members][:, component.active]
        np.testing.assert_array_equal(component.images, expected)
        assert len(np.unique(component.images, axis=0)) == len(component.images)


def test_a_term_that_no_permutation_changes_has_one_image():
    # Atoms 0 and 1 of four, of which only 2 and 3 are equal.
    feature_perms = InverseDistances().coordinates(4).images(symmetric_group(4, 2))[0]
    kernel = Sum(Matern52(1.0), np.eye(6)[:1])
    (component,) = SymmetrisedKernel(kernel, feature_perms).components
    assert component.images.tolist() == [[0]]
    assert component.weight == 2.0
    check(kernel, feature_perms)


@pytest.mark.parametrize("side", ["x", "y", "both"])
def test_values_are_symmetric_under_the_permutations(side):
    kernel = additive_kernel(Matern52(1.3), STAR, GROUP, 4)
    x, y = points(3, WITH_ANGLES.shape[1]), points(2, WITH_ANGLES.shape[1], seed=1)
    K = SymmetrisedKernel(kernel, WITH_ANGLES).covariance(x, y)
    variance = SymmetrisedKernel(kernel, WITH_ANGLES).variance(x)
    for p in WITH_ANGLES:
        left = x[:, p] if side != "y" else x
        right = y[:, p] if side != "x" else y
        permuted = SymmetrisedKernel(kernel, WITH_ANGLES).covariance(left, right)
        np.testing.assert_allclose(permuted, K, rtol=1e-13)
        again = SymmetrisedKernel(kernel, WITH_ANGLES).variance(left)
        np.testing.assert_allclose(again, variance, rtol=1e-13)


def test_values_are_a_covariance():
    kernel = additive_kernel(Matern52(1.3), STAR, GROUP, 4)
    x = points(30, WITH_ANGLES.shape[1])
    K = SymmetrisedKernel(kernel, WITH_ANGLES).covariance(x, x)
    np.testing.assert_allclose(K, K.T, rtol=1e-13)
    eigenvalues = np.linalg.eigvalsh(K)
    assert eigenvalues[0] > -1e-13 * eigenvalues[-1]
    np.testing.assert_allclose(
        SymmetrisedKernel(kernel, WITH_ANGLES).variance(x), np.diag(K), rtol=1e-13
    )


def test_the_assembly_knows_where_each_term_is_not_zero():
    kernel = additive_kernel(Matern52(1.3), STAR, GROUP, 4)
    coordinates = STAR.coordinates(4)
    images = Assembly(Prior(kernel, GROUP), coordinates).images
    owner = np.repeat(np.arange(len(coordinates.atoms)), np.diff(coordinates.first))

    def components(features):
        atoms = set()
        for g in owner[features]:
            atoms |= set(coordinates.atoms[g, : coordinates.n_body[g]])
        return sorted(3 * a + c for a in atoms for c in range(3))

    for s, t in enumerate(images.component):
        features = np.flatnonzero(images.metric[t])
        active = images.active[images.begin[t] : images.begin[t + 1]]
        assert active.tolist() == sorted(set(owner[features]))
        assert np.flatnonzero(images.touches[s]).tolist() == components(features)
        columns = images.columns[images.start[s] : images.start[s + 1]]
        assert columns.tolist() == components(images.features[s, features])
