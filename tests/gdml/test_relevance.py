from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from toys import labelled, morse, shaken, symmetric_group

from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.gdml.observations import Observations
from kforce.gdml.prior import Noise, Prior
from kforce.gdml.regressor import GDMLRegressor
from kforce.gdml.relevance import ScaleSearch, learn_scales, log_evidence
from kforce.kernels.base import Scaled, Sum
from kforce.kernels.stationary import Matern72
from kforce.labels import Labels
from kforce.structures import Batch

PROFILE, LEARNED = Matern72(length_scale=1.0), Noise()
GROUPS = {"H2O": symmetric_group(3, 2), "NH3": symmetric_group(4, 3)}
WITH = {"forces": False, "energies too": True}


def problem(name="H2O", n_frames=10, energies=True, frames=None):
    """Features, observations and parts."""
    frames = shaken(name, n_frames) if frames is None else frames
    batch, labels = Batch.from_frames(frames), Labels.from_frames(frames)
    descriptor = InternalCoordinates().bind(batch)
    offset = np.nanmean(labels.energy)
    observations = Observations.build(batch, labels, energies, offset)
    return descriptor(batch), observations, descriptor.parts(len(frames[0]))


def learn(features, observations, parts, group, noise=LEARNED):
    return learn_scales(Prior(PROFILE, group, noise), features, observations, parts)


def evidence_of(prior, features, observations):
    return log_evidence(prior, features, observations).value


def start_of(features, observations, parts, group):
    """The best amplitude and noise over a grid, of typical scales: a fair start."""
    n = features.x.shape[1]
    orbit = features.coordinates.images(group)[0].min(axis=0)
    spread = np.array([features.x[:, orbit == o].var(axis=0).mean() for o in orbit])
    masks = np.concatenate([np.ones((1, n), dtype=bool), *parts])
    size = masks.sum(axis=1, keepdims=True)
    scales = np.where(masks, 1 / np.sqrt(18 * size * np.maximum(spread, 1e-8)), 0)
    found = []
    for amplitude in np.geomspace(0.01, 100, 9):
        kernel = Scaled(Sum(PROFILE, scales), amplitude)
        noise = Noise(1e-3 * amplitude, 3e-5 * amplitude / np.sqrt(features.n_atoms))
        prior = Prior(kernel, group, noise)
        found.append(evidence_of(prior, features, observations))
    return max(found)


@pytest.mark.parametrize("energies", WITH.values(), ids=WITH)
@pytest.mark.parametrize("name", GROUPS)
def test_the_evidence_rises(name, energies):
    features, observations, parts = problem(name, energies=energies)
    group = GROUPS[name]
    learned, evidence = learn(features, observations, parts, group)
    assert isinstance(learned.kernel, Scaled)
    assert evidence > start_of(features, observations, parts, group) + 10.0
    assert learned.noise.forces > 0
    assert (learned.noise.energy is not None) == energies
    # What is reported is the evidence of what is returned, where no noise was raised.
    again = evidence_of(learned, features, observations)
    assert again <= evidence + 1e-3 * abs(evidence)


@pytest.mark.parametrize("name", GROUPS)
def test_equal_atoms_share_scales(name):
    features, observations, parts = problem(name)
    group = GROUPS[name]
    kernel = learn(features, observations, parts, group)[0].kernel
    terms = kernel.components(features.x.shape[1])
    table = {(*row, v) for row, v in zip(terms.scales, terms.variances, strict=True)}
    for images in features.coordinates.images(group)[0]:
        permuted = {
            (*row, v)
            for row, v in zip(terms.scales[:, images], terms.variances, strict=True)
        }
        assert permuted == table
    # So do all parts of a kind.
    masks = np.concatenate([np.ones((1, terms.scales.shape[1]), dtype=bool), *parts])
    np.testing.assert_array_equal(terms.scales > 0, masks)
    first = 1
    for kind in parts:
        own = slice(first, first + len(kind))
        first += len(kind)
        assert len(set(terms.variances[own])) == 1
        for feature in kind.T.nonzero()[0]:
            used = terms.scales[own][:, feature]
            assert len(set(used[used > 0])) == 1


@pytest.mark.parametrize("name", ["methanol", "NH3"])
def test_energies_are_symmetric_under_the_permutations(name, methanol):
    if name == "methanol":
        frames, others, group = methanol[:12], methanol[-4:], "auto"
    else:
        frames, others, group = shaken(name, 12), shaken(name, 4, seed=1), GROUPS[name]
    model = GDMLRegressor(descriptor=InternalCoordinates(), permutations=group)
    model.fit(frames)
    assert len(model.permutations_) > 1
    expected = model.evaluate(others)
    for p in model.permutations_:
        permuted = [labelled(f.numbers, f.positions[p]) for f in others]
        found = model.evaluate(permuted)
        np.testing.assert_allclose(found.energy, expected.energy, rtol=0, atol=1e-10)
        forces = [f[p] for f in expected.forces]
        np.testing.assert_allclose(found.forces, forces, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "noise", [Noise(forces=0.02), Noise(energy=0.005), Noise(0.02, 0.005)], ids=repr
)
def test_noises_that_are_given_are_kept(noise):
    features, observations, parts = problem()
    learned, evidence = learn(features, observations, parts, GROUPS["H2O"], noise)
    for name in ("forces", "energy"):
        given, found = getattr(noise, name), getattr(learned.noise, name)
        assert found == given if given is not None else found > 0.0
    if None not in (noise.forces, noise.energy):
        again = evidence_of(learned, features, observations)
        np.testing.assert_allclose(again, evidence, rtol=1e-9)
        # It is a maximum of the amplitude, too.
        for factor in (0.8, 1.25):
            kernel = Scaled(learned.kernel.kernel, factor * learned.kernel.amplitude)
            other = replace(learned, kernel=kernel)
            assert evidence_of(other, features, observations) < evidence


def test_larger_noises_leave_larger_errors():
    data = problem()
    small, large = (
        learn(*data, GROUPS["H2O"], Noise(noise, noise / np.sqrt(3)))[1]
        for noise in (1e-3, 0.1)
    )
    assert small > large


def with_noise(n_frames, sigmas):
    rng, frames = np.random.default_rng(5), []
    for s, frame in enumerate(shaken("H2O", n_frames)):
        noise = rng.normal(scale=sigmas[s % len(sigmas)], size=(3, 3))
        energy, forces = frame.get_potential_energy(), frame.get_forces() + noise
        frames.append(labelled(frame.numbers, frame.positions, energy, forces))
    return frames


def test_a_noise_is_recovered():
    features, observations, parts = problem(frames=with_noise(60, [0.05]))
    learned, evidence = learn(features, observations, parts, GROUPS["H2O"])
    np.testing.assert_allclose(learned.noise.forces, 0.05, rtol=0.15)
    # The energies have none.
    assert learned.noise.energy < 1e-3 / np.sqrt(3)
    again = evidence_of(learned, features, observations)
    # The noise of the energies may have been raised, for the sake of conditioning.
    np.testing.assert_allclose(again, evidence, rtol=0.05)


def test_rows_with_a_noise_of_their_own_keep_it():
    frames = with_noise(60, [0.03, 0.3])
    for frame in frames[1::2]:
        frame.info["noise_forces"] = 0.3
    features, observations, parts = problem(frames=frames)
    given = observations.is_given
    np.testing.assert_allclose(observations.label_variance[given], 0.09)
    learned, _ = learn(features, observations, parts, GROUPS["H2O"])
    np.testing.assert_allclose(learned.noise.forces, 0.03, rtol=0.2)


def test_labels_of_noise_are_reported(caplog):
    rng = np.random.default_rng(0)
    frames = [
        labelled(f.numbers, f.positions, rng.normal(), rng.normal(size=(3, 3)))
        for f in shaken("H2O", 15, scale=1e-3)
    ]
    features, observations, parts = problem(frames=frames)
    with caplog.at_level("INFO", logger="kforce.gdml.relevance"):
        learn(features, observations, parts, GROUPS["H2O"])
    assert "is at its upper bound: no smooth energy surface fits" in caplog.text
    (record,) = [r for r in caplog.records if "no smooth energy" in r.getMessage()][:1]
    assert record.levelname == "WARNING"


def test_what_was_learned_is_said(caplog):
    features, observations, parts = problem()
    with caplog.at_level("INFO", logger="kforce.gdml.relevance"):
        _, evidence = learn(features, observations, parts, GROUPS["H2O"])
    first, *_, second = [record.getMessage() for record in caplog.records]
    assert "hyper-parameters from 10 structures" in first
    assert f"log evidence {evidence:.1f}" in first
    assert "scales are at their lower bound" in second


def test_features_without_influence_are_switched_off():
    # The energy is a function of the two O-H distances alone.
    frames = []
    for frame in shaken("H2O", 25):
        energy, forces = 0.0, np.zeros((3, 3))
        for b in (1, 2):
            pair = [0, b]
            e, f = morse(frame.positions[pair], frame.numbers[pair])
            energy += e
            forces[pair] += f
        frames.append(labelled(frame.numbers, frame.positions, energy, forces))
    features, observations, parts = problem(frames=frames)
    kernel = learn(features, observations, parts, GROUPS["H2O"])[0].kernel
    terms = kernel.components(features.x.shape[1])
    spread = features.x.std(axis=0)
    counts = np.einsum("t,tk->k", terms.variances, (terms.scales * spread) ** 2)
    # Pairs are (1, 0), (2, 0), (2, 1), with three powers each; the angle comes last.
    assert counts[6:].max() < 0.05 * counts[:6].sum()


def test_it_is_deterministic():
    (a, first), (b, second) = (learn(*problem(), GROUPS["H2O"]) for _ in range(2))
    assert first == second
    assert a.noise == b.noise
    np.testing.assert_array_equal(a.kernel.kernel.scales, b.kernel.kernel.scales)
    assert a.kernel.amplitude == b.kernel.amplitude


def test_nothing_but_the_whole():
    features, observations, _ = problem()
    learned, _ = learn(features, observations, [], GROUPS["H2O"])
    assert learned.kernel.components(features.x.shape[1]).scales.shape == (1, 10)


def test_the_search_starts_alike_whichever_image_of_a_structure_is_there():
    group, frames, images = GROUPS["NH3"], shaken("NH3", 8), []
    rng = np.random.default_rng(0)
    for frame in frames:
        p = group[rng.integers(len(group))]
        energy, forces = frame.get_potential_energy(), frame.get_forces()[p]
        images.append(frame[p])
        images[-1].calc = SinglePointCalculator(
            images[-1], energy=energy, forces=forces
        )
    starts = []
    for structures in (frames, images):
        features, observations, parts = problem(frames=structures)
        prior = Prior(PROFILE, group, LEARNED)
        starts.append(ScaleSearch(prior, features, observations, parts).typical)
    np.testing.assert_allclose(*starts, atol=1e-10)


@pytest.mark.parametrize("noise", [1e-3, 0.3])
@pytest.mark.parametrize(
    "given", [Noise(), Noise(energy=0.05 / np.sqrt(3)), Noise(forces=0.05)], ids=repr
)
def test_the_gradient_of_the_search(given, noise):
    features, observations, parts = problem("H2O", 6)
    prior = Prior(PROFILE, GROUPS["H2O"], given)
    search = ScaleSearch(prior, features, observations, parts)
    names, point, _ = search.start()
    point += 0.1 * np.random.default_rng(0).normal(size=len(point))
    point[[name.startswith("noise") for name in names]] = np.log(noise)
    _, gradient = search.cost(point)
    step = 1e-5
    for k in range(len(point)):
        shift = step * np.eye(len(point))[k]
        change = search.cost(point + shift)[0] - search.cost(point - shift)[0]
        np.testing.assert_allclose(
            gradient[k], change / (2 * step), rtol=1e-4, atol=1e-4, err_msg=names[k]
        )
