"""`kforce train`: from reference calculations to a model and its test errors."""

from __future__ import annotations

import time
from pathlib import Path

from kforce import datasets, kernels
from kforce.arguments import check_seed
from kforce.cli.options import (
    add_overwrite,
    add_reading,
    check,
    new_file,
    positive_float,
    positive_int,
    read_data,
    require_suffix,
)
from kforce.cli.output import error_table, errors
from kforce.data import split_indices
from kforce.data.report import plural
from kforce.errors import InputError
from kforce.models.gdml import GDMLRegressor
from kforce.npz import read_arrays
from kforce.permutations import cycles, generators
from kforce.structures import Labels

_KERNELS = {
    "matern52": kernels.Matern52,
    "matern72": kernels.Matern72,
    "rbf": kernels.RBF,
    "rq": kernels.RationalQuadratic,
}

#: Training and test frames at most, where their numbers are not given.
_MANY_TRAIN, _MANY_TEST = 1000, 1000

#: Fewer test frames than this are pointed out.
_FEW_TEST = 20


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train",
        parents=[common],
        help="fit a model and report its errors on a test set",
        description="Fit a force field to reference calculations of one molecule, "
        "report its errors on frames that it has not seen, and save it. Without DATA, "
        "the CCSD(T) frames of methanol that come with kforce are used.",
        epilog="example: kforce train ethanol.xyz --n-train 200 -o ethanol.npz",
    )
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="reference calculations"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="MODEL",
        help="model file (default: NAME-model.npz, or NAME-model-2.npz and so on)",
    )
    add_overwrite(parser)
    _add_splitting(parser)
    _add_model(parser)
    add_reading(parser)
    parser.set_defaults(run=run)


def _add_splitting(parser):
    group = parser.add_argument_group("splitting")
    group.add_argument(
        "--test", metavar="FILE", help="test on this file instead of a part of DATA"
    )
    group.add_argument(
        "--n-train",
        type=positive_int,
        metavar="N",
        help="training frames (default: all that are not for testing, at most 1000)",
    )
    group.add_argument(
        "--n-test",
        type=positive_int,
        metavar="N",
        help="test frames (default: a fifth of the frames, at most 1000)",
    )
    group.add_argument(
        "--split",
        choices=("random", "stratified", "time"),
        help="how to choose the frames (default: random; time for the sample data)",
    )
    group.add_argument("--seed", type=int, default=0, help="default: 0")


def _add_model(parser):
    group = parser.add_argument_group("model")
    group.add_argument(
        "--kernel",
        choices=tuple(_KERNELS),
        help="default: matern52 or matern72, whichever predicts left-out frames better",
    )
    group.add_argument(
        "--length-scale",
        type=positive_float,
        metavar="L",
        help="in 1/Å (default: learned)",
    )
    group.add_argument(
        "--noise-forces",
        type=positive_float,
        metavar="S",
        help="standard deviation in eV/Å (default: converged labels)",
    )
    group.add_argument(
        "--noise-energy",
        type=positive_float,
        metavar="S",
        help="standard deviation in eV per atom; fits the energies, too",
    )
    group.add_argument(
        "--permutations",
        default="auto",
        metavar="auto|none|FILE",
        help="symmetries: found in the data, none, or the field 'permutations' (or "
        "'perms') of an .npz file such as a model",
    )
    group.add_argument(
        "--max-permutations",
        type=positive_int,
        default=1000,
        metavar="N",
        help="size of the largest group that is found in the data (default: 1000)",
    )


def run(args, output):
    """Train, test and save."""
    path = new_file(args.output or _free_name(args), args.overwrite)
    require_suffix(path, ".npz")
    check_seed(args.seed)
    train, test = _sets(args, output)
    check(train, test, output)
    model = GDMLRegressor(
        kernel=_kernel(args),
        noise_forces=args.noise_forces,
        noise_energy=args.noise_energy,
        permutations=_permutations(args.permutations),
        max_permutations=args.max_permutations,
        seed=args.seed,
    )
    output.note(f"training on {plural(len(train), 'frame')}, testing on {len(test)}")
    if 0 < len(test) < _FEW_TEST:
        output.warning(
            f"{plural(len(test), 'frame')} to test on give a rough guess of the errors "
            f"only: better leave {_FEW_TEST} or more out of the training."
        )
    start = time.perf_counter()
    model.fit(train)
    seconds = time.perf_counter() - start
    found = errors(model.evaluate(test), Labels.from_frames(test)) if test else None
    model.save(path)
    group = model.permutations_
    output.note(f"{plural(len(group), 'atom permutation')}{_origin(group)}")
    result = {
        "model": str(path),
        "n_train": len(train),
        "n_permutations": len(group),
        "length_scale": kernels.unscaled(model.kernel_).length_scale,
        "seconds": seconds,
        "training_hash": model.training_.hash,
        "seed": args.seed,
        "versions": model.training_.versions,
    }
    text = f"trained in {seconds:.1f} s, saved as {path}"
    if found:
        result["test"] = found
        text = f"{error_table(found)}\n{text}"
    output.result(result, text)


def _free_name(args):
    """Return NAME-model.npz, or NAME-model-2.npz and so on where there is one."""
    stem = f"{Path(args.data).stem if args.data else 'methanol'}-model"
    path = Path(f"{stem}.npz")
    number = 2
    while path.exists() and not args.overwrite:
        path = Path(f"{stem}-{number}.npz")
        number += 1
    return path


def _sets(args, output):
    """Return training and test frames."""
    if args.data is None:
        frames = datasets.load_methanol_ccsdt()
        output.note(f"using the sample data: {len(frames)} CCSD(T) frames of methanol")
    else:
        frames = read_data(args.data, args, output)
    how = args.split or ("random" if args.data else "time")
    n_test = args.n_test
    if args.test is not None:
        test = read_data(args.test, args, output)
        test = test if n_test is None else test[:n_test]
        n_train = args.n_train or min(len(frames), _MANY_TRAIN)
        chosen, _ = split_indices(frames, n_train, 0, how, args.seed)
        return [frames[i] for i in chosen], test
    if n_test is None:
        sample = args.data is None
        room = len(frames) - (args.n_train or 0)
        n_test = 60 if sample else min(max(1, len(frames) // 5), room, _MANY_TEST)
        n_test = max(0, min(n_test, room))
    n_train = args.n_train or min(len(frames) - n_test, _MANY_TRAIN)
    chosen, rest = split_indices(frames, n_train, n_test, how, args.seed)
    return [frames[i] for i in chosen], [frames[i] for i in rest]


def _kernel(args):
    """Return the kernel of the options; None leaves the choice to the data."""
    if args.kernel is None and args.length_scale is None:
        return None
    return _KERNELS[args.kernel or "matern52"](length_scale=args.length_scale)


def _permutations(value):
    if value in ("auto", "none"):
        return "auto" if value == "auto" else None
    fields = read_arrays(value, names=("permutations", "perms"))
    if not fields:
        raise InputError(
            f"{value} has no field 'permutations' or 'perms': give 'auto', 'none' or a "
            "file that has one."
        )
    return next(iter(fields.values()))


def _origin(group):
    """Name the permutations that generate a group."""
    named = ", ".join(cycles(p) for p in generators(group))
    return f", generated by {named}" if named else ": the identity"
