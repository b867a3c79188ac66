"""Prediction, SOAP vectors and dynamics of kforce next to quippy, featomic, dscribe.

All of them take the same structures and settings: 64 atoms of silicon with 28
neighbours each, SOAP with n_max = 10 and l_max = 12 within 5 Å, 1000 inducing
environments. kforce writes the model, and both programs read the file. Times are the
least of some calls in a process, neighbour lists included; processes alternate.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from _gap_common import (
    KFORCE,
    PEER,
    add_options,
    alternating,
    ask,
    print_machine,
    print_table,
)

N_INDUCING = 1000

#: Cells of 8 atoms along each edge of the cubes.
CELLS = (2, 3, 4, 5, 6, 8, 10)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zeta", type=int, nargs="+", default=[4, 2])
    parser.add_argument("--calls", type=int, default=20, help="in each process")
    parser.add_argument("--cells", type=int, nargs="+", default=CELLS)
    parser.add_argument("--md-steps", type=int, default=2000)
    args = add_options(parser, CASES, repeats=5)
    print_machine(args.peers)
    with tempfile.TemporaryDirectory() as folder:
        args.folder = Path(folder)
        for threads in args.threads:
            args.kforce = partial(ask, sys.executable, KFORCE, threads=threads)
            args.peer = partial(ask, args.peer_python, PEER, threads=threads)
            for case in args.cases:
                print(f"\n== {case}, {threads} thread{'s' * (threads > 1)}")
                CASES[case](args)


def xml_of(args, zeta):
    """Return the file of a model, which is fitted when it is wanted first."""
    xml = args.folder / f"gap{zeta}.xml"
    if not xml.exists():
        found = args.kforce("model", zeta=zeta, n_inducing=N_INDUCING, xml=xml)
        print(f"ζ = {zeta}: {found['n_inducing']} points, fitted by kforce")
    return xml


def predict(args):
    """Energies and forces of one model in both programs."""
    for zeta in args.zeta:
        xml = xml_of(args, zeta)
        out = {name: args.folder / f"{name}.npz" for name in ("kforce", "quippy")}
        calls = {"calls": args.calls, "xml": xml}
        workers = {
            "kforce": partial(args.kforce, "predict", out=out["kforce"], **calls)
        }
        if "quippy" in args.peers:
            workers["quippy"] = partial(
                args.peer, "predict", out=out["quippy"], **calls
            )
        print(f"\nζ = {zeta}: median (minimum … maximum) of {args.repeats} processes")
        print_table(alternating(args.repeats, workers))
        if "quippy" in args.peers:
            ours, theirs = (np.load(file) for file in out.values())
            energy = np.abs(ours["energy"] - theirs["energy"]).max()
            forces = ours["forces"].reshape(-1, 3) - theirs["forces"]
            print(
                f"largest deviation in test.xyz: {energy:.1e} eV, "
                f"{np.abs(forces).max():.1e} eV/Å"
            )


def descriptor(args):
    """SOAP vectors with and without gradients; dscribe: molecules only."""
    for periodic in (True, False):
        workers = {
            "kforce": partial(
                args.kforce, "descriptor", calls=args.calls, periodic=periodic
            )
        }
        for name in ("quippy", "featomic") if periodic else ():
            if name in args.peers:
                workers[name] = partial(args.peer, name, calls=args.calls)
        if "dscribe" in args.peers:
            workers["dscribe"] = partial(
                args.peer, "dscribe", calls=args.calls, periodic=periodic
            )
        print("\nperiodic" if periodic else "\nthe same atoms as a cluster")
        print_table(alternating(args.repeats, workers))
    print(
        "x + gradients of kforce: vectors, and derivatives pulled back to positions as "
        "in a prediction;\nits dense Jacobian comes in blocks; peers return theirs as "
        "one array, which stands beside both"
    )


def size(args):
    """Cost against the number of atoms."""
    xml, rows = xml_of(args, 4), []
    print(
        f"{'atoms':>7}{'CPU s':>10}{'wall s':>10}{'CPU ms/atom':>13}"
        f"{'MB above import':>17}"
    )
    for cells in args.cells:
        # As many calls as small systems need for a steady minimum.
        calls = max(1, min(args.calls, 8000 // cells**3))
        runs = [
            args.kforce("size", xml=xml, cells=cells, calls=calls)
            for _ in range(args.repeats)
        ]
        n = runs[0]["atoms"]
        cpu, wall, memory = (
            np.median([run[key] for run in runs]) for key in ("cpu", "wall", "memory")
        )
        rows.append((n, cpu, wall))
        print(
            f"{n:>7}{cpu:>10.4f}{wall:>10.4f}{1e3 * cpu / n:>13.4f}{memory:>17.0f}",
            flush=True,
        )
    if len(rows) > 1:
        n, cpu, wall = np.log(rows).T
        slopes = (np.polyfit(n, times, 1)[0] for times in (cpu, wall))
        print("cost ∝ atoms^{:.3f} (CPU), atoms^{:.3f} (wall)".format(*slopes))


def dynamics(args):
    """Molecular dynamics of 64 atoms at constant energy."""
    xml = xml_of(args, 4)
    workers = {"kforce": partial(args.kforce, "dynamics", xml=xml, steps=args.md_steps)}
    if "quippy" in args.peers:
        # Of quippy only the time of a step is wanted.
        steps = min(50, args.md_steps)
        workers["quippy"] = partial(args.peer, "dynamics", xml=xml, steps=steps)
    print(f"{args.md_steps} steps of 1 fs, started at 600 K")
    print_table(alternating(1, workers))


CASES = {
    "predict": predict,
    "descriptor": descriptor,
    "size": size,
    "dynamics": dynamics,
}


if __name__ == "__main__":
    main()
