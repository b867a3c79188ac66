"""What holds for all kernels."""

import numpy as np
from local_frames import clusters
from sklearn.base import clone
from toys import assert_second_order, central_differences

import kforce
from conformance.cases import Cases
from kforce import GAPRegressor, Term, TwoBody


def profile_of(kernel, order):
    return lambda u: kernel.profile(u, orders=(order,))[0]


class KernelConformance(Cases):
    """Subclasses name kernels, and values of u where these are smooth and not zero."""

    u = (0.4, 1.0, 3.0)
    axes = {"order": (0, 1, 2)}

    def test_each_order_is_the_derivative_of_the_one_before(self, case, order):
        for u in self.u:
            value = profile_of(case, order)
            derivative, step = profile_of(case, order + 1)(u), 0.01 * u
            error = central_differences(value, u, 1.0, step) - derivative
            # Of lines and parabolas, differences are exact.
            if abs(error) > 1e-11 * abs(value(u)):
                assert_second_order(value, derivative, u, 1.0, step)

    def test_call_and_orders_are_the_profile(self, case):
        u = np.array([[self.u[0], self.u[1]], [0.0, self.u[2]]])
        before, whole = u.copy(), case.profile(u)
        assert len(whole) == 4
        np.testing.assert_array_equal(case(u), whole[0])
        for order, expected in zip((3, 1), case.profile(u, (3, 1)), strict=True):
            np.testing.assert_array_equal(whole[order], expected)
        for values in whole:
            assert values.shape == u.shape
            assert not np.shares_memory(values, u)
        np.testing.assert_array_equal(u, before)
        assert np.shape(case(0.5)) == ()

    def test_points_may_be_equal(self, case):
        """φ'' d dᵀ and φ''' u² are numbers (0), not 0/0: the diagonal of matrices."""
        if case.is_product:
            return
        u, tiny = np.zeros(3), 1e-18
        _, _, ddphi, dddphi = case.profile(u)
        np.testing.assert_array_equal(ddphi * u, 0.0)
        np.testing.assert_array_equal(dddphi * u**2, 0.0)
        # φ'' d² is O(|d|) at worst (Matérn-3/2).
        phi, dphi, ddphi = case.profile(np.array([0.0, tiny]), orders=(0, 1, 2))
        np.testing.assert_allclose(phi[1], phi[0], rtol=1e-8)
        np.testing.assert_allclose(dphi[1], dphi[0], rtol=1e-8)
        assert abs(ddphi[1] * tiny) < 1e-8 * phi[0]

    def test_only_the_ratio_to_the_length_scale_matters(self, case):
        length = getattr(case.unscaled, "length_scale", None)
        if length is None:
            return
        doubled = case.with_length_scale(2.0 * length)
        assert case.unscaled.length_scale == length
        u = np.array(self.u)
        for order in range(4):
            a, b = profile_of(case, order)(u), profile_of(doubled, order)(4.0 * u)
            np.testing.assert_allclose(a, 4.0**order * b, rtol=1e-14)

    def test_values_and_gradients_have_a_covariance(self, case):
        """K and ∂ₓ∂ᵧᵀ k of random points have no negative eigenvalues."""
        x = np.random.default_rng(0).normal(size=(20, 2))
        case = case.for_features(2)
        x /= np.linalg.norm(x, axis=1)[:, None] if case.is_product else 1.0
        d = x[:, None] - x
        u = x @ x.T if case.is_product else np.square(d).sum(axis=-1)
        phi, dphi, ddphi = case.profile(u, orders=(0, 1, 2))
        K = np.empty((20, 3, 20, 3))
        K[:, 0, :, 0] = phi
        if case.is_product:
            K[:, 1:, :, 0] = np.einsum("ij,jc->icj", dphi, x)
            outer = np.einsum("ij,jc,id->icjd", ddphi, x, x)
            K[:, 1:, :, 1:] = outer + np.einsum("ij,cd->icjd", dphi, np.eye(2))
        else:
            K[:, 1:, :, 0] = 2.0 * np.einsum("ij,ijc->icj", dphi, d)
            outer = -4.0 * np.einsum("ij,ijc,ijd->icjd", ddphi, d, d)
            K[:, 1:, :, 1:] = outer - 2.0 * np.einsum("ij,cd->icjd", dphi, np.eye(2))
        K[:, 0, :, 1:] = np.moveaxis(K[:, 1:, :, 0], 2, 0).transpose(0, 1, 2)
        K = K.reshape(60, 60)
        np.testing.assert_allclose(K, K.T, atol=1e-13 * np.abs(K).max())
        eigenvalues = np.linalg.eigvalsh(K)
        assert eigenvalues[0] > -1e-12 * eigenvalues[-1]

    def test_parameters_and_copies(self, case):
        copy = clone(case)
        assert repr(copy) == repr(case)
        assert copy.unscaled is not case.unscaled
        assert not copy.needs_length_scale
        np.testing.assert_array_equal(copy(np.array(self.u)), case(np.array(self.u)))
        assert "\n" not in case.describe()

    def test_a_model_with_it_is_saved(self, case, tmp_path):
        term = Term(TwoBody(cutoff=4.0), kernel=case, n_inducing=4)
        model = GAPRegressor([term], noise_forces=0.1, optimize=False)
        frames = clusters(3)
        model.fit(frames).save(tmp_path / "model.npz")
        again = kforce.load(tmp_path / "model.npz")
        assert repr(again.terms) == repr(model.terms)
        np.testing.assert_array_equal(again.predict(frames), model.predict(frames))
