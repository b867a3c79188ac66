import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from kforce.data import check_frames
from kforce.datasets import load_methanol_ccsdt
from kforce.errors import InputError
from kforce.labels import Labels
from kforce.units import energy_unit, length_unit

FRAMES = load_methanol_ccsdt()
LABELS = Labels.from_frames(FRAMES)
METHYL, HYDROXYL = 2, 3  # a hydrogen of each group


def label(frame, energy=None, forces=None):
    frame = frame.copy()
    frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    return frame


def changed(s, position=None, energy=lambda e: e, forces=lambda f: f):
    """Frame s of methanol with its positions and labels changed."""
    frame = FRAMES[s].copy()
    if position is not None:
        frame.positions[1] = position
    return label(frame, energy(LABELS.energy[s]), forces(LABELS.forces[s].copy()))


def with_one(s, **change):
    return [*FRAMES[:s], changed(s, **change), *FRAMES[s + 1 :]]


def all_with(**change):
    return [changed(s, **change) for s in range(len(FRAMES))]


def first_missing(forces):
    forces[:2] = np.nan
    return forces


def spinning(forces):
    return forces + np.cross([0, 0, 0.3], FRAMES[0].positions)


def swapped(s, i, j):
    order = np.arange(6)
    order[[i, j]] = order[[j, i]]
    return label(FRAMES[s][order], LABELS.energy[s], LABELS.forces[s][order])


NAN, INF = np.nan, np.inf
LONE = [label(Atoms("H"), 1.0, np.zeros((1, 3)))]

# Training frames, test frames, level, code, what the message says.
CASES = [
    (FRAMES + FRAMES[7:9], None, "warning", "duplicates", r"2 train frames show the "
     r"geometry of an earlier one \(train 204 = train 7, train 205 = train 8\)"),
    (FRAMES[:100], FRAMES[99:], "warning", "duplicates-across", "test 0 = train 99"),
    (FRAMES[:9], FRAMES[9:] + FRAMES[9:10], "warning", "duplicates", "test 195 = te"),
    ([*FRAMES, changed(7, energy=lambda e: e + 0.5)], None, "warning",
     "contradictory-duplicates", r"1 frame has other labels than an earlier one of the "
     r"same geometry \(train 204 = train 7: energies differ by 0\.5 eV\)"),
    (FRAMES[:99], [*FRAMES[99:], changed(7, forces=lambda f: 3 * f)], "warning",
     "contradictory-duplicates", r"\(test 105 = train 7: forces differ by .* eV/Å\)"),
    (with_one(5, forces=lambda f: None), None, "note", "missing-forces",
     r"1 of 204 train frames .* 6 atoms in all \(train frame 5\)"),
    (with_one(5, forces=first_missing), None, "note", "missing-forces", "2 atoms in"),
    (all_with(forces=lambda f: None), None, "warning", "missing-forces",
     "None of the train frames has forces.* forces_key"),
    (with_one(4, energy=lambda e: None), None, "note", "missing-energies",
     r"1 of 204 train frames without energy \(train frame 4\)"),
    (with_one(4, energy=lambda e: INF), None, "error", "labels-not-finite",
     r"\(train frame 4\)"),
    (with_one(4, forces=lambda f: f * INF), None, "error", "labels-not-finite", "1 fr"),
    (FRAMES[:9], with_one(14, forces=lambda f: f[:4])[9:], "error", "labels-not-finite",
     r"\(test frame 5\)"),
    (with_one(3, position=[NAN, 0, 0]), None, "error", "positions-not-finite",
     r"\(train frame 3\)"),
    (with_one(8, position=FRAMES[8].positions[0] + 0.1), None, "error",
     "atoms-too-close", r"closer than 0\.3 Å, down to 0\.173 Å \(train frame 8\)"),
    ([bulk("Si", a=0.3)], None, "error", "atoms-too-close", "check the unit of length"),
    ([bulk("Si", a=1e-6)], None, "error", "atoms-too-close", "down to"),
    ([Atoms("H2", [[0, 0, 0], [0, 0, 9.9]], cell=[10] * 3, pbc=True)], None, "error",
     "atoms-too-close", r"down to 0\.1 Å"),
    ([*FRAMES, molecule("H2O")], None, "warning", "composition",
     r"CH4O, such as H2O \(train frame 204\)"),
    (FRAMES[:9], [FRAMES[9][::-1]], "warning", "atom-order",
     r"1 frame with the atoms .* \(test frame 0\): .*reorder_atoms, or --reorder"),
    ([*FRAMES[:9], swapped(9, HYDROXYL, METHYL)], None, "note", "like-atom-order",
     r"1 frame with like atoms .* \(train frame 9\): a GDMLRegressor brings them into"),
    (with_one(8, forces=lambda f: f + np.array([0.2, 0, 0])), None, "warning",
     "net-force", r"add up to zero.* 1\.2 eV/Å at worst \(train frames 8,"),
    (all_with(forces=lambda f: f + 1e-3), None, "warning", "net-force", "converged"),
    (with_one(0, forces=spinning), None, "warning", "net-torque", "train frames 0,"),
    (all_with(forces=lambda f: -f), None, "error", "energies-contradict-forces",
     "as if the forces had the wrong sign"),
    (all_with(energy=lambda e: e * 23.06), None, "error", "energies-contradict-forces",
     "as if the energies were in kcal/mol"),
    (FRAMES[:9], all_with(energy=lambda e: e * 23.06)[9:], "error",
     "energies-contradict-forces", "Energies and forces of the test frames"),
    (all_with(energy=lambda e: e * 7), None, "warning", "energies-contradict-forces",
     r"change 7\.\d+ times as much as the forces say"),
    (all_with(energy=lambda e: 5.0), None, "warning", "constant-energies", "204 .* 5 "),
    (all_with(forces=lambda f: 0 * f), None, "warning", "zero-forces", "are zero"),
]  # fmt: skip


@pytest.mark.parametrize(("train", "test", "level", "code", "says"), CASES)
def test_finding(train, test, level, code, says):
    report = check_frames(train, test)
    (finding,) = (f for f in report.findings if f.code == code)
    assert finding.level == level
    with pytest.raises(InputError, match=says):
        raise InputError(finding.message)
    assert "\n" not in finding.message
    assert str(finding) in str(report)


@pytest.mark.parametrize("case", CASES)
def test_nothing_else_is_found(case):
    """One mistake is reported once (a wrong torque may come with a wrong force)."""
    *sets, _, code, _ = case
    found = {f.code for f in check_frames(*sets).findings}
    allowed = {"net-force", "net-torque", "missing-energies", "missing-forces"}
    assert found - allowed == {code} - allowed


def test_a_wrong_energy_is_named_before_any_fit():
    report = check_frames(with_one(100, energy=lambda e: e + 20.0))
    (finding,) = report.findings
    assert (finding.level, finding.code) == ("warning", "energy-contradicts-forces")
    assert "train frame 100 and of similar frames differ by 20 eV" in finding.message


def test_digits_of_labels_do_not_contradict():
    again = changed(7, energy=lambda e: e + 4e-5, forces=lambda f: f + 1e-4)
    again.rotate(40, (1, 2, 3))
    again.calc = label(again, LABELS.energy[7] + 4e-5, LABELS.forces[7] @ turn()).calc
    (finding,) = check_frames([*FRAMES, again]).findings
    assert finding.code == "duplicates"


def turn():
    frame = Atoms("H3", np.eye(3))
    frame.rotate(40, (1, 2, 3))
    return frame.positions


def test_no_findings():
    report = check_frames(FRAMES[:144], FRAMES[144:])
    assert report.findings == []
    assert str(report) == "no findings"
    report.raise_errors()


def test_errors_are_raised_together_and_warnings_not():
    frames = with_one(3, position=[NAN, 0, 0])
    frames[4] = changed(4, energy=lambda e: INF)
    report = check_frames(frames)
    assert [f.level for f in report.of_level("error")] == ["error"] * 2
    with pytest.raises(InputError, match=r"infinite.* remove them.*labels that are"):
        report.raise_errors()
    check_frames(FRAMES + FRAMES[:1]).raise_errors()


def test_worst_findings_come_first():
    frames = [*with_one(4, energy=lambda e: INF), FRAMES[0]]
    levels = [f.level for f in check_frames(frames).findings]
    assert levels == ["error", "warning", "note", "note"]


@pytest.mark.parametrize(
    "frames",
    [
        LONE,
        [label(molecule("H2"), -30.0, np.zeros((2, 3)))][:1],
        [label(molecule("CO2"), -30.0, np.eye(3) - 1 / 3)],
        [molecule("H2O")],
        [bulk("Si")],
        [Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], pbc=True)],
    ],
)
def test_small_cases_do_not_fail(frames):
    check_frames(frames, frames)


@pytest.mark.parametrize("frames", [[], Atoms("H"), [Atoms()], 5])
def test_not_frames(frames):
    with pytest.raises(InputError):
        check_frames(frames)


def test_proton_transfer_is_no_other_order():
    keto = molecule("CH3CH2OH")
    moved = keto.copy()
    moved.positions[3] = moved.positions[2] + [0.9, 0, 0.3]  # the O-H elsewhere on O
    assert "atom-order" not in {f.code for f in check_frames([keto, moved]).findings}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rmd17/rmd17_aspirin_train_01.npz", set()),
        ("h2co/h2co_ccsdt.extxyz", set()),
        ("botnet/dataset_acac/train_600K.xyz", set()),
        ("botnet/dataset_3BPA/train_300K.xyz", set()),
        ("water_monomer_1k/water_monomers_1k.extxyz", {"duplicates"}),
        ("md17_ethanol/mlff_ethanol_first2000.npz", {"net-force"}),
        ("qm7/qm7_7101.extxyz", {"composition", "missing-forces"}),
        ("zro2/ZrO2_train.xyz", set()),
    ],
)
def test_shared_data(shared_frames, name, expected):
    assert {f.code for f in check_frames(shared_frames(name)).findings} == expected


def test_logs_no_warning(caplog):
    with caplog.at_level(logging.INFO, "kforce.data"):
        check_frames(FRAMES)
    assert not caplog.text


@pytest.mark.parametrize(
    ("units", "codes"),
    [
        ("eV,Ang", set()),
        ("Hartree,Ang", {"unusual-forces"}),
        ("eV,Bohr", {"lengths-too-long"}),
        ("kcal/mol,Ang", {"unusual-forces"}),
    ],
)
def test_units_that_are_wrong_throughout(units, codes):
    # The file is in `units` and is read as if it were in eV and Å.
    energy_name, length_name = units.split(",")
    energy, length = energy_unit(energy_name), length_unit(length_name)
    frames = []
    for frame in load_methanol_ccsdt()[:30]:
        other = frame.copy()
        other.positions = frame.positions / length
        other.calc = SinglePointCalculator(
            other,
            energy=frame.get_potential_energy() / energy,
            forces=frame.get_forces() / energy * length,
        )
        frames.append(other)
    assert {finding.code for finding in check_frames(frames).findings} == codes
