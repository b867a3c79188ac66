"""`kforce train` keeps its split, and says how far its error bars can be trusted."""

import json
import re

import numpy as np
import pytest
from ase.io import read, write

import kforce
from kforce.cli.main import main
from kforce.cli.output import calibration_line
from kforce.data import split_indices
from kforce.evaluation import calibration

QUICK = ["--kernel", "matern52", "--length-scale", "10"]


@pytest.fixture
def train(tmp_path, methanol, monkeypatch, capsys):
    """Train in a folder with two files; return exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    write("a.xyz", methanol[:40])
    write("b.xyz", methanol[40:60])

    def run(line):
        code = main(["train", *line.split(), "-o", "m.npz", *QUICK])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_test_frames_are_written_with_their_places(train, methanol):
    code, out, _ = train("a.xyz@1: b.xyz --n-train 30 --n-test 15 --write-test t.xyz")
    assert code == 0
    assert "wrote 15 test frames to t.xyz" in out
    written = read("t.xyz", ":")
    assert {frame.info["source_file"] for frame in written} == {"a.xyz", "b.xyz"}
    taken = [*range(1, 40), *range(40, 60)]
    expected = [taken[s] for s in split_indices(methanol[1:60], 30, 15)[1]]
    first = {"a.xyz": 0, "b.xyz": 40}
    for frame, s in zip(written, expected, strict=True):
        place = first[frame.info["source_file"]] + frame.info["source_frame"]
        assert place == s
        np.testing.assert_allclose(frame.positions, methanol[s].positions, atol=1e-7)
        energy = methanol[s].get_potential_energy()
        assert frame.get_potential_energy() == pytest.approx(energy)
        np.testing.assert_allclose(
            frame.get_forces(), methanol[s].get_forces(), atol=1e-7
        )
    assert not kforce.load("m.npz").is_training_frame(written).any()


def test_the_written_frames_give_the_same_errors(train, capsys):
    _, out, _ = train("a.xyz --n-train 20 --n-test 15 --write-test t.xyz --json")
    first = json.loads(out)
    assert main(["test", "m.npz", "t.xyz", "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["n_left_out"] == 0
    assert second["test"] == pytest.approx(first["test"], abs=1e-6)
    for name, measures in second["calibration"].items():
        assert measures == pytest.approx(first["calibration"][name], rel=1e-4)


def test_frames_of_another_file(train):
    line = "a.xyz --n-train 20 --test b.xyz@5: --n-test 10 --write-test t.xyz"
    assert train(line)[0] == 0
    found = [frame.info["source_frame"] for frame in read("t.xyz", ":")]
    assert found == list(range(5, 15))


def test_frames_of_the_sample(train):
    assert train("--n-train 15 --write-test t.xyz")[0] == 0
    frames = read("t.xyz", ":")
    assert len(frames) == 60
    assert frames[0].info["source_frame"] == 144


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.xyz --write-test b.xyz", "b.xyz exists"),
        ("a.xyz --write-test no/t.xyz", "no does not exist"),
        ("a.xyz --write-test t.npz", r"ends in \.xyz"),
        ("a.xyz@:30 --write-test a.xyz --overwrite", "would replace a file that is r"),
        ("a.xyz --test b.xyz --write-test b.xyz --overwrite", "would replace"),
        ("a.xyz --n-test 0 --write-test t.xyz", "there are none"),
        ("a.xyz --n-train 40 --write-test t.xyz", "there are none"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_fit(
    train, tmp_path, monkeypatch, line, message
):
    monkeypatch.setattr(kforce.GDMLRegressor, "fit", lambda *_: 1 / 0)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    code, _, err = train(line)
    assert code == 1
    assert re.search(message, err)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_old_file_is_replaced_on_request(train):
    assert train("a.xyz --n-train 20 --write-test t.xyz")[0] == 0
    line = "a.xyz --n-train 20 --n-test 5 --write-test t.xyz --overwrite"
    assert train(line)[0] == 0
    assert len(read("t.xyz", ":")) == 5


def test_the_calibration_is_that_of_the_test_frames(train):
    _, out, _ = train("a.xyz --n-train 20 --n-test 20 --json")
    found = json.loads(out)
    numbers = found["test_frames"]["a.xyz"]
    frames = read("a.xyz", ":")
    tested = [frames[s] for s in numbers]
    prediction = kforce.load("m.npz").evaluate(tested, return_std=True)
    residual = [
        f.get_forces() - p for f, p in zip(tested, prediction.forces, strict=True)
    ]
    expected = calibration.summary(residual, prediction.forces_std)
    assert found["calibration"]["forces"] == pytest.approx(expected, rel=1e-4)


def test_the_calibration_is_said_in_a_line(train):
    _, out, _ = train("a.xyz --n-train 20 --n-test 20")
    size = r"\(error bars \d+ % too (wide|narrow)\)"
    pattern = rf"95 % intervals cover \d+ % of the energies {size} and \d+ % of the "
    assert re.search(rf"\n{pattern}force components {size}\n", out)


def test_of_many_test_frames_some_are_enough(train, monkeypatch):
    monkeypatch.setattr("kforce.cli.train._FRAMES_WITH_STD", 7)
    _, out, _ = train("a.xyz --n-train 20 --n-test 20")
    assert "errors of 20 structures" in out
    assert "(7 of the test frames)" in out
    monkeypatch.setattr("kforce.cli.train._ATOMS_WITH_STD", 36)
    monkeypatch.setattr("kforce.cli.train._FRAMES_WITH_STD", 100)
    _, out, _ = train("a.xyz --n-train 20 --n-test 20 --overwrite")
    assert "(10 of the test frames)" in out


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (0.8, "(error bars 25 % too wide)"),
        (1.25, "(error bars 20 % too narrow)"),
        (1.0, "(error bars 0 % too narrow)"),
        (None, "of the energies"),
    ],
)
def test_how_wide_error_bars_are(factor, text):
    measures = {"coverage_95": 0.94, "recalibration_factor": factor}
    line = calibration_line({"energy": measures})
    assert line.startswith("95 % intervals cover 94 % of the energies")
    assert text in line


def test_without_test_frames_left_out_ones_speak(train):
    code, out, _ = train("a.xyz --n-test 0")
    assert code == 0
    model = kforce.load("m.npz")
    pattern = r"not tested; (\d+) training frames, left out .*: forces (\S+) meV/Å"
    found = re.search(pattern, out)
    assert int(found[1]) == 40
    left = np.array([float(found[2])])
    kernel = kforce.Matern52(length_scale=10.0)
    again = kforce.GDMLRegressor(kernel=kernel, permutations=model.permutations_)
    again.fit(read("a.xyz", ":"))
    np.testing.assert_allclose(left, 1e3 * again.leave_one_out_.forces_rmse, rtol=1e-2)


def test_local_models_are_calibrated_too(train, tmp_path, capsys):
    terms = "- {descriptor: two_body, cutoff: 4.0, n_inducing: 10}"
    (tmp_path / "terms.yaml").write_text(terms)
    call = "train a.xyz --model gap --terms terms.yaml --noise-forces 0.1 -o g.npz"
    call += " --n-train 12 --n-test 20 --write-test t.xyz --noise-energy 0.01"
    assert main(call.split()) == 0
    assert len(read("t.xyz", ":")) == 20
    assert "95 % intervals cover" in capsys.readouterr().out
