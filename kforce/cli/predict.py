"""`kforce predict`: energies and forces of structures."""

from __future__ import annotations

from ase.calculators.singlepoint import SinglePointCalculator

from kforce.cli.familiarity import warn_unfamiliar
from kforce.cli.options import (
    add_overwrite,
    add_reading,
    load_model,
    new_file,
    read_data,
    require_suffix,
)
from kforce.data import write_frames


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "predict",
        parents=[common],
        help="write energies and forces of structures",
        description="Predict energies (eV) and forces (eV/Å) of structures and write "
        "them as extended XYZ.",
        epilog="example: kforce predict ethanol.npz geometries.xyz -o labelled.xyz",
    )
    parser.add_argument("model", metavar="MODEL", help="of kforce or sGDML")
    parser.add_argument("data", metavar="STRUCTURES", help="any format that ASE reads")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="predicted.xyz",
        help="extended XYZ file (default: predicted.xyz)",
    )  # fmt: skip
    add_overwrite(parser)
    add_reading(parser)
    parser.set_defaults(run=run)


def run(args, output):
    """Predict and write."""
    path = new_file(args.output, args.overwrite)
    require_suffix(path, ".xyz")
    model = load_model(args.model)
    frames = [frame.copy() for frame in read_data(args.data, args, output)]
    prediction = model.evaluate(frames)
    warn_unfamiliar(model, frames, output)
    for frame, energy, forces in zip(
        frames, prediction.energy, prediction.forces, strict=True
    ):
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    write_frames(path, frames)
    output.result(
        {"output": str(path), "energy": prediction.energy},
        f"wrote energies and forces of {len(frames)} structures to {path}",
    )
