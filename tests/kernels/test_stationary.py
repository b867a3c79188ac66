import numpy as np
import pytest
from conformance import KernelConformance
from toys import KERNELS, name_of

from kforce.errors import InputError
from kforce.kernels.base import Scaled
from kforce.kernels.stationary import (
    RBF,
    Matern32,
    Matern52,
    Matern72,
    RationalQuadratic,
)


class TestStationary(KernelConformance):
    cases = {name_of(kernel): kernel for kernel in KERNELS}


@pytest.mark.parametrize(
    ("kernel", "value", "slope"),
    [
        (Matern32(length_scale=2.0), 1.0, -3 / 2 / 4),
        (Matern52(length_scale=2.0), 1.0, -5 / 6 / 4),
        (Matern72(length_scale=2.0), 1.0, -7 / 10 / 4),
        (RBF(length_scale=2.0), 1.0, -1 / 2 / 4),
        (RationalQuadratic(length_scale=2.0, alpha=3.0), 1.0, -1 / 2 / 4),
        (Scaled(RBF(length_scale=2.0), amplitude=3.0), 9.0, -9 / 2 / 4),
    ],
    ids=lambda v: name_of(v) if hasattr(v, "profile") else None,
)
def test_value_and_slope_at_zero_distance(kernel, value, slope):
    phi, dphi = kernel.profile(np.zeros(1), orders=(0, 1))
    np.testing.assert_allclose(phi, value, rtol=1e-15)
    np.testing.assert_allclose(dphi, slope, rtol=1e-15)


def test_scaled_multiplies_by_the_square_of_the_amplitude():
    kernel = Matern72(length_scale=0.8)
    u = np.linspace(0.0, 4.0, 5)
    for scaled, plain in zip(
        Scaled(kernel, amplitude=3.0).profile(u), kernel.profile(u), strict=True
    ):
        np.testing.assert_array_equal(scaled, 9.0 * plain)


def test_values_against_the_textbook():
    r = 1.7
    u, a3, a5 = r**2, np.sqrt(3) * r / 0.9, np.sqrt(5) * r / 0.9
    expected = [
        (Matern32(length_scale=0.9), (1 + a3) * np.exp(-a3)),
        (Matern52(length_scale=0.9), (1 + a5 + a5**2 / 3) * np.exp(-a5)),
        (RBF(length_scale=0.9), np.exp(-u / 2 / 0.81)),
        (RationalQuadratic(length_scale=0.9, alpha=2.0), (1 + u / 4 / 0.81) ** -2),
    ]
    for kernel, value in expected:
        np.testing.assert_allclose(kernel(u), value, rtol=1e-14)


def test_half_integer_smoothness_is_the_bessel_form():
    from scipy.special import gamma, kv

    r, length = np.array([0.3, 1.0, 2.5]), 1.1
    for kernel, nu in ((Matern32, 1.5), (Matern52, 2.5), (Matern72, 3.5)):
        a = np.sqrt(2 * nu) * r / length
        bessel = 2 ** (1 - nu) / gamma(nu) * a**nu * kv(nu, a)
        np.testing.assert_allclose(
            kernel(length_scale=length)(r**2), bessel, rtol=1e-13
        )


def test_a_rational_quadratic_of_large_alpha_is_a_gaussian():
    u = np.linspace(0, 3, 4)
    # The difference is O(u²/α) of the value.
    np.testing.assert_allclose(
        RationalQuadratic(length_scale=1.0, alpha=1e7)(u),
        RBF(length_scale=1.0)(u),
        rtol=1e-6,
    )


def bad_lengths():
    for cls in (Matern32, Matern52, Matern72, RBF, RationalQuadratic):
        yield cls(), f"{cls.__name__} needs a length scale"
        for bad in (0.0, -1.0, np.nan, np.inf):
            yield cls(length_scale=bad), "length scale must be a positive number"


@pytest.mark.parametrize(
    ("kernel", "match"),
    [
        *bad_lengths(),
        (RationalQuadratic(length_scale=1.0, alpha=0.0), "alpha must be a positive"),
        (RationalQuadratic(length_scale=1.0, alpha=np.nan), "alpha must be a positive"),
        (Scaled(RBF(length_scale=1.0), amplitude=0.0), "amplitude must be a positive"),
        (Scaled(RBF(length_scale=1.0), amplitude=-2.0), "amplitude must be a positive"),
        (Scaled(RBF()), "RBF needs a length scale"),
    ],
)
def test_errors(kernel, match):
    with pytest.raises(InputError, match=match):
        kernel.profile(np.ones(2))
