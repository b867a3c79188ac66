"""`kforce train`: from reference calculations to a model and its test errors."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kforce import datasets
from kforce.cli.model_options import add_model, build_model
from kforce.cli.options import (
    add_overwrite,
    add_splitting,
    check,
    new_file,
    positive_int,
    read_data,
    require_suffix,
)
from kforce.cli.output import error_table, errors
from kforce.cli.worst_frames import warn_of_wrong_labels
from kforce.data import split_indices
from kforce.data.findings import plural
from kforce.data.splits import isolated_among
from kforce.errors import InputError, check_seed
from kforce.gap.reference_energies import species_of
from kforce.labels import Labels
from kforce.structures import first_unknown
from kforce.symmetry.groups import cycles, generators

#: Training and test frames at most, where their numbers are not given; local models
#: train on all.
_MANY_TRAIN, _MANY_TEST = 1000, 1000

#: Fewer test frames than this are pointed out.
_FEW_TEST = 20


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train",
        parents=[common],
        help="fit a model and report its errors on a test set",
        description="Fit a force field to reference calculations, report its errors "
        "on frames that it has not seen, and save it. The default is a model of one "
        "molecule; --model gap is for any composition and for periodic cells. Without "
        "DATA, the CCSD(T) frames of methanol that come with kforce are used.",
        epilog="examples: kforce train ethanol.xyz --n-train 200 -o ethanol.npz; "
        "kforce train silicon.xyz --model gap --terms terms.yaml",
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
    group = add_splitting(parser)
    group.add_argument(
        "--test", metavar="FILE", help="test on this file instead of a part of DATA"
    )
    group.add_argument(
        "--n-train",
        type=positive_int,
        metavar="N",
        help="training frames (default: all that are not for testing; gdml: at most "
        "1000)",
    )
    group.add_argument(
        "--split",
        choices=("random", "stratified", "time"),
        help="how to choose the frames (default: random; time for the sample data)",
    )
    add_model(parser)
    parser.add_argument(
        "--keep-factor",
        action="store_true",
        help="store what standard deviations are computed with, 4 n² bytes for n "
        "equations: a model without it takes the time of a fit for the first (gdml; "
        "gap always stores it)",
    )
    return parser


def run(args, output):
    """Train, test and save."""
    path = new_file(args.output or _free_name(args), args.overwrite)
    require_suffix(path, ".npz")
    check_seed(args.seed)
    model = build_model(args)
    train, test, numbers = _sets(args, output)
    check(train, test, output, args.kind, numbers)
    if args.kind == "gap":
        _check_elements(train, test, numbers[1])
    output.note(f"training on {plural(len(train), 'frame')}, testing on {len(test)}")
    if 0 < len(test) < _FEW_TEST:
        output.warning(
            f"{plural(len(test), 'frame')} to test on give a rough guess of the errors "
            f"only: better leave {_FEW_TEST} or more out of the training."
        )
    start = time.perf_counter()
    with _numbered(numbers[0]):
        model.fit(train)
    seconds = time.perf_counter() - start
    suspects = warn_of_wrong_labels(model, numbers[0], args.data, output)
    model.save(path, with_factor=args.keep_factor or None)
    found = None
    if test:
        try:
            with _numbered(numbers[1]):
                prediction = model.evaluate(test, model.properties_of(test))
            found = errors(model, test, Labels.from_frames(test), prediction)
        except InputError as error:
            output.warning(f"{path} is saved, but could not be tested: {error}")
        except KeyboardInterrupt:
            output.warning(f"{path} is saved, but was not tested.")
            raise
    facts = _local_facts if args.kind == "gap" else _global_facts
    result = {
        "model": str(path),
        "n_train": len(train),
        **facts(model, output),
        "suspect_labels": suspects,
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


@contextmanager
def _numbered(numbers):
    """Let errors number frames as in the file that they were split from."""

    def number(match):
        s = int(match[2])
        return f"{match[1]} {numbers[s] if s < len(numbers) else s}"

    try:
        yield
    except InputError as error:
        message = re.sub(r"\b([Ff]rame|structure) (\d+)\b", number, str(error))
        raise InputError(message) from error


def _check_elements(train, test, numbers):
    """Raise an error if test frames hold elements that no training frame holds."""
    found = first_unknown(test, species_of(train))
    if found:
        raise InputError(
            f"Frame {numbers[found[0]]} of the test set holds {found[1]}, which no "
            "training frame holds: train on more frames (--n-train), or choose others "
            "(--seed, --split)."
        )


def _global_facts(model, output):
    """Return what is new in a model of one molecule."""
    group = model.permutations_
    made_of = ", ".join(cycles(p) for p in generators(group))
    origin = f", generated by {made_of}" if made_of else ": the identity"
    output.note(f"{plural(len(group), 'atom permutation')}{origin}")
    return {
        "n_permutations": len(group),
        "descriptor": type(model.descriptor_).__name__,
        "length_scale": getattr(model.kernel_.unscaled, "length_scale", None),
        "leave_one_out_forces_rmse": model.leave_one_out_.forces_rmse,
    }


def _local_facts(model, output):
    """Return what is new in a local model."""
    counts = [term.n_inducing for term in model.terms_]
    total = plural(sum(counts), "inducing environment")
    output.note(f"{total} of {plural(len(counts), 'term')}")
    output.note(
        "standard deviations: 95 % of the errors of left-out frames are within 1.96 of "
        "them; they grow where the extrapolation grade of atoms does"
    )
    output.note(
        "extrapolation grade: 1 is where the environments of the training set end; of "
        "new frames like these one in a thousand has an atom above it"
    )
    return {
        "n_inducing": counts,
        "noise_energy": model.noise_energy_,
        "noise_forces": model.noise_forces_,
        "noise_virial": model.noise_virial_,
        "log_marginal_likelihood": model.log_marginal_likelihood_,
    }


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
    """Return training and test frames, and the numbers of both in their files."""
    if args.data is None:
        frames = datasets.load_methanol_ccsdt()
        output.note(f"using the sample data: {len(frames)} CCSD(T) frames of methanol")
    else:
        frames = read_data(args.data, args, output)
    whole, alone, most = frames, [], _MANY_TRAIN
    if args.kind == "gap":
        alone, most = isolated_among(frames), len(frames)
    if alone:
        output.note(f"{plural(len(alone), 'isolated atom')} kept for the training")
    rest = np.setdiff1d(np.arange(len(whole)), alone)
    frames = [whole[s] for s in rest]
    how = args.split or ("random" if args.data else "time")
    apart, n_test = None, args.n_test
    if args.test is not None:
        apart, n_test = read_data(args.test, args, output)[:n_test], 0
    elif n_test is None:
        room = len(frames) - (args.n_train or 0)
        n_test = min(max(1, len(frames) // 5), _MANY_TEST) if args.data else 60
        n_test = max(0, min(n_test, room))
    n_train = args.n_train or min(len(frames) - n_test, most)
    if n_train < 1:
        raise InputError(
            f"{plural(len(frames), 'frame')} in {args.data or 'the sample'}, too few "
            f"to train and to test on {n_test}: add frames, give others to test on "
            "(--test), or do not test (--n-train 1)."
        )
    chosen, left = split_indices(frames, n_train, n_test, how, args.seed)
    train, test = [*alone, *rest[chosen].tolist()], rest[left].tolist()
    if apart is not None:
        return [whole[s] for s in train], apart, (train, range(len(apart)))
    return [whole[s] for s in train], [whole[s] for s in test], (train, test)
