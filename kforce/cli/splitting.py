"""The training and the test set of a command, and the file that keeps the latter."""

from __future__ import annotations

import numpy as np

from kforce import datasets
from kforce.cli.data_sets import DataSet, read_data
from kforce.cli.options import new_file, require_suffix
from kforce.data import split_indices, write_frames
from kforce.data.findings import plural
from kforce.data.slices import FileSlice
from kforce.data.splits import isolated_among
from kforce.errors import InputError

#: Training and test frames at most, where their numbers are not given; local models
#: train on all.
_MANY_TRAIN, _MANY_TEST = 1000, 1000

#: What frames of the sample are from.
_SAMPLE = "kforce.datasets.load_methanol_ccsdt"


def sets(args, output):
    """Return the training and the test set."""
    if args.data:
        data = read_data(args.data, args, output)
    else:
        frames = datasets.load_methanol_ccsdt()
        data = DataSet(frames, [_SAMPLE] * len(frames), list(range(len(frames))))
        output.note(f"using the sample data: {len(frames)} CCSD(T) frames of methanol")
    alone, most = [], _MANY_TRAIN
    if args.kind == "gap":
        alone, most = isolated_among(data.frames), len(data)
    if alone:
        output.note(f"{plural(len(alone), 'isolated atom')} kept for the training")
    others = np.setdiff1d(np.arange(len(data)), alone)
    rest = data.take(others)
    how = args.split or ("random" if args.data else "time")
    apart, n_test = None, args.n_test
    if args.test is not None:
        apart, n_test = read_data([args.test], args, output), 0
        if args.n_test is not None:
            apart = apart.take(range(min(args.n_test, len(apart))))
    elif n_test is None:
        room = len(rest) - (args.n_train or 0)
        n_test = min(max(1, len(rest) // 5), _MANY_TEST) if args.data else 60
        n_test = max(0, min(n_test, room))
    n_train = args.n_train or min(len(rest) - n_test, most)
    if n_train < 1:
        raise InputError(
            f"{plural(len(rest), 'frame')} in {', '.join(args.data) or 'the sample'}, "
            f"too few to train and to test on {n_test}: add frames, give others to "
            "test on (--test), or do not test (--n-test 0)."
        )
    chosen, left = split_indices(rest.frames, n_train, n_test, how, args.seed)
    train = data.take([*alone, *others[chosen]])
    return train, rest.take(left) if apart is None else apart


def check_write_test(args):
    """Raise an error now if the test frames could not be written after the fit."""
    if not args.write_test:
        return
    path = new_file(args.write_test, args.overwrite)
    require_suffix(path, ".xyz")
    for name in [*args.data, *([args.test] if args.test else [])]:
        source = FileSlice.parse(name).path
        if source.exists() and path.exists() and path.samefile(source):
            raise InputError(
                f"--write-test {path} would replace a file that is read: name another."
            )


def write_test(path, test):
    """Write test frames with the files and the numbers there that they are from."""
    frames = []
    for frame, file, number in zip(test.frames, test.files, test.numbers, strict=True):
        copy = frame.copy()
        copy.calc = frame.calc
        copy.info |= {"source_file": file, "source_frame": number}
        frames.append(copy)
    write_frames(path, frames)
