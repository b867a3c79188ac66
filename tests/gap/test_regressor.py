"""The sparse force field as a whole: fits and predictions."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    PropertyNotImplementedError,
    all_changes,
)
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from sparse_toys import (
    DENSITY,
    TERMS,
    clear_of_kinks,
    cluster,
    crystal,
    labelled,
    lone,
    mixed_frames,
    moved,
    own_neighbour,
    relative,
    rows_of,
    slab,
    slow_energy,
    strained,
)
from toys import rotation

from kforce.descriptors.composition import Composition
from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError
from kforce.gap.covariance import prior_covariance, prior_variances
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import Term
from kforce.kernels.base import Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import RBF
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch


def regressor(terms=None, **kwargs):
    terms = TERMS if terms is None else terms
    return GAPRegressor(terms, **{"optimize": False, "noise_forces": 0.02} | kwargs)


def cheap(cutoff=6.0):
    """Pairs, which know no elements."""
    return LennardJones(sigma=2.1, epsilon=0.2, rc=cutoff, ro=2.9, smooth=True)


class Stressless(Calculator):
    """The same, without stress."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        other = cheap()
        other.calculate(self.atoms)
        self.results = {name: other.results[name] for name in ("energy", "forces")}


@pytest.fixture(scope="module")
def model():
    return regressor().fit(mixed_frames(12))


def test_what_a_fit_leaves_behind(model):
    frames = mixed_frames(12)
    assert model.species_ == (29, 79)
    assert len(model.terms_) == 3 + 6 + 2 + 1
    assert isinstance(model.terms_[-1].descriptor, Composition)
    assert model.noise_forces_ == 0.02
    assert (model.noise_energy_, model.noise_virial_) == (0.002, 0.05)
    assert model.training_.n_frames == 12
    assert model.calibration_ == (1.0, 1.0)
    assert np.isfinite(model.log_marginal_likelihood_)
    assert model.cutoff_ == 3.9
    total = sum(term.n_inducing for term in model.terms_)
    assert model.solution_.coef.shape == (total,)
    assert model.score(frames) > 0.9


def test_energies_are_references_and_local_energies(model):
    for atoms in (crystal(50), cluster(51), lone(), own_neighbour(5), slab(6)):
        base = sum(model.reference_energies_[z] for z in atoms.numbers)
        expected = base + slow_energy(model.terms_, atoms)
        found = model.evaluate([atoms], ("energy", "energies"))
        np.testing.assert_allclose(found.energy, [expected], rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.energies[0].sum(), found.energy[0])
        assert found.energies[0].shape == (len(atoms),)
        assert found.forces is None
        assert found.stress is None


def test_new_structures_are_predicted(model):
    """Of the sizes and compositions that the model knows."""
    assert model.score(mixed_frames(12, seed=5)) > 0.9


@pytest.mark.parametrize("make", [crystal, cluster, slab])
def test_forces_are_the_gradient(model, make):
    atoms = clear_of_kinks(make, model.terms_)
    rng = np.random.default_rng(0)
    forces = model.evaluate([atoms], ["forces"]).forces[0]
    for _ in range(3):
        direction = rng.normal(size=atoms.positions.shape)

        def slope(h, direction=direction):
            sides = [moved(atoms, atoms.positions + s * direction) for s in (h, -h)]
            plus, minus = model.predict(sides)
            return (plus - minus) / (2.0 * h)

        extrapolated = (4.0 * slope(5e-4) - slope(1e-3)) / 3.0
        found = -np.sum(forces * direction)
        # Weights of 1e4 leave ten digits of energies.
        np.testing.assert_allclose(found, extrapolated, rtol=1e-5, atol=1e-5)


def test_stress_is_the_derivative_with_respect_to_strain(model):
    atoms = clear_of_kinks(crystal, model.terms_)
    (stress,) = model.evaluate([atoms], "stress").stress
    places = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
    for component, (a, b) in zip(stress, places, strict=True):
        epsilon = np.zeros((3, 3))
        epsilon[a, b] += 0.5
        epsilon[b, a] += 0.5

        def energy(e, epsilon=epsilon):
            return model.predict([strained(atoms, e * epsilon)])[0]

        h = 2e-4
        coarse, fine = (
            (energy(s) - energy(-s)) / (2 * s * atoms.get_volume()) for s in (3 * h, h)
        )
        extrapolated = (9.0 * fine - coarse) / 8.0
        np.testing.assert_allclose(component, extrapolated, rtol=1e-6, atol=1e-7)


def test_symmetries(model):
    atoms = crystal(8)
    turn = rotation(2)
    order = [2, 0, 3, 1]
    turned = atoms[order]
    turned.positions = turned.positions @ turn + [3.0, -1.0, 9.0]
    turned.set_cell(atoms.cell.array @ turn, scale_atoms=False)
    found, other = (
        model.evaluate([a], ("energy", "forces", "stress", "energies"))
        for a in (atoms, turned)
    )
    np.testing.assert_allclose(other.energy, found.energy, rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        other.energies[0], found.energies[0][order], rtol=0, atol=1e-9
    )
    assert relative(other.forces[0], found.forces[0][order] @ turn) < 1e-9
    eight = model.predict([atoms.repeat(2)])
    np.testing.assert_allclose(eight, 8.0 * found.energy, rtol=1e-10)
    xx, yy, zz, yz, xz, xy = found.stress[0]
    full = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    full = turn.T @ full @ turn
    expected = full[(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]
    assert relative(other.stress[0], expected) < 1e-9


def test_many_frames_are_one_by_one(model, monkeypatch):
    frames = [crystal(1), lone(), cluster(2), crystal(3), cluster(4, (29, 79))]
    one = [model.evaluate([f], ("energy", "forces", "energies")) for f in frames]
    for most in (1, 7, 2000):
        monkeypatch.setattr("kforce.force_field.CHUNK_ATOMS", most)
        found = model.evaluate(frames, ("energy", "forces", "energies"))
        for s, part in enumerate(one):
            np.testing.assert_allclose(found.energy[s], part.energy[0], rtol=1e-11)
            scale = max(1.0, np.abs(part.forces[0]).max())
            np.testing.assert_allclose(
                found.forces[s], part.forces[0], rtol=0, atol=1e-9 * scale
            )
            np.testing.assert_allclose(found.energies[s], part.energies[0], rtol=1e-10)


@pytest.mark.parametrize("threads", ["1", "3"])
def test_threads_do_not_matter(monkeypatch, model, threads):
    frames = mixed_frames(5, seed=3)
    expected = model.evaluate(frames)
    again = regressor()
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    found = again.fit(mixed_frames(12)).evaluate(frames)
    np.testing.assert_allclose(found.energy, expected.energy, rtol=0, atol=1e-7)
    for a, b in zip(found.forces, expected.forces, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_an_atom_alone(model):
    found = model.evaluate([lone()], ("energy", "forces"), return_std=True)
    assert not found.forces[0].any()
    assert not found.forces_epistemic[0].any()
    assert found.energy_epistemic[0] > 0.0


KINDS = {
    "energies": {"forces": False, "stress": False},
    "forces": {"energy": False, "stress": False},
    "energies and forces": {"stress": False},
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("optimize", [False, True])
def test_labels_of_some_kinds(name, optimize):
    frames = mixed_frames(10, calculator=cheap(3.9), **KINDS[name])
    model = regressor(TERMS[:1], optimize=optimize).fit(frames)
    whole = mixed_frames(10, calculator=cheap(3.9))
    found = model.evaluate(whole)
    if "forces" in name:
        assert model.score(whole) > 0.9
    if "energies" in name:
        energies = np.array([f.get_potential_energy() for f in whole])
        assert np.std(found.energy - energies) < 0.3 * np.std(energies)


def test_labels_of_stresses_only():
    """They are a fit's only data: those of training frames come out again."""
    frames = [labelled(crystal(k), energy=False, forces=False) for k in range(6)]
    model = regressor(noise_virial=1e-3).fit(frames)
    stress = np.array([f.get_stress() for f in frames])
    assert relative(model.evaluate(frames, "stress").stress, stress) < 0.05


def test_frames_without_labels_change_nothing():
    frames = mixed_frames(6)
    model = regressor(TERMS[:1]).fit([*frames, crystal(70), cluster(71)])
    assert model.training_.n_frames == 8
    assert model.score(frames) > 0.5


def alone(energies):
    """Frames of single atoms with energies."""
    frames = []
    for z, energy in energies:
        atoms = Atoms([z], [(0.0, 0.0, 0.0)])
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
        frames.append(atoms)
    return frames


def test_reference_energies_of_single_atoms():
    """Their mean, if there are several; and nothing is fitted on top of them."""
    singles = alone([(29, -1.0), (79, -2.0), (29, -1.2)])
    model = regressor(TERMS[:1]).fit(singles + mixed_frames(4))
    assert model.reference_energies_ == {29: -1.1, 79: -2.0}
    assert not any(isinstance(t.descriptor, Composition) for t in model.terms_)
    # Pairs alone give an atom of its own its reference energy.
    np.testing.assert_allclose(model.predict([lone(29), lone(79)]), [-1.1, -2.0])


def test_reference_energies_that_are_given():
    given = {"Cu": 1.5, 79: -0.5}
    singles = alone([(29, -1.0), (79, -2.0)])
    model = regressor(TERMS[:1], reference_energies=given)
    model.fit(singles + mixed_frames(4))
    assert model.reference_energies_ == {29: 1.5, 79: -0.5}
    assert not any(isinstance(t.descriptor, Composition) for t in model.terms_)
    np.testing.assert_allclose(model.predict([lone(29), lone(79)]), [1.5, -0.5])


@pytest.mark.parametrize("extra", [[], [(29, -1.0)], [(79, None)]])
def test_reference_energies_that_are_fitted(extra):
    """By least squares over compositions; not with single atoms of some elements."""
    frames = mixed_frames(8, forces=False)
    singles = alone([(z, e) for z, e in extra if e is not None])
    model = regressor(TERMS[:1]).fit(frames + singles)
    counts = [[(f.numbers == z).sum() for z in (29, 79)] for f in frames + singles]
    energies = [f.get_potential_energy() for f in frames + singles]
    weight = 1.0 / np.sqrt(np.sum(counts, axis=1))
    fitted = np.linalg.lstsq(
        np.array(counts) * weight[:, None], np.array(energies) * weight, rcond=None
    )[0]
    found = [model.reference_energies_[z] for z in (29, 79)]
    np.testing.assert_allclose(found, fitted, rtol=1e-9)
    assert isinstance(model.terms_[-1].descriptor, Composition)


def test_shifts_of_energies_do_not_matter():
    """Energies of atoms that are fitted take up any reference of the labels."""
    frames = mixed_frames(6)
    shifted = mixed_frames(6)
    for frame in shifted:
        shift = -1e4 * (frame.numbers == 29).sum() - 3e4 * (frame.numbers == 79).sum()
        frame.calc.results["energy"] += shift
    one, other = (regressor(TERMS[:1]).fit(f) for f in (frames, shifted))
    new = [crystal(80), cluster(81)]
    shift = [sum({29: -1e4, 79: -3e4}[z] for z in a.numbers) for a in new]
    found = other.predict(new) - shift
    np.testing.assert_allclose(found, one.predict(new), rtol=0, atol=1e-6)
    for a, b in zip(one.evaluate(new).forces, other.evaluate(new).forces, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_a_baseline_adds_up():
    frames = mixed_frames(8)
    model = regressor(TERMS[:1], baseline=cheap()).fit(frames)
    # The same as a fit to the differences.
    differences = []
    for frame in frames:
        work = frame.copy()
        work.calc = cheap()
        atoms = frame.copy()
        results = {
            "energy": frame.get_potential_energy() - work.get_potential_energy(),
            "forces": frame.get_forces() - work.get_forces(),
        }
        if "stress" in frame.calc.results:
            results["stress"] = frame.get_stress() - work.get_stress()
        atoms.calc = SinglePointCalculator(atoms, **results)
        differences.append(atoms)
    plain = regressor(TERMS[:1]).fit(differences)
    new = [crystal(80), cluster(81)]
    found, part = model.evaluate(new), plain.evaluate(new)
    for s, atoms in enumerate(new):
        work = atoms.copy()
        work.calc = cheap()
        energy = part.energy[s] + work.get_potential_energy()
        np.testing.assert_allclose(found.energy[s], energy, rtol=0, atol=1e-8)
        forces = part.forces[s] + work.get_forces()
        np.testing.assert_allclose(found.forces[s], forces, rtol=0, atol=1e-7)
        one, its_forces, inside = model.evaluate_one(atoms)
        np.testing.assert_allclose(one, energy, rtol=0, atol=1e-8)
        np.testing.assert_allclose(its_forces, forces, rtol=0, atol=1e-7)
        assert inside
    stress = model.evaluate(new[:1], ["stress"]).stress[0]
    work = new[0].copy()
    work.calc = cheap()
    expected = plain.evaluate(new[:1], ["stress"]).stress[0] + work.get_stress()
    np.testing.assert_allclose(stress, expected, rtol=0, atol=1e-8)
    work.calc = model.calculator()
    np.testing.assert_allclose(work.get_stress(), stress, rtol=0, atol=1e-10)


def test_a_model_below_gives_its_stress():
    frames = mixed_frames(8)
    below = regressor(TERMS[:1]).fit(frames)
    model = regressor(TERMS[2:], baseline=[below, cheap()]).fit(frames)
    atoms = clear_of_kinks(crystal, [*model.terms_, *below.terms_])
    (stress,) = model.evaluate([atoms], ["stress"]).stress
    epsilon = np.array([[2e-4, 0, 0], [0, 0, 0], [0, 0, 0]])
    high, low = (
        model.predict([strained(atoms, sign * epsilon)])[0] for sign in (1, -1)
    )
    expected = (high - low) / (2 * 2e-4 * atoms.get_volume())
    np.testing.assert_allclose(stress[0], expected, rtol=1e-5)


@pytest.mark.parametrize("baseline", [None, cheap()], ids=["alone", "corrected"])
def test_stress_is_nan_where_it_means_nothing(baseline):
    model = regressor(TERMS[:1], baseline=baseline).fit(mixed_frames(6))
    frames = [cluster(1), crystal(2), slab(3), crystal(4)]
    found = model.evaluate(frames, ("energy", "stress"), return_std=True)
    assert np.isnan(found.stress[[0, 2]]).all()
    expected = model.evaluate(frames[1::2], ["stress"]).stress
    np.testing.assert_allclose(found.stress[1::2], expected, rtol=1e-9)
    assert found.forces is found.forces_std is None
    assert np.isfinite(found.energy_std).all()


def test_a_baseline_without_stress_leaves_stresses_out(caplog):
    """It has none to subtract, so those of the frames would be learned twice."""
    frames = mixed_frames(6)
    model = regressor(TERMS[:1], baseline=Stressless()).fit(frames)
    assert "stress" in caplog.text
    without = mixed_frames(6, stress=False)
    expected = regressor(TERMS[:1], baseline=Stressless()).fit(without).predict(frames)
    np.testing.assert_allclose(model.predict(frames), expected, rtol=0, atol=1e-9)
    assert not model.has_stress
    with pytest.raises(InputError, match="baseline that knows no stress"):
        model.evaluate([crystal(0)], ["stress"])
    atoms = crystal(0)
    atoms.calc = model.calculator()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_a_baseline_has_no_energies_of_atoms():
    model = regressor(TERMS[:1], baseline=EMT()).fit(mixed_frames(4, stress=False))
    with pytest.raises(InputError, match="with a baseline predicts no energies"):
        model.evaluate([crystal(0)], ("energy", "energies"))


@pytest.mark.parametrize("approximation", ["dtc", "fitc"])
@pytest.mark.parametrize("solver", ["qr", "normal"])
def test_solvers_and_approximations(approximation, solver):
    frames = mixed_frames(8)
    model = regressor(TERMS[:1], solver=solver, approximation=approximation)
    model.fit(frames)
    assert model.score(frames) > 0.5
    if solver == "normal":
        other = regressor(TERMS[:1], approximation=approximation).fit(frames)
        np.testing.assert_allclose(
            model.predict(frames), other.predict(frames), rtol=0, atol=1e-5
        )


def test_fitc_is_the_dense_formula():
    """What the inducing pairs leave of the prior of each label adds to its noise."""
    frames = [labelled(cluster(k, (29, 29, 79)), stress=False) for k in range(3)]
    given = {"Cu": 0.0, "Au": 0.0}
    model = regressor(TERMS[:1], approximation="fitc", reference_energies=given)
    model.fit(frames)
    K = prior_covariance(model.terms_)
    K += model.solution_.jitter * np.eye(len(K))
    rows, y, noise, prior = [], [], [], []
    for frame in frames:
        found = rows_of(model.terms_, [frame])
        rows += [found.energies, found.forces.reshape(9, -1)]
        y += [[frame.get_potential_energy()], frame.get_forces().ravel()]
        noise += [[0.002 * np.sqrt(3)], np.full(9, 0.02)]
        batch = Batch.from_frames([frame])
        neighbours = find_neighbours(batch, model.cutoff_)
        prior.append(prior_variances(model.terms_, batch, neighbours, True)[:-6])
    rows, y, noise, prior = map(np.concatenate, (rows, y, noise, prior))
    rest = prior - np.einsum("nm,mn->n", rows, np.linalg.solve(K, rows.T))
    assert (rest > -1e-7).all()
    assert rest.max() > 1e-3
    variance = noise**2 + np.maximum(rest, 0.0)
    # Least squares, as normal equations would lose digits.
    A = np.concatenate([rows / np.sqrt(variance)[:, None], np.linalg.cholesky(K).T])
    b = np.append(y / np.sqrt(variance), np.zeros(len(K)))
    expected = rows @ np.linalg.lstsq(A, b, rcond=0)[0]
    found = rows @ model.solution_.coef
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_default_terms():
    frames = mixed_frames(6)
    model = GAPRegressor(optimize=False).fit(frames)
    kinds = [type(term.descriptor).__name__ for term in model.terms_]
    assert kinds.count("TwoBody") == 3
    assert kinds.count("Projected") == 4
    assert kinds[-1] == "Composition"
    assert model.score(frames) > 0.95


def test_precise_labels_of_some_frames():
    """A frame with little noise is met more closely."""
    frames = mixed_frames(8)
    frames[3].info["noise_forces"] = 1e-4
    plain = regressor(TERMS[:1]).fit(mixed_frames(8))
    model = regressor(TERMS[:1]).fit(frames)
    errors = [
        np.abs(m.evaluate([frames[3]]).forces[0] - frames[3].get_forces()).max()
        for m in (plain, model)
    ]
    assert errors[1] < 0.3 * errors[0]


def test_tabulated_models():
    """Pairs on splines predict the same, within what is asked for, but no errors."""
    terms = [Term(TwoBody(cutoff=3.9), Scaled(RBF(length_scale=0.8), 1.0), 8)]
    model = regressor(terms).fit(mixed_frames(6))
    table, atoms = model.tabulated(1e-6, start=1.5), crystal(0)
    found, expected = (m.evaluate([atoms]) for m in (table, model))
    pairs = len(find_neighbours(Batch.from_frames([atoms]), 3.9).dist)
    np.testing.assert_allclose(found.energy, expected.energy, atol=1e-6 * pairs)
    np.testing.assert_allclose(found.forces[0], expected.forces[0], atol=1e-3)
    with pytest.raises(InputError, match="tabulated model has no standard dev"):
        table.predict([crystal(0)], return_std=True)


def test_the_seed_chooses():
    frames = mixed_frames(6)
    term = Term(DENSITY, Scaled(Polynomial(2), 0.5), 5, selection="random")
    one, same, other = (
        regressor([term], seed=seed).fit(frames).predict(frames) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-6
