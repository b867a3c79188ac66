"""Options that describe a model to be trained."""

from __future__ import annotations

from kforce.cli.options import load_model, positive_float, positive_int
from kforce.errors import InputError
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term_files import descriptor_names, read_terms
from kforce.gdml.regressor import GDMLRegressor
from kforce.kernels.stationary import Stationary
from kforce.registry import registered_names
from kforce.storage.npz import read_arrays

#: Options of one kind of model only, those of commands among them.
_OWN = {
    "gdml": (
        "kernel",
        "length_scale",
        "permutations",
        "max_permutations",
        "robust",
        "keep_factor",
        "reorder",
    ),
    "gap": ("terms", "noise_virial"),
}


def add_model(parser) -> None:
    """Add the options of a model; one for the seed is left to the command."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        dest="kind",
        choices=tuple(_OWN),
        default="gdml",
        help="gdml: one molecule, exact and global; gap: any composition and size, "
        "with periodic cells, sparse and local (default: gdml)",
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
    _add_gdml(parser.add_argument_group("model: gdml"))
    _add_gap(parser.add_argument_group("model: gap"))


def _add_gdml(group):
    group.add_argument(
        "--kernel",
        choices=tuple(registered_names(Stationary)),
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
        "--permutations",
        metavar="auto|none|FILE",
        help="symmetries: found in the data, none, or the field 'permutations' (or "
        "'perms') of an .npz file such as a model (default: auto)",
    )
    group.add_argument(
        "--max-permutations",
        type=positive_int,
        metavar="N",
        help="size of the largest group that is found in the data (default: 1000)",
    )
    group.add_argument(
        "--robust",
        action="store_true",
        help="leave out frames whose labels are beyond 6 standard deviations of what "
        "all others predict, and fit again",
    )


def _add_gap(group):
    group.add_argument(
        "--terms",
        metavar="FILE",
        help="YAML list of terms, as '- {descriptor: soap, cutoff: 5.0, n_max: 8, "
        "l_max: 6, atom_sigma: 0.5, n_inducing: 500}', see docs/guide.md; descriptors: "
        f"{', '.join(descriptor_names())} (default: two-body and SOAP "
        "terms for the bond lengths in the data)",
    )
    group.add_argument(
        "--noise-virial",
        type=positive_float,
        metavar="S",
        help="standard deviation in eV per atom (default: learned)",
    )


def build_model(args) -> GDMLRegressor | GAPRegressor:
    """Return the unfitted model that the options of `add_model` and --seed describe."""
    _refuse_others(args)
    noises = {"noise_forces": args.noise_forces, "noise_energy": args.noise_energy}
    if args.kind == "gap":
        return GAPRegressor(
            None if args.terms is None else read_terms(args.terms),
            noise_virial=args.noise_virial,
            baseline=_baseline(args.baseline),
            seed=args.seed,
            **noises,
        )
    return GDMLRegressor(
        kernel=_kernel(args),
        baseline=_baseline(args.baseline),
        permutations=_permutations(args.permutations or "auto"),
        max_permutations=args.max_permutations or 1000,
        robust=args.robust,
        seed=args.seed,
        **noises,
    )


def _refuse_others(args):
    """Raise an error if an option is given that the model has no use for."""
    for kind, names in _OWN.items():
        for name in names if kind != args.kind else ():
            if getattr(args, name, None):
                option = "--" + name.replace("_", "-")
                raise InputError(
                    f"{option} belongs to --model {kind}, and this is --model "
                    f"{args.kind}: leave {option} out, or choose the other model."
                )


def _kernel(args):
    """Return the kernel of the options; None leaves the choice to the data."""
    if args.kernel is None and args.length_scale is None:
        return None
    cls = registered_names(Stationary)[args.kernel or "matern52"]
    return cls(length_scale=args.length_scale)


def _baseline(values):
    """Return the baseline of the options: methods by name, models by their files."""
    parts = [load_model(v) if v.endswith((".npz", ".xml")) else v for v in values or ()]
    return parts or None


def _permutations(value):
    if value in ("auto", "none"):
        return "auto" if value == "auto" else None
    fields = read_arrays(value, names=("permutations_", "permutations", "perms"))
    if not fields:
        raise InputError(
            f"{value} has no field 'permutations' or 'perms': give 'auto', 'none' or a "
            "file that has one."
        )
    return next(iter(fields.values()))
