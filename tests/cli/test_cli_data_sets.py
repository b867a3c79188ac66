"""Data sets of several files, of slices of them and in formats that are named."""

import json

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.units import Bohr, Ha

import kforce
from kforce.cli.main import main
from kforce.storage.npz import write_arrays

QUICK = "--kernel matern52 --length-scale 10"

VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator><i name="program" type="string">vasp</i></generator>
 <incar><i type="int" name="NELM">60</i></incar>
 <kpoints><varray name="kpointlist"><v>0 0 0</v></varray>
  <varray name="weights"><v>1</v></varray></kpoints>
 <atominfo><atoms>2</atoms><types>1</types>
  <array name="atoms"><set><rc><c>N</c><c>1</c></rc><rc><c>N</c><c>1</c></rc></set>
  </array>
 </atominfo>
 <structure name="initialpos">
  <crystal><varray name="basis"><v>8 0 0</v><v>0 8 0</v><v>0 0 8</v></varray></crystal>
  <varray name="positions"><v>0 0 0</v><v>0 0 0.14</v></varray>
 </structure>
 <calculation>
  <scstep><energy><i name="e_fr_energy">-16.5</i><i name="e_wo_entrp">-16.5</i>
   <i name="e_0_energy">-16.5</i></energy></scstep>
  <structure>
   <crystal><varray name="basis"><v>8 0 0</v><v>0 8 0</v><v>0 0 8</v></varray></crystal>
   <varray name="positions"><v>0 0 0</v><v>0 0 0.14</v></varray>
  </structure>
  <varray name="forces"><v>0 0 1.5</v><v>0 0 -1.5</v></varray>
  <energy><i name="e_fr_energy">-16.5</i><i name="e_wo_entrp">-16.5</i>
   <i name="e_0_energy">-16.5</i></energy>
 </calculation>
</modeling>
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sets")
    frames = kforce.datasets.load_methanol_ccsdt()
    write(path / "a.xyz", frames[:30])
    write(path / "b.xyz", frames[30:50])
    water = molecule("H2O")
    water.calc = SinglePointCalculator(water, energy=-1.0, forces=np.zeros((3, 3)))
    write(path / "water.xyz", [water] * 3)
    write(path / "renamed.traj", frames[:4])
    (path / "renamed.traj").rename(path / "frames.dat")
    (path / "vasprun.xml").write_text(VASPRUN)
    (path / "run7.xml").write_text(VASPRUN)
    (path / "other.xml").write_text("<a><b/></a>")
    call = f"train {path}/a.xyz -o {path}/m.npz --n-train 20 -q {QUICK}"
    assert main(call.split()) == 0
    return path


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capsys):
    """Run a command in the folder; return exit code, output and errors."""
    monkeypatch.chdir(folder)

    def call(line):
        code = main(line.format(tmp_path).split())
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_training_on_several_files(run, tmp_path):
    line = "train a.xyz@:25 b.xyz@::2 --n-train 20 --json -o {}/m.npz " + QUICK
    code, out, _ = run(line)
    assert code == 0
    found = json.loads(out)
    train, test = found["train_frames"], found["test_frames"]
    assert sum(map(len, train.values())) == 20
    assert sum(map(len, test.values())) == 7
    used = {file: sorted(train[file] + test[file]) for file in ("a.xyz", "b.xyz")}
    assert set(used["a.xyz"]) < set(range(25))
    assert set(used["b.xyz"]) < set(range(0, 20, 2))
    assert all(len(set(numbers)) == len(numbers) for numbers in used.values())
    frames = [read("a.xyz", s) for s in train["a.xyz"]]
    frames += [read("b.xyz", s) for s in train["b.xyz"]]
    assert kforce.load(tmp_path / "m.npz").is_training_frame(frames).all()


def test_the_model_is_named_after_the_first_file(run, tmp_path, folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = f"train {folder}/a.xyz@:20 {folder}/b.xyz {QUICK}"
    assert main(line.split()) == 0
    assert (tmp_path / "a-model.npz").exists()


def test_every_command_takes_several_files(run):
    assert "errors of 26 structures" in run("test m.npz a.xyz b.xyz@4:")[1]
    code, out, _ = run("predict m.npz a.xyz@:2 b.xyz@-1 -o {}/p.xyz")
    assert (code, "of 3 structures" in out) == (0, True)
    assert "50 of CH4O" in run("info a.xyz b.xyz")[1]
    code, out, _ = run(f"learning-curve a.xyz b.xyz --sizes 8,16 {QUICK}")
    assert (code, "errors of 10 test frames" in out) == (0, True)
    assert run("convert a.xyz@::10 {}/c.xyz")[0] == 0


def test_messages_name_file_and_frame(run):
    code, _, err = run("predict m.npz a.xyz@:2 water.xyz@1 -o {}/p.xyz")
    assert code == 1
    assert "found H2O in frame 1 of water.xyz:" in err
    assert "found H2O in frame 2:" in run("test m.npz water.xyz@2")[2]
    _, out, _ = run("info a.xyz@5: water.xyz@2")
    assert "other atoms than train frame 5 of a.xyz, CH4O" in out
    assert "(train frame 2 of water.xyz)" in out
    code, _, err = run("train a.xyz water.xyz -o {}/m.npz " + QUICK)
    assert code == 1
    assert "found H2O in frame 0 of water.xyz: a global model" in err


def test_frames_without_labels_do_not_shift_the_numbers(run, tmp_path):
    frames = read("a.xyz", ":10")
    frames[2].calc = None
    frames[8].positions[:, 0] = frames[8].positions[::-1, 0]
    frames[8] = frames[8][[1, 0, 2, 3, 4, 5]]
    frames[8].calc = SinglePointCalculator(frames[8], forces=np.ones((6, 3)))
    write(tmp_path / "mixed.xyz", frames)
    line = "train {0}/mixed.xyz --split time --n-train 10 -o {0}/m.npz " + QUICK
    code, _, err = run(line)
    assert code == 1
    assert "in frame 8:" in err.strip().splitlines()[-1]


def test_training_frames_are_left_out(run):
    code, out, _ = run("test m.npz a.xyz b.xyz")
    assert code == 0
    assert "20 of 50 frames of a.xyz, b.xyz are training data of this model and" in out
    assert "errors of 30 structures" in out
    found = json.loads(run("test m.npz a.xyz --json --no-std")[1])
    assert found["n_left_out"] == 20
    assert found["test"]["n_structures"] == 10
    code, out, err = run("test m.npz a.xyz --with-training --no-std")
    assert "errors of 30 structures" in out
    assert "20 of 30 frames of a.xyz are training data" in err
    report = "test m.npz b.xyz --conformal a.xyz -q"
    assert "at least 19 structures" in run(report)[2]  # 10 are left


def test_nothing_but_training_frames(run, tmp_path):
    model = kforce.load("m.npz")
    frames = [f for f in read("a.xyz", ":") if model.is_training_frame([f])[0]]
    write(tmp_path / "known.xyz", frames)
    code, _, err = run("test m.npz {}/known.xyz")
    assert code == 1
    assert "20 of 20 frames" in err
    assert "--with-training" in err


def test_a_format_that_is_named(run):
    assert run("info frames.dat")[0] == 0  # by its content
    assert "4 of CH4O" in run("info frames.dat --format traj")[1]
    code, _, err = run("info frames.dat --format extxyz")
    assert code == 1
    assert "could not be read as 'extxyz'" in err
    code, _, err = run("train a.xyz --format trja")
    assert code == 1
    assert "such as traj" in err


@pytest.mark.parametrize("name", ["vasprun.xml", "run7.xml"])
def test_xml_that_is_no_gap(run, name):
    code, out, _ = run(f"info {name}")
    assert code == 0
    assert "1 of N2" in out
    assert "-16.500" in out
    assert "root mean square 0.8660" in out
    code, _, err = run(f"test {name} a.xyz")
    assert code == 1
    assert "is no model of GAP, but holds structures that ASE reads as 'vasp-x" in err
    assert run(f"convert {name} {{}}/n2.xyz")[0] == 0


def test_xml_of_nothing_known(run):
    for call in ("info other.xml", "predict other.xml a.xyz"):
        code, _, err = run(call)
        assert code == 1
        assert "Expected one GAP model" in err
        assert "<a>" in err
    assert "there is no no.xml" in run("info no.xml")[2]


def test_xml_of_gap(run, tmp_path):
    pairs = kforce.Term(kforce.TwoBody(cutoff=4.0), n_inducing=5)
    model = kforce.GAPRegressor([pairs], optimize=False).fit(read("a.xyz", ":8"))
    kforce.io.write_quip_xml(model, tmp_path / "gap.xml")
    assert "GAPRegressor of" in run("info {}/gap.xml")[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("info m.npz a.xyz", "m.npz is a model, and several files"),
        ("info a.xyz@100:", "chooses none of its 30 frames, .* from 0 to 29"),
        ("train a.xyz@9:3 -o {}/m.npz", "chooses none of its 30 frames"),
        ("test m.npz a.xyz@x", "found a.xyz@x: write START:STOP:STEP"),
        ("predict m.npz a.xyz no.xyz@3 -o {}/p.xyz", "there is no no.xyz"),
        ("info a.xyz --format xzy", "format that ASE reads, such as .*xyz.* 'xzy'"),
        ("info a.xyz --units Hartree,Bohr", "--units Hartree,Ang,Hartree/Bohr"),
        ("info a.xyz --units eV,Ang,K", "unit of forces 'K'"),
        ("convert m.npz {}/s.npz --units eV,Ang,au", "name energy and length alone"),
    ],
)
def test_mistakes_end_in_one_sentence(run, call, message):
    code, _, err = run(call)
    assert code == 1
    last = err.strip().splitlines()[-1]
    assert last.startswith("kforce: error: ")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(last)


def test_the_commonest_mixture_of_units(run, tmp_path):
    frames = read("a.xyz", ":")
    mixed = [frame.copy() for frame in frames]
    for copy, frame in zip(mixed, frames, strict=True):
        energy, forces = frame.get_potential_energy(), frame.get_forces()
        copy.calc = SinglePointCalculator(
            copy, energy=energy / Ha, forces=forces / Ha * Bohr
        )
    write(tmp_path / "mixed.xyz", mixed)
    code, out, err = run("info {}/mixed.xyz --units Hartree,Ang,Hartree/Bohr")
    assert code == 0
    assert "no findings" in out
    assert "lengths" not in err
    code, _, err = run("train {0}/mixed.xyz --units Hartree -o {0}/m.npz " + QUICK)
    assert code == 1
    assert "(units, --units)" in err


def test_atomic_units_in_fields(run, tmp_path):
    """Of data sets and of models of sGDML alike."""
    frames = read("a.xyz", ":")
    arrays = {
        "z": frames[0].numbers,
        "R": [frame.positions / Bohr for frame in frames],
        "E": [frame.get_potential_energy() / Ha for frame in frames],
        "F": [frame.get_forces() / Ha * Bohr for frame in frames],
        "e_unit": "au",
        "r_unit": "a.u.",
    }
    write_arrays(tmp_path / "au.npz", arrays)
    code, out, _ = run("info {}/au.npz@:20")
    assert code == 0
    assert "20 of CH4O" in out
    assert run("convert m.npz {}/s.npz --units au")[0] == 0
    fields = kforce.storage.npz.read_arrays(tmp_path / "s.npz")
    fields |= {"e_unit": np.array("au"), "r_unit": np.array("au")}
    write_arrays(tmp_path / "s.npz", fields)
    assert run("convert {0}/s.npz {0}/back.npz")[0] == 0
    models = kforce.load("m.npz"), kforce.load(tmp_path / "back.npz")
    energies = [model.predict(frames[:3]) for model in models]
    np.testing.assert_allclose(*energies, atol=1e-5)


def test_a_model_whose_lengths_are_no_bond_lengths(run, tmp_path):
    assert run("convert m.npz {}/s.npz --units Hartree,Ang")[0] == 0
    fields = kforce.storage.npz.read_arrays(tmp_path / "s.npz")
    fields |= {"e_unit": np.array("au"), "r_unit": np.array("au")}
    write_arrays(tmp_path / "s.npz", fields)
    code, _, err = run("convert {0}/s.npz {0}/back.npz")
    assert code == 1
    assert "0.53 times as far apart" in err
    assert "(the shortest distance is 0.5" in err
    assert "between O and H)" in err
    assert "--units Hartree,Ang)" in err
    assert run("convert {0}/s.npz {0}/back.npz --units Hartree,Ang")[0] == 0
