"""Messages of a training number the frames as their file does."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import kforce
from kforce.cli.main import main
from kforce.data import check_frames, split_indices

N_TRAIN, N_TEST = 20, 10


@pytest.fixture
def frames():
    """Frames with the labels of the sample data, to be spoilt."""
    copies = []
    for frame in kforce.datasets.load_methanol_ccsdt()[:40]:
        copy = frame.copy()
        copy.calc = SinglePointCalculator(
            copy, energy=frame.get_potential_energy(), forces=frame.get_forces()
        )
        copies.append(copy)
    return copies


@pytest.fixture
def train(tmp_path, capsys):
    """Train on frames and return what is said."""

    def run(frames, *options):
        write(tmp_path / "data.xyz", frames)
        call = ["train", str(tmp_path / "data.xyz"), "-o", str(tmp_path / "m.npz")]
        call += ["--n-train", str(N_TRAIN), "--n-test", str(N_TEST)]
        options = options or ("--kernel", "matern52", "--length-scale", "10")
        code = main([*call, *options])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


@pytest.fixture
def chosen(frames):
    """Numbers of the training and of the test frames that the program takes."""
    return split_indices(frames, N_TRAIN, N_TEST)


def test_findings_of_both_sets(frames, train, chosen):
    first, second = (int(numbers[3]) for numbers in chosen)
    assert first != 3
    frames[first].calc = None
    frames[second].calc = None
    text = train(frames)[1]
    assert f"1 of 20 train frames without energy (train frame {first})" in text
    assert f"1 of 10 test frames without energy (test frame {second})" in text


def test_duplicates_across_the_sets(frames, train, chosen):
    first, second = int(chosen[0][4]), int(chosen[1][5])
    frames[second].positions = frames[first].positions
    frames[second].calc = SinglePointCalculator(
        frames[second],
        energy=frames[first].get_potential_energy(),
        forces=frames[first].get_forces(),
    )
    assert f"(test {second} = train {first})" in train(frames)[1]


def test_errors_of_the_fit(frames, train, chosen):
    wrong = int(chosen[0][7])
    swapped = frames[wrong][[1, 0, 2, 3, 4, 5]]
    swapped.calc = SinglePointCalculator(
        swapped, forces=frames[wrong].get_forces()[[1, 0, 2, 3, 4, 5]], energy=0.0
    )
    frames[wrong] = swapped
    code, text = train(frames)
    assert code == 1
    reference = int(chosen[0][0])
    assert f"train frame {reference} in another order (train frame {wrong})" in text
    assert f"in frame {wrong}: re-order them" in text


def test_frames_that_are_left_for_the_training(frames, train):
    """Isolated atoms, which are taken out before the split, shift the numbers."""
    alone = []
    for symbol in "COH":
        atom = Atoms(symbol)
        atom.calc = SinglePointCalculator(atom, energy=-1.0, forces=np.zeros((1, 3)))
        alone.append(atom)
    strange = Atoms("N2", [[0, 0, 0], [0, 0, 1.1]])
    strange.calc = SinglePointCalculator(strange, energy=-1.0, forces=np.zeros((2, 3)))
    test = split_indices([*frames, strange], 20, 10)[1]
    everything = [*alone, *frames, strange]
    wrong = int(test[2]) + len(alone)
    everything[wrong], everything[-1] = strange, everything[wrong]
    code, text = train(everything, "--model", "gap")
    assert code == 1
    assert f"Frame {wrong} of the test set holds N" in text


def test_numbers_are_positions_by_default(frames):
    frames[2].calc = None
    assert "(train frame 2)" in str(check_frames(frames[:5]))
    numbers = [10, 11, 12, 13, 14], []
    assert "(train frame 12)" in str(check_frames(frames[:5], numbers=numbers))
