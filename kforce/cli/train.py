"""`kforce train`: from reference calculations to a model and its test errors."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from kforce.cli.data_sets import check
from kforce.cli.model_options import add_model, build_model
from kforce.cli.options import (
    add_overwrite,
    add_splitting,
    new_file,
    positive_int,
    require_suffix,
    whole_number,
)
from kforce.cli.output import (
    calibration_line,
    error_table,
    errors,
    predict_with_calibration,
    warn_of_miscalibration,
)
from kforce.cli.splitting import check_write_test, sets, write_test
from kforce.cli.worst_frames import warn_of_wrong_labels
from kforce.data.findings import plural
from kforce.data.slices import FileSlice
from kforce.errors import InputError, check_seed
from kforce.gap.reference_energies import species_of
from kforce.labels import Labels
from kforce.structures import first_unknown
from kforce.symmetry.groups import cycles, generators

#: Test frames, and atoms of them, whose standard deviations are computed at most: they
#: take longer than predictions.
_FRAMES_WITH_STD, _ATOMS_WITH_STD = 100, 2000

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
        "kforce train hot.xyz cold.xyz@::10 --write-test test.xyz; "
        "kforce train silicon.xyz --model gap --terms terms.yaml",
    )
    parser.add_argument(
        "data", nargs="*", metavar="DATA", help="files of reference calculations"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="MODEL",
        help="model file (default: NAME-model.npz, or NAME-model-2.npz and so on)",
    )
    parser.add_argument(
        "--write-test",
        metavar="FILE",
        help="write the test frames as extended XYZ (eV, Å), with their labels and, as "
        "source_file and source_frame, where they are from",
    )
    add_overwrite(parser)
    group = add_splitting(parser, whole_number)
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
    check_write_test(args)
    check_seed(args.seed)
    model = build_model(args)
    train, test = sets(args, output)
    check(train, test, output, args.kind)
    if args.kind == "gap":
        _check_elements(train, test)
    output.note(f"training on {plural(len(train), 'frame')}, testing on {len(test)}")
    if args.write_test and not len(test):
        raise InputError(
            "--write-test writes the test frames, and there are none: train on fewer "
            "frames (--n-train), or leave it out."
        )
    if 0 < len(test) < _FEW_TEST:
        output.warning(
            f"{plural(len(test), 'frame')} to test on give a rough guess of the errors "
            f"only: better leave {_FEW_TEST} or more out of the training."
        )
    start = time.perf_counter()
    with train.named():
        model.fit(train.frames)
    seconds = time.perf_counter() - start
    suspects = warn_of_wrong_labels(model, train, output)
    model.save(path, with_factor=args.keep_factor or None)
    if args.write_test:
        write_test(args.write_test, test)
    facts = _local_facts if args.kind == "gap" else _global_facts
    result = {
        "model": str(path),
        "n_train": len(train),
        **facts(model, output),
        "suspect_labels": suspects,
        "seconds": seconds,
        "training_hash": model.training_.hash,
        "seed": args.seed,
        "train_frames": train.by_file(),
        "test_frames": test.by_file(),
        "versions": model.training_.versions,
    }
    text = f"trained in {seconds:.1f} s, saved as {path}"
    if args.write_test:
        result["written_test"] = args.write_test
        text += f"\nwrote {plural(len(test), 'test frame')} to {args.write_test}"
    found, lines = _tested(model, test, path, output)
    output.result(result | found, "\n".join([*lines, text]))


def _tested(model, test, path, output):
    """Return what the test finds, as values for programs and as lines for people."""
    if not len(test):
        return {}, _left_out_line(model)
    try:
        with test.named():
            labels = Labels.from_frames(test.frames)
            prediction, measures, of = _predicted(model, test.frames, labels, output)
            found = {"test": errors(model, test.frames, labels, prediction)}
    except InputError as error:
        output.warning(f"{path} is saved, but could not be tested: {error}")
        return {}, []
    except KeyboardInterrupt:
        output.warning(f"{path} is saved, but was not tested.")
        raise
    lines = [error_table(found["test"])]
    if measures:
        warn_of_miscalibration(measures, output)
        found["calibration"] = measures
        lines.append(calibration_line(measures) + of)
    return found, lines


def _predicted(model, frames, labels, output):
    """Return the prediction, its calibration, and of which frames the latter is."""
    n_atoms = np.mean([len(frame) for frame in frames])
    count = min(len(frames), _FRAMES_WITH_STD, max(10, int(_ATOMS_WITH_STD / n_atoms)))
    if count == len(frames):
        return *predict_with_calibration(model, frames, labels, output), ""
    prediction = model.evaluate(frames, model.properties_of(frames))
    chosen = np.linspace(0, len(frames) - 1, count).round().astype(int)
    some = [frames[s] for s in chosen]
    _, measures = predict_with_calibration(model, some, labels.take(chosen), output)
    return prediction, measures, f" ({count} of the test frames)"


def _left_out_line(model):
    """Say how well left-out frames were predicted, where the model knows it."""
    left_out = getattr(model, "leave_one_out_", None)
    if left_out is None or not left_out.is_force.any():
        return []
    return [
        f"not tested; {plural(len(left_out.structures), 'training frame')}, left out "
        f"one at a time: forces {1e3 * left_out.forces_rmse:.3f} meV/Å (RMSE)"
    ]


def _check_elements(train, test):
    """Raise an error if test frames hold elements that no training frame holds."""
    found = first_unknown(test.frames, species_of(train.frames))
    if found:
        raise InputError(
            f"Frame {test.names[found[0]]} of the test set holds {found[1]}, which no "
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
    first = FileSlice.parse(args.data[0]).path.stem if args.data else "methanol"
    stem = f"{first}-model"
    path = Path(f"{stem}.npz")
    number = 2
    while path.exists() and not args.overwrite:
        path = Path(f"{stem}-{number}.npz")
        number += 1
    return path
