"""`kforce info`: what is in a model, a data set or this machine."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from kforce.cli.data_sets import formulas, read_data, refuse_reading
from kforce.cli.options import load_model, model_format
from kforce.data import check_frames, dataset_hash
from kforce.data.findings import plural
from kforce.errors import InputError
from kforce.labels import Labels, read_label
from kforce.neighbours.unwrapping import unwrap_all
from kforce.parallel import blas_info, n_threads
from kforce.solvers.resources import available_memory, dgemm_rate
from kforce.symmetry.groups import cycles, generators


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "info",
        parents=[common],
        help="show what is in a model, a data set or this machine",
        description="Describe a model or a data set; without FILE, the libraries, "
        "threads and memory that a fit would use.",
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="a model, or the files of a data set"
    )
    return parser


def run(args, output):
    """Find out what the file is and describe it."""
    models = [] if args.format else [path for path in args.files if model_format(path)]
    if not args.files:
        values = _machine()
    elif models and len(args.files) > 1:
        raise InputError(
            f"{models[0]} is a model, and several files are those of a data set: "
            "describe a model by itself."
        )
    elif models:
        refuse_reading(args, models[0], "units")
        values = describe_model(models[0])
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
    data = read_data(args.files, args, output)
    frames = data.frames
    report = check_frames(frames, numbers=(data.names, []))
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
        "periodic": _periodic(frames),
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
            f"on {plural(labels.has_forces.sum(), 'frame')}, root mean square "
            f"{np.sqrt(np.mean(forces**2)):.4f} eV/Å"
        )
    stresses = [read_label(frame, s, "stress") for s, frame in enumerate(frames)]
    count = sum(np.ndim(stress) > 0 for stress in stresses)
    if count:
        values["stresses"] = f"on {plural(count, 'frame')}"
    values["checks"] = str(report).splitlines()
    return values


def _periodic(frames):
    if not any(frame.pbc.any() for frame in frames):
        return "no"
    with suppress(InputError):
        if unwrap_all(frames)[1] is None:
            return "no, molecules in boxes with vacuum around them"
    return "yes"


def _machine():
    names = ("kforce", "numpy", "scipy", "numba", "scikit-learn", "ase")
    memory = available_memory()
    return {
        "python": platform.python_version(),
        "versions": joined({name: metadata.version(name) for name in names}),
        "threads": n_threads(),
        "blas": [
            f"{lib['internal_api']} {lib['version']}, "
            + (f"{lib['architecture']} kernels, " if "architecture" in lib else "")
            + f"{lib['num_threads']} threads"
            for lib in blas_info()
        ],
        "matrix products": f"{dgemm_rate() / 1e9:.0f} GFLOP/s",
        "free memory": f"{memory / 1e9:.1f} GB" if np.isfinite(memory) else "not known",
    }


def describe_model(path) -> dict[str, object]:
    """Return names and values; lists are for several lines."""
    model = load_model(path)
    describe = _describe_global if model.cutoff_ is None else _describe_local
    training = model.training_
    values = {"file size": f"{Path(path).stat().st_size / 1e6:.2f} MB"}
    values |= describe(model)
    values["baseline"] = str(model.baseline_ or "none")
    values["training frames"] = "not known" if training is None else training.n_frames
    values["training hash"] = (training and training.hash) or "not known"
    values["seed"] = model.seed
    values["versions"] = joined(training.versions if training else {}) or "not known"
    return {"model": values.pop("model"), **values}


def joined(versions: dict[str, str]) -> str:
    """Name versions in one line."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _describe_global(model):
    group = model.permutations_
    made_of = [cycles(p) for p in generators(group)]
    return {
        "model": f"{type(model).__name__} of {model.molecule_.formula}, "
        f"{len(model.molecule_.numbers)} atoms",
        "kernel": model.kernel_.describe(),
        "descriptor": _in_line(model.descriptor_),
        **_noises(model),
        "constant": f"{model.constant_:.6f} eV",
        "permutations": [f"{len(group)}, generated by" if made_of else "1", *made_of],
        **_suspects(model),
    }


def _suspects(model):
    """Name training frames whose labels are beyond all others."""
    if getattr(model, "worst_frames_", None) is None:
        return {}
    return {"suspect labels": model.worst_frames_.advice() or "none"}


def _describe_local(model):
    symbols = [chemical_symbols[z] for z in model.species_]
    return {
        "model": f"{type(model).__name__} of {', '.join(symbols)}, "
        f"{sum(term.n_inducing for term in model.terms_)} inducing environments",
        "cutoff": f"{model.cutoff_:g} Å",
        "terms": [_term(term) for term in model.terms_],
        "energies of atoms": ", ".join(
            f"{symbol} {model.reference_energies_[z]:.6f} eV"
            for symbol, z in zip(symbols, model.species_, strict=True)
        ),
        "noise of the energies": _noise(model.noise_energy_, "eV per atom"),
        "noise of the forces": _noise(model.noise_forces_, "eV/Å"),
        "noise of the virials": _noise(model.noise_virial_, "eV per atom"),
        "standard deviations": "not stored" if model.solution_ is None else "stored",
    }


def _term(term):
    kernel = term.kernel.unscaled
    name = kernel.describe() if kernel.is_product else type(kernel).__name__
    if not kernel.is_product and len(term.length_scales) <= 3:
        lengths = getattr(kernel, "length_scale", 1.0) * term.length_scales
        name += f" of length {', '.join(f'{length:.3g}' for length in lengths)}"
    return (
        f"{_in_line(term.descriptor)}, {name}, amplitude "
        f"{term.kernel.prior_std:.3g} eV, {term.n_inducing} inducing"
    )


def _in_line(part):
    return " ".join(str(part).split())


def _noises(model):
    """Name the noises in use; one that was not given says nothing about the labels."""
    noise = model.noise_forces_
    value = _noise(noise, "eV/Å")
    values = {"noise of the forces": value}
    learned = model.descriptor_.learns_scales
    if noise is not None and model.noise_forces is None and not learned:
        values = {"regularisation": f"{value}, numerical: scales with the amplitude"}
    if model.noise_energy_ is not None:
        values["noise of the energies"] = _noise(model.noise_energy_, "eV per atom")
    return values


def _noise(value, unit):
    return "not known" if value is None else f"{value:.3g} {unit}"
