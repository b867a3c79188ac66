"""`kforce test`: the errors of a model on labelled frames, and its calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kforce.cli.data_sets import read_data
from kforce.cli.options import add_overwrite, load_model, new_file
from kforce.cli.output import (
    calibration_table,
    error_table,
    errors,
    predict_with_calibration,
    residuals,
    warn_of_miscalibration,
    warn_unfamiliar,
)
from kforce.cli.worst_frames import worst_of_test
from kforce.data.findings import plural
from kforce.errors import InputError
from kforce.evaluation import plots
from kforce.evaluation.conformal import conformal_factor
from kforce.labels import Labels

#: Files of --report; all but the first take standard deviations.
_FIGURES = {
    "parity.png": plots.parity_figure,
    "calibration.png": plots.calibration_figure,
    "error-std.png": plots.error_figure,
}


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "test",
        parents=[common],
        help="report the errors of a model on labelled frames",
        description="Compare what a model predicts with the labels of a data set, and "
        "the errors with the standard deviations that it predicts.",
        epilog="example: kforce test ethanol.npz more-ethanol.xyz",
    )
    parser.add_argument("model", metavar="MODEL", help="of kforce, sGDML or GAP (.xml)")
    parser.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help="files of frames with energies or forces; those that the model was "
        "trained on are left out",
    )
    parser.add_argument(
        "--with-training",
        action="store_true",
        help="test on frames that the model was trained on, too",
    )
    group = parser.add_argument_group("calibration")
    group.add_argument(
        "--no-std", action="store_true", help="leave the standard deviations out"
    )
    group.add_argument(
        "--conformal",
        metavar="FILE",
        help="labelled frames that are not tested on; those trained on are left out: "
        "how many standard deviations hold 95 %% of the energies or force components "
        "of a new structure",
    )
    group.add_argument(
        "--report", metavar="FOLDER", help=f"draw {', '.join(_FIGURES)} there"
    )
    add_overwrite(parser)
    return parser


def run(args, output):
    """Predict and compare."""
    if args.conformal and args.no_std:
        raise InputError("--conformal takes standard deviations: leave --no-std out.")
    folder = _new_folder(args.report, args.overwrite) if args.report else None
    model = load_model(args.model)
    data, n_left_out = _unseen(args.data, model, args, output)
    frames = data.frames
    with data.named():
        labels = Labels.from_frames(frames)
        prediction, measures = _predict(model, frames, labels, args, output)
    warn_unfamiliar(model, data, prediction, output)
    found = errors(model, frames, labels, prediction)
    if len(found) == 1:
        raise _nothing_in(args.data)
    worst, named = worst_of_test(prediction, labels, data.names)
    values = {"model": args.model, "n_left_out": n_left_out, "test": found, **worst}
    text = f"{error_table(found)}\n{named}"
    if measures is not None:
        values["calibration"] = measures
        warn_of_miscalibration(measures, output)
        if args.conformal:
            _add_conformal(measures, model, args, output)
        text += "\n" + calibration_table(measures)
    if folder:
        names = ["parity.png"] if measures is None else list(_FIGURES)
        plots.write_figures(
            {folder / name: _FIGURES[name](prediction, frames) for name in names}
        )
        values["report"] = [str(folder / name) for name in names]
        text += f"\ndrew {', '.join(names)} in {folder}"
    output.result(values, text)


def _new_folder(path, overwrite):
    """Return the path of a folder that the figures may be written to."""
    plots.require_matplotlib()
    folder = Path(path)
    if folder.is_dir():
        for name in _FIGURES:
            new_file(folder / name, overwrite)
    elif folder.exists():
        raise InputError(f"{folder} is not a folder: name another one.")
    else:
        new_file(folder, overwrite)  # its parent is there and can be written to
    return folder


def _unseen(paths, model, args, output):
    """Return a data set without training frames, and how many were left out."""
    data = read_data(paths, args, output)
    with data.named():
        for s, frame in enumerate(data.frames):
            model.check_frame(frame, f"frame {s}")
        known = model.is_training_frame(data.frames)
    count, names = known.sum(), ", ".join(paths)
    if not count:
        return data, 0
    what = (
        f"{count} of {plural(len(data), 'frame')} of {names} "
        f"{'is' if count == 1 else 'are'} training data of this model"
    )
    if args.with_training:
        output.warning(f"{what}: errors there are too small to be honest.")
        return data, 0
    if known.all():
        raise InputError(
            f"Expected frames that the model was not trained on, but {what}: give "
            "others, or add --with-training to test on these."
        )
    output.note(f"{what} and left out (--with-training keeps them)")
    return data.take(np.flatnonzero(~known)), int(count)


def _predict(model, frames, labels, args, output):
    """Return the prediction, and its calibration or None if it has none."""
    if args.no_std:
        return model.evaluate(frames, model.properties_of(frames)), None
    return predict_with_calibration(model, frames, labels, output, bool(args.conformal))


def _add_conformal(measures, model, args, output):
    """Add the factors that frames apart give to the measures that they have."""
    data, _ = _unseen([args.conformal], model, args, output)
    with data.named():
        labels = Labels.from_frames(data.frames)
        prediction = model.evaluate(data.frames, return_std=True)
    pairs = residuals(prediction, labels)
    if not pairs:
        raise _nothing_in([args.conformal])
    for name in measures.keys() & pairs:
        measures[name]["conformal_factor_95"] = conformal_factor(*pairs[name])


def _nothing_in(paths):
    has = "has" if len(paths) == 1 else "have"
    return InputError(
        f"{' and '.join(paths)} {has} neither energies nor forces to compare with: "
        "name them with --energy-key and --forces-key."
    )
