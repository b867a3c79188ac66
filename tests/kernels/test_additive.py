import numpy as np
import pytest
from toys import KERNELS, name_of

from kforce.errors import InputError
from kforce.kernels.additive import Additive, terms_of
from kforce.kernels.base import Scaled
from kforce.kernels.stationary import RBF, Matern52

PROFILE = Matern52(length_scale=1.0)
TABLE = [[1.0, 0.0, 2.0], [0.5, 0.5, 0.5]]


@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
def test_any_other_kernel_is_one_term_of_all_features(kernel):
    terms = terms_of(kernel, 3)
    assert terms.profile is kernel
    np.testing.assert_array_equal(terms.scales, np.ones((1, 3)))
    np.testing.assert_array_equal(terms.variances, [1.0])


def test_terms_are_what_was_given():
    terms = terms_of(Additive(PROFILE, TABLE, [2.0, 3.0]), 3)
    assert terms.profile is PROFILE
    np.testing.assert_array_equal(terms.scales, TABLE)
    np.testing.assert_array_equal(terms.variances, [4.0, 9.0])
    assert terms_of(Additive(PROFILE, TABLE), 3).variances.tolist() == [1.0, 1.0]


def test_an_amplitude_around_all_multiplies_each():
    inner = Additive(PROFILE, TABLE, [2.0, 3.0])
    terms = terms_of(Scaled(inner, amplitude=0.5), 3)
    assert terms.profile is PROFILE
    np.testing.assert_array_equal(terms.scales, TABLE)
    np.testing.assert_allclose(terms.variances, [1.0, 2.25])


def test_an_amplitude_of_the_profile_stays_in_it():
    profile = Scaled(RBF(length_scale=1.0), amplitude=3.0)
    terms = terms_of(Scaled(Additive(profile, TABLE), amplitude=2.0), 3)
    assert terms.profile is profile
    np.testing.assert_allclose(terms.variances, [4.0, 4.0])


def test_the_parameters_are_left_alone():
    scales, amplitudes = np.array(TABLE), np.array([1.0, 2.0])
    kernel = Additive(PROFILE, scales, amplitudes)
    terms = terms_of(Scaled(kernel, amplitude=5.0), 3)
    assert kernel.scales is scales
    assert kernel.amplitudes is amplitudes
    np.testing.assert_array_equal(amplitudes, [1.0, 2.0])
    np.testing.assert_allclose(terms.variances, [25.0, 100.0])


refused = [
    ("scales of one term", [1.0, 1.0, 1.0], None, r"scales must .* shape \(3,\)"),
    ("no terms", np.zeros((0, 3)), None, r"scales must .* shape \(0, 3\)"),
    ("no features", np.zeros((2, 0)), None, r"scales must .* shape \(2, 0\)"),
    ("negative", [[1.0, -0.1, 1.0]], None, "scales must be finite and not negative"),
    ("NaN", [[1.0, np.nan, 1.0]], None, "scales must be finite"),
    ("infinite", [[1.0, np.inf, 1.0]], None, "scales must be finite"),
    ("term of nothing", [[1.0, 1.0, 1.0], [0.0] * 3], None, "an entry above zero in"),
    ("too few", [[1.0, 1.0]], None, "the 3 features of the descriptor, found 2 col"),
    ("too many", [[1.0] * 4], None, "the 3 features of the descriptor, found 4 col"),
    ("table", TABLE, [[1.0, 1.0]], r"amplitudes must .* shape \(1, 2\)"),
    ("number", TABLE, 1.0, r"amplitudes must .* shape \(\)"),
    ("negative amplitude", TABLE, [1.0, -1.0], "amplitudes must be finite and not neg"),
    ("NaN amplitude", TABLE, [1.0, np.nan], "amplitudes must be finite"),
    ("one for two", TABLE, [1.0], "one amplitude for each of 2 terms, found 1"),
    ("three for two", TABLE, [1.0] * 3, "one amplitude for each of 2 terms, found 3"),
]


@pytest.mark.parametrize(
    ("scales", "amplitudes", "match"),
    [row[1:] for row in refused],
    ids=[row[0] for row in refused],
)
def test_what_is_no_table_of_terms(scales, amplitudes, match):
    kernel = Additive(PROFILE, scales, amplitudes)
    for outer in (kernel, Scaled(kernel, amplitude=2.0)):
        with pytest.raises(InputError, match=match):
            terms_of(outer, 3)
