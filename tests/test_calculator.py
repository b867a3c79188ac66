import copy
import multiprocessing
import re
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces
from ase.md.verlet import VelocityVerlet

from kforce.errors import ExtrapolationError, InputError

#: The sums behind one energy have terms of 1e7 eV in total, which cancel: rounding
#: leaves 3e-9 eV, and a few times more of the forces. Two orders of summation agree to
#: that.
ROUNDING = 1e-8


@pytest.fixture(scope="module")
def inside(methanol, methanol_model):
    """Structures that are not for training and lie within its range."""
    frames = [f for f in methanol[30:] if methanol_model.evaluate_one(f)[2]]
    return frames[:10]


@pytest.fixture
def atoms(inside, methanol_model):
    """One of them with the model as its calculator, which has not warned yet."""
    atoms = inside[0].copy()
    atoms.calc = copy.copy(methanol_model)._restore().calculator()
    return atoms


def energy_and_forces(atoms):
    return atoms.get_potential_energy(), atoms.get_forces()


def test_it_gives_what_the_model_predicts(inside, methanol_model, atoms):
    assert len(inside) == 10
    expected = methanol_model.evaluate(inside)
    for s, frame in enumerate(inside):
        atoms.positions = frame.positions
        energy, forces = energy_and_forces(atoms)
        np.testing.assert_allclose(energy, expected.energy[s], atol=ROUNDING)
        np.testing.assert_allclose(forces, expected.forces[s], atol=10 * ROUNDING)
        assert atoms.get_potential_energy(force_consistent=True) == energy


def test_forces_against_finite_differences_of_ase(atoms):
    forces = atoms.get_forces()
    errors = [
        np.abs(calculate_numerical_forces(atoms, eps=eps) - forces).max()
        # Rounding of 1e-7 eV in the energies makes 1e-5 eV/Å of the smaller step.
        for eps in (6e-2, 6e-3)
    ]
    assert errors[1] < 2e-3
    assert 90 < errors[0] / errors[1] < 110


def test_it_follows_the_positions(atoms):
    before = atoms.get_potential_energy()
    atoms.positions[5] += 0.01
    moved = atoms.get_potential_energy()
    assert abs(moved - before) > 1e-6
    atoms.positions[5] -= 0.01
    np.testing.assert_allclose(atoms.get_potential_energy(), before, atol=ROUNDING)


# From Python 3.12 a fork of a process with threads warns: that it works is the point.
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_it_works_in_worker_processes(inside, methanol_model, method, monkeypatch):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    # The parent has trained and predicted, with threads, before it makes its workers.
    expected = methanol_model.evaluate(inside)
    jobs = [frame.copy() for frame in inside]
    for job in jobs:
        job.calc = methanol_model.calculator()
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        results = list(pool.map(energy_and_forces, jobs, timeout=120))
        batch = pool.submit(methanol_model.evaluate, inside).result(timeout=120)
    for s, (energy, forces) in enumerate(results):
        np.testing.assert_allclose(energy, expected.energy[s], atol=ROUNDING)
        np.testing.assert_allclose(forces, expected.forces[s], atol=10 * ROUNDING)
    np.testing.assert_allclose(batch.energy, expected.energy, atol=ROUNDING)


@pytest.mark.parametrize(
    ("factor", "match"),
    [
        (0.6, "Å apart, closer than in training .* falls back to a constant"),
        (2.0, "Å apart, farther than in training .* falls back to a constant"),
    ],
)
def test_it_warns_once_when_it_leaves_the_training_range(atoms, factor, match):
    atoms.positions *= factor
    with pytest.warns(UserWarning, match=match) as caught:
        atoms.get_forces()
    assert len(caught) == 1
    atoms.positions *= 0.99
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.get_forces()


def test_the_warning_names_the_two_atoms(atoms):
    # Hydrogen 2 moves to half its distance from the carbon, 0.
    atoms.positions[2] = 0.5 * (atoms.positions[0] + atoms.positions[2])
    dist = atoms.get_distance(0, 2)
    with pytest.warns(
        UserWarning, match=rf"Atoms 0 and 2 are {dist:.2f} Å apart, closer"
    ):
        atoms.get_forces()


def test_it_warns_once_in_all_calculators_of_a_model(atoms):
    model = atoms.calc.model
    atoms.positions *= 0.6
    calculators = [model.calculator(), model.calculator(), copy.deepcopy(atoms.calc)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for calculator in calculators:
            atoms.calc = calculator
            atoms.get_forces()
    (found,) = caught
    assert "Said once" in str(found.message)


def test_the_digits_of_a_warning_tell_both_numbers_apart(inside, methanol_model):
    grade = methanol_model.grade_
    atoms = inside[0].copy()
    descriptor = methanol_model.descriptor_
    x = descriptor(methanol_model.molecule_.batch_of_one(atoms.positions)).x[0]
    for change in (1e-3, 1e-5):
        low = grade.low.copy()
        low[1] = x[1] * (1.0 + change)  # 1/r of the first pair
        model = copy.copy(methanol_model)._restore()
        model.expansion_ = copy.copy(model.expansion_)
        narrow = replace(grade, low=low, spread=grade.spread.scaled(0.01))
        vars(model.expansion_)["training_range"] = narrow
        found = model.describe_extrapolation(atoms)
        dist, limit = map(float, re.findall(r"(\d\.\d+) Å", found))
        assert dist == pytest.approx(1.0 / x[1], abs=6e-3)
        assert dist > limit
        assert limit == pytest.approx(1.0 / low[1], abs=6e-3)


@pytest.mark.parametrize("std", [False, "energy"])
def test_it_raises_before_there_are_results(atoms, std):
    model = atoms.calc.model
    atoms.calc = model.calculator(std=std, on_extrapolation="raise")
    atoms.get_forces()
    known = atoms.calc.results["extrapolation"].max()
    assert atoms.calc.n_extrapolating == 0
    assert atoms.calc.largest_grade == known <= 1.0
    start = atoms.positions.copy()
    atoms.set_momenta(np.full((6, 3), 3.0) * start)
    dynamics = VelocityVerlet(atoms, 5.0 * units.fs)
    with pytest.raises(ExtrapolationError, match=r"farther than .* add such") as caught:
        dynamics.run(100)
    assert caught.value.grade == atoms.calc.largest_grade > 1.0
    np.testing.assert_array_equal(caught.value.atoms.positions, atoms.positions)
    assert (caught.value.energy_std is None) == (std is False)
    assert atoms.calc.results == {}
    assert atoms.calc.n_evaluations > atoms.calc.n_extrapolating == 1
    with pytest.raises(ExtrapolationError):  # once more: nothing is kept of it
        atoms.get_forces()


def test_it_is_silent_on_request_and_counts(atoms):
    atoms.calc = atoms.calc.model.calculator(on_extrapolation="ignore")
    atoms.get_forces()
    atoms.positions *= 0.6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.get_forces()
    counts = atoms.calc.n_evaluations, atoms.calc.n_extrapolating
    assert counts == (2, 1)
    assert atoms.calc.largest_grade == atoms.calc.results["extrapolation"].max() > 1.0


@pytest.mark.parametrize("std", [False, "energy", "forces"])
def test_it_stops_at_a_standard_deviation(inside, atoms, std):
    model = atoms.calc.model
    atoms.calc = model.calculator(std=std or "energy")
    known = atoms.calc.get_property("energy_std", atoms)
    atoms.calc = model.calculator(std=std, stop_std=1.5 * known)
    atoms.get_forces()
    assert atoms.calc.results["energy_std"] == pytest.approx(known, rel=1e-6)
    atoms.calc = model.calculator(std=std, stop_std=0.5 * known)
    with pytest.raises(ExtrapolationError, match=r"above stop_std = .* evaluation 1"):
        atoms.get_forces()
    assert atoms.calc.n_extrapolating == 1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"on_extrapolation": "stop"}, "'warn', 'raise' or 'ignore', found 'stop'"),
        ({"on_extrapolation": None}, "'warn', 'raise' or 'ignore', found None"),
        ({"stop_std": -0.1}, "stop_std must be a positive .* found -0.1"),
        ({"stop_std": 0.0}, "stop_std must be a positive .* found 0.0"),
        ({"stop_std": np.nan}, "stop_std must be a positive .* found nan"),
        ({"stop_std": True}, "stop_std must be a positive .* found True"),
    ],
)
def test_what_to_do_outside_that_it_refuses(methanol_model, arguments, match):
    with pytest.raises(InputError, match=match):
        methanol_model.calculator(**arguments)


def test_it_does_not_warn_within_the_training_data(methanol, methanol_model):
    calculator = methanol_model.calculator()
    for frame in methanol[:30]:
        atoms = frame.copy()
        atoms.calc = calculator
        atoms.get_forces()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda m: molecule("H2O"), "Expected structures of CH4O, found H2O"),
        (lambda m: m[::-1], "re-order them"),
        (
            lambda m: Atoms(m.numbers, m.positions, cell=[6.0] * 3, pbc=True),
            "Expected one molecule with vacuum around it, .* images in this structure",
        ),
        (
            lambda m: Atoms(m.numbers, np.zeros((6, 3))),
            "at the same place",
        ),
        (
            lambda m: Atoms(m.numbers, np.full((6, 3), np.nan)),
            "finite",
        ),
    ],
    ids=["molecule", "order", "periodic", "coincident", "not a number"],
)
def test_structures_that_it_refuses(methanol, methanol_model, make, match):
    atoms = make(methanol[0].copy())
    atoms.calc = methanol_model.calculator()
    with pytest.raises(InputError, match=match):
        atoms.get_potential_energy()


def largest_deviation(frame, model, timestep, n_steps):
    """Largest change of the total energy in microcanonical dynamics, in eV."""
    atoms = frame.copy()
    atoms.calc = model.calculator()
    atoms.set_momenta(np.random.default_rng(0).normal(scale=0.2, size=(6, 3)))
    total = [atoms.get_total_energy()]
    dynamics = VelocityVerlet(atoms, timestep * units.fs)
    dynamics.attach(lambda: total.append(atoms.get_total_energy()))
    dynamics.run(n_steps)
    return np.abs(np.array(total) - total[0]).max()


def test_dynamics_conserve_energy(methanol, methanol_model):
    # Verlet's fluctuation is O(dt²) for a smooth potential with exact forces: a quarter
    # at half the step (up to O(dt⁴)), and meV at 0.5 fs with stretching hydrogens.
    frame = min(methanol[:30], key=lambda f: f.get_potential_energy())
    coarse = largest_deviation(frame, methanol_model, 0.5, 300)
    fine = largest_deviation(frame, methanol_model, 0.25, 600)
    assert coarse < 0.02
    assert 3.6 < coarse / fine < 4.4


def test_without_the_request_there_are_none(atoms):
    atoms.get_forces()
    known = {"energy", "free_energy", "forces", "extrapolation"}
    assert set(atoms.calc.results) == known
    with pytest.raises(PropertyNotImplementedError):
        atoms.calc.get_property("energy_std", atoms)


def test_extended_xyz_with_standard_deviations(methanol_model, atoms, tmp_path):
    atoms.calc = methanol_model.calculator(std=True)
    atoms.get_forces()
    results = atoms.calc.results
    ase.io.write(tmp_path / "plain.xyz", atoms)
    plain = ase.io.read(tmp_path / "plain.xyz")
    np.testing.assert_allclose(plain.get_forces(), results["forces"], atol=1e-7)
    atoms.info["energy_std"] = results["energy_std"]
    atoms.arrays["forces_std"] = results["forces_std"]
    ase.io.write(tmp_path / "with_std.xyz", atoms)
    again = ase.io.read(tmp_path / "with_std.xyz")
    np.testing.assert_allclose(again.info["energy_std"], results["energy_std"])
    np.testing.assert_allclose(
        again.arrays["forces_std"], results["forces_std"], atol=1e-7
    )


def test_a_model_without_variance_gives_no_such_calculator(methanol_model):
    bare = copy.copy(methanol_model)._restore(uncertainty_=None)
    bare.calculator()
    for arguments in ({"std": True}, {"stop_std": 0.1}):
        with pytest.raises(InputError, match="no predictive variance"):
            bare.calculator(**arguments)
