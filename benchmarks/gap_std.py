"""What error bars cost in molecular dynamics, and what predictions cost with defaults.

dynamics: 500 atoms of fcc copper without standard deviations, with those of the energy
and grades of atoms, and with those of forces. predict: energy and forces of 64 atoms of
silicon. Models have default settings.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from _gap_common import KFORCE, alternating, ask, print_machine, print_table

#: Names in the table, and what the calculator is asked for.
STDS = {"no std": False, "std of energy": "energy", "std of forces": "forces"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=3, help="processes")
    parser.add_argument("--calls", type=int, default=20, help="in each process")
    parser.add_argument("--steps", type=int, default=10, help="with std; else 10 times")
    args = parser.parse_args()
    print_machine({})
    with tempfile.TemporaryDirectory() as folder:
        args.folder = Path(folder)
        for threads in args.threads:
            args.kforce = partial(ask, sys.executable, KFORCE, threads=threads)
            for case in args.cases:
                print(f"\n== {case}, {threads} thread{'s' * (threads > 1)}")
                CASES[case](args)


def fitted(args, data):
    """Return the file of a model, which is fitted when it is wanted first."""
    file = args.folder / f"{data}.kforce"
    if not file.exists():
        found = args.kforce("default_model", data=data, file=file)
        print(f"{data}: {found['n_inducing']} inducing environments")
    return file


def dynamics(args):
    """Time steps of 500 atoms without and with standard deviations."""
    file = fitted(args, "copper")
    workers = {
        name: partial(
            args.kforce,
            "std_dynamics",
            file=file,
            std=std,
            steps=args.steps if std else 10 * args.steps,
        )
        for name, std in STDS.items()
    }
    print_table(alternating(args.repeats, workers))


def predict(args):
    """Time energy and forces of 64 atoms with the default model."""
    file = fitted(args, "silicon")
    worker = partial(args.kforce, "default_predict", file=file, calls=args.calls)
    print_table(alternating(args.repeats, {"kforce": worker}))


CASES = {"dynamics": dynamics, "predict": predict}


if __name__ == "__main__":
    main()
