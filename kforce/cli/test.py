"""`kforce test`: the errors of a model on labelled frames, and its calibration."""

from __future__ import annotations

from pathlib import Path

from kforce.cli.options import add_overwrite, load_model, new_file, read_data
from kforce.cli.output import (
    calibration_table,
    calibrations,
    error_table,
    errors,
    residuals,
    warn_of_miscalibration,
    warn_trained_on,
    warn_unfamiliar,
)
from kforce.cli.worst_frames import worst_of_test
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
    parser.add_argument("data", metavar="DATA", help="frames with energies or forces")
    group = parser.add_argument_group("calibration")
    group.add_argument(
        "--no-std", action="store_true", help="leave the standard deviations out"
    )
    group.add_argument(
        "--conformal",
        metavar="FILE",
        help="labelled frames, neither trained nor tested on: how many standard "
        "deviations hold 95 %% of the energies or force components of a new structure",
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
    frames = read_data(args.data, args, output)
    labels = Labels.from_frames(frames)
    prediction, measures = _predict(model, frames, labels, args, output)
    warn_unfamiliar(model, frames, prediction, output)
    warn_trained_on(model, frames, output)
    found = errors(model, frames, labels, prediction)
    if len(found) == 1:
        raise _nothing_in(args.data)
    worst, named = worst_of_test(prediction, labels, range(len(frames)))
    values = {"model": args.model, "test": found, **worst}
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


def _predict(model, frames, labels, args, output):
    """Return the prediction, and its calibration or None if it has none."""
    properties = model.properties_of(frames)
    if args.no_std:
        return model.evaluate(frames, properties), None
    try:
        prediction = model.evaluate(frames, properties, return_std=True)
        return prediction, calibrations(prediction, labels)
    except InputError as error:
        if args.conformal:
            raise
        # Says it, if the frames are what is wrong.
        prediction = model.evaluate(frames, properties)
        output.note(f"the calibration is left out: {error}")
        return prediction, None


def _add_conformal(measures, model, args, output):
    """Add the factors that frames apart give to the measures that they have."""
    frames = read_data(args.conformal, args, output)
    labels = Labels.from_frames(frames)
    warn_trained_on(model, frames, output)
    pairs = residuals(model.evaluate(frames, return_std=True), labels)
    if not pairs:
        raise _nothing_in(args.conformal)
    for name in measures.keys() & pairs:
        measures[name]["conformal_factor_95"] = conformal_factor(*pairs[name])


def _nothing_in(path):
    return InputError(
        f"{path} has neither energies nor forces to compare with: name them with "
        "--energy-key and --forces-key."
    )
