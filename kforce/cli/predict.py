"""`kforce predict`: energies, forces and stresses of structures."""

from __future__ import annotations

from ase.calculators.singlepoint import SinglePointCalculator

from kforce.cli.data_sets import read_data
from kforce.cli.options import add_overwrite, load_model, new_file, require_suffix
from kforce.cli.output import warn_unfamiliar
from kforce.data import write_frames
from kforce.data.findings import plural


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "predict",
        parents=[common],
        help="write energies and forces of structures",
        description="Predict energies (eV), forces (eV/Å) and extrapolation grades "
        "(above 1: unlike the training set) of structures, with local models also "
        "stresses (eV/Å³) of periodic ones, and write them as extended XYZ.",
        epilog="example: kforce predict ethanol.npz geometries.xyz -o labelled.xyz",
    )
    parser.add_argument("model", metavar="MODEL", help="of kforce, sGDML or GAP (.xml)")
    parser.add_argument(
        "data",
        nargs="+",
        metavar="STRUCTURES",
        help="files in any format that ASE reads",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="predicted.xyz",
        help="extended XYZ file (default: predicted.xyz)",
    )  # fmt: skip
    parser.add_argument(
        "--std",
        action="store_true",
        help="write standard deviations, too: energy_std and forces_std",
    )
    add_overwrite(parser)
    return parser


def run(args, output):
    """Predict and write."""
    path = new_file(args.output, args.overwrite)
    require_suffix(path, ".xyz")
    model = load_model(args.model)
    data = read_data(args.data, args, output)
    frames = [frame.copy() for frame in data.frames]
    with data.named():
        prediction = model.evaluate(frames, model.properties_of(frames), args.std)
    warn_unfamiliar(model, data, prediction, output)
    for s, frame in enumerate(frames):
        frame.calc = SinglePointCalculator(
            frame, energy=prediction.energy[s], forces=prediction.forces[s]
        )
        if prediction.stress is not None and frame.pbc.all():
            frame.calc.results["stress"] = prediction.stress[s]
        if args.std:
            frame.info["energy_std"] = prediction.energy_std[s]
            frame.arrays["forces_std"] = prediction.forces_std[s]
        if prediction.extrapolation is not None:
            frame.info["extrapolation"] = prediction.extrapolation[s].max()
            frame.arrays["extrapolation"] = prediction.extrapolation[s]
    values = {"output": str(path), "energy": prediction.energy}
    if prediction.extrapolation is not None:
        values["extrapolation"] = [g.max() for g in prediction.extrapolation]
    what = "energies and forces"
    if prediction.stress is not None:
        what = "energies, forces and stresses"
    if args.std:
        values["energy_std"] = prediction.energy_std
        what += ", with standard deviations,"
    write_frames(path, frames)
    count = plural(len(frames), "structure")
    output.result(values, f"wrote {what} of {count} to {path}")
