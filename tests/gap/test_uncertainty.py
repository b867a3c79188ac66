"""Posterior variances of sparse models against dense brute force."""

import numpy as np
import pytest
from sparse_toys import (
    DENSITY,
    PAIRS,
    TRIPLETS,
    clear_of_kinks,
    cluster,
    crystal,
    environments,
    labelled,
    lone,
    make_term,
    mixed_frames,
    moved,
    own_neighbour,
    rows_of,
    slow_kernel,
    strained,
    with_weights,
)

from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError
from kforce.gap import uncertainty as local_uncertainty
from kforce.gap.covariance import VIRIAL_COMPONENTS, prior_variances
from kforce.gap.prior import composition_term
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import Term
from kforce.gap.training_set import (
    gather_rows,
    observed,
    prior_covariance,
    whitened_rows,
)
from kforce.gap.uncertainty import (
    calibration_of,
    covariance_of_energies,
    leave_one_out,
    novelty,
    variances,
    variances_of_atoms,
)
from kforce.kernels.base import Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import RBF
from kforce.labels import Labels, LocalLabels, Noises
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

JITTER = 1e-7


def terms_of(names=("pairs", "triplets", "densities", "elements")):
    known = {
        "pairs": make_term(PAIRS, Scaled(RBF(length_scale=1.0), 0.7), (0.9, 0.4), 0.0),
        "triplets": make_term(
            TRIPLETS, Scaled(RBF(length_scale=1.0), 0.3), (1.2, 1.9, 1.0), 0.2
        ),
        "densities": make_term(DENSITY, Scaled(Polynomial(zeta=3), 0.8), 1.0, 0.0),
        "elements": composition_term((29, 79)),
    }
    return [known[name] for name in names]


def training(n=5):
    frames = mixed_frames(n)
    labels = Labels.from_frames(frames)
    labels.energy[:] -= [2.0 * len(frame) for frame in frames]
    return frames, LocalLabels.collect(frames, labels, Noises(0.02, 0.3, 0.1))


def fitted(terms, n=5, **kwargs):
    frames, labels = training(n)
    solution, _ = gather_rows(terms, frames, labels, JITTER, **kwargs).solve()
    return with_weights(terms, solution.coef), solution, frames, labels


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


def posterior_of(terms, frames, labels, rows, prior):
    """Prior less what the inducing environments explain, and what data leave open."""
    parts = [whitened_rows(terms, f, labels, s)[0] for s, f in enumerate(frames)]
    psi = np.concatenate(parts)
    K = prior_covariance(terms)
    K += JITTER * np.eye(len(K))
    explained = rows @ np.linalg.solve(K, rows.T)
    return prior - explained + rows @ np.linalg.solve(K + psi.T @ psi, rows.T)


SETS = [("pairs",), ("triplets",), ("densities",), ("pairs", "densities", "elements")]


@pytest.mark.parametrize("names", SETS, ids="+".join)
@pytest.mark.parametrize("make", [lambda k: cluster(k, (29, 79, 29)), own_neighbour])
def test_prior_variances(names, make):
    """Of energy, forces and virial, by differences of the covariance of energies."""
    terms = terms_of(names)
    atoms = clear_of_kinks(make, terms)
    batch = Batch.from_frames([atoms])
    found = prior_variances(terms, batch, find_neighbours(batch, 3.9), True, True)
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
    terms, solution, frames, labels = fitted(terms_of(names))
    atoms = cluster(40, (29, 79, 29))
    energy, forces = variances(terms, solution, atoms, True)
    batch = Batch.from_frames([atoms])
    prior = prior_variances(terms, batch, find_neighbours(batch, 3.9), True)
    rows = rows_of(terms, [atoms])
    rows = np.concatenate([rows.energies, rows.forces.reshape(9, -1)])
    expected = np.diag(posterior_of(terms, frames, labels, rows, np.diag(prior)))
    # Differences of the prior, with its digits, and a matrix of condition 1e8.
    np.testing.assert_allclose(energy, expected[0], rtol=0, atol=1e-6 * prior[0])
    np.testing.assert_allclose(
        forces.ravel(), expected[1:], rtol=0, atol=1e-6 * prior[1:].max()
    )
    assert 0.0 <= energy <= prior[0] * (1 + 1e-9)
    assert (forces >= 0.0).all()
    assert (forces.ravel() <= prior[1:] * (1 + 1e-9) + 1e-12).all()
    alone, nothing = variances(terms, solution, atoms, False)
    np.testing.assert_allclose(alone, energy, rtol=1e-12)
    assert nothing is None


def test_covariances_of_energies():
    terms, solution, frames, labels = fitted(terms_of())
    new = [cluster(40, (29, 79)), crystal(41), lone(29), own_neighbour(4)]
    found = covariance_of_energies(terms, solution, new)
    prior = np.array([[slow_prior(terms, a, b) for b in new] for a in new])
    rows = rows_of(terms, new, with_forces=False).energies
    expected = posterior_of(terms, frames, labels, rows, prior)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * prior.max())
    np.testing.assert_allclose(found, found.T, rtol=1e-9, atol=1e-9)
    diagonal = [variances(terms, solution, atoms, False)[0] for atoms in new]
    np.testing.assert_allclose(np.diag(found), diagonal, rtol=1e-6, atol=1e-9)


def test_variances_of_atoms():
    """Atoms that are far apart are independent, but for what all share."""
    terms, solution, *_ = fitted(terms_of(("pairs", "densities")))
    atoms = cluster(42, (29, 79))
    found = variances_of_atoms(terms, solution, atoms)
    assert found.shape == (2,)
    # The energy of an atom of its own is that of the structure.
    single = variances_of_atoms(terms, solution, lone())
    energy, _ = variances(terms, solution, lone(), False)
    np.testing.assert_allclose(single, [energy], rtol=1e-9)
    alone = variances_of_atoms(terms[:1], *fitted(terms[:1])[1:2], lone())
    np.testing.assert_array_equal(alone, [0.0])
    # Var(a) + Var(b) ≥ Var(a + b) / 2.
    whole, _ = variances(terms, solution, atoms, False)
    assert whole <= 2.0 * found.sum() + 1e-12


def test_variances_grow_away_from_data():
    terms, solution, frames, _ = fitted(terms_of(("pairs", "densities")), n=8)
    known, _ = variances(terms, solution, frames[1], False)
    squeezed = frames[1].copy()
    squeezed.positions *= 0.7
    new, _ = variances(terms, solution, squeezed, False)
    assert new > 3.0 * known
    # With precise labels, less is left open at the training data.
    labels = training(8)[1].with_noises(Noises(1e-4, 1e-3, 1e-3))
    precise, _ = gather_rows(terms, frames, labels, JITTER).solve()
    less, _ = variances(terms, precise, frames[1], False)
    assert less < known


def test_without_data_the_prior_is_left():
    """Labels of infinite noise say nothing."""
    terms = terms_of(("pairs", "densities"))
    frames, labels = training()
    vague = labels.with_noises(Noises(1e9, 1e9, 1e9))
    solution, _ = gather_rows(terms, frames, vague, JITTER).solve()
    batch = Batch.from_frames([frames[1]])
    prior = prior_variances(terms, batch, find_neighbours(batch, 3.9), True)
    energy, forces = variances(terms, solution, frames[1], True)
    np.testing.assert_allclose(energy, prior[0], rtol=1e-8)
    np.testing.assert_allclose(forces.ravel(), prior[1:], rtol=1e-8)


def without(labels, frames, s):
    """The data set without a frame."""
    kept = [k for k in range(len(frames)) if k != s]
    fields = {}
    for name, value in vars(labels).items():
        fields[name] = (
            [value[k] for k in kept] if isinstance(value, list) else value[kept]
        )
    return [frames[k] for k in kept], LocalLabels(**fields)


@pytest.mark.parametrize("kind", ["all", "energies", "no energies", "some missing"])
@pytest.mark.parametrize("approximation", ["dtc", "fitc"])
def test_leaving_frames_out(kind, approximation):
    """The closed form is what a fit without the frame gives."""
    terms = terms_of()
    options = {
        "all": {},
        "some missing": {},
        "energies": {"forces": False, "stress": False},
        "no energies": {"energy": False},
    }[kind]
    frames = mixed_frames(6, **options)
    if kind == "some missing":
        frames[1].calc.results["forces"][0, 1] = np.nan
        frames[2].calc.results["stress"][2] = np.nan
        del frames[3].calc.results["energy"]
    labels = Labels.from_frames(frames)
    labels.energy[:] -= [2.0 * len(frame) for frame in frames]
    labels = LocalLabels.collect(frames, labels, Noises(0.02, 0.3, 0.1))
    solution, _ = gather_rows(
        terms, frames, labels, JITTER, "qr", approximation
    ).solve()
    fit = with_weights(terms, solution.coef)
    rng = np.random.default_rng(7)
    found = leave_one_out(fit, solution, frames, labels, rng, approximation)
    errors, epistemic, kinds = found
    slow_errors, slow_spread, slow_kinds = [], [], []
    for s in np.random.default_rng(7).permutation(len(frames)):
        rest = without(labels, frames, s)
        other, _ = gather_rows(terms, *rest, JITTER, "qr", approximation).solve()
        rows, y, _ = whitened_rows(terms, frames[s], labels, s)
        left = y - rows @ other.coef
        energy, forces = variances(terms, other, frames[s], True)
        of = observed(labels, s)[2]
        spread = [np.sqrt(energy) / labels.noise_energy[s]] * (of == 0).sum()
        if kind != "energies":
            known = np.isfinite(labels.forces[s]).ravel()
            spread = np.append(spread, np.sqrt(forces.ravel()[known]) / 0.3)
        slow_errors.append(left[of < 2])
        slow_spread.append(spread)
        slow_kinds.append(of[of < 2])
    slow_errors, slow_spread = map(np.concatenate, (slow_errors, slow_spread))
    np.testing.assert_array_equal(kinds, np.concatenate(slow_kinds))
    scale = np.abs(slow_errors).max()
    np.testing.assert_allclose(errors, slow_errors, rtol=1e-4, atol=1e-5 * scale)
    scale = slow_spread.max()
    np.testing.assert_allclose(epistemic, slow_spread, rtol=1e-4, atol=1e-4 * scale)


def test_some_frames_are_left_out(monkeypatch):
    terms, solution, frames, labels = fitted(terms_of(("pairs",)))
    monkeypatch.setattr(local_uncertainty, "_FRAMES", 2)
    rng = np.random.default_rng(3)
    errors, _, kinds = leave_one_out(terms, solution, frames, labels, rng)
    chosen = np.random.default_rng(3).permutation(5)[:2]
    assert len(errors) == sum(3 * len(frames[s]) + 1 for s in chosen)
    assert (kinds == 0).sum() == 2


def test_frames_without_labels_say_nothing():
    terms = terms_of(("pairs", "elements"))
    frames = [*mixed_frames(3), crystal(60), cluster(61)]
    labels = LocalLabels.collect(
        frames, Labels.from_frames(frames), Noises(0.02, 0.3, 0.1)
    )
    solution, _ = gather_rows(terms, frames, labels, JITTER).solve()
    fit = with_weights(terms, solution.coef)
    rng = np.random.default_rng(0)
    errors, *_ = leave_one_out(fit, solution, frames, labels, rng)
    assert len(errors) == sum(3 * len(frame) + 1 for frame in frames[:3])


@pytest.mark.parametrize("n", [150, 20_000])
def test_calibration(n):
    """Of energies and of forces each, by the tail or, of few, by the middle."""
    rng = np.random.default_rng(0)
    epistemic = rng.uniform(0.0, 3.0, 2 * n)
    kinds = np.repeat([0, 1], n)
    factors = np.repeat([0.3, 2.5], n)
    errors = rng.normal(size=2 * n) * factors * np.hypot(1.0, epistemic)
    found = calibration_of(errors, epistemic, kinds)
    np.testing.assert_allclose(found, (0.3, 2.5), rtol=0.02 if n > 1000 else 0.2)
    # What has no errors of its own is as far off as the other.
    for k, factor in enumerate(found):
        own = kinds == k
        alone = calibration_of(errors[own], epistemic[own], kinds[own])
        assert alone == (factor, factor)
    # Deviations of energies do not grow by more than those of forces.
    assert calibration_of(errors, epistemic, 1 - kinds) == (found[0], found[0])
    assert calibration_of(*np.zeros((2, 0)), np.zeros(0, dtype=int)) == (1.0, 1.0)
    # Errors that are all zero say nothing.
    assert calibration_of(np.zeros(5), np.ones(5), np.ones(5, dtype=int)) == (1.0, 1.0)


@pytest.mark.parametrize("names", [("pairs",), ("triplets",), ("densities",)])
@pytest.mark.parametrize("rho", [1e-1, 1e-3])
def test_novelty(names, rho):
    """Term by term and environment by environment, SPEC_GAP §6."""
    (term,) = terms = terms_of(names)
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


MODEL = [
    Term(PAIRS, RBF(), n_inducing=8, length_scales=(0.9, 0.1)),
    Term(DENSITY, Polynomial(zeta=2), n_inducing=10),
]


@pytest.fixture(scope="module")
def model():
    return GAPRegressor(MODEL).fit(mixed_frames(8))


def test_deviations_of_a_model(model):
    """Both parts, of which they are the root of the sum of squares, are calibrated."""
    new = [crystal(80), cluster(81), lone()]
    found = model.evaluate(new, return_std=True)
    of_energy, of_forces = model.calibration_
    assert 1.0 not in model.calibration_
    for s, atoms in enumerate(new):
        energy, forces = variances(model.terms_, model.solution_, atoms, True)
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
        expected = variances_of_atoms(model.terms_, model.solution_, atoms)
        np.testing.assert_allclose(
            found, model.calibration_[0] * np.sqrt(expected), rtol=1e-12
        )


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
    energy, forces = variances(high.terms_, high.solution_, new[0], True)
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


def test_novelty_that_is_refused(model):
    with pytest.raises(InputError, match="regularisation must be a positive"):
        model.novelty([crystal(80)], regularisation=0.0)
    pairs = Term(TwoBody(cutoff=3.9), Scaled(RBF(length_scale=0.8), 1.0), 8)
    model = GAPRegressor([pairs], optimize=False).fit(mixed_frames(4))
    with pytest.raises(InputError, match="A tabulated model has no novelty"):
        model.tabulated(1e-6, start=1.5).novelty([crystal(80)])
