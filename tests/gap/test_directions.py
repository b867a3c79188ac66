"""Directions of features that a training set varies along."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from kforce import SOAP, GAPRegressor, Polynomial, Scaled, Term
from kforce.descriptors.projected import Projected
from kforce.gap import directions
from kforce.gap.directions import leading_directions
from kforce.gap.training_set import TrainingSet
from kforce.labels import Labels, read_stresses

NI_SOAP = SOAP(cutoff=4.0, n_max=6, l_max=5, atom_sigma=0.5, species=(28,))


def nickel(n, seed=0):
    """Rattled crystals with the energies and forces of a cheap model: no noise."""
    rng, frames = np.random.default_rng(seed), []
    for k in range(n):
        atoms = bulk("Ni", cubic=True).repeat((2, 1, 1))
        atoms.set_cell(atoms.cell * rng.uniform(0.97, 1.03), scale_atoms=True)
        atoms.rattle(0.1, seed=100 * seed + k)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def training_set(frames):
    labels = replace(Labels.from_frames(frames), stress=read_stresses(frames))
    return TrainingSet.build(frames, labels, (0.002, 0.05, 0.05))


def features(descriptor, training):
    parts = []
    for s in range(len(training.frames)):
        batch, neighbours = training.neighbours.of(s, descriptor.cutoff)
        parts.append(descriptor(batch.numbers, neighbours))
    tangents = [b.dx.reshape(-1, b.dx.shape[2]) for e in parts for b in e.jacobians()]
    return np.concatenate([e.x for e in parts]), np.concatenate(tangents)


@pytest.mark.parametrize("max_lost", [1e-2, 1e-4, 1e-6])
def test_no_more_is_lost_than_allowed(max_lost):
    training = training_set(nickel(20))
    x, tangents = features(NI_SOAP, training)
    P = leading_directions(NI_SOAP, training, x, np.random.default_rng(0), max_lost)
    np.testing.assert_allclose(P.T @ P, np.eye(P.shape[1]), atol=1e-10)
    assert P.shape[1] < 0.5 * NI_SOAP.n_features
    of_forces = np.square(tangents - tangents @ P @ P.T).sum()
    of_energies = np.square(x - x @ P @ P.T).sum()
    # A sample of derivatives stands for all of them.
    assert of_forces < 1.3 * max_lost * np.square(tangents).sum()
    assert of_energies < 1.01 * max_lost * np.square(x - x.mean(axis=0)).sum()


def test_few_directions_suffice_for_less():
    training = training_set(nickel(20))
    x, _ = features(NI_SOAP, training)

    def n(max_lost):
        rng = np.random.default_rng(0)
        return leading_directions(NI_SOAP, training, x, rng, max_lost).shape[1]

    assert n(1e-2) < n(1e-4) < n(1e-8)


def test_many_features_lose_no_more(monkeypatch):
    """Directions that are found in a random range are as good as eigenvectors."""
    training = training_set(nickel(20))
    x, _ = features(NI_SOAP, training)
    found = []
    for most in (600, 100):
        monkeypatch.setattr(directions, "MAX_DIRECTIONS", most)
        rng = np.random.default_rng(0)
        found.append(leading_directions(NI_SOAP, training, x, rng, 1e-5))
    exact, random = found
    assert exact.shape == random.shape
    # Both span the same space, but for directions that hardly count.
    cosines = np.linalg.svd(exact.T @ random, compute_uv=False)
    assert np.sort(cosines)[4:].min() > 0.99


def test_environments_without_neighbours():
    """There are no derivatives, and one point."""
    soap = SOAP(cutoff=3.0, n_max=4, l_max=3, atom_sigma=0.5, species=(1,))
    x = np.ones((3, soap.n_features))
    P = leading_directions(
        soap, training_set(atoms_alone()), x, np.random.default_rng(0)
    )
    np.testing.assert_allclose(x @ P @ P.T, x, atol=1e-10)


def atoms_alone():
    frames = [molecule("H") for _ in range(3)]
    for k, atoms in enumerate(frames):
        atoms.calc = SinglePointCalculator(atoms, energy=0.1 * k)
    return frames


def test_labels_without_noise_are_predicted_as_well(monkeypatch, caplog):
    """Errors of a model of a part of the features are those of one of all."""
    kernel = Scaled(Polynomial(zeta=4), 5.0)
    soap = SOAP(cutoff=4.0, n_max=8, l_max=6, atom_sigma=0.5)
    model = GAPRegressor(
        [Term(soap, kernel, n_inducing=150)],
        optimize=False,
        noise_energy=1e-4,
        noise_forces=1e-3,
    )

    def error():
        sizes = []
        for seed in (10, 20, 30):
            model.fit(nickel(30, seed))
            test = nickel(30, seed + 5)
            forces = model.evaluate(test).forces
            apart = [f - a.get_forces() for f, a in zip(forces, test, strict=True)]
            sizes.append(np.abs(apart).mean())
        return np.mean(sizes)

    with caplog.at_level(logging.INFO, "kforce.gap"):
        ours = error()
    assert isinstance(model.terms_[0].descriptor, Projected)
    assert f"{model.terms_[0].descriptor.n_features} of 253 features" in caplog.text
    monkeypatch.setattr("kforce.gap.term.MANY_FEATURES", 1000)
    assert ours < 1.01 * error()
    assert not isinstance(model.terms_[0].descriptor, Projected)
