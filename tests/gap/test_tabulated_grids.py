"""Grids of splines: as fine as each side needs, and honest about what is too coarse."""

import re

import numpy as np
import pytest

import kforce
from kforce import InputError
from kforce.datasets import load_methanol_ccsdt
from kforce.gap.sparse_term import SparseTerm
from kforce.gap.splines import tabulate


def triplets(length_scales):
    rng = np.random.default_rng(0)
    return SparseTerm(
        descriptor=kforce.ThreeBody(cutoff=2.5),
        kernel=kforce.Scaled(kforce.RBF(length_scale=1.0), amplitude=1.0),
        length_scales=np.array(length_scales),
        constant=0.0,
        inducing_points=rng.uniform([2.0, 0.0, 1.0], [4.5, 1.0, 4.0], (5, 3)),
        f_cut=np.ones(5),
        weights=rng.normal(size=5),
    )


def test_a_short_length_scale_refines_its_own_side():
    table = tabulate(triplets([2.0, 2.0, 0.2]), 1e-4, 0.7)
    sides = np.array(table.coefficients.shape) - 2  # two more than points
    assert (3 * sides[:2] < sides[2]).all()
    assert table.error <= 1e-4


def test_what_is_too_coarse_is_named(monkeypatch):
    monkeypatch.setattr("kforce.gap.splines._MOST_POINTS", 3_000)
    with pytest.raises(InputError, match="A spline with errors below") as error:
        tabulate(triplets([1.0, 1.0, 1.0]), 1e-4, 0.7)
    found = re.search(r"error is (\S+) eV, that of slopes (\S+) eV", str(error.value))
    value, slope = map(float, found.groups())
    assert value > 1e-4 or slope > 1e-3
    assert value < slope


def pairs(exponents):
    n = len(exponents)
    return SparseTerm(
        descriptor=kforce.TwoBody(cutoff=3.0, exponents=exponents),
        kernel=kforce.Scaled(kforce.RBF(length_scale=1.0), amplitude=1.0),
        length_scales=np.ones(n),
        constant=0.0,
        inducing_points=np.linspace(1.0, 2.5, 4 * n).reshape(4, n),
        f_cut=np.ones(4),
        weights=np.array([1.0, -2.0, 0.5, 1.0]),
    )


def test_only_distances_themselves_are_tabulated():
    """However their exponent is written."""
    as_list, as_tuple = (tabulate(pairs(e), 1e-4, 0.7) for e in ([1], (1,)))
    np.testing.assert_array_equal(as_list.coefficients, as_tuple.coefficients)
    for exponents in ((2,), (1, -2)):
        with pytest.raises(InputError, match="terms of the distance itself"):
            tabulate(pairs(exponents), 1e-4, 0.7)


@pytest.mark.slow
def test_the_default_of_molecules():
    frames = load_methanol_ccsdt()
    terms = [kforce.Term(kforce.ThreeBody(cutoff=2.5), n_inducing=20)]
    model = kforce.GAPRegressor(terms).fit(frames[:20])
    fast = model.tabulated()
    assert max(t.error for t in fast.terms_ if hasattr(t, "error")) <= 1e-5
    exact, found = model.evaluate(frames[:5]), fast.evaluate(frames[:5])
    np.testing.assert_allclose(found.energy, exact.energy, rtol=0.0, atol=1e-4)
    np.testing.assert_allclose(found.forces, exact.forces, rtol=0.0, atol=3e-3)
