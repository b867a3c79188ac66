"""Local models as ASE calculators: results, stress, dynamics, and what they refuse."""

import copy
import warnings
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces
from ase.md.verlet import VelocityVerlet
from local_frames import cells, clusters, isolated, local_model, terms
from toys import assert_second_order

from kforce import GDMLRegressor, InputError, Matern52, Term, TwoBody
from kforce.baselines.baseline import as_baseline

FRAMES = cells(8) + clusters(4) + isolated()
NEW = cells(4, seed=1) + clusters(2, seed=1)


@pytest.fixture(scope="module")
def model():
    return local_model().fit(FRAMES)


@pytest.fixture
def atoms(model):
    """A cell of 8 atoms with the model as its calculator."""
    atoms = NEW[1].copy()
    atoms.calc = model.calculator()
    return atoms


def test_it_gives_what_the_model_predicts(model):
    expected = model.evaluate(NEW, ("energy", "forces", "energies"))
    stress = model.evaluate(NEW[:4], "stress").stress
    calculator = model.calculator()  # one for all: another structure is noticed
    for s, frame in enumerate(NEW):
        atoms = frame.copy()
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(expected.energy[s])
        np.testing.assert_allclose(atoms.get_forces(), expected.forces[s], atol=1e-9)
        np.testing.assert_allclose(
            atoms.get_potential_energies(), expected.energies[s], atol=1e-9
        )
        assert atoms.get_potential_energy(force_consistent=True) == pytest.approx(
            atoms.get_potential_energies().sum()
        )
        if s < 4:
            np.testing.assert_allclose(atoms.get_stress(), stress[s], atol=1e-10)


def test_forces_against_finite_differences(atoms):
    forces = atoms.get_forces()
    errors = [
        np.abs(calculate_numerical_forces(atoms, eps=eps) - forces).max()
        for eps in (1e-2, 1e-3)
    ]
    assert 90 < errors[0] / errors[1] < 110


@pytest.mark.parametrize("component", range(6))
def test_stress_is_the_slope_along_a_strain(atoms, component):
    a, b = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)][component]
    direction = np.zeros((3, 3))
    direction[a, b] = direction[b, a] = 0.5 if a != b else 1.0
    cell = atoms.cell.array.copy()

    # Larger steps would bring pairs across kinks of the second derivative.
    def energy(strain):
        atoms.set_cell(cell @ (np.eye(3) + strain), scale_atoms=True)
        found = atoms.get_potential_energy()
        atoms.set_cell(cell, scale_atoms=True)
        return [found]

    expected = atoms.get_stress()[component] * atoms.get_volume()
    assert_second_order(energy, [expected], np.zeros((3, 3)), direction, 1e-3, 1e-6)


def test_no_stress_without_a_cell(model):
    atoms = NEW[-1].copy()
    atoms.calc = model.calculator()
    atoms.get_potential_energy()
    assert "stress" not in atoms.calc.results
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def largest_deviation(calculator, timestep, n_steps):
    """Largest change of the total energy in microcanonical dynamics, in eV."""
    atoms = NEW[1].copy()
    atoms.set_momenta(np.random.default_rng(0).normal(scale=2.0, size=(8, 3)))
    atoms.calc = calculator
    total = [atoms.get_total_energy()]
    dynamics = VelocityVerlet(atoms, timestep * units.fs)
    dynamics.attach(lambda: total.append(atoms.get_total_energy()))
    dynamics.run(n_steps)
    return np.abs(np.array(total) - total[0]).max()


@pytest.mark.filterwarnings("ignore:.*environments of")
def test_dynamics_conserve_energy_and_reuse_the_pairs(model):
    # Verlet's fluctuation is O(dt²) for a smooth potential with exact forces.
    calculators = [model.calculator(), model.calculator(skin=1.0)]
    coarse = largest_deviation(calculators[0], 2.0, 50)
    fine = largest_deviation(calculators[1], 1.0, 100)
    assert 3.5 < coarse / fine < 4.5  # 2.4 and 0.6 meV
    builds = [calculator.skin_list.n_builds for calculator in calculators]
    assert builds[0] <= 8
    assert builds[1] < builds[0]


@pytest.mark.filterwarnings("ignore:.*environments of")
def test_small_steps_look_for_pairs_once(atoms):
    rng = np.random.default_rng(0)
    for _ in range(5):
        atoms.rattle(0.01, rng=rng)
        atoms.get_forces()
    assert atoms.calc.skin_list.n_builds == 1
    atoms.positions[0] += 0.3
    atoms.get_forces()
    assert atoms.calc.skin_list.n_builds == 2


def test_without_the_request_there_are_none(atoms):
    atoms.get_forces()
    names = {"energy", "free_energy", "energies", "forces", "stress", "extrapolation"}
    assert set(atoms.calc.results) == names
    with pytest.raises(PropertyNotImplementedError):
        atoms.calc.get_property("energy_std", atoms)


@pytest.mark.parametrize(
    ("std", "names"),
    [
        (False, set()),
        ("energy", {"energy_std"}),
        ("forces", {"energy_std", "forces_std"}),
        (True, {"energy_std", "forces_std"}),
    ],
)
def test_standard_deviations_that_are_wanted(model, std, names):
    atoms = NEW[1].copy()
    atoms.calc = model.calculator(std=std)
    atoms.get_forces()
    assert {name for name in atoms.calc.results if "std" in name} == names
    expected = model.evaluate([atoms], return_std=True)
    for name in names:
        found = atoms.calc.results[name]
        np.testing.assert_allclose(found, getattr(expected, name)[0], rtol=1e-6)


def test_standard_deviations_now_and_then(model):
    atoms = NEW[1].copy()
    atoms.calc = model.calculator(std="energy", std_every=3)
    known = []
    for _ in range(7):
        atoms.positions[0, 0] += 0.01
        atoms.get_forces()
        known.append("energy_std" in atoms.calc.results)
    assert known == [True, False, False, True, False, False, True]
    atoms.positions[0, 0] += 0.01
    assert atoms.calc.get_property("energy_std", atoms) > 0.0  # asked for by name


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"std": "stress"}, "std must be False, 'energy' or 'forces', found 'stress'"),
        ({"std": 1.5}, "std must be False, 'energy' or 'forces', found 1.5"),
        ({"std": "energy", "std_every": 0}, "std_every must be a whole number ≥ 1"),
        ({"std": "energy", "std_every": 1.5}, "std_every must be a whole number ≥ 1"),
        ({"std": "energy", "std_every": True}, "std_every must be .* found True"),
    ],
)
def test_standard_deviations_that_it_refuses(model, arguments, match):
    with pytest.raises(InputError, match=match):
        model.calculator(**arguments)


def test_it_says_once_where_the_training_set_ends(model):
    atoms = NEW[1].copy()
    atoms.calc = copy.copy(model)._restore().calculator()
    expected = model.extrapolation([atoms])[0]
    atoms.get_forces()
    np.testing.assert_allclose(atoms.calc.results["extrapolation"], expected, rtol=1e-6)
    atoms.set_cell(0.8 * atoms.cell, scale_atoms=True)
    with pytest.warns(UserWarning, match=r"8 atoms \(.* grades up to .*once"):
        atoms.get_forces()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.rattle(0.01)
        atoms.get_forces()


def test_all_properties_at_once(model, atoms):
    atoms.calc = model.calculator(std="energy")
    found = atoms.get_properties(["energy", "forces", "stress"])
    assert found["energy"] == atoms.get_potential_energy()
    np.testing.assert_array_equal(found["forces"], atoms.get_forces())


def test_a_model_without_posterior_gives_no_such_calculator(model):
    bare = copy.copy(model)._restore(solution_=None)
    bare.calculator()
    with pytest.raises(InputError, match="holds no posterior"):
        bare.calculator(std=True)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda a: molecule("H2O"), "holds H, which the model has never seen"),
        (lambda a: Atoms(a.numbers, np.full((8, 3), np.nan)), "must be finite"),
        (lambda a: Atoms("Cu2", np.zeros((2, 3))), "at the same place"),
        (lambda a: Atoms("Cu2", [[0, 0, 0], [0, 0, 2]], pbc=True), "does not span"),
        (lambda a: Atoms(), "holds no atoms"),
    ],
    ids=["element", "not a number", "coincident", "no cell", "nothing"],
)
def test_structures_that_it_refuses(atoms, make, match):
    other = make(atoms)
    other.calc = atoms.calc
    with pytest.raises(InputError, match=match):
        other.get_potential_energy()


@pytest.mark.parametrize("skin", [0.0, -1.0, np.nan])
def test_skins_that_it_refuses(model, skin):
    with pytest.raises(InputError, match="skin must be a positive length"):
        model.calculator(skin=skin)


@pytest.fixture(scope="module")
def corrected(model):
    """A model that corrects another one."""
    cheap = local_model(terms=terms()[:1]).fit(FRAMES)
    return local_model(terms=terms()[1:], baseline=cheap.calculator()).fit(FRAMES)


def test_a_model_can_be_a_baseline(corrected):
    expected = corrected.evaluate(NEW)
    for s, frame in enumerate(NEW):
        atoms = frame.copy()
        atoms.calc = corrected.calculator()
        assert atoms.get_potential_energy() == pytest.approx(expected.energy[s])
        np.testing.assert_allclose(atoms.get_forces(), expected.forces[s], atol=1e-9)
        known = {"energy", "free_energy", "forces", "extrapolation"}
        known |= {"stress"} if frame.pbc.all() else set()
        assert set(atoms.calc.results) == known
        energy, forces, inside = corrected.evaluate_one(frame)
        assert energy == pytest.approx(expected.energy[s])
        np.testing.assert_allclose(forces, expected.forces[s], atol=1e-9)
        assert inside is True


def test_a_baseline_of_a_global_model(methanol):
    pairs = [Term(TwoBody(cutoff=4.0), n_inducing=8)]
    low = local_model(terms=pairs).fit(methanol[:8])
    assert as_baseline(low.calculator()).models == [low]
    parameters = {"noise_energy": 1e-3, "noise_forces": 1e-3, "permutations": None}
    kernel = Matern52(length_scale=10.0)
    high = GDMLRegressor(kernel=kernel, baseline=low, **parameters)
    atoms = methanol[3].copy()
    atoms.calc = high.fit(methanol[:20]).calculator()
    expected = high.evaluate([atoms])
    assert atoms.get_potential_energy() == pytest.approx(expected.energy[0])
    np.testing.assert_allclose(atoms.get_forces(), expected.forces[0], atol=1e-6)


def narrow(model):
    """A model as if its training set had varied by a hundredth as much."""
    ranges = [r and r.scaled(0.01) for r in model.grade_.ranges]
    return copy.copy(model)._restore(grade_=replace(model.grade_, ranges=ranges))


@pytest.mark.parametrize("sort", ["local", "tabulated", "global"])
def test_grades_of_a_baseline_are_warned_of(methanol, sort):
    pairs = [Term(TwoBody(cutoff=4.0), n_inducing=8)]
    low = narrow(local_model(terms=pairs).fit(methanol[:8]))
    noises = {"noise_energy": 1e-3, "noise_forces": 1e-3}
    if sort == "global":
        kernel = Matern52(length_scale=10.0)
        high = GDMLRegressor(kernel=kernel, baseline=low, permutations=None, **noises)
    else:
        high = local_model(terms=pairs, baseline=low)
    high.fit(methanol[:20])
    if sort == "tabulated":
        high = high.tabulated(error=1e-3)
    atoms = methanol[3].copy()
    with pytest.warns(UserWarning, match="1 of 1 structures .* grades up to"):
        high.predict([atoms])
    atoms.calc = high.calculator()
    with pytest.warns(UserWarning, match=r"^The environments of .* grades up to"):
        atoms.get_forces()
    grades = atoms.calc.get_property("extrapolation", atoms)
    assert high.evaluate_one(atoms)[2] is False
    np.testing.assert_allclose(grades, low.extrapolation([atoms])[0], rtol=1e-6)
