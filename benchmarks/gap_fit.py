"""Fits of kforce next to gap_fit: time, memory and what comes out.

silicon: 20 frames of 64 atoms with energies and forces. mlearn: the silicon set of Zuo
et al., J. Phys. Chem. A 124, 731 (2020), with their settings. defaults: their silicon
and lithium with defaults of kforce. fcc: copper, where each atom has many neighbours,
with defaults. rows: memory of a linear system. Memory is the largest resident set above
that of the program without a task.
"""

import argparse
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from _gap_common import (
    KFORCE_FIT,
    PEER,
    SOAP,
    TIMING,
    add_options,
    alternating,
    ask,
    available,
    print_machine,
    print_table,
)
from _gap_data import STRESSES, copper, read_zuo
from ase import Atoms
from ase.io import read, write

#: Zuo et al.
MLEARN_SOAP = {
    "cutoff": 5.4,
    "n_max": 8,
    "l_max": 8,
    "atom_sigma": 0.5,
    "transition_width": 0.5,
}

#: What gap_fit took with the settings `MLEARN_SOAP`, when it was measured for kforce.
MEASURED = "gap_fit, measured before: 275 s CPU, 3.7 GB, 3.44 meV/atom, 0.072 eV/Å"

#: Free memory in GB without which gap_fit is not run on mlearn: it takes 9.5 with
#: virials, and the system would end other programs.
GAP_FIT_NEEDS = 16


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inducing", type=int, nargs="+", default=[500, 1000])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--columns", type=int, default=2_000)
    parser.add_argument(
        "--peer", action="store_true", help="run gap_fit on mlearn too: minutes, 10 GB"
    )
    parser.add_argument("--mlearn-points", type=int, default=1000)
    parser.add_argument("--stress", choices=STRESSES, default="mended")
    args = add_options(parser, CASES, repeats=3)
    print_machine(args.peers)
    with tempfile.TemporaryDirectory() as folder:
        args.folder = Path(folder)
        for threads in args.threads:
            args.kforce = partial(ask, sys.executable, KFORCE_FIT, threads=threads)
            args.gap = partial(ask, args.peer_python, PEER, threads=threads)
            for case in args.cases:
                print(f"\n== {case}, {threads} thread{'s' * (threads > 1)}")
                CASES[case](args)


def silicon(args):
    """Energies and forces of 20 × 64 atoms."""
    files = {"train": TIMING / "train.xyz", "test": TIMING / "test.xyz"}
    for n in args.inducing:
        problem = {"data": "silicon", "soap": SOAP, "n_inducing": n, **files}
        workers = {"kforce": partial(args.kforce, "fit", **problem)}
        if "quippy" in args.peers:
            workers["gap_fit"] = partial(
                run_gap_fit, args, files, SOAP, n, "0.001 0.05 0.1 0.0"
            )
        print(f"\n{n} points: median (minimum … maximum) of {args.repeats} processes")
        print_table(alternating(args.repeats, workers))
        if "quippy" in args.peers:
            compare(args)


def compare(args):
    """Print how far predictions from the same sparse points are apart."""
    files = {name: args.folder / f"{name}.npz" for name in ("kforce", "quippy")}
    xml = args.folder / "gap_fit" / "gap.xml"
    found = args.kforce("same_points", xml=xml, out=files["kforce"])
    args.gap("predict", xml=xml, out=files["quippy"], calls=0)
    ours, theirs = (np.load(file) for file in files.values())
    energy, forces = (np.abs(ours[k] - theirs[k]).max() for k in ("energy", "forces"))
    print(
        f"with gap_fit's own points (jitter {found['jitter']:.0e} eV²), largest "
        f"deviation of test.xyz: {energy:.1e} eV, {forces:.1e} eV/Å"
    )


def mlearn(args):
    """Energies, forces and virials of the silicon set of Zuo et al."""
    files = {part: args.folder / f"mlearn_{part}.xyz" for part in ("train", "test")}
    for part, file in files.items():
        write(file, read_zuo("Si", part, args.stress))
    n = args.mlearn_points
    problem = {"data": "mlearn", "soap": MLEARN_SOAP, "n_inducing": n, **files}
    print(f"{n} points, stress: {args.stress}")
    workers = {"kforce": partial(args.kforce, "fit", **problem)}
    if args.peer and available() < GAP_FIT_NEEDS:
        print(f"gap_fit skipped: {available():.0f} of {GAP_FIT_NEEDS} GB are free")
    elif args.peer and "quippy" in args.peers:
        workers["gap_fit"] = partial(
            run_gap_fit, args, files, MLEARN_SOAP, n, "0.01 0.05 0.01 0.0"
        )
    print_table(alternating(args.repeats, workers))
    print(MEASURED)


def defaults(args):
    """Energies, forces and virials of the sets of Zuo et al., nothing given."""
    for element in ("Si", "Li"):
        parts = {p: read_zuo(element, p, args.stress) for p in ("train", "test")}
        print(f"\n{element}, stress: {args.stress}")
        fit_defaults(args, parts)


def fcc(args):
    """Energies, forces and virials of 262 × 108 atoms of copper, nothing given."""
    fit_defaults(args, {"train": copper(262, seed=0), "test": copper(30, seed=1)})


def fit_defaults(args, parts):
    """Print what fits of kforce with defaults to the "train" part take."""
    files = {part: args.folder / f"defaults_{part}.xyz" for part in parts}
    for part, file in files.items():
        write(file, parts[part])
    worker = partial(args.kforce, "fit_defaults", **files)
    print_table(alternating(args.repeats, {"kforce": worker}))


def run_gap_fit(args, files, soap, n_inducing, noises):
    """Fit with gap_fit in a folder of its own; return what it took, and errors."""
    folder = args.folder / "gap_fit"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    test = [labelled(atoms) for atoms in read(files["test"], ":")]
    write(folder / "test.xyz", [atoms for atoms, *_ in test])
    write(folder / "train.xyz", [labelled(f)[0] for f in read(files["train"], ":")])
    descriptor = (
        "soap n_max={n_max} l_max={l_max} cutoff={cutoff} cutoff_transition_width="
        "{transition_width} atom_sigma={atom_sigma} central_weight=1.0"
    ).format(**soap)
    command = [
        "atoms_filename=train.xyz",
        f"gap={{{descriptor} n_sparse={n_inducing} delta=1.0 "
        "covariance_type=dot_product zeta=4 sparse_method=cur_points add_species=T}",
        f"default_sigma={{{noises}}}",
        "e0_method=average",
        "energy_parameter_name=ref_energy",
        "force_parameter_name=ref_forces",
        "virial_parameter_name=ref_virial",
        "sparse_jitter=1e-8",
        "rnd_seed=1",
        "do_copy_at_file=F",
        "sparse_separate_file=T",
        "gap_file=gap.xml",
    ]
    idle = args.gap("gap_fit", folder=folder, arguments=[])["peak, MB"]
    found = args.gap("gap_fit", folder=folder, arguments=command)
    found["peak above start, MB"] = found["peak, MB"] - idle
    out = folder / "predicted.npz"
    args.gap(
        "predict", xml=folder / "gap.xml", out=out, calls=0, frames=folder / "test.xyz"
    )
    n_atoms = np.array([len(atoms) for atoms, *_ in test])
    energy, forces = ([labels[i] for labels in test] for i in (1, 2))
    predicted = np.load(out)
    wrong = (predicted["energy"] - energy) / n_atoms
    found["E MAE, meV/atom"] = 1e3 * np.abs(wrong).mean()
    wrong = predicted["forces"] - np.concatenate(forces)
    return found | {"F MAE, eV/Å": np.abs(wrong).mean()}


def labelled(frame):
    """Return a frame with the names of labels that gap_fit is told, and its labels."""
    atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
    if frame.calc is None:
        energy, forces = frame.info["ref_energy"], frame.arrays["ref_forces"]
    else:
        energy, forces = frame.get_potential_energy(), frame.get_forces()
        if "stress" in frame.calc.results:
            virial = -frame.get_volume() * frame.get_stress(voigt=False)
            atoms.info["ref_virial"] = virial.reshape(9)
    atoms.info["ref_energy"] = energy
    atoms.set_array("ref_forces", forces)
    return atoms, energy, forces


def rows(args):
    """Peak of memory of many rows above the triangular factors."""
    problem = {"n_rows": args.rows, "n_inducing": args.columns}
    print_table(
        alternating(args.repeats, {"kforce": partial(args.kforce, "rows", **problem)})
    )
    print(f"two factors: {16 * args.columns**2 / 2**20:.0f} MB")


CASES = {
    "silicon": silicon,
    "mlearn": mlearn,
    "defaults": defaults,
    "fcc": fcc,
    "rows": rows,
}


if __name__ == "__main__":
    main()
