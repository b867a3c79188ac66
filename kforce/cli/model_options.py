"""Options that describe a model to be trained."""

from __future__ import annotations

from kforce import kernels
from kforce.cli.options import load_model, positive_float, positive_int
from kforce.errors import InputError
from kforce.models.gdml import GDMLRegressor
from kforce.npz import read_arrays

_KERNELS = {
    "matern52": kernels.Matern52,
    "matern72": kernels.Matern72,
    "rbf": kernels.RBF,
    "rq": kernels.RationalQuadratic,
}


def add_model(parser) -> None:
    """Add the options of a model; one for the seed is left to the command."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--kernel",
        choices=tuple(_KERNELS),
        help="one length scale for inverse distances (default: internal coordinates "
        "with learned scales, or inverse distances, whichever predict left-out frames "
        "better)",
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
        help="standard deviation in eV/Å (default: learned)",
    )
    group.add_argument(
        "--noise-energy",
        type=positive_float,
        metavar="S",
        help="standard deviation in eV per atom (default: learned; with --kernel the "
        "forces alone are fitted)",
    )
    group.add_argument(
        "--baseline",
        action="append",
        metavar="METHOD|MODEL",
        help="a cheap model to correct: a method of tblite such as GFN2-xTB, or a "
        "model file of kforce; may be given more than once, for their sum",
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


def build_model(args) -> GDMLRegressor:
    """Return the unfitted model that the options of `add_model` and --seed describe.

    Raises
    ------
    InputError
        If the file of --permutations has none.
    """
    return GDMLRegressor(
        kernel=_kernel(args),
        noise_forces=args.noise_forces,
        noise_energy=args.noise_energy,
        baseline=_baseline(args.baseline),
        permutations=_permutations(args.permutations),
        max_permutations=args.max_permutations,
        seed=args.seed,
    )


def _kernel(args):
    """Return the kernel of the options; None leaves the choice to the data."""
    if args.kernel is None and args.length_scale is None:
        return None
    return _KERNELS[args.kernel or "matern52"](length_scale=args.length_scale)


def _baseline(values):
    """Return the baseline of the options: methods by name, models by their files."""
    parts = [
        load_model(value) if value.endswith(".npz") else value for value in values or ()
    ]
    return parts or None


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
