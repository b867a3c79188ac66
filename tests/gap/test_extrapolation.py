"""The extrapolation variance of gap_fit's users, term by term."""

import numpy as np
import pytest
from ase import Atoms
from sparse_toys import (
    cluster,
    crystal,
    environments,
    mixed_frames,
    slow_kernel,
    terms_named,
)

from kforce.descriptors.soap.soap import SOAP
from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError
from kforce.gap.prediction import novelty
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import Term
from kforce.kernels.base import Scaled
from kforce.kernels.stationary import RBF


@pytest.mark.parametrize("names", [("pairs",), ("triplets",), ("densities",)])
@pytest.mark.parametrize("rho", [1e-1, 1e-3])
def test_novelty(names, rho):
    """Term by term and environment by environment."""
    (term,) = terms = terms_named(names)
    atoms = cluster(43)
    expected = np.zeros(len(atoms))
    shift = term.constant**2
    k = np.array(
        [
            [slow_kernel(term, a, b) for b in term.inducing_points]
            for a in term.inducing_points
        ]
    )
    M = (k - shift) * np.outer(term.f_cut, term.f_cut) + shift
    M += rho**2 * np.eye(len(M))
    env = environments(term.descriptor, [atoms])
    for x, f_cut, centre in zip(env.x, env.f_cut, env.central_atoms, strict=True):
        row = (
            np.array([slow_kernel(term, x, c) for c in term.inducing_points])
            * term.f_cut
        )
        left = slow_kernel(term, x, x) + rho**2 - row @ np.linalg.solve(M, row)
        expected[centre] += env.multiplicity * f_cut**2 * left
    found = novelty(terms, atoms, rho)
    # k(x, x) less nearly as much, over the least eigenvalue.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_novelty_that_is_refused():
    pairs = Term(TwoBody(cutoff=3.9), Scaled(RBF(length_scale=0.8), 1.0), 8)
    model = GAPRegressor([pairs], optimize=False).fit(mixed_frames(4))
    with pytest.raises(InputError, match="regularisation must be a positive"):
        model.novelty([crystal(80)], regularisation=0.0)
    with pytest.raises(InputError, match="A tabulated model has no novelty"):
        model.tabulated(1e-6, start=1.5).novelty([crystal(80)])


def test_pairs_without_a_term_are_strange_if_all_others_have_one(methanol):
    soap = SOAP(cutoff=3.0, n_max=3, l_max=2, atom_sigma=0.5)
    some = [TwoBody(cutoff=4.0, species=(6, 1)), soap]
    sentences = []
    for descriptors in (some, [TwoBody(cutoff=4.0)]):
        terms = [Term(descriptor, n_inducing=8) for descriptor in descriptors]
        model = GAPRegressor(terms, optimize=False).fit(methanol[:8])
        assert model.describe_extrapolation(methanol[0]) is None
        peroxide = Atoms("OO", [(0, 0, 0), (0, 0, 1.4)])
        sentences.append(model.describe_extrapolation(peroxide))
    assert "O–O" not in sentences[0]
    assert "O–O pairs at 1.40 Å, and the training set none" in sentences[1]


def test_splines_hold_no_training_set(methanol):
    model = GAPRegressor([Term(TwoBody(cutoff=4.0), n_inducing=8)], optimize=False)
    with pytest.raises(InputError, match="has no record of its training set"):
        model.fit(methanol[:8]).tabulated(error=1e-3).describe_extrapolation(
            methanol[0]
        )
