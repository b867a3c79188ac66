"""Speed and peak memory of two checkouts of kforce, alternating, from one run.

Each measurement is a process of its own, which imports kforce from one of the folders.
Only the public interface is used, so that versions far apart can be compared. Printed
are medians, and the speed and the memory of the second checkout over the first's.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("KFORCE_SHARED", HERE.parent.parent / "shared"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path, help="a checkout, or 'task' for a worker")
    parser.add_argument("second", nargs="?", default=HERE.parent, help="this one")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} processors"
    print(f"{machine}, {args.threads} threads; medians of {args.repeats} alternations")
    print(f"{'':<34}{'first':>12}{'second':>12}{'speed':>9}{'memory':>9}")
    for case in args.cases:
        folders = (args.first, args.second)
        runs = [[], []]
        for repeat in range(args.repeats + 1):
            for run, folder in zip(runs, folders, strict=True):
                result = measure(case, folder, args.threads)
                if repeat:  # the first one compiles
                    run.append(result)
        show(case, runs)


def measure(case, folder, threads):
    names = ("OMP", "OPENBLAS", "NUMBA")
    environment = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in names}
    environment["PYTHONPATH"] = str(Path(folder).resolve())
    command = [sys.executable, __file__, "task", case]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{case} failed in {folder}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def show(case, runs):
    for key in runs[0][0]:
        if key == "peak_gb":
            continue
        first, second = (np.median([result[key] for result in run]) for run in runs)
        memory = [np.median([result["peak_gb"] for result in run]) for run in runs]
        unit, factor = ("s", 1.0) if first > 0.1 else ("µs", 1e6)
        print(
            f"{f'{case}: {key}, {unit}':<34}{factor * first:>12.4g}"
            f"{factor * second:>12.4g}{first / second:>9.2f}"
            f"{memory[1] / memory[0]:>9.2f}"
        )


def timed(function):
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


def best(function, repeats=15):
    return min(timed(function)[0] for _ in range(repeats))


def ethanol(count):
    import kforce

    return kforce.read_frames(SHARED / "data" / "rmd17" / "rmd17_ethanol_train_01.npz")[
        :count
    ]


def crystals(count):
    """Rattled and strained cells of 32 atoms with labels of EMT."""
    from _gap_data import labelled_by_emt
    from ase.build import bulk

    rng, frames = np.random.default_rng(0), []
    for seed in range(count):
        atoms = bulk("Cu", cubic=True).repeat(2)
        atoms.set_cell(atoms.cell * (1.0 + rng.normal(scale=0.02)), scale_atoms=True)
        atoms.rattle(0.1, seed=seed)
        frames.append(labelled_by_emt(atoms))
    return frames


def plain(length_scale=20.0):
    import kforce

    kernel = kforce.Matern52(length_scale=length_scale)
    return kforce.GDMLRegressor(kernel=kernel, noise_forces=1e-5, optimize=False)


def plain_fit():
    frames = ethanol(200)
    plain().fit(frames[:3])
    return {"fit of 200 frames": timed(lambda: plain().fit(frames))[0]}


def default_fit():
    import kforce

    frames = ethanol(50)
    kforce.GDMLRegressor().fit(frames[:12])
    return {"fit of 50 frames": timed(lambda: kforce.GDMLRegressor().fit(frames))[0]}


def predictions():
    import kforce

    frames = ethanol(300)
    found = {}
    models = {"plain": plain(), "default": kforce.GDMLRegressor()}
    for name, model in models.items():
        model.fit(frames[:20])
        model.evaluate(frames[:3])
        atoms = frames[-1].copy()
        batch = best(lambda model=model: model.evaluate(frames), 5) / len(frames)
        found[f"{name}, batch"] = batch

        def one(model=model, atoms=atoms):
            for _ in range(100):
                model.evaluate_one(atoms)

        found[f"{name}, evaluate_one"] = best(one) / 100
        atoms.calc = model.calculator()

        def step(atoms=atoms):
            for k in range(100):
                atoms.positions[0, 0] += 1e-6 * (-1) ** k
                atoms.get_forces()

        found[f"{name}, calculator"] = best(step) / 100
    some = frames[:20]
    model.evaluate(some, return_std=True)
    deviations = best(lambda: model.evaluate(some, return_std=True), 5)
    return found | {"default, std": deviations / len(some)}


def terms():
    import kforce

    return [
        kforce.Term(
            kforce.TwoBody(cutoff=5.0),
            kforce.Scaled(kforce.RBF(length_scale=1.0), 1.0),
            20,
        ),
        kforce.Term(
            kforce.SOAP(cutoff=5.0, n_max=8, l_max=6, atom_sigma=0.5),
            kforce.Scaled(kforce.Polynomial(zeta=4), 0.1),
            300,
        ),
    ]


def gap_fit():
    import kforce

    frames = crystals(10)
    given = {"optimize": False, "noise_forces": 0.05, "noise_energy": 0.001}
    kforce.GAPRegressor(terms(), **given).fit(frames[:2])
    found = timed(lambda: kforce.GAPRegressor(terms(), **given).fit(frames))[0]
    learned = timed(lambda: kforce.GAPRegressor(terms()).fit(frames[:4]))[0]
    return {"fit of 10 frames": found, "fit of 4, learned": learned}


def gap_predictions():
    import kforce

    frames = crystals(10)
    model = kforce.GAPRegressor(terms(), optimize=False).fit(frames[:6])
    atoms = frames[-1].copy()
    model.evaluate_one(atoms)
    found = {"evaluate_one": best(lambda: model.evaluate_one(atoms))}
    atoms.calc = model.calculator()

    def step():
        atoms.positions[0, 0] += 1e-6
        atoms.get_forces()

    found["calculator"] = best(step)
    found["std"] = best(lambda: model.evaluate(frames[:2], return_std=True), 3) / 2
    return found


CASES = {
    task.__name__: task
    for task in (plain_fit, default_fit, predictions, gap_fit, gap_predictions)
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["task"]:
        answer = CASES[sys.argv[2]]()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps(answer | {"peak_gb": peak}))
    else:
        main()
