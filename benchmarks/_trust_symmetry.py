"""Molecules that react: force errors by the group of permutations, and its cost.

H3O2-, H5O2+ and malonaldehyde with both of its wells, see _molecules_data.py.
"""

import logging
import time

import _molecules_data
import numpy as np

import kforce
from kforce.symmetry.groups import closure

#: Molecules, and permutations that generate the best group given by hand.
MOLECULES = {
    "malonaldehyde": [[0, 2, 1, 4, 3, 5, 6, 8, 7]],
    "H5O2+": [
        [1, 0, 2, 3, 4, 5, 6],
        [0, 1, 3, 2, 4, 5, 6],
        [0, 1, 3, 4, 5, 6, 2],
    ],
    "H3O2-": [[1, 0, 2, 3, 4], [0, 1, 3, 2, 4], [0, 1, 3, 4, 2]],
}

#: Frames that are tested, the last ones of the file.
N_TEST = 300


def by_hand(name):
    """Return the best group of a molecule that is known."""
    factors = [np.array(p) for p in MOLECULES[name]]
    return closure(factors, len(factors[0]), 1000)


def renumbered(frames, seed=0):
    """Return copies of labelled frames with like atoms numbered at random."""
    rng = np.random.default_rng(seed)
    copies = []
    for frame in frames:
        order = np.arange(len(frame))
        for z in np.unique(frame.numbers):
            order[frame.numbers == z] = rng.permutation(order[frame.numbers == z])
        copies.append(_molecules_data.labelled(frame, order))
    return copies


def judge_group(train, test, **parameters):
    """Fit a model; return the force MAE in meV/Å, the permutations, and seconds."""
    start = time.perf_counter()
    model = kforce.GDMLRegressor(**parameters).fit(train)
    seconds = time.perf_counter() - start
    pairs = zip(model.evaluate(test).forces, test, strict=True)
    errors = [np.abs(forces - frame.get_forces()) for forces, frame in pairs]
    return 1e3 * float(np.mean(errors)), len(model.permutations_), seconds


def print_symmetry(
    names=tuple(MOLECULES), n_frames=(100, 300, 1000), folder=_molecules_data.CACHE
):
    """Print a row for each molecule and number of training frames.

    Force MAEs in meV/Å with the group that is recovered from the data alone, by
    default, with the best group given by hand, and by default for copies with like
    atoms numbered at random; behind each the permutations and the seconds of the fit.
    """
    columns = ("recovered", "default", "by hand", "renumbered")
    cells = "".join(f" |{column:>10}{'perms':>6}{'s':>6}" for column in columns)
    print(f"{'force MAE, meV/Å':<20}{'frames':>7}{cells}")
    for name in names:
        frames = _molecules_data.read(name, folder)
        test = frames[-N_TEST:]
        for n in n_frames:
            train = frames[:n]
            recovered = kforce.find_permutations(train)
            runs = (
                judge_group(train, test, permutations=recovered),
                judge_group(train, test),
                judge_group(train, test, permutations=by_hand(name)),
                judge_group(renumbered(train), renumbered(test, seed=1)),
            )
            cells = "".join(f" |{m:>10.2f}{p:>6}{s:>6.0f}" for m, p, s in runs)
            print(f"{name:<20}{n:>7}{cells}", flush=True)


if __name__ == "__main__":
    logging.getLogger("kforce").setLevel(logging.ERROR)
    print_symmetry(n_frames=(100,))
