"""`kforce info`: what is in a model, a data set or this machine."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

import numpy as np

from kforce.cli.options import add_reading, formulas, is_sgdml_model, load_model
from kforce.data import check_frames, dataset_hash, read_frames
from kforce.npz import read_arrays
from kforce.permutations import cycles
from kforce.solvers.forecast import available_memory, dgemm_rate
from kforce.structures import Labels
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
    elif _is_model(args.file):
        values = _model(args.file)
    else:
        values = _data(args)
    width = max(len(name) for name in values)
    lines = []
    for name, value in values.items():
        for k, line in enumerate(value if isinstance(value, list) else [value]):
            lines.append(f"{name if k == 0 else '':<{width}}  {line}")
    keys = {name.replace(" ", "_"): value for name, value in values.items()}
    output.result(keys, "\n".join(lines))


def _is_model(path):
    if Path(path).suffix.lower() != ".npz":
        return False
    return is_sgdml_model(path) or bool(read_arrays(path, names=("format",)))


def _model(path):
    model = load_model(path)
    group = model.permutations_
    training = model.training_
    values = {
        "model": f"{type(model).__name__} of {model.molecule_.formula}, "
        f"{len(model.molecule_.numbers)} atoms",
        "file size": f"{Path(path).stat().st_size / 1e6:.2f} MB",
        "kernel": " ".join(str(model.kernel_).split()),
        "descriptor": str(model.descriptor_),
        "training frames": training.n_frames,
        "training hash": training.hash or "not known",
        "noise forces": f"{model.noise_forces_:.3g} eV/Å",
    }
    if model.noise_energy_ is not None:
        values["noise energy"] = f"{model.noise_energy_:.3g} eV per atom"
    values["constant"] = f"{model.constant_:.6f} eV"
    values["permutations"] = [str(len(group))] + [cycles(p) for p in group[1:9]]
    if len(group) > 9:
        values["permutations"].append("…")
    values["seed"] = model.seed
    values["versions"] = _joined(training.versions) or "not known"
    return values


def _data(args):
    frames = read_frames(args.file, args.energy_key, args.forces_key, args.units)
    labels = Labels.from_frames(frames)
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
    values["checks"] = str(check_frames(frames)).splitlines()
    return values


def _machine():
    names = ("kforce", "numpy", "scipy", "numba", "scikit-learn", "ase")
    there = available_memory()
    return {
        "python": platform.python_version(),
        "versions": _joined({name: metadata.version(name) for name in names}),
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


def _joined(versions):
    return ", ".join(f"{name} {version}" for name, version in versions.items())
