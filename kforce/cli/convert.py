"""`kforce convert`: models to and from sGDML, data sets to extended XYZ."""

from __future__ import annotations

from kforce.cli.options import (
    add_overwrite,
    add_reading,
    is_sgdml_model,
    new_file,
    read_data,
    refuse_reading,
    require_suffix,
)
from kforce.data import write_frames
from kforce.io import read_sgdml, write_sgdml
from kforce.npz import read_arrays
from kforce.persistence import load


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "convert",
        parents=[common],
        help="convert models to and from sGDML, and data sets to extended XYZ",
        description="A model of sGDML becomes one of kforce and the other way round; "
        "any other file is read as a data set and written as extended XYZ (eV, Å). "
        "--units are those of the data set or of the sGDML model; without it, a model "
        "is read in the units that it names, or kcal/mol and Å, and written in eV.",
        epilog="examples: kforce convert sgdml-model.npz kforce-model.npz; "
        "kforce convert kforce-model.npz sgdml-model.npz --units kcal/mol,Ang (a model "
        "trained with --kernel matern52); kforce convert rmd17_ethanol.npz ethanol.xyz",
    )
    parser.add_argument("input", metavar="INPUT")
    parser.add_argument("output", metavar="OUTPUT")
    add_overwrite(parser)
    add_reading(parser)
    parser.set_defaults(run=run)


def run(args, output):
    """Find out what the input is and write its counterpart."""
    path = new_file(args.output, args.overwrite)
    is_npz = str(args.input).lower().endswith(".npz")
    if is_npz and is_sgdml_model(args.input):
        refuse_reading(args, args.input)
        require_suffix(path, ".npz")
        read_sgdml(args.input, unit=args.units).save(path)
        what = "a model of kforce"
    elif is_npz and read_arrays(args.input, names=("format",)):
        refuse_reading(args, args.input)
        require_suffix(path, ".npz")
        write_sgdml(load(args.input), path, unit=args.units or "eV")
        what = "a model of sGDML"
    else:
        require_suffix(path, ".xyz")
        write_frames(path, read_data(args.input, args, output))
        what = "a data set"
    output.result({"output": str(path), "kind": what}, f"wrote {what} to {path}")
