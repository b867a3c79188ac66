"""One measurement of kforce in a process of its own, for speed.py: prints JSON."""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

import kforce


def frames_of(data, indices):
    frames = []
    for i in indices:
        atoms = Atoms(data["z"], data["R"][i])
        results = {"energy": data["E"][i], "forces": data["F"][i]}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def estimator(data):
    return kforce.GDMLRegressor(
        kernel=kforce.Matern52(length_scale=float(data["sigma"])),
        noise_forces=float(np.sqrt(data["lam"])),
        permutations=data["perms"],
        optimize=False,
    )


def train(path):
    data = np.load(path)
    train, test = (frames_of(data, data[name]) for name in ("train", "test"))
    # Load compiled code from the cache: a first fit of three frames.
    estimator(data).fit(train[:3])
    start = time.perf_counter()
    model = estimator(data).fit(train)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    forces = np.array(model.evaluate(test).forces)
    reference = np.array([f.get_forces() for f in test])
    error = float(np.abs(forces - reference).mean())
    return {"seconds": seconds, "peak_gb": peak, "forces_mae": error}


def predict(path):
    data = np.load(path)
    test = frames_of(data, data["test"])
    model = kforce.load(Path(path).with_name("kforce.npz"))
    model.evaluate(test)
    positions = [frame.positions for frame in test]
    batch = best(lambda: model.evaluate(test), 5) / len(test)
    model.evaluate_one(test[0])
    bare = best(lambda: [model.evaluate_one(frame) for frame in test], 5) / len(test)
    atoms = test[0].copy()
    atoms.calc = model.calculator()
    through = best(lambda: [moved(atoms, p) for p in positions], 5) / len(test)
    return {"batch": batch, "one": bare, "ase": through}


def moved(atoms, positions):
    atoms.positions = positions
    atoms.get_forces()


def best(function, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    task, path = sys.argv[1:]
    print(json.dumps({"train": train, "predict": predict}[task](path)))
