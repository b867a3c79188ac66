"""Posterior variances of sparse models against dense brute force."""

import numpy as np
import pytest
from sparse_toys import (
    DENSITY,
    PAIRS,
    clear_of_kinks,
    cluster,
    crystal,
    environments,
    labelled,
    lone,
    mixed_frames,
    moved,
    own_neighbour,
    rows_of,
    slow_kernel,
    strained,
    terms_named,
    training_set,
    whitened_rows,
)

from kforce.gap.covariance import (
    VIRIAL_COMPONENTS,
    prior_covariance,
    prior_variances,
)
from kforce.gap.growth import (
    BOND_ENERGY,
    BOND_FORCE,
    grown,
    growth_of_energies,
    growth_of_forces,
    growth_of_structure,
)
from kforce.gap.posterior import Posterior, gather
from kforce.gap.prediction import predict_local
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import Term
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import RBF
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

JITTER = 1e-7


def fitted(names=("pairs", "triplets", "densities", "elements"), n=5, scale=1.0):
    training = training_set(mixed_frames(n), (0.02, 0.3, 0.1), atom_energy=2.0)
    training = training.with_noises(scale * training.noises)
    return gather(terms_named(names), training, JITTER).condition(), training


def prior_of(terms, atoms, **kwargs):
    batch = Batch.from_frames([atoms])
    neighbours = find_neighbours(batch, 3.9)
    return prior_variances(terms, batch, neighbours, with_forces=True, **kwargs)


def slow_prior(terms, left, right):
    """Covariance of the energies of two structures, a double loop over atoms."""
    total = 0.0
    for term in terms:
        one, two = (environments(term.descriptor, [a]) for a in (left, right))
        total += one.multiplicity**2 * sum(
            f * g * slow_kernel(term, x, y)
            for x, f in zip(one.x, one.f_cut, strict=True)
            for y, g in zip(two.x, two.f_cut, strict=True)
        )
    return total


def slow_prior_of_motion(terms, atoms, change, h=2e-3):
    """Variance of a derivative of the energy, by differences of the double loop."""
    sides = {s: change(s * h) for s in (1, -1)}
    total = sum(
        a * b * slow_prior(terms, sides[a], sides[b]) for a in (1, -1) for b in (1, -1)
    )
    return total / (4.0 * h**2)


def dense_covariance(terms, training, rows, prior):
    """Prior less what the inducing environments explain, and what data leave open."""
    psi, *_ = whitened_rows(terms, training)
    K = prior_covariance(terms)
    K += JITTER * np.eye(len(K))
    explained = rows @ np.linalg.solve(K, rows.T)
    return prior - explained + rows @ np.linalg.solve(K + psi.T @ psi, rows.T)


SETS = [("pairs",), ("triplets",), ("densities",), ("pairs", "densities", "elements")]


@pytest.mark.parametrize("names", SETS, ids="+".join)
@pytest.mark.parametrize("make", [lambda k: cluster(k, (29, 79, 29)), own_neighbour])
def test_prior_variances(names, make):
    """Of energy, forces and virial, by differences of the covariance of energies."""
    terms = terms_named(names)
    atoms = clear_of_kinks(make, terms)
    found = prior_of(terms, atoms, with_virial=True)
    n = 3 * len(atoms)
    assert found.shape == (1 + n + 6,)
    np.testing.assert_allclose(found[0], slow_prior(terms, atoms, atoms), rtol=1e-10)
    forces, virial = found[1 : 1 + n], found[1 + n :]
    for k in (0, n - 1):
        unit = np.eye(n)[k].reshape(-1, 3)
        slow = slow_prior_of_motion(
            terms, atoms, lambda h, u=unit: moved(atoms, atoms.positions + h * u)
        )
        np.testing.assert_allclose(forces[k], slow, rtol=2e-4, atol=1e-6)
    for t in (0, 4):
        a, b = VIRIAL_COMPONENTS[t]
        epsilon = np.zeros((3, 3))
        epsilon[a, b] += 0.5
        epsilon[b, a] += 0.5
        slow = slow_prior_of_motion(
            terms, atoms, lambda h, e=epsilon: strained(atoms, h * e), h=1e-3
        )
        np.testing.assert_allclose(virial[t], slow, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_posterior_variances(names):
    posterior, training = fitted(names)
    atoms = cluster(40, (29, 79, 29))
    energy, forces = posterior.variances(atoms)
    prior = prior_of(posterior.terms, atoms)
    assert np.isnan(prior[-6:]).all()
    prior = prior[:-6]
    rows = rows_of(posterior.terms, [atoms]).of(0)
    covariance = dense_covariance(posterior.terms, training, rows, np.diag(prior))
    expected = np.diag(covariance)
    # Differences of the prior, with its digits, and a matrix of condition 1e8.
    np.testing.assert_allclose(energy, expected[0], rtol=0, atol=1e-6 * prior[0])
    np.testing.assert_allclose(
        forces.ravel(), expected[1:], rtol=0, atol=1e-6 * prior[1:].max()
    )
    assert 0.0 <= energy <= prior[0] * (1 + 1e-9)
    assert (forces >= 0.0).all()
    assert (forces.ravel() <= prior[1:] * (1 + 1e-9) + 1e-12).all()
    alone, nothing = posterior.variances(atoms, with_forces=False)
    np.testing.assert_allclose(alone, energy, rtol=1e-12)
    assert nothing is None


def test_covariances_of_energies():
    posterior, training = fitted()
    terms = posterior.terms
    new = [cluster(40, (29, 79)), crystal(41), lone(29), own_neighbour(4)]
    found = posterior.energy_covariance(new)
    prior = np.array([[slow_prior(terms, a, b) for b in new] for a in new])
    rows = rows_of(terms, new, with_forces=False).energies
    expected = dense_covariance(terms, training, rows, prior)
    # Environments that inducing ones explain to 1e-8 of their variance are left out.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * prior.max())
    np.testing.assert_allclose(found, found.T, rtol=1e-9, atol=1e-9)
    diagonal = [posterior.variances(atoms, False)[0] for atoms in new]
    np.testing.assert_allclose(np.diag(found), diagonal, rtol=1e-6, atol=1e-9)


def test_deviations_are_calibrated():
    posterior, _ = fitted(("pairs", "elements"))
    frames = [cluster(40, (29, 79)), crystal(41)]
    other = Posterior(posterior.terms, posterior.solution, calibration=(2.0, 3.0))
    variances = [energy for energy, _ in posterior.all_variances(frames)]
    C = other.energy_covariance(frames)
    np.testing.assert_allclose(np.diag(C), 4.0 * np.array(variances), rtol=1e-6)
    of_atoms = other.atom_deviations(frames[0])
    np.testing.assert_allclose(of_atoms, 2.0 * posterior.atom_deviations(frames[0]))
    assert posterior.variances(frames[0], with_forces=False)[1] is None


def test_deviations_of_atoms():
    """Atoms that are far apart are independent, but for what all share."""
    posterior, _ = fitted(("pairs", "densities"))
    atoms = cluster(42, (29, 79))
    found = posterior.atom_deviations(atoms)
    assert found.shape == (2,)
    # The energy of an atom of its own is that of the structure.
    energy, _ = posterior.variances(lone(), False)
    single = posterior.atom_deviations(lone())
    np.testing.assert_allclose(single, [np.sqrt(energy)], rtol=1e-9)
    alone = fitted(("pairs",))[0].atom_deviations(lone())
    np.testing.assert_array_equal(alone, [0.0])
    # Var(a) + Var(b) ≥ Var(a + b) / 2.
    whole, _ = posterior.variances(atoms, False)
    assert whole <= 2.0 * np.square(found).sum() + 1e-12


def test_variances_grow_away_from_data():
    names = ("pairs", "densities")
    posterior, training = fitted(names, n=8)
    known, _ = posterior.variances(training.frames[1], False)
    squeezed = training.frames[1].copy()
    squeezed.positions *= 0.7
    new, _ = posterior.variances(squeezed, False)
    assert new > 3.0 * known
    # With precise labels, less is left open at the training data.
    precise, _ = fitted(names, n=8, scale=3e-3)
    less, _ = precise.variances(training.frames[1], False)
    assert less < known


def test_without_data_the_prior_is_left():
    """Labels of infinite noise say nothing."""
    posterior, training = fitted(("pairs", "densities"), scale=1e10)
    prior = prior_of(posterior.terms, training.frames[1])
    energy, forces = posterior.variances(training.frames[1])
    # Environments that inducing ones explain to rounding are left out.
    np.testing.assert_allclose(energy, prior[0], rtol=1e-6)
    np.testing.assert_allclose(forces.ravel(), prior[1:-6], rtol=1e-8)


MODEL = [
    Term(PAIRS, RBF(), n_inducing=8, length_scales=(0.9, 0.1)),
    Term(DENSITY, Polynomial(zeta=2), n_inducing=10),
]


@pytest.fixture(scope="module")
def model():
    return GAPRegressor(MODEL).fit(mixed_frames(8))


def grown_variances(model, atoms):
    """Return variances of energy and forces that grow with grades, not calibrated."""
    batch = Batch.from_frames([atoms])
    neighbours = find_neighbours(batch, model.cutoff_)
    local = predict_local(model.terms_, batch.numbers, neighbours, False, model.grade_)
    energy, forces = Posterior(model.terms_, model.solution_).variances(atoms)
    of_energy, of_forces = model.calibration_
    std = grown(
        of_energy * np.sqrt(energy),
        growth_of_structure(local.grades),
        BOND_ENERGY * len(atoms),
    )
    beyond = growth_of_forces(local.grades)[:, None]
    of_atoms = grown(of_forces * np.sqrt(forces), beyond, BOND_FORCE)
    return (std / of_energy) ** 2, (of_atoms / of_forces) ** 2


def test_deviations_of_a_model(model):
    """Both parts, of which they are the root of the sum of squares, are calibrated.

    What the data leave open grows with the extrapolation grade.
    """
    new = [crystal(80), cluster(81), lone()]
    found = model.evaluate(new, return_std=True)
    of_energy, of_forces = model.calibration_
    assert 1.0 not in model.calibration_
    for s, atoms in enumerate(new):
        energy, forces = grown_variances(model, atoms)
        np.testing.assert_allclose(
            found.energy_epistemic[s], of_energy * np.sqrt(energy), rtol=1e-10
        )
        epistemic = of_forces * np.sqrt(forces)
        np.testing.assert_allclose(found.forces_epistemic[s], epistemic, rtol=1e-10)
        noise = model.noise_energy_ * np.sqrt(len(atoms))
        std = of_energy * np.hypot(noise, np.sqrt(energy))
        np.testing.assert_allclose(found.energy_std[s], std, rtol=1e-10)
        std = of_forces * np.hypot(model.noise_forces_, np.sqrt(forces))
        np.testing.assert_allclose(found.forces_std[s], std, rtol=1e-10)
    C = model.energy_covariance(new)
    np.testing.assert_allclose(np.sqrt(np.diag(C)), found.energy_epistemic, rtol=1e-6)
    assert np.linalg.eigvalsh(C).min() > -1e-9 * np.trace(C)
    energy, std = model.predict(new, return_std=True)
    np.testing.assert_array_equal(energy, found.energy)
    np.testing.assert_allclose(std, found.energy_std, rtol=1e-12)


def test_deviations_of_energies_of_atoms(model):
    new = [crystal(80), cluster(81)]
    for atoms, found in zip(new, model.energies_std(new), strict=True):
        plain = Posterior(model.terms_, model.solution_).atom_deviations(atoms)
        beyond = growth_of_energies(model.extrapolation([atoms])[0])
        expected = grown(model.calibration_[0] * plain, beyond, BOND_ENERGY)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_deviations_say_how_large_errors_are(model):
    """Of new frames of the same kind most errors are within two of them."""
    new = mixed_frames(10, seed=7)
    found = model.evaluate(new, return_std=True)
    errors = np.concatenate(
        [np.ravel(f - a.get_forces()) for f, a in zip(found.forces, new, strict=True)]
    )
    deviations = np.concatenate([np.ravel(s) for s in found.forces_std])
    assert 0.75 < np.mean(np.abs(errors) < 2.0 * deviations) < 0.99


def test_levels_below_add_their_deviations():
    """A sparse model as the baseline of another one."""
    from sklearn.frozen import FrozenEstimator

    frames = [labelled(cluster(k), stress=False) for k in range(6)]
    low = GAPRegressor(MODEL[:1]).fit(frames)
    high = GAPRegressor(MODEL[1:], baseline=FrozenEstimator(low)).fit(frames)
    new = [cluster(90)]
    found = high.evaluate(new, return_std=True)
    below = low.evaluate(new, return_std=True)
    energy, forces = grown_variances(high, new[0])
    np.testing.assert_allclose(
        found.energy_epistemic[0],
        np.hypot(high.calibration_[0] * np.sqrt(energy), below.energy_epistemic[0]),
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        found.forces_epistemic[0],
        np.hypot(high.calibration_[1] * np.sqrt(forces), below.forces_epistemic[0]),
        rtol=1e-9,
    )
    C = high.energy_covariance(new)
    np.testing.assert_allclose(np.sqrt(C[0]), found.energy_epistemic, rtol=1e-6)
