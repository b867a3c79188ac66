"""Molecules in boxes: acetic acid in 20 Å, wrapped, against the same frames without."""

import argparse
import time
from pathlib import Path

import _molecules_data
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

import kforce

#: Edge of the box in Å, and frames to learn and to test.
BOX, N_TRAIN, N_TEST = 20.0, 100, 500


def in_box(frames, seed=0):
    """Return labelled frames at random places of a box, wrapped into it."""
    rng, out = np.random.default_rng(seed), []
    for frame in frames:
        atoms = frame.copy()
        atoms.positions += rng.uniform(0, BOX, 3)
        atoms.set_cell([BOX] * 3)
        atoms.pbc = True
        atoms.wrap()
        labels = {"energy": frame.get_potential_energy(), "forces": frame.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        out.append(atoms)
    return out


def force_mae(model, frames):
    """Return the mean absolute error of force components in eV/Å."""
    wanted = np.array([frame.get_forces() for frame in frames])
    return np.abs(np.array(model.evaluate(frames).forces) - wanted).mean()


def boxes(folder=_molecules_data.CACHE, n_train=N_TRAIN):
    """Print force errors of models of the same frames, without a box and wrapped."""
    frames = _molecules_data.read("acetic acid", folder)[: n_train + N_TEST]
    wrapped = in_box(frames)
    print(f"\nacetic acid, {n_train} frames; force MAE in meV/Å, of which tested:")
    print(f"{'learned from':<24}{'no box':>10}{'wrapped':>10}{'s':>8}")
    for name, train in {"no box": frames, f"{BOX:g} Å, wrapped": wrapped}.items():
        start = time.perf_counter()
        model = kforce.GDMLRegressor().fit(train[:n_train])
        seconds = time.perf_counter() - start
        found = [force_mae(model, part[n_train:]) for part in (frames, wrapped)]
        errors = "".join(f"{1e3 * error:>10.3f}" for error in found)
        print(f"{name:<24}{errors}{seconds:>8.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=_molecules_data.CACHE)
    parser.add_argument("--n-train", type=int, default=N_TRAIN)
    arguments = parser.parse_args()
    boxes(arguments.data, arguments.n_train)
