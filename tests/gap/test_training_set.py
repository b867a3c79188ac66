"""Observations of a training set, their noises and rows, and the linear system."""

import numpy as np
import pytest
import sparse_toys
from sparse_toys import (
    cluster,
    crystal,
    labelled,
    lone,
    mixed_frames,
    relative,
    rows_of,
    several_terms,
    whitened_rows,
)

from kforce.descriptors.two_body import TwoBody
from kforce.gap.covariance import blocks_of, prior_covariance
from kforce.gap.posterior import gather
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import Term
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

NOISES = (0.01, 0.2, 0.03)


def training_set(frames, by_type=None, noises=NOISES, **kwargs):
    return sparse_toys.training_set(frames, noises, config_noises=by_type, **kwargs)


def noises_of(training):
    """Noises of energies and virials, per atom, and of forces on atoms, by frame."""
    table = []
    for s, known in enumerate(training.observations):
        noise = training.noise(s) / known.scale
        table.append([noise[known.kind == k] for k in range(3)])
    return table


def test_frames_without_a_stress():
    frames = [labelled(cluster(0)), labelled(crystal(1), stress=False), crystal(2)]
    found = training_set([*frames, labelled(crystal(3), energy=False, forces=False)])
    np.testing.assert_array_equal(found.counts, [2, 27, 6])


def test_noises_of_whole_frames_are_per_atom():
    frames = mixed_frames(3)
    training = training_set(frames)
    for s, (frame, known) in enumerate(zip(frames, training.observations, strict=True)):
        root = np.sqrt(len(frame))
        expected = np.array([0.01 * root, 0.2, 0.03 * root])[known.kind]
        np.testing.assert_allclose(training.noise(s), expected)
        assert known.is_default.all()


def frames_with_noises():
    frames = mixed_frames(7)
    for frame, name in zip(frames, "aaaabb", strict=False):
        frame.info["config_type"] = name
    frames[1].info |= {"noise_energy": 0.5, "noise_virial": 0.6}
    frames[2].info["noise_forces"] = 0.7
    frames[3].arrays["noise_forces"] = np.where(np.arange(3) == 1, 0.8, np.nan)
    frames[6].info["noise_virial"] = 0.9
    return frames


def test_noises_by_type_and_frame():
    """A frame's own come before those of its type, which come before the model's."""
    types = {"a": (1.0, 2.0, 3.0), "default": (4.0, 5.0, 6.0)}
    training = training_set(frames_with_noises(), types)
    energy, forces, virial = zip(*noises_of(training), strict=True)
    np.testing.assert_allclose(np.concatenate(energy), [1, 0.5, 1, 1, 4, 4, 4])
    np.testing.assert_allclose([f[0] for f in forces], [2, 2, 0.7, 2, 5, 5, 5])
    np.testing.assert_allclose(forces[3], np.repeat([2, 0.8, 2], 3))
    np.testing.assert_allclose([v[0] for v in virial if len(v)], [3, 3, 6, 0.9])
    # An entry "default" is for frames without a type as well.
    assert not any(known.is_default.any() for known in training.observations)


def test_other_noises_of_the_model():
    """They replace its own, and leave those of frames and types alone."""
    frames = frames_with_noises()
    for frame in frames[2:]:
        frame.info.pop("config_type", None)
    by_type, other = {"a": (1.0, 2.0, 3.0)}, np.array([0.11, 0.12, 0.13])
    before = training_set(frames, by_type)
    found, expected = before.with_noises(other), training_set(frames, by_type, other)
    for s, known in enumerate(before.observations):
        noise = np.where(known.is_default, expected.noise(s), before.noise(s))
        np.testing.assert_array_equal(found.noise(s), noise)
    is_default = [known.is_default for known in before.observations]
    assert not is_default[0].any()
    assert is_default[4].all()
    # With the noise of one atom, those of the others stay.
    assert not is_default[3][before.observations[3].kind == 1].any()


def test_rows_that_are_known():
    """Rows, targets and noises go together, whatever labels are missing."""
    terms = several_terms()
    frame = labelled(crystal(6))
    frame.calc.results["forces"][1, 2] = np.nan
    frame.calc.results["stress"][3] = np.nan  # yz
    frames = [
        frame,
        labelled(crystal(7), energy=False),
        labelled(crystal(8), forces=False),
        labelled(crystal(9), energy=False, forces=False),
        labelled(cluster(10)),
        labelled(cluster(11), energy=False),
        crystal(12),
    ]
    training = training_set(frames)
    sizes = []
    for s, atoms in enumerate(frames):
        n_forces, results = (
            3 * len(atoms),
            {} if atoms.calc is None else atoms.calc.results,
        )
        whole = rows_of(terms, [atoms], with_virials=True)
        whole = np.concatenate(
            [whole.energies, whole.forces.reshape(n_forces, -1), whole.virials[0]]
        )
        y = np.full(n_forces + 7, np.nan)
        y[0] = results.get("energy", np.nan)
        if "stress" in results:
            y[-6:] = -atoms.get_volume() * results["stress"]
        y[1:-6] = np.ravel(results.get("forces", np.full(n_forces, np.nan)))
        kind = np.repeat([0, 1, 2], [1, n_forces, 6])
        root = np.sqrt(len(atoms))
        noise = np.array([0.01 * root, 0.2, 0.03 * root])[kind]
        known = np.isfinite(y)
        rows, targets, noises = training.whitened(terms, s)
        expected = (whole / noise[:, None])[known]
        np.testing.assert_allclose(rows, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(targets, (y / noise)[known], rtol=1e-13)
        np.testing.assert_allclose(noises, noise[known])
        np.testing.assert_array_equal(training.observations[s].kind, kind[known])
        sizes.append(len(rows))
    assert sizes == [17, 18, 7, 6, 16, 15, 0]


@pytest.fixture
def searched(monkeypatch):
    """The cutoff and the frame of each search of a training set."""
    searches = []

    def search(batch, cutoff, first):
        searches.append((cutoff, first))
        return find_neighbours(batch, cutoff, first)

    monkeypatch.setattr("kforce.gap.training_set.find_neighbours", search)
    return searches


@pytest.mark.parametrize(("max_bytes", "n_kept"), [(0, 0), (9000, 3), (1e9, 4)])
def test_neighbours_are_kept_while_they_fit(searched, max_bytes, n_kept):
    frames = mixed_frames(4)
    cache = training_set(frames, max_bytes=max_bytes).neighbours
    cutoffs = (2.9, 3.9, 2.9, 3.9)
    for cutoff in cutoffs:
        for s, frame in enumerate(frames):
            batch, found = cache.of(s, cutoff)
            expected = find_neighbours(Batch.from_frames([frame]), cutoff)
            np.testing.assert_array_equal(batch.positions, frame.positions)
            for name, value in vars(expected).items():
                np.testing.assert_array_equal(getattr(found, name), value)
    # Those of the longest cutoff are not searched again.
    assert searched[:12] == [(cutoff, s) for cutoff in cutoffs[:3] for s in range(4)]
    assert len(searched) == 16 - n_kept


def test_a_fit_searches_each_frame_once(searched):
    """For the terms of all pairs, all that is learned, the rows and the errors."""
    GAPRegressor([Term(TwoBody(cutoff=3.9), n_inducing=5)]).fit(mixed_frames(6))
    assert sorted(searched) == [(3.9, s) for s in range(6)]


def test_neighbours_of_some_frames():
    frames, chosen = mixed_frames(5), [3, 0, 4]
    batch, found = training_set(frames).neighbours.of_all(chosen, 3.9)
    expected = find_neighbours(Batch.from_frames([frames[s] for s in chosen]), 3.9)
    assert batch.n_structures == 3
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), value)


def dense_posterior(terms, training, jitter):
    """Weights, evidence by dense algebra."""
    rows, y, noise = whitened_rows(terms, training)
    K = prior_covariance(terms)
    K += jitter * np.eye(len(K))
    # Least squares with the root of K, as normal equations would lose digits.
    A = np.concatenate([rows, np.linalg.cholesky(K).T])
    coef = np.linalg.lstsq(A, np.append(y, np.zeros(len(K))), rcond=0)[0]
    covariance = rows @ np.linalg.solve(K, rows.T) + np.eye(len(y))
    _, log_det = np.linalg.slogdet(covariance)
    fit = y @ np.linalg.solve(covariance, y) + 2.0 * np.log(noise).sum()
    return coef, -0.5 * (fit + log_det + len(y) * np.log(2 * np.pi))


@pytest.mark.parametrize("n_rows", [1, 40, 2048])
@pytest.mark.parametrize("solver", ["qr", "normal"])
def test_the_fit_is_the_dense_posterior(n_rows, solver):
    """Whatever blocks the frames come in, those without labels included."""
    terms = several_terms()
    frames = [*mixed_frames(4), crystal(30), labelled(lone()), cluster(31)]
    training = training_set(frames)
    posterior = gather(terms, training, 1e-6, solver, n_rows=n_rows).condition()
    coef, expected = dense_posterior(terms, training, 1e-6)
    assert relative(posterior.solution.coef, coef) < 1e-5
    weights = np.concatenate([term.weights for term in posterior.terms])
    np.testing.assert_array_equal(weights, posterior.solution.coef)
    evidence = posterior.log_marginal_likelihood
    np.testing.assert_allclose(evidence, expected, rtol=1e-9)


def test_the_prior_of_independent_terms():
    terms = several_terms()
    K = prior_covariance(terms)
    expected = np.zeros_like(K)
    for term, block in zip(terms, blocks_of(terms), strict=True):
        expected[block, block] = term.covariance()
    np.testing.assert_array_equal(K, expected)
    assert blocks_of(terms)[-1].stop == len(K)
