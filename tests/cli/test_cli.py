"""The command line, run in this process: what it prints, writes and refuses."""

import json
import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write

import kforce
from kforce.cli.main import main
from kforce.cli.output import error_table, errors
from kforce.labels import Labels
from kforce.prediction import Prediction
from kforce.storage.npz import as_text, read_arrays, write_arrays

#: A model of which nothing is learned but its permutations.
QUICK = ["--kernel", "matern52", "--length-scale", "10"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a data set and a model of it."""
    path = tmp_path_factory.mktemp("cli")
    frames = kforce.datasets.load_methanol_ccsdt()
    write(path / "methanol.xyz", frames[:40])
    call = train_call(path / "methanol.xyz", path / "model.npz")
    assert main([*call, "--kernel", "matern52"]) == 0
    write(path / "water.xyz", [molecule("H2O")] * 2)
    write(path / "swapped.xyz", [frames[0][[1, 0, 2, 3, 4, 5]]])
    write(path / "atom.xyz", [Atoms("He")] * 3)
    (path / "text.npz").write_text("hello")
    (path / "empty.xyz").write_text("")
    whole = (path / "model.npz").read_bytes()
    (path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    return path


def train_call(data, output, *more):
    return ["train", str(data), "-o", str(output), "--n-train", "20", *more]


def quick_call(folder, output, *more):
    return train_call(folder / "methanol.xyz", output, *QUICK, *more)


def test_training_reports_errors_and_saves(folder, tmp_path, capsys):
    path = tmp_path / "model.npz"
    assert main(quick_call(folder, path, "--n-test", "10")) == 0
    out = capsys.readouterr().out
    assert "errors of 10 structures" in out
    assert "kcal/mol/Å" in out
    assert kforce.load(path).training_.n_frames == 20


def test_json_is_one_object_with_everything_to_repeat_the_run(folder, tmp_path, capsys):
    path = tmp_path / "model.npz"
    assert main(quick_call(folder, path, "--json")) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n_train"] == 20
    assert result["test"]["n_structures"] == 8
    assert len(result["training_hash"]) == 64
    assert result["seed"] == 0
    assert "numpy" in result["versions"]


def test_same_seed_same_model(folder, tmp_path):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path in paths:
        call = train_call(folder / "methanol.xyz", path, "--seed", "3", "-q")
        assert main([*call, "--kernel", "matern52"]) == 0
    frames = read(folder / "methanol.xyz", ":")
    first, second = (kforce.load(path).predict(frames) for path in paths)
    np.testing.assert_array_equal(first, second)


def test_the_sample_data_is_the_default(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--n-train", "15"]) == 0
    out = capsys.readouterr().out
    assert "errors of 60 structures" in out
    assert (tmp_path / "methanol-model.npz").exists()


def test_options_reach_the_model(folder, tmp_path, capsys):
    path = tmp_path / "model.npz"
    options = ["--kernel", "rbf", "--length-scale", "7.5", "--noise-forces", "0.01"]
    options += ["--noise-energy", "0.001", "--permutations", str(folder / "model.npz")]
    assert main(train_call(folder / "methanol.xyz", path, *options)) == 0
    model = kforce.load(path)
    assert repr(model.kernel_.kernel) == "RBF(length_scale=7.5)"
    assert (model.noise_forces_, model.noise_energy_) == (0.01, 0.001)
    assert len(model.permutations_) > 1


def test_testing_agrees_with_the_model(folder, capsys):
    call = ["test", str(folder / "model.npz"), str(folder / "methanol.xyz")]
    assert main([*call, "--with-training", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["test"]
    frames = read(folder / "methanol.xyz", ":")
    forces = kforce.load(folder / "model.npz").evaluate(frames).forces
    reference = [frame.get_forces() for frame in frames]
    assert found["forces_mae"] == pytest.approx(
        np.abs(np.subtract(forces, reference)).mean()
    )


def test_predictions_are_written_with_labels(folder, tmp_path, capsys):
    path = tmp_path / "predicted.xyz"
    call = ["predict", str(folder / "model.npz"), str(folder / "methanol.xyz")]
    assert main([*call, "-o", str(path)]) == 0
    frames = read(path, ":")
    expected = kforce.load(folder / "model.npz").evaluate(frames)
    written = [frame.get_forces() for frame in frames]
    np.testing.assert_allclose(written, expected.forces, atol=1e-7)


def test_info_describes_models_data_and_machine(folder, capsys):
    for file, expected in (("model.npz", "CH4O"), ("methanol.xyz", "40 of CH4O")):
        assert main(["info", str(folder / file)]) == 0
        assert expected in capsys.readouterr().out
    assert main(["info"]) == 0
    assert "GFLOP/s" in capsys.readouterr().out


def test_models_convert_to_sgdml_and_back(folder, tmp_path, capsys):
    there, back = tmp_path / "sgdml.npz", tmp_path / "kforce.npz"
    assert main(["convert", str(folder / "model.npz"), str(there)]) == 0
    assert main(["convert", str(there), str(back)]) == 0
    frames = read(folder / "methanol.xyz", ":")
    models = [kforce.load(path) for path in (folder / "model.npz", back)]
    first, second = (model.predict(frames) for model in models)
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_conversion_keeps_to_the_units(folder, tmp_path, capsys):
    there, back = tmp_path / "sgdml.npz", tmp_path / "kforce.npz"
    units = ["--units", "Hartree,Bohr"]
    assert main(["convert", str(folder / "model.npz"), str(there), *units]) == 0
    fields = read_arrays(there)
    assert (as_text(fields["e_unit"]), as_text(fields["r_unit"])) == tuple(
        units[1].split(",")
    )
    write_arrays(there, {k: v for k, v in fields.items() if "_unit" not in k})
    assert main(["convert", str(there), str(back), *units]) == 0
    frames = read(folder / "methanol.xyz", ":")
    models = [kforce.load(path) for path in (folder / "model.npz", back)]
    first, second = (model.predict(frames) for model in models)
    np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.fixture
def model_of_2018(folder, tmp_path):
    """A model in the layout of 2018, which says nothing of noise and versions."""
    path = tmp_path / "model2018.npz"
    main(["convert", str(folder / "model.npz"), str(path), "--units", "kcal/mol"])
    fields = read_arrays(path)
    write_arrays(
        path,
        {
            "Rt_desc": fields["R_desc"],
            "Rt_d_desc_alpha": fields["R_d_desc_alpha"],
            "perms": fields["perms"] + 1,
            **{name: fields[name] for name in ("c", "z", "sig")},
        },
    )
    return path


def test_every_command_takes_models_of_2018(folder, model_of_2018, tmp_path, capsys):
    capsys.readouterr()
    model, data = str(model_of_2018), str(folder / "methanol.xyz")
    assert main(["info", model]) == 0
    out = capsys.readouterr().out
    assert re.search(r"noise of the forces +not known", out)
    assert re.search(r"versions +not known", out)
    assert main(["test", model, data]) == 0
    assert main(["predict", model, data, "-o", str(tmp_path / "p.xyz")]) == 0
    again = tmp_path / "again.npz"
    assert main(["convert", model, str(again)]) == 0
    assert main(["info", str(again)]) == 0
    assert main(["convert", str(again), str(tmp_path / "sgdml.npz")]) == 0
    assert capsys.readouterr().err.count("taken as kcal/mol") == 3


def test_info_tells_a_noise_from_a_regularisation(folder, tmp_path, capsys):
    main(["info", str(folder / "model.npz")])
    out = capsys.readouterr().out
    assert re.search(r"regularisation +\S+ eV/Å", out)
    assert "noise" not in out
    given = tmp_path / "given.npz"
    noises = ["--noise-forces", "0.01", "--noise-energy", "0.001"]
    main(quick_call(folder, given, *noises))
    capsys.readouterr()
    main(["info", str(given)])
    out = capsys.readouterr().out
    assert re.search(r"noise of the forces +0.01 eV/Å", out)
    assert re.search(r"noise of the energies +0.001 eV per atom", out)


@pytest.mark.parametrize(
    ("options", "heard"), [([], True), (["-q"], False), (["--json"], False)]
)
def test_what_reading_changes_is_said(folder, options, heard, capsys):
    call = ["info", str(folder / "methanol.xyz"), "--units", "kcal/mol", *options]
    assert main(call) == 0
    assert ("converted energies from kcal/mol" in capsys.readouterr().err) == heard


def test_info_reorders(folder, tmp_path, capsys):
    frames = read(folder / "methanol.xyz", ":5")
    frames[2] = frames[2][[1, 0, 2, 3, 4, 5]]
    write(tmp_path / "mixed.xyz", frames)
    assert main(["info", str(tmp_path / "mixed.xyz"), "--reorder"]) == 0
    captured = capsys.readouterr()
    assert "re-ordered the atoms of 1 of 5 frames" in captured.err
    assert "atom-order" not in captured.out


def test_info_names_what_cannot_be_read(folder, tmp_path, capsys):
    frames = read(folder / "methanol.xyz", ":3")
    frames[1].positions[0, 0] = np.nan
    write(tmp_path / "nan.xyz", frames)
    assert main(["info", str(tmp_path / "nan.xyz")]) == 1
    assert "positions that are NaN" in capsys.readouterr().err


def test_training_twice_loses_nothing(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    call = ["train", str(folder / "methanol.xyz"), "--n-train", "5", *QUICK]
    for _ in range(3):
        assert main(call) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"methanol-model{n}.npz" for n in ("-2", "-3", "")]
    assert "saved as methanol-model-3.npz" in capsys.readouterr().out
    assert main([*call, "--overwrite"]) == 0
    assert len(list(tmp_path.iterdir())) == 3


def test_data_sets_convert_to_xyz(folder, tmp_path, capsys):
    path = tmp_path / "data.xyz"
    call = ["convert", str(folder / "methanol.xyz"), str(path)]
    assert main([*call, "--units", "kcal/mol"]) == 0
    before, after = (read(p, 0) for p in (folder / "methanol.xyz", path))
    factor = after.get_potential_energy() / before.get_potential_energy()
    assert factor == pytest.approx(kforce.units.energy_unit("kcal/mol"))


def test_quiet_prints_results_only(folder, tmp_path, capsys):
    assert main(quick_call(folder, tmp_path / "m.npz", "-q")) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("errors of")
    assert captured.err == ""


def test_verbose_says_what_is_decided(folder, tmp_path, capsys):
    call = train_call(folder / "methanol.xyz", tmp_path / "m.npz", "-v")
    assert main([*call, "--kernel", "matern52"]) == 0
    err = capsys.readouterr().err
    assert "length_scale=" in err
    assert "permutations" in err
    assert "forecast" in err


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("train nothing.xyz", "no nothing.xyz"),
        ("train empty.xyz -o m.npz", "could not be read"),
        ("train water.xyz -o m.npz", "Expected forces"),
        ("train atom.xyz -o m.npz", "no forces|Expected forces|two atoms"),
        ("train methanol.xyz -o model.npz", "--overwrite"),
        ("train methanol.xyz -o nowhere/m.npz", "does not exist"),
        ("train methanol.xyz -o m.xyz", r"ends in \.npz"),
        ("train methanol.xyz -o m.npz --n-train 500", "found 40"),
        ("train methanol.xyz -o m.npz --units parsec", "Unknown unit"),
        ("train methanol.xyz -o m.npz --energy-key e", "energy"),
        ("train methanol.xyz -o m.npz --permutations text.npz", "damaged"),
        ("train methanol.xyz -o m.npz --permutations cut.npz", "damaged"),
        ("test model.npz water.xyz", "CH4O.*H2O"),
        ("test model.npz swapped.xyz", "order"),
        ("test text.npz methanol.xyz", "damaged"),
        ("test cut.npz methanol.xyz", "damaged"),
        ("test methanol.xyz methanol.xyz", "npz"),
        ("test . methanol.xyz", "not a regular file"),
        ("predict model.npz nothing.xyz", "no nothing.xyz"),
        ("predict model.npz methanol.xyz -o model.npz", "--overwrite"),
        ("train methanol.xyz -o m.npz --seed -1", "seed must be a whole number"),
        ("convert model.npz m.npz --reorder", "--reorder .* is a model"),
        ("convert model.npz m.npz --energy-key e", "--energy-key .* is a model"),
        ("convert model.npz m.npz --forces-key f", "--forces-key .* is a model"),
        ("convert model.npz m.npz --units parsec", "Unknown unit"),
        ("info model.npz --units eV", "--units .* is a model"),
        ("convert model.npz m.xyz", r"ends in \.npz"),
        ("convert methanol.xyz m.npz", r"ends in \.xyz"),
        ("info nothing.npz", "nothing.npz"),
    ],
)
def test_mistakes_end_in_one_sentence(folder, monkeypatch, capsys, call, message):
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    assert main(call.split()) == 1
    err = capsys.readouterr().err
    last = err.strip().splitlines()[-1]
    assert last.startswith("kforce: error: ")
    assert "Traceback" not in err
    assert re.search(message, last), last
    assert sorted(folder.iterdir()) == before


def test_without_a_command_the_help_is_printed(capsys):
    assert main([]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("usage: kforce")
    assert "learning-curve" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize("call", ["dance", "train --n-train 0", "train --kernel x"])
def test_unreadable_calls_exit_with_two(call):
    with pytest.raises(SystemExit) as stop:
        main(call.split())
    assert stop.value.code == 2


def test_interruption_is_no_traceback(folder, tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(kforce.GDMLRegressor, "fit", interrupt)
    assert main(train_call(folder / "methanol.xyz", tmp_path / "m.npz")) == 130
    assert "Interrupted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_bug_is_called_one(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kforce.GDMLRegressor, "fit", lambda *_: 1 / 0)
    assert main(train_call(folder / "methanol.xyz", tmp_path / "m.npz")) == 1
    assert "bug in kforce (ZeroDivisionError" in capsys.readouterr().err


def test_the_table_leaves_out_what_has_no_labels():
    labels = Labels(np.array([np.nan]), [np.array([[1.0, 0.0, 0.0]])])
    prediction = Prediction(np.array([2.0]), [np.zeros((1, 3))])
    found = errors(kforce.GDMLRegressor(), [Atoms("H")], labels, prediction)
    table = error_table(found)
    assert "energy" not in table
    assert "333.333" in table


def test_training_frames_and_strange_structures_are_pointed_out(
    folder, tmp_path, monkeypatch, capsys
):
    frames = read(folder / "methanol.xyz", ":")
    for frame in frames[:3]:
        frame.positions *= 1.5
        frame.calc = None
    write(tmp_path / "far.xyz", frames[:3])
    model = str(folder / "model.npz")
    known = "20 of 40 frames of methanol.xyz are training data of this model"
    monkeypatch.chdir(folder)
    assert main(["test", model, "methanol.xyz"]) == 0
    captured = capsys.readouterr()
    assert f"{known} and left out" in captured.out
    assert "errors of 20 structures" in captured.out
    assert main(["test", model, "methanol.xyz", "--with-training"]) == 0
    captured = capsys.readouterr()
    assert f"{known}: errors there" in captured.err
    assert "errors of 40 structures" in captured.out
    call = ["predict", model, str(tmp_path / "far.xyz"), "-o", str(tmp_path / "p.xyz")]
    assert main(call) == 0
    assert "3 of 3 structures leave the range" in capsys.readouterr().err


def test_few_test_frames_are_pointed_out(folder, tmp_path, capsys):
    assert main(quick_call(folder, tmp_path / "m.npz", "--n-test", "5")) == 0
    assert "5 frames to test on" in capsys.readouterr().err


def test_a_model_is_kept_when_its_test_is_interrupted(
    folder, tmp_path, monkeypatch, capsys
):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(kforce.GDMLRegressor, "evaluate", interrupt)
    assert main(quick_call(folder, tmp_path / "m.npz")) == 130
    heard = capsys.readouterr().err
    assert "m.npz is saved, but was not tested" in heard
    assert "Interrupted." in heard
    assert kforce.load(tmp_path / "m.npz").training_.n_frames > 0
