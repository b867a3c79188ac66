"""`kforce learning-curve`: test errors over the number of training frames."""

from __future__ import annotations

import argparse

import numpy as np

from kforce.cli.data_sets import check, read_data
from kforce.cli.model_options import add_model, build_model
from kforce.cli.options import (
    add_overwrite,
    add_splitting,
    new_file,
    positive_int,
    require_suffix,
)
from kforce.cli.output import finite_or_none
from kforce.data import split
from kforce.data.findings import plural
from kforce.errors import InputError, check_seed
from kforce.evaluation import plots
from kforce.evaluation.learning_curve import learning_curve


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "learning-curve",
        parents=[common],
        help="report the errors over the number of training frames",
        description="Train on nested random subsets of several sizes and report the "
        "errors on the same test frames: how much would more calculations help?",
        epilog="example: kforce learning-curve ethanol.xyz --sizes 25,50,100,200",
    )
    parser.add_argument(
        "data", nargs="+", metavar="DATA", help="files of reference calculations"
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="draw the curve there, as PNG (.png)"
    )
    add_overwrite(parser)
    add_splitting(parser).add_argument(
        "--sizes",
        type=_sizes,
        metavar="N,N,...",
        help="training frames, ascending (default: powers of two from 8, with --robust "
        "16, to 1024)",
    )
    add_model(parser)
    return parser


def run(args, output):
    """Train and test at every size."""
    if args.plot:
        require_suffix(new_file(args.plot, args.overwrite), ".png")
        plots.require_matplotlib()
    check_seed(args.seed)
    model = build_model(args)
    data = read_data(args.data, args, output)
    check(data, None, output, args.kind)
    frames, test = data.frames, None
    if args.n_test is not None:
        n_train = len(frames) - args.n_test
        if n_train < 1:
            raise InputError(
                f"--n-test {args.n_test} leaves none of the "
                f"{plural(len(frames), 'frame')} to train on: ask for fewer."
            )
        frames, test = split(frames, n_train, args.n_test, seed=args.seed)
    curve = learning_curve(model, frames, args.sizes, test, args.seed)
    if args.plot:
        plots.write_figures({args.plot: plots.learning_curve_figure(curve)})
    slope, error = curve.slope()
    columns = {name: getattr(curve, name) for name in _COLUMNS}
    values = {
        "sizes": curve.sizes,
        "n_test": curve.n_test,
        **{n: None if np.isnan(v).any() else v for n, v in columns.items()},
        **finite_or_none({"slope": slope, "slope_error": error}),
        "seed": args.seed,
    }
    text = _table(curve)
    if args.plot:
        values["plot"] = args.plot
        text += f"\ndrew the curve in {args.plot}"
    output.result(values, text)


#: Fields of the curve; unit, factor and digits in the table.
_COLUMNS = {
    "energy_mae": ("eV", 1.0, 5),
    "energy_rmse": ("eV", 1.0, 5),
    "forces_mae": ("meV/Å", 1e3, 3),
    "forces_rmse": ("meV/Å", 1e3, 3),
}


def _table(curve):
    """Lay the curve out for people."""
    shown = {n: c for n, c in _COLUMNS.items() if np.isfinite(getattr(curve, n)).all()}
    names = [f"{n.replace('mae', 'MAE').replace('rmse', 'RMSE')}" for n in shown]
    lines = [
        f"errors of {plural(curve.n_test, 'test frame')}",
        f"{'frames':>8}" + "".join(f"{n.replace('_', ' '):>14}" for n in names),
        f"{'':>8}" + "".join(f"{unit:>14}" for unit, _, _ in shown.values()),
    ]
    for k, size in enumerate(curve.sizes):
        row = f"{size:>8}"
        for name, (_, factor, digits) in shown.items():
            row += f"{factor * getattr(curve, name)[k]:>14.{digits}f}"
        lines.append(row)
    slope, error = curve.slope()
    if np.isfinite(slope):
        lines.append(f"forces MAE ∝ n^({slope:.2f} ± {error:.2f})")
    return "\n".join(lines)


def _sizes(text):
    """Parse whole numbers above zero with commas between them."""
    try:
        return [positive_int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers as in 25,50,100, found {text}"
        ) from None
