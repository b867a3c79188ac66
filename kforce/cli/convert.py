"""`kforce convert`: models to and from sGDML and GAP, data sets to extended XYZ."""

from __future__ import annotations

from kforce.cli.data_sets import read_data, refuse_reading
from kforce.cli.options import (
    add_overwrite,
    load_model,
    model_format,
    new_file,
    require_suffix,
)
from kforce.data import write_frames
from kforce.io import read_quip_xml, read_sgdml, write_quip_xml, write_sgdml


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "convert",
        parents=[common],
        help="convert models to and from sGDML and GAP, and data sets to extended XYZ",
        description="A model of sGDML, or of GAP (.xml), becomes one of kforce and the "
        "other way round; any other file is read as a data set and written as extended "
        "XYZ (eV, Å). --units are those of the data set or of the sGDML model; without "
        "it, a model is read in the units that it names, or kcal/mol and Å, and "
        "written in eV.",
        epilog="examples: kforce convert sgdml-model.npz kforce-model.npz; "
        "kforce convert kforce-model.npz sgdml-model.npz --units kcal/mol,Ang (a model "
        "trained with --kernel matern52); kforce convert kforce-model.npz gap.xml (a "
        "model trained with --model gap); kforce convert rmd17_ethanol.npz ethanol.xyz",
    )
    parser.add_argument("input", metavar="INPUT")
    parser.add_argument("output", metavar="OUTPUT")
    add_overwrite(parser)
    return parser


def run(args, output):
    """Find out what the input is and write its counterpart."""
    path = new_file(args.output, args.overwrite)
    kind = None if args.format else model_format(args.input)
    if kind == "kforce":
        what = _write_model(load_model(args.input), path, args)
    elif kind is not None:
        refuse_reading(args, args.input, *(["units"] if kind == "gap" else []))
        require_suffix(path, ".npz")
        if kind == "gap":
            model = read_quip_xml(args.input)
        else:
            model = read_sgdml(args.input, unit=args.units)
        model.save(path)
        what = "a model of kforce"
    else:
        require_suffix(path, ".xyz")
        write_frames(path, read_data([args.input], args, output).frames)
        what = "a data set"
    output.result({"output": str(path), "kind": what}, f"wrote {what} to {path}")


def _write_model(model, path, args):
    """Write a model of kforce as one of the program that has such models."""
    if model.cutoff_ is not None:
        refuse_reading(args, args.input, "units")
        require_suffix(path, ".xml")
        write_quip_xml(model, path)
        return "a model of GAP, with its sparse points beside it,"
    refuse_reading(args, args.input)
    require_suffix(path, ".npz")
    write_sgdml(model, path, unit=args.units or "eV")
    return "a model of sGDML"
