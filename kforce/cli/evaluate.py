"""`kforce test`: the errors of a model on labelled frames."""

from __future__ import annotations

from kforce.cli.familiarity import warn_trained_on, warn_unfamiliar
from kforce.cli.options import add_reading, load_model, read_data
from kforce.cli.output import error_table, errors
from kforce.errors import InputError
from kforce.structures import Labels


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "test",
        parents=[common],
        help="report the errors of a model on labelled frames",
        description="Compare what a model predicts with the labels of a data set.",
        epilog="example: kforce test ethanol.npz more-ethanol.xyz",
    )
    parser.add_argument("model", metavar="MODEL", help="of kforce or sGDML")
    parser.add_argument("data", metavar="DATA", help="frames with energies or forces")
    add_reading(parser)
    parser.set_defaults(run=run)


def run(args, output):
    """Predict and compare."""
    model = load_model(args.model)
    frames = read_data(args.data, args, output)
    labels = Labels.from_frames(frames)
    prediction = model.evaluate(frames)
    warn_unfamiliar(model, frames, output)
    warn_trained_on(model, frames, output)
    found = errors(prediction, labels)
    if len(found) == 1:
        raise InputError(
            f"{args.data} has neither energies nor forces to compare with: name them "
            "with --energy-key and --forces-key."
        )
    output.result({"model": args.model, "test": found}, error_table(found))
