"""One measurement of sGDML in a process of its own: prints JSON. Called by speed.py.

Runs in the peer's environment. Prediction is timed without worker processes and without
chunks, which is the fastest setting for small molecules; the ASE calculator is timed as
the program sets it up itself.
"""

import contextlib
import io
import json
import logging
import resource
import sys
import time
from pathlib import Path

import numpy as np
from ase import Atoms

with contextlib.redirect_stdout(io.StringIO()):
    from sgdml.intf.ase_calc import SGDMLCalculator
    from sgdml.predict import GDMLPredict
    from sgdml.train import GDMLTrain
    from sgdml.utils.io import dataset_md5

logging.disable(logging.CRITICAL)


def load(path):
    with np.load(path) as file:
        return dict(file)


def task_of(data):
    dataset = {
        "type": "d", "code_version": "1.0.3", "name": "data", "theory": "unknown",
        "R": data["R"], "z": data["z"], "F": data["F"], "E": data["E"],
    }  # fmt: skip
    md5 = dataset_md5(dataset)
    train = data["train"]
    return {
        "type": "t", "code_version": "1.0.3", "dataset_name": "data",
        "dataset_theory": "unknown", "z": data["z"], "R_train": data["R"][train],
        "F_train": data["F"][train], "E_train": data["E"][train], "idxs_train": train,
        "md5_train": md5, "idxs_valid": data["test"], "md5_valid": md5,
        "sig": int(data["sigma"]), "lam": float(data["lam"]), "use_E": True,
        "use_E_cstr": False, "use_sym": True, "perms": data["perms"],
        "r_unit": "Ang", "e_unit": "eV",
    }  # fmt: skip


def model_of(data):
    return GDMLTrain(max_processes=2, use_torch=False).train(task_of(data))


def predictor(model):
    predict = GDMLPredict(model, max_processes=1, use_torch=False)
    predict._set_num_workers(0)
    predict._set_chunk_size(None)
    predict._set_bulk_mp(False)
    return predict


def train(path):
    data = load(path)
    start = time.perf_counter()
    model = model_of(data)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    test = data["test"]
    _, forces = predictor(model).predict(data["R"][test].reshape(len(test), -1))
    error = float(
        np.abs(forces.reshape(-1, len(data["z"]), 3) - data["F"][test]).mean()
    )
    return {"seconds": seconds, "peak_gb": peak, "forces_mae": error}


def predict(path):
    """Time a model that kforce trained and wrote: both have the same coefficients."""
    file = Path(path).with_name("sgdml.npz")
    data = load(path)
    model = np.load(file, allow_pickle=True)
    predict = predictor(model)
    flat = data["R"][data["test"]].reshape(len(data["test"]), -1)
    batch = best(lambda: predict.predict(flat), 3) / len(flat)
    bare = best(lambda: [predict.predict(r) for r in flat], 3) / len(flat)
    calculator = SGDMLCalculator(str(file), E_to_eV=1.0, F_to_eV_Ang=1.0)
    atoms = Atoms(data["z"], data["R"][0], calculator=calculator)
    some = data["R"][data["test"][:50]]
    through = best(lambda: [moved(atoms, r) for r in some], 3) / len(some)
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
    with contextlib.redirect_stdout(io.StringIO()):
        result = {"train": train, "predict": predict}[task](path)
    print(json.dumps(result))
