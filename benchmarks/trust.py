"""Whether error bars and grades of extrapolation tell when a model cannot be trusted.

Crystals and molecules of cheap models, which are labelled anew where no file holds
them: see _trust_data.py. A model with defaults learns frames of one kind and predicts
more of them, "test", and others. "Large" errors are above five times the root mean
square error of the test frames. Frames with atoms much nearer than in training count
for the alarm alone; force components that vanish by symmetry do not count.

With --molecules the same is asked of models of one molecule: see _trust_molecules.py.
"""

import argparse
import os
import time
from pathlib import Path

import _molecules_data
import _trust_data
import _trust_molecules
import numpy as np
from _gap_common import print_machine
from _trust_data import DEVELOPMENT, REPORTED, SYSTEMS, read
from ase.neighborlist import neighbor_list
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

import kforce
from kforce.evaluation import calibration

#: Where frames are kept unless --data names another folder.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kforce/trust"

#: Errors are large above so many times the RMSE of test frames.
LARGE = 5.0

#: Frames count for the alarm alone below this part of training's shortest distance.
CLOSE = 0.8

#: Forces below this in label and prediction, in eV/Å, vanish by symmetry.
VANISHING = 1e-6

#: What is aimed at; values out of these ranges are marked.
GOALS = {
    "in data": (0.92, 0.98),
    "off data": (0.80, 1.0),
    "width": (0.0, 5.0),
    "below": (0.99, 1.0),
    "above": (0.95, 1.0),
    "auroc": (0.95, 1.0),
}

_HEADER = (
    f"{'':<14}{'n':>4}{'close':>6} |{'E meV':>8}{'95 %':>8}{'std/E':>8} |"
    f"{'F eV/Å':>8}{'95 %':>8}{'std/F':>8} |{'large':>6}{'grade':>8}{'> 1, %':>9}"
)


def force_entries(label, predicted, std):
    """Return errors and stds of the components of a frame that symmetry leaves.

    Parameters
    ----------
    label, predicted, std : ndarray of shape (n_atoms, 3)
        In eV/Å.

    Examples
    --------
    >>> label = np.array([[0.0, 0.0, 1.0]])
    >>> error, std = force_entries(label, label + 0.5 * (label > 0), np.ones((1, 3)))
    >>> error, std
    (array([0.5]), array([1.]))
    """
    there = (np.abs(label) > VANISHING) | (np.abs(predicted) > VANISHING)
    return (predicted - label)[there], std[there]


def rms(values):
    """Return the root mean square, NaN of nothing."""
    return np.sqrt(np.mean(np.square(values))) if len(values) else np.nan


def width(errors, std):
    """Return the median standard deviation over the root mean square error.

    Examples
    --------
    >>> width(np.array([1.0, -1.0, 1.0]), np.array([1.0, 2.0, 9.0]))
    2.0
    """
    return float(np.median(std) / rms(errors)) if len(errors) else np.nan


def covered(errors, std):
    """Return the share of errors within 95 % intervals, NaN of nothing."""
    return calibration.coverage(errors, std, 0.95) if len(errors) else np.nan


def share_above(grades, chosen):
    """Return the share of chosen frames with a grade above 1, NaN of nothing.

    Examples
    --------
    >>> share_above(np.array([0.5, 2.0, 0.7]), np.array([True, True, False]))
    0.5
    """
    return float(np.mean(grades[chosen] > 1.0)) if np.any(chosen) else np.nan


def auroc(score, large):
    """Return the area under the receiver operating characteristic curve.

    The chance that a frame with a large error has the higher score than one without;
    NaN if there are not both. Scores that are NaN do not count.

    Examples
    --------
    >>> auroc(np.array([3.0, 1.0, 2.0, np.nan]), np.array([True, False, False, True]))
    1.0
    """
    known = ~np.isnan(score)
    score, large = score[known], large[known]
    if large.all() or not large.any():
        return np.nan
    return float(roc_auc_score(large, score))


def shortest(frames):
    """Return the shortest distance in each frame, in Å; infinite of lone atoms."""
    found = [neighbor_list("d", atoms, 6.0) for atoms in frames]
    return np.array([d.min() if len(d) else np.inf for d in found])


def arrays_of(frames, prediction, least):
    """Return what scores of one kind are made of.

    Parameters
    ----------
    frames : list of Atoms
        Labelled.
    prediction : Prediction
        Of them, with standard deviations.
    least : float
        Shortest distance in Å of frames that count in full.

    Returns
    -------
    dict
        One entry a frame: "e", "e_std" (error and std of energies per atom, eV),
        "f", "f_std" (root mean squares of errors and stds of force components, eV/Å;
        0 and NaN where symmetry leaves none), "close", and "grade", the largest, if
        there are grades. One entry a component: "f_all", "f_all_std", and "frame".
    """
    n_atoms = np.array([len(atoms) for atoms in frames])
    labels = np.array([atoms.get_potential_energy() for atoms in frames])
    pairs = [
        force_entries(atoms.get_forces(), predicted, std)
        for atoms, predicted, std in zip(
            frames, prediction.forces, prediction.forces_std, strict=True
        )
    ]
    errors, stds = zip(*pairs, strict=True)
    found = {
        "e": (prediction.energy - labels) / n_atoms,
        "e_std": prediction.energy_std / n_atoms,
        "f": np.nan_to_num([rms(error) for error in errors]),
        "f_std": np.array([rms(std) for std in stds]),
        "f_all": np.concatenate(errors),
        "f_all_std": np.concatenate(stds),
        "frame": np.repeat(np.arange(len(frames)), [len(error) for error in errors]),
        "close": shortest(frames) < least,
    }
    grades = getattr(prediction, "extrapolation", None)
    if grades is not None:
        found["grade"] = np.array([grade.max() for grade in grades])
    return found


def scores(found, e_test, f_test):
    """Return numbers of one kind from `arrays_of` and test errors (eV/atom, eV/Å)."""
    counted = ~found["close"]
    components = counted[found["frame"]]
    e, e_std = found["e"][counted], found["e_std"][counted]
    f, f_std = found["f_all"][components], found["f_all_std"][components]
    large = is_large(found, e_test, f_test)
    numbers = {
        "n": len(counted),
        "close": int(found["close"].sum()),
        "e": rms(e),
        "e coverage": covered(e, e_std),
        "e width": width(e, e_std),
        "f": rms(f),
        "f coverage": covered(f, f_std),
        "f width": width(f, f_std),
        "large": int(large.sum()),
    }
    if "grade" in found:
        everything = np.ones_like(large)
        numbers["grade"] = float(np.median(found["grade"]))
        numbers["below"] = 1.0 - share_above(found["grade"], everything)
        numbers["above"] = share_above(found["grade"], large)
    return numbers


def is_large(found, e_test, f_test):
    """Return which frames have large errors, of the energy or the forces."""
    return (np.abs(found["e"]) > LARGE * e_test) | (found["f"] > LARGE * f_test)


def areas(kinds, e_test, f_test):
    """Return areas under ROC curves over frames of all kinds, without close ones.

    Stds of energies and forces tell large errors of their own; the grade tells both.
    """
    names = ("e", "e_std", "f", "f_std", "grade", "close")
    there = [name for name in names if name in next(iter(kinds.values()))]
    joined = {k: np.concatenate([found[k] for found in kinds.values()]) for k in there}
    own = {name: values[~joined["close"]] for name, values in joined.items()}
    found = {
        "energy std": auroc(own["e_std"], np.abs(own["e"]) > LARGE * e_test),
        "force std": auroc(own["f_std"], own["f"] > LARGE * f_test),
    }
    if "grade" in own:
        found["grade"] = auroc(own["grade"], is_large(own, e_test, f_test))
    return found


def marked(value, goal, form, scale=1.0):
    """Return a number as text, with a star behind it where it misses its goal."""
    if np.isnan(value):
        return "- "
    low, high = GOALS[goal]
    return f"{scale * value:{form}}" + (" " if low <= value <= high else "*")


def print_kind(kind, found):
    """Print the numbers of one kind in a line."""
    goal = "in data" if kind == "test" else "off data"
    cells = [f"{kind:<14}{found['n']:>4}{found['close']:>6} |"]
    for name, scale, form in (("e", 1e3, ".1f"), ("f", 1.0, ".3f")):
        cells.append(f"{scale * found[name]:>8{form}}")
        cells.append(f"{marked(found[f'{name} coverage'], goal, '.1f', 100):>8}")
        cells.append(f"{marked(found[f'{name} width'], 'width', '.2f'):>8} |")
    cells.append(f"{found['large']:>6}")
    if "grade" in found:
        below = kind == "test"
        value = found["below"] if below else found["above"]
        share = marked(value, "below" if below else "above", ".1f", 100)
        if below:
            share = "≤ 1: " + share
        cells.append(f"{found['grade']:>8.2f}{share:>12}")
    print("".join(cells), flush=True)


def judge(name, args):
    """Fit to the training frames of a system, and print a line for each kind."""
    train = read(name, "train", args.data, args.seed)
    off = [k for k in _trust_data.kinds(name) if not args.kinds or k in args.kinds]
    start = time.process_time()
    model = kforce.GAPRegressor(seed=args.seed).fit(train)
    fitted = time.process_time() - start
    least = CLOSE * shortest(train).min()
    kinds = {}
    start = time.process_time()
    for kind in ["test", *off]:
        frames = read(name, kind, args.data, args.seed)
        prediction = model.evaluate(frames, ("energy", "forces"), return_std=True)
        kinds[kind] = arrays_of(frames, prediction, least)
    print(
        f"\n{name}: {len(train)} frames, fitted in {fitted:.0f} s of CPU; all kinds "
        f"took {time.process_time() - start:.0f} s\n{_HEADER}"
    )
    tests = rms(kinds["test"]["e"]), rms(kinds["test"]["f_all"])
    for kind, found in kinds.items():
        print_kind(kind, scores(found, *tests))
    if "grade" not in kinds["test"]:
        print("predictions have no grade of extrapolation")
    found = areas(kinds, *tests).items()
    cells = (f"{key} {marked(value, 'auroc', '.3f')}" for key, value in found)
    print("area under the ROC curve of large errors: " + ", ".join(cells), flush=True)
    return {f"{name}/{k}/{key}": a for k, f in kinds.items() for key, a in f.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=SYSTEMS,
        default=list(REPORTED),
        help=f"default {' '.join(REPORTED)}; laws are tuned on {' '.join(DEVELOPMENT)}",
    )
    parser.add_argument("--kinds", nargs="+", help="beside test; default all")
    parser.add_argument(
        "--molecules",
        nargs="+",
        choices=_trust_molecules.PARTS,
        help="print these parts for models of one molecule, and nothing else",
    )
    parser.add_argument("--data", type=Path, help="folder of frames; default: a cache")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file.npz for arrays of all frames")
    args = parser.parse_args()
    if args.data is None:
        args.data = _molecules_data.CACHE if args.molecules else CACHE
    if args.seed and not args.molecules:  # frames of another seed are others
        args.data = args.data / f"seed{args.seed}"
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of tblite
    arrays = {}
    with threadpool_limits(args.threads):
        print_machine({})
        print(f"threads: {args.threads}; * misses the goal")
        for part in args.molecules or ():
            print(f"\n{part}")
            _trust_molecules.PARTS[part](args.data)
        for name in () if args.molecules else args.systems:
            arrays |= judge(name, args)
    if args.out:
        np.savez(args.out, **arrays)


if __name__ == "__main__":
    main()
