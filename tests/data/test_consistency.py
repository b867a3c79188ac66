import re

import numpy as np
import pytest
from ase import Atoms
from ase import units as ase_units

from kforce.data.consistency import energy_force_slope
from kforce.datasets import load_methanol_ccsdt
from kforce.labels import Labels

FRAMES = load_methanol_ccsdt()
LABELS = Labels.from_frames(FRAMES)
FORCES = np.array(LABELS.forces)
KCAL, BOHR = ase_units.kcal / ase_units.mol, ase_units.Bohr

# Factors on energies, forces and positions, and what is to be said about them.
MISTAKES = [
    (1, -1, 1, "the forces had the wrong sign"),
    (-1, 1, 1, "the forces had the wrong sign"),
    (1 / KCAL, 1, 1, "energies were in kcal/mol"),
    (1, 1 / KCAL, 1, "forces were in kcal/mol/Å"),
    (1 / ase_units.Ha, 1, 1, "energies were in Hartree"),
    (1, BOHR / ase_units.Ha, 1, "forces were in Hartree/Bohr"),
    (1 / 27.2114, BOHR / 27.2114, 1, "forces were per Bohr"),
    (1, 1, 1 / BOHR, "positions were in Bohr"),
    (ase_units.mol / ase_units.kJ, 1, 1, "energies were in kJ/mol"),
    (1 / KCAL, -1, 1, "wrong sign and .*energies were in kcal/mol"),
]


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("n", [30, 204])
def test_mistakes_in_methanol(mistake, n):
    e, f, r, cause = mistake
    frames = [Atoms(a.numbers, a.positions * r) for a in FRAMES[:n]]
    found = energy_force_slope(frames, LABELS.energy[:n] * e, FORCES[:n] * f)
    assert found.contradicts
    assert re.search(cause, found.cause)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("n", [30, 100])
def test_no_false_alarm_on_methanol(seed, n):
    indices = np.random.default_rng(seed).choice(len(FRAMES), n, replace=False)
    found = energy_force_slope(
        [FRAMES[i] for i in indices], LABELS.energy[indices], FORCES[indices]
    )
    assert found.conclusive
    assert found.slope == pytest.approx(1, abs=0.25)
    assert not found.contradicts


def with_wrong(n, kind, s, size):
    """The first frames of methanol, one label of frame s wrong."""
    energy, forces = LABELS.energy[:n].copy(), FORCES[:n].copy()
    if kind == "energy":
        energy[s] += size
    else:
        forces[s] *= size
    return FRAMES[:n], energy, forces


@pytest.mark.parametrize(
    ("kind", "size"), [("energy", 2.0), ("energy", -50.0), ("f", 9.0)]
)
@pytest.mark.parametrize("s", range(0, 70, 7))
def test_one_wrong_label_does_not_speak_for_all(kind, size, s):
    right = energy_force_slope(FRAMES[:70], LABELS.energy[:70], FORCES[:70])
    found = energy_force_slope(*with_wrong(70, kind, s, size))
    assert found.conclusive
    assert not found.contradicts
    assert found.slope == pytest.approx(right.slope, abs=0.1)
    assert set(found.misfits) <= {s}


def test_the_frame_of_a_wrong_label_is_named():
    named = [s for s in range(70) if energy_force_slope(
        *with_wrong(70, "energy", s, 2.0)).misfits.keys() == {s}]  # fmt: skip
    # Others have no near neighbours, or but one.
    assert len(named) > 20
    found = energy_force_slope(*with_wrong(70, "energy", named[0], 2.0))
    assert found.misfits[named[0]] == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_beside_one_wrong_label(mistake):
    e, f, r, cause = mistake
    frames, energy, forces = with_wrong(70, "energy", 11, 2.0)
    frames = [Atoms(a.numbers, a.positions * r) for a in frames]
    found = energy_force_slope(frames, energy * e, forces * f)
    assert found.contradicts
    assert re.search(cause, found.cause)


def test_shuffled_energies_are_not_conclusive():
    energy = np.random.default_rng(0).permutation(LABELS.energy)
    assert not energy_force_slope(FRAMES, energy, FORCES).conclusive


def test_rotations_do_not_matter():
    rng = np.random.default_rng(3)
    turned = [frame.copy() for frame in FRAMES]
    forces = []
    for frame, f in zip(turned, FORCES, strict=True):
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        frame.positions = frame.positions @ q + rng.normal(size=3)
        forces.append(f @ q)
    a = energy_force_slope(FRAMES, LABELS.energy, FORCES)
    b = energy_force_slope(turned, LABELS.energy, forces)
    assert a.slope == pytest.approx(b.slope, rel=1e-6)


def harmonic(n_frames, stretch=1.0):
    """A diatomic molecule with E = (r − 1)²/2 in frames of any orientation."""
    rng = np.random.default_rng(4)
    frames, energy, forces = [], [], []
    for r in 1 + stretch * rng.uniform(-0.1, 0.1, n_frames):
        axis = rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        frames.append(Atoms("HF", [np.zeros(3), r * axis]))
        energy.append((r - 1) ** 2 / 2)
        forces.append(np.array([axis, -axis]) * (r - 1))
    return frames, np.array(energy), forces


def test_diatomic():
    found = energy_force_slope(*harmonic(30))
    assert found.slope == pytest.approx(1, abs=1e-2)
    assert found.r_squared > 0.999


@pytest.mark.parametrize(
    "data",
    [
        ([], np.array([]), []),
        harmonic(5),
        harmonic(30, stretch=0),
        ([Atoms("H")] * 30, np.arange(30.0), [np.zeros((1, 3))] * 30),
        ([Atoms("H2")] * 30, np.arange(30.0), [np.zeros((2, 3))] * 30),
        (FRAMES, np.full(204, np.nan), FORCES),
        (FRAMES, LABELS.energy, [np.full((6, 3), np.nan)] * 204),
        (FRAMES, np.ones(204), FORCES),
        (FRAMES, LABELS.energy, FORCES * 0),
    ],
)
def test_nothing_to_compare(data):
    assert energy_force_slope(*data) is None


SHARED = [
    *(
        f"rmd17/rmd17_{name}_train_01.npz"
        for name in (
            "aspirin", "benzene", "ethanol", "malonaldehyde", "toluene", "uracil"
        )
    ),
    "md17_ethanol/mlff_ethanol_first2000.npz",
    "h2co/h2co_ccsdt.extxyz",
    "methane_qm22/methane_stride2.extxyz",
    "water_monomer_1k/water_monomers_1k.extxyz",
    "botnet/dataset_acac/train_300K.xyz",
    "botnet/dataset_acac/train_600K.xyz",
    "botnet/dataset_3BPA/train_300K.xyz",
    "botnet/dataset_3BPA/train_mixedT.xyz",
    "botnet/dataset_ethanol/train.xyz",
]  # fmt: skip


@pytest.mark.parametrize("name", SHARED)
def test_shared_data(shared_frames, name):
    """No false alarm on right labels; sign and unit found from 30 frames on."""
    frames = shared_frames(name)[:500]
    labels = Labels.from_frames(frames)
    forces = np.array(labels.forces)
    rng = np.random.default_rng(5)
    subsets = [rng.choice(len(frames), 30, replace=False) for _ in range(3)]
    for k in [np.arange(len(frames)), *subsets]:
        some = [frames[i] for i in k]
        right = energy_force_slope(some, labels.energy[k], forces[k])
        assert right.conclusive
        assert not right.contradicts
        assert not right.misfits
        for e, f, _, cause in MISTAKES[:3]:
            wrong = energy_force_slope(some, labels.energy[k] * e, forces[k] * f)
            assert wrong.contradicts
            assert cause in wrong.cause
