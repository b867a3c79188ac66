"""Sums over parts of a descriptor are for global models; others say so."""

import numpy as np
import pytest

import kforce
from kforce import InputError
from kforce.kernels.base import Scaled, Sum
from kforce.kernels.stationary import RBF

SUM = Sum(RBF(length_scale=1.0), [[1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize("kernel", [SUM, Scaled(SUM, amplitude=2.0)])
def test_feature_vectors(kernel):
    X = np.random.default_rng(0).normal(size=(5, 2))
    with pytest.raises(InputError, match="no function of one distance"):
        kforce.GradientGPRegressor(kernel=kernel).fit(X, X[:, 0])


@pytest.mark.parametrize("kernel", [SUM, Scaled(SUM, amplitude=2.0)])
def test_terms(kernel):
    term = kforce.Term(kforce.TwoBody(cutoff=3.0), kernel, n_inducing=4)
    with pytest.raises(InputError, match="no function of one distance"):
        kforce.GAPRegressor([term]).fit(kforce.datasets.load_methanol_ccsdt()[:3])
