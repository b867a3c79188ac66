"""Training and prediction of kforce and sGDML, alternating, from one run.

The two solve the same problem: same structures, length scale, noise and permutations,
the 1/r descriptor, forces only. Each measurement is a process of its own.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from kforce_worker import estimator, frames_of

import kforce
from kforce.parallel import blas_info

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("KFORCE_SHARED", HERE.parent.parent / "shared"))

#: Name, molecule, training structures, test structures, what is measured, with a peer.
CASES = {
    "train-200": ("ethanol", 200, 1000, "train", True),
    "train-700": ("ethanol", 700, 1000, "train", True),
    "predict-1000": ("ethanol", 1000, 500, "predict", True),
    "aspirin-400": ("aspirin", 400, 1000, "train", False),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="a Python that has sgdml 1.0.3")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sigma", type=int, default=20)
    args = parser.parse_args()
    libraries = ", ".join(
        f"{b['internal_api']} {b['version']} {b.get('architecture', '')}"
        for b in blas_info()
    )
    machine = f"{platform.machine()}, {os.cpu_count()} processors"
    print(f"{machine}, {args.threads} threads, {libraries}")
    for name in args.cases:
        run_case(name, args)


def run_case(name, args):
    molecule, n_train, n_test, task, with_peer = CASES[name]
    workers = {"kforce": [sys.executable, HERE / "kforce_worker.py"]}
    if with_peer and args.peer_python:
        workers["sGDML"] = [args.peer_python, HERE / "sgdml_worker.py"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        n_perms = write_data(path, molecule, n_train, n_test, args.sigma)
        if task == "predict":
            write_models(path)
        results = {program: [] for program in workers}
        repeats = args.repeats if with_peer else 1
        for _ in range(repeats):
            for program, command in workers.items():
                results[program].append(measure(command, task, path, args.threads))
    problem = f"{molecule}, {n_train} training structures, {n_perms} permutations"
    print(f"\n{name}: {problem}, σ = {args.sigma}, λ = 1e-10")
    print(f"median (minimum … maximum) of {repeats}")
    table(results)


def write_data(path, molecule, n_train, n_test, sigma):
    sets = []
    for part, count in (("train", n_train), ("test", n_test)):
        file = SHARED / "data" / "rmd17" / f"rmd17_{molecule}_{part}_01.npz"
        sets.append(kforce.read_frames(file)[:count])
    frames = sets[0] + sets[1]
    permutations = kforce.find_permutations(sets[0])
    np.savez(
        path,
        z=frames[0].numbers,
        R=[f.positions for f in frames],
        E=[f.get_potential_energy() for f in frames],
        F=[f.get_forces() for f in frames],
        train=np.arange(n_train),
        test=np.arange(n_train, n_train + n_test),
        perms=permutations,
        sigma=sigma,
        lam=1e-10,
    )
    return len(permutations)


def write_models(path):
    """Train once and save the same coefficients for both programs."""
    data = np.load(path)
    model = estimator(data).fit(frames_of(data, data["train"]))
    model.save(path.with_name("kforce.npz"))
    kforce.io.write_sgdml(model, path.with_name("sgdml.npz"))


def measure(command, task, path, threads):
    environment = os.environ | {
        f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "NUMBA")
    }
    done = subprocess.run(
        [*map(str, command), task, str(path)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(results):
    print(f"{'':<14}" + "".join(f"{program:>34}" for program in results))
    for key in results["kforce"][0]:
        unit, factor = {
            "seconds": ("s", 1.0),
            "peak_gb": ("GB", 1.0),
            "forces_mae": ("meV/Å", 1e3),
        }.get(key, ("µs", 1e6))
        cells, medians = [], []
        for runs in results.values():
            values = np.array([run[key] for run in runs]) * factor
            medians.append(np.median(values))
            spread = f"({values.min():.4g} … {values.max():.4g})"
            cells.append(f"{medians[-1]:>12.4g} {spread:>21}")
        ratio = f"   1/{medians[1] / medians[0]:.1f}" if len(medians) > 1 else ""
        print(f"{key:<8} {unit:<5}" + "".join(cells) + ratio)


if __name__ == "__main__":
    main()
