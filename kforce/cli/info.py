"""`kforce info`: what is in a model, a data set or this machine."""

from __future__ import annotations

import platform
from importlib import metadata

import numpy as np

from kforce.cli.model_facts import describe_model, joined
from kforce.cli.options import (
    add_reading,
    formulas,
    is_model,
    read_data,
    refuse_reading,
)
from kforce.data import check_frames, dataset_hash
from kforce.data.report import plural
from kforce.errors import InputError
from kforce.solvers.forecast import available_memory, dgemm_rate
from kforce.structures import Labels, read_label
from kforce.threads import blas_info, n_threads


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "info",
        parents=[common],
        help="show what is in a model, a data set or this machine",
        description="Describe a model or a data set; without FILE, the libraries, "
        "threads and memory that a fit would use.",
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="model or data set")
    add_reading(parser)
    parser.set_defaults(run=run)


def run(args, output):
    """Find out what the file is and describe it."""
    if args.file is None:
        values = _machine()
    elif is_model(args.file):
        refuse_reading(args, args.file, "units")
        values = describe_model(args.file)
    else:
        values = _data(args, output)
    width = max(len(name) for name in values)
    lines = []
    for name, value in values.items():
        for k, line in enumerate(value if isinstance(value, list) else [value]):
            lines.append(f"{name if k == 0 else '':<{width}}  {line}")
    keys = {name.replace(" ", "_"): value for name, value in values.items()}
    output.result(keys, "\n".join(lines))


def _data(args, output):
    frames = read_data(args.file, args, output)
    report = check_frames(frames)
    try:
        labels = Labels.from_frames(frames)
    except InputError:
        report.raise_errors()  # says it of all frames
        raise
    energy = labels.energy[np.isfinite(labels.energy)]
    forces = np.concatenate(labels.forces)
    forces = forces[np.isfinite(forces)]
    sizes = sorted({len(frame) for frame in frames})
    values = {
        "frames": f"{len(frames)} of {formulas(frames)}",
        "atoms": str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}",
        "periodic": "yes" if any(frame.pbc.any() for frame in frames) else "no",
        "energies": "none",
        "forces": "none",
        "stresses": "none",
        "hash": dataset_hash(frames),
    }
    if len(energy):
        values["energies"] = (
            f"{len(energy)}, {energy.min():.3f} to {energy.max():.3f} eV, standard "
            f"deviation {energy.std():.4f} eV"
        )
    if len(forces):
        values["forces"] = (
            f"on {labels.has_forces.sum()} frames, root mean square "
            f"{np.sqrt(np.mean(forces**2)):.4f} eV/Å"
        )
    stresses = [read_label(f, s, "stress", f.get_stress) for s, f in enumerate(frames)]
    count = sum(np.ndim(stress) > 0 for stress in stresses)
    if count:
        values["stresses"] = f"on {plural(count, 'frame')}"
    values["checks"] = str(report).splitlines()
    return values


def _machine():
    names = ("kforce", "numpy", "scipy", "numba", "scikit-learn", "ase")
    there = available_memory()
    return {
        "python": platform.python_version(),
        "versions": joined({name: metadata.version(name) for name in names}),
        "threads": n_threads(),
        "blas": [
            f"{lib['internal_api']} {lib['version']}, {lib['architecture']} kernels, "
            f"{lib['num_threads']} threads"
            if lib["internal_api"] == "openblas"
            else f"{lib['internal_api']} {lib['version']}, {lib['num_threads']} threads"
            for lib in blas_info()
        ],
        "matrix products": f"{dgemm_rate() / 1e9:.0f} GFLOP/s",
        "free memory": f"{there / 1e9:.1f} GB" if np.isfinite(there) else "not known",
    }
