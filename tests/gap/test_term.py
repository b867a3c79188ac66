"""From terms as the user describes them to terms with inducing environments."""

import logging

import numpy as np
import pytest
from sklearn.base import clone
from sparse_toys import (
    cluster,
    crystal,
    environments,
    labelled,
    lone,
    mixed_frames,
    training_set,
)

from kforce.descriptors.composition import Composition
from kforce.descriptors.soap.soap import SOAP
from kforce.descriptors.three_body import ThreeBody
from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError
from kforce.gap.term import Term, build_terms, composition_term, sample_environments
from kforce.kernels.base import Scaled
from kforce.kernels.stationary import RBF, Matern52, PiecewisePolynomial

ELEMENTS = (29, 79)
SMALL = SOAP(cutoff=3.5, n_max=2, l_max=1, atom_sigma=0.5)


def build(terms, frames=None, species=ELEMENTS, seed=0):
    frames = mixed_frames(5) if frames is None else frames
    training = training_set(frames, (1.0, 1.0, 1.0))
    return build_terms(terms, training, species, np.random.default_rng(seed))


def test_a_term_for_each_combination_of_elements():
    described = [
        Term(TwoBody(cutoff=3.9), n_inducing=5),
        Term(ThreeBody(cutoff=3.2), n_inducing=5),
        Term(SMALL, n_inducing=5),
    ]
    built, origins = build(described)
    species = [getattr(t.descriptor, "species", None) for t in built]
    pairs = [(29, 29), (29, 79), (79, 79)]
    assert species == [*pairs, *pairs, *pairs, ELEMENTS, ELEMENTS]
    assert [t.descriptor.centre for t in built[3:]] == [29] * 3 + [79] * 3 + [29, 79]
    places = [described.index(origin) for origin in origins]
    assert places == [0] * 3 + [1] * 6 + [2] * 2
    assert all(t.weights is None for t in built)


@pytest.mark.parametrize(
    "term",
    [
        Term(TwoBody(cutoff=3.9), n_inducing=6),
        Term(ThreeBody(cutoff=3.2), n_inducing=6, selection="farthest"),
        Term(SMALL, n_inducing=6),
        Term(SMALL, RBF(), n_inducing=6, selection="kmeans"),
        Term(SMALL, n_inducing=6, selection="variance"),
        Term(SMALL, n_inducing=6, selection="random", stratify=True),
    ],
    ids=lambda term: f"{type(term.descriptor).__name__} {term.selection}",
)
def test_inducing_environments_are_some_of_the_training_set(term):
    frames = mixed_frames(5)
    for k, frame in enumerate(frames):
        frame.info["config_type"] = "ab"[k % 2]
    built, _ = build([term], frames)
    again, _ = build([term], frames)
    for found, same in zip(built, again, strict=True):
        assert found.n_inducing == 6
        np.testing.assert_array_equal(found.inducing_points, same.inducing_points)
        env = environments(found.descriptor, frames)
        known = np.column_stack([env.x, env.f_cut])
        for row in np.column_stack([found.inducing_points, found.f_cut]):
            assert np.abs(known - row).max(axis=1).min() < 1e-12


def test_numbers_of_inducing_environments():
    frames = [cluster(k, (29,) * 8) for k in range(25)]
    descriptors = (TwoBody(cutoff=3.9), ThreeBody(cutoff=3.2), SMALL)
    built, _ = build([Term(d) for d in descriptors], frames, (29,))
    # 25 × 8 densities are less than the usual 1000.
    assert [t.n_inducing for t in built] == [20, 100, 200]


@pytest.mark.parametrize(
    ("kernel", "lengths", "inner", "amplitude"),
    [
        (None, None, RBF, 1.0),
        (None, 0.7, RBF, 1.0),
        (RBF(length_scale=0.4), None, RBF, 1.0),
        (Scaled(Matern52(), 2.5), [0.1, 0.2, 0.3], Matern52, 2.5),
        (Scaled(Matern52(length_scale=3.0), 2.5), [0.1, 0.2, 0.3], Matern52, 2.5),
        (PiecewisePolynomial(length_scale=2.0), None, PiecewisePolynomial, 1.0),
    ],
)
def test_kernels_and_length_scales_of_few_features(kernel, lengths, inner, amplitude):
    """They mean the same as in the kernel, or are 0.3 of the spread."""
    frames = mixed_frames(5)
    descriptor = ThreeBody(cutoff=3.2, centre=29, species=(29, 79))
    term = Term(descriptor, kernel, 8, lengths)
    before = clone(term)
    ((found,), _) = build([term], frames)
    assert repr(term) == repr(before)
    assert type(found.kernel) is Scaled
    assert found.kernel.amplitude == amplitude
    assert type(found.kernel.unscaled) is inner
    assert found.kernel.unscaled.length_scale == 1.0
    x = environments(descriptor, frames).x
    own = None if kernel is None else kernel.unscaled.length_scale
    if lengths is not None:
        expected = np.broadcast_to(lengths, 3) * (1.0 if own is None else own)
    else:
        expected = 0.3 * np.ptp(x, axis=0) if own is None else np.full(3, own)
    np.testing.assert_allclose(found.length_scales, expected, rtol=1e-12)
    if inner is PiecewisePolynomial:
        assert found.kernel.unscaled.n_features == 3


def test_kernels_and_length_scales_of_many_features():
    frames = mixed_frames(5)
    soap = SOAP(**SMALL.get_params() | {"species": ELEMENTS, "centre": 29})
    built, _ = build(
        [Term(soap, n_inducing=4), Term(soap, RBF(), 4), Term(soap, RBF(), 4, 0.5)],
        frames,
    )
    assert built[0].kernel.unscaled.zeta == 4
    assert (built[0].length_scales == 1.0).all()
    x = environments(soap, frames).x
    spread = np.sqrt(np.square(x - x.mean(axis=0)).sum() / len(x))
    np.testing.assert_allclose(built[1].length_scales, 0.3 * spread, rtol=1e-12)
    assert (built[2].length_scales == 0.5).all()


def test_features_without_spread():
    """Of pairs at one distance the length scale is 0.3 of one unit."""
    frames = [cluster(0, (29, 79))] * 2
    ((pair,), _) = build([Term(TwoBody(cutoff=4.0, species=ELEMENTS))], frames)
    assert pair.n_inducing == 1
    np.testing.assert_allclose(pair.length_scales, [0.3])
    soap = SOAP(**SMALL.get_params() | {"species": ELEMENTS, "centre": 29})
    ((density,), _) = build([Term(soap, RBF())], frames)
    assert (density.length_scales > 0.0).all()


def test_terms_without_environments_are_left_out(caplog):
    frames = [cluster(k, (29, 29, 29, 79)) for k in range(3)]
    with caplog.at_level(logging.INFO, "kforce.gap"):
        built, _ = build([Term(TwoBody(cutoff=3.9))], frames)
    assert [t.descriptor.species for t in built] == [(29, 29), (29, 79)]
    assert "left out: TwoBody(cutoff=3.9, species=(79, 79))" in caplog.text
    with pytest.raises(InputError, match="No term has any environment"):
        build([Term(TwoBody(cutoff=3.9))], [lone(), lone(29)])


def test_types_share_inducing_environments():
    few = [labelled(cluster(k, (29, 79))) for k in range(4)]
    many = [labelled(crystal(k)) for k in range(8)]
    for frame in few:
        frame.info["config_type"] = "dimer"
    for frame in many:
        frame.info["config_type"] = "bulk"
    term = Term(SMALL, n_inducing=8, selection="random", stratify=True)
    built, _ = build([term], few + many)
    for found in built:
        dimers = environments(found.descriptor, few).x
        apart = np.abs(found.inducing_points[:, None] - dimers).max(axis=2).min(axis=1)
        assert np.sum(apart < 1e-12) == 4


def test_a_pool_of_environments():
    """Frames in random order until there are enough, not the first ones."""
    training = training_set(mixed_frames(30), (1.0, 1.0, 1.0))
    soap = SOAP(**SMALL.get_params() | {"species": ELEMENTS, "centre": 29})
    sizes, places = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x, *_ = sample_environments(soap, training, 5, rng, min_pool=20)
        sizes.append(len(x))
        for s, frame in enumerate(training.frames):
            of_frame = environments(soap, [frame]).x
            if len(of_frame) and np.abs(x - of_frame[0]).max(axis=1).min() < 1e-12:
                places.append(s)
    assert all(20 <= size < 30 for size in sizes)
    assert max(places) > 15


def test_the_term_of_elements():
    """Independent shifts, each with a prior of 30 eV."""
    term = composition_term(ELEMENTS)
    assert term.descriptor.species == ELEMENTS
    np.testing.assert_allclose(term.covariance(), 900.0 * np.eye(2))
    assert isinstance(term.descriptor, Composition)
    env = environments(term.descriptor, [crystal(0)])
    np.testing.assert_array_equal(env.x, [[1, 0], [1, 0], [0, 1], [0, 1]])
