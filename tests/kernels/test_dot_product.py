"""Kernels of atomic environments against their definitions."""

import numpy as np
import pytest
from conformance import KernelConformance
from sklearn.base import clone
from toys import assert_second_order

from kforce.errors import InputError
from kforce.kernels.base import Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import PiecewisePolynomial

U = np.array([1.0, 0.97, 0.6, 0.2, 1e-3])


@pytest.mark.parametrize("zeta", [1, 2, 3, 4, 5, 8, 1.5, 2.0, 2.5, 7.3])
def test_powers(zeta):
    naive = [U**zeta]
    factor = 1.0
    for order in range(1, 4):
        factor *= zeta - order + 1
        naive.append(factor * U ** (zeta - order) if factor else 0.0 * U)
    found = Polynomial(zeta).profile(U)
    assert len(found) == 4
    for ours, expected in zip(found, naive, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-13, atol=0)
    np.testing.assert_array_equal(Polynomial(zeta)(U), found[0])


class TestPowers(KernelConformance):
    u = (0.2, 0.6, 0.97)
    cases = {f"zeta={zeta}": Polynomial(zeta) for zeta in (1, 2, 3, 4, 5)}


class TestCompactSupport(KernelConformance):
    u = (0.15, 0.5, 1.4)
    cases = {f"{n} features": PiecewisePolynomial(n, 1.6) for n in (1, 3, 4)}


@pytest.mark.parametrize("zeta", [1, 2, 3, 4, 6])
def test_whole_powers_take_negative_products(zeta):
    u = np.array([-0.7, 0.0, 0.3])
    value, slope = Polynomial(zeta).profile(u, orders=(0, 1))
    np.testing.assert_allclose(value, u**zeta, rtol=1e-14)
    np.testing.assert_allclose(slope, zeta * u ** (zeta - 1), rtol=1e-14)


def test_a_power_is_a_kernel_of_products():
    assert Polynomial().is_product
    assert Scaled(Polynomial()).is_product
    assert not PiecewisePolynomial().is_product
    assert clone(Polynomial(zeta=3)).zeta == 3
    assert Polynomial().get_params() == {"zeta": 4}


@pytest.mark.parametrize("zeta", [0, 0.5, -1, np.nan, np.inf, 1000, "4", None, [4]])
def test_zeta_that_is_refused(zeta):
    with pytest.raises(InputError, match="zeta must be a number from 1 on"):
        Polynomial(zeta)(U)


@pytest.mark.parametrize("n_features", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("length", [1.0, 1.7])
def test_compact_support(n_features, length):
    kernel = PiecewisePolynomial(n_features, length)
    j = n_features // 2 + 2
    for t in (0.0, 0.2, 0.5, 0.9, 0.999):
        expected = (1 - t) ** (j + 1) * ((j + 1) * t + 1)
        u = np.array((t * length) ** 2)
        np.testing.assert_allclose(kernel(u), expected, rtol=1e-9)
    assert kernel(np.zeros(1)) == 1.0
    beyond = np.array([1.0, 1.0001, 2.0, 100.0]) ** 2 * length**2
    assert not np.any(kernel.profile(beyond * (1 + 1e-15), orders=(0, 1)))


@pytest.mark.parametrize("n_features", [1, 3, 4])
def test_slope_of_compact_support(n_features):
    """∂k/∂x = 2 φ'(u) (x − y), without a kink at equal points or at the end."""
    kernel = PiecewisePolynomial(n_features, 1.3)

    def along(r):
        return kernel(r**2)

    r = np.array([0.15, 0.5, 0.9, 1.2])
    (slope,) = kernel.profile(r**2, orders=(1,))
    assert_second_order(along, 2.0 * slope * r, r, np.ones(4), 1e-2, 1e-5)
    (edges,) = kernel.profile(np.array([0.0, 1.3**2]), orders=(1,))
    j = n_features // 2 + 2
    np.testing.assert_allclose(edges[0], -(j + 1) * (j + 2) / 2 / 1.3**2, rtol=1e-13)
    assert abs(edges[1]) < 1e-12


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("n_features", [1, 3, 4])
def test_higher_derivatives_of_compact_support(n_features, order):
    """They are derivatives, and zero where points meet and beyond the support."""
    kernel = PiecewisePolynomial(n_features, 1.3)

    def lower(u):
        return kernel.profile(u, orders=(order - 1,))[0]

    u = np.array([0.15, 0.5, 0.9, 1.2]) ** 2
    (found,) = kernel.profile(u, orders=(order,))
    assert_second_order(lower, found, u, np.ones(4), 2e-3, 1e-4)
    (edges,) = kernel.profile(np.array([0.0, 1.3**2, 4.0]), orders=(order,))
    np.testing.assert_allclose(edges, 0.0, atol=1e-12)
