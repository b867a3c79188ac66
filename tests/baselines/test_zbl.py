"""ZBL: the formula by hand, derivatives, the switch, and its use as a baseline."""

import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import voigt_6_to_full_3x3_stress
from stored import through_file
from toys import assert_second_order

import kforce
from kforce.baselines.baseline import as_baseline
from kforce.errors import InputError
from kforce.storage.codec import encode

#: Covalent radii in Å.
SI, C = 1.11, 0.76


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KFORCE_CACHE", str(tmp_path / "cache"))


def by_hand(first, second, r):
    """Energy in eV without the switch, constants written out."""
    x = r / (0.8854 * 0.52917721 / (first**0.23 + second**0.23))
    phi = 0.18175 * math.exp(-3.19980 * x) + 0.50986 * math.exp(-0.94229 * x)
    phi += 0.28022 * math.exp(-0.40290 * x) + 0.02817 * math.exp(-0.20162 * x)
    return 14.399645 * first * second / r * phi


def energy(r, symbols="SiC", **kwargs):
    atoms = Atoms(symbols, [[0, 0, 0], [0, 0, r]], calculator=kforce.ZBL(**kwargs))
    return atoms.get_potential_energy()


def crystal(calculator=None):
    """Carbide squeezed to half its volume: pairs within the switch, and images."""
    atoms = bulk("SiC", "zincblende", a=3.0).repeat((2, 1, 1))
    atoms.rattle(0.1, seed=3)
    # Bonds are 1.3 Å long, the switch is from 0.75 to 1.4 Å.
    atoms.calc = calculator or kforce.ZBL()
    return atoms


def test_the_formula_by_hand():
    r = 0.39 * (SI + C)
    assert energy(r) == pytest.approx(by_hand(14, 6, r), rel=1e-6)
    t = (1.0 - 0.4 * (SI + C)) / (0.35 * (SI + C))
    switch = 1.0 - 10.0 * t**3 + 15.0 * t**4 - 6.0 * t**5
    assert energy(1.0) == pytest.approx(by_hand(14, 6, 1.0) * switch, rel=1e-6)
    assert energy(0.3, "U2") == pytest.approx(by_hand(92, 92, 0.3), rel=1e-6)
    assert energy(1.5) == 0.0


def test_forces_are_the_derivative():
    atoms = crystal()
    direction = np.random.default_rng(0).normal(size=atoms.positions.shape)
    direction /= np.linalg.norm(direction)

    def value(positions):
        moved = Atoms(atoms, positions=positions, calculator=kforce.ZBL())
        return np.array([moved.get_potential_energy()])

    derivative = np.array([-np.vdot(atoms.get_forces(), direction)])
    assert abs(derivative[0]) > 1.0
    assert_second_order(value, derivative, atoms.positions, direction, 2e-3, 1e-7)
    np.testing.assert_allclose(atoms.get_forces().sum(axis=0), 0.0, atol=1e-12)


def test_stress_is_the_derivative():
    atoms = crystal()
    direction = np.random.default_rng(1).normal(size=(3, 3))
    direction = 0.2 * (direction + direction.T)

    def value(strain):
        moved = crystal()
        cell = atoms.cell.array @ (np.eye(3) + strain)
        moved.set_cell(cell, scale_atoms=True)
        return np.array([moved.get_potential_energy()])

    stress = atoms.get_volume() * voigt_6_to_full_3x3_stress(atoms.get_stress())
    derivative = np.array([np.vdot(stress, direction)])
    assert_second_order(value, derivative, np.zeros((3, 3)), direction, 1e-3, 1e-7)


def test_energy_and_its_derivatives_are_smooth_at_both_ends_of_the_switch():
    for share in (0.4, 0.75):
        edge, steps = share * (SI + C), np.array([-3, -2, -1, 0, 1, 2, 3])
        jumps = []
        for h in (1e-3, 1e-4):
            e = np.array([energy(edge + h * k) for k in steps])
            slopes, curves = np.diff(e) / h, np.diff(e, n=2) / h**2
            jumps.append([abs(slopes[3] - slopes[2]), abs(curves[-1] - curves[0])])
        # Both differ by no more than a step apart: first order in the step.
        for one, ten in zip(jumps[1], jumps[0], strict=True):
            assert one < 0.2 * ten


def test_energies_fall_with_the_distance():
    e = np.array([energy(r) for r in np.linspace(0.05, 1.5, 300)])
    positive = e > 0.0
    assert (np.diff(e[positive]) < 0.0).all()
    assert not e[~positive].any()
    assert positive.sum() == np.argmin(positive)


def test_each_pair_has_a_switch_of_its_own():
    # Silicon reaches further than hydrogen: 1.67 Å and 0.47 Å.
    atoms = Atoms("HHSiSi", [[0, 0, 0], [0.6, 0, 0], [9, 0, 0], [10.2, 0, 0]])
    atoms.calc = kforce.ZBL()
    assert atoms.get_potential_energy() == pytest.approx(energy(1.2, "Si2"))
    assert not atoms.get_forces()[:2].any()


def test_lone_atoms_and_their_images():
    lone = Atoms("Si", calculator=kforce.ZBL())
    assert lone.get_potential_energy() == 0.0
    assert (lone.get_forces() == 0.0).all()
    with pytest.raises(PropertyNotImplementedError, match="stress"):
        lone.get_stress()
    chain = Atoms("Si", cell=[1.2, 9, 9], pbc=(True, False, False))
    chain.calc = kforce.ZBL()
    assert chain.get_potential_energy() == pytest.approx(energy(1.2, "Si2"))
    np.testing.assert_allclose(chain.get_forces(), 0.0, atol=1e-12)


def test_the_switch_can_be_changed():
    assert energy(1.5, inner=0.9, outer=1.2) == pytest.approx(by_hand(14, 6, 1.5))
    atoms = Atoms("SiC", [[0, 0, 0], [0, 0, 1.5]], calculator=kforce.ZBL())
    assert atoms.get_potential_energy() == 0.0
    atoms.calc.set(outer=1.2)
    assert atoms.get_potential_energy() > 0.0


@pytest.mark.parametrize(
    "settings",
    [
        {"inner": 0.8},
        {"outer": 0.4},
        {"inner": -0.1},
        {"outer": np.inf},
        {"inner": np.nan},
        {"outer": "0.8"},
    ],
)
def test_bad_settings(settings):
    with pytest.raises(InputError, match="ZBL needs 0 ≤ inner < outer"):
        kforce.ZBL(**settings)
    with pytest.raises(InputError, match="found 'cutoff'"):
        kforce.ZBL().set(cutoff=3.0)


def test_files_know_it_by_name_and_settings():
    baseline = as_baseline(kforce.ZBL(outer=0.9))
    (description,) = encode(baseline)[0]["members"]
    assert description["calculator"] == "kforce.baselines.zbl:ZBL"
    assert description["settings"] == {"items": [["inner", 0.4], ["outer", 0.9]]}
    found, wanted, other = (
        b.evaluate_one(crystal())
        for b in (through_file(baseline), baseline, as_baseline(kforce.ZBL()))
    )
    assert found.energy == wanted.energy != other.energy
    np.testing.assert_array_equal(found.forces, wanted.forces)


def collisions(n):
    """Dimers of silicon and carbon from 0.9 to 2.4 Å, labelled by springs and ZBL."""
    frames = []
    for r in np.linspace(0.9, 2.4, n):
        atoms = Atoms("SiC", [[0, 0, 0], [0.1 * r, 0, 0.995 * r]])
        atoms.calc = kforce.ZBL()
        cheap, pull = atoms.get_potential_energy(), atoms.get_forces()
        vec = atoms.positions[1] - atoms.positions[0]
        length = np.linalg.norm(vec)
        spring = 3.0 * (length - 1.8) * vec / length
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=cheap + 1.5 * (length - 1.8) ** 2,
            forces=pull + np.array([spring, -spring]),
        )
        frames.append(atoms)
    return frames


@pytest.mark.parametrize("kind", ["gap", "gdml"])
def test_models_on_top_of_it(kind, tmp_path):
    frames = collisions(16)
    if kind == "gap":
        pair = kforce.Term(kforce.TwoBody(cutoff=4.0), n_inducing=10)
        model = kforce.GAPRegressor([pair], baseline=kforce.ZBL(), optimize=False)
    else:
        model = kforce.GDMLRegressor(baseline=kforce.ZBL())
    model.fit(frames)
    # What is left is a spring: nothing else tells 28 eV at 0.9 Å from 0 at 1.8 Å.
    error = np.array(model.predict(frames)) - [f.get_potential_energy() for f in frames]
    assert np.abs(error - error.mean()).max() < 0.1
    model.save(tmp_path / "model.npz")
    again = kforce.load(tmp_path / "model.npz")
    assert encode(again.baseline) == encode(model.baseline_)
    np.testing.assert_allclose(again.predict(frames), model.predict(frames), rtol=1e-12)
    closer = Atoms("SiC", [[0, 0, 0], [0, 0, 0.3]])
    assert again.evaluate([closer], ("energy",)).energy[0] > 500.0
