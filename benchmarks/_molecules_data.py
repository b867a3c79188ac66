"""Molecules of molecules.py: dynamics of GFN2-xTB, everything from a seed.

Reactive ones start from all arrangements of their like atoms, so that exchanges are in
the data: each trajectory numbers the atoms of an element anew.
"""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import FIRE

#: Where frames are kept.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
CACHE = CACHE / "kforce/molecules"


@dataclass(frozen=True)
class Sampling:
    """Dynamics of a molecule: where it starts, how hot, how long, and how often.

    `exchanges` are sets of like atoms that each trajectory numbers anew, and `mirrors`
    geometries to start from beside the first one, as permutations.
    """

    start: Atoms
    temperatures: tuple
    charge: int = 0
    exchanges: tuple = ()
    mirrors: tuple = ()
    n_trajectories: int = 50
    n_frames: int = 1600
    spacing: int = 50


def malonaldehyde():
    """Return the enol with a hydrogen bond: C3, O2, H4."""
    positions = [
        [0.0, 0.0, 0.0],  # middle
        [1.25, -0.65, 0.0],
        [-1.25, -0.65, 0.0],
        [1.32, -1.95, 0.0],
        [-1.32, -1.90, 0.0],
        [0.40, -2.35, 0.0],  # on the first oxygen
        [0.0, 1.08, 0.0],
        [2.18, -0.08, 0.0],
        [-2.18, -0.08, 0.0],
    ]
    return Atoms("CCCOOHHHH", positions)


def protonated_dimer():
    """Return H5O2+, a proton between two waters."""
    positions = [
        [-1.2, 0.0, 0.0],
        [1.2, 0.0, 0.0],
        [0.0, 0.0, 0.0],
        [-1.7, 0.8, 0.2],
        [-1.7, -0.8, 0.2],
        [1.7, 0.2, 0.8],
        [1.7, 0.2, -0.8],
    ]
    return Atoms("O2H5", positions)


def hydroxide():
    """Return H3O2-, a proton between two hydroxide ions."""
    positions = [
        [-1.25, 0.0, 0.0],
        [1.25, 0.0, 0.0],
        [0.0, 0.1, 0.0],
        [-1.6, 0.9, 0.0],
        [1.6, 0.2, 0.9],
    ]
    return Atoms("O2H3", positions)


_ALL = (300, 600, 900)

SYSTEMS = {
    "malonaldehyde": Sampling(
        malonaldehyde(), _ALL, mirrors=((0, 2, 1, 4, 3, 5, 6, 8, 7),)
    ),
    "H5O2+": Sampling(protonated_dimer(), _ALL, 1, exchanges=((0, 1), (2, 3, 4, 5, 6))),
    "H3O2-": Sampling(hydroxide(), _ALL, -1, exchanges=((0, 1), (2, 3, 4))),
    "acetic acid": Sampling(molecule("CH3COOH"), (400,), n_trajectories=10),
    "ethanol": Sampling(molecule("CH3CH2OH"), (400,), n_trajectories=10),
    "malonaldehyde 300 K": Sampling(malonaldehyde(), (300,), n_trajectories=10),
}


def read(name, folder=CACHE, seed=0):
    """Return labelled frames of a molecule in random order; make them where needed."""
    file = Path(folder) / f"{name.replace(' ', '_')}.xyz"
    if not file.exists():
        frames = make(name, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        ase.io.write(file, frames, format="extxyz")
    return ase.io.read(file, ":", format="extxyz")


def calculator(charge=0):
    """Return what labels frames."""
    from tblite.ase import TBLite

    return TBLite(method="GFN2-xTB", charge=charge, verbosity=0)


def make(name, seed=0):
    """Return labelled frames of a molecule in random order."""
    sampling = SYSTEMS[name]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    start = sampling.start.copy()
    start.calc = calculator(sampling.charge)
    FIRE(start, logfile=None).run(fmax=0.01, steps=300)
    length = sampling.n_frames // sampling.n_trajectories
    frames = []
    for run in range(sampling.n_trajectories):
        temperature = sampling.temperatures[run % len(sampling.temperatures)]
        frames += trajectory(start, sampling, run, temperature, length, rng)
    return [frames[s] for s in rng.permutation(len(frames))]


def trajectory(start, sampling, run, temperature, length, rng):
    """Return labelled frames of one run, after a first part that is thrown away."""
    order = np.arange(len(start))
    for atoms in sampling.exchanges:
        order[list(atoms)] = rng.permutation(atoms)
    images = (np.arange(len(start)), *map(np.array, sampling.mirrors))
    order = order[images[run // len(sampling.temperatures) % len(images)]]
    atoms = Atoms(start.numbers, start.positions[order])
    atoms.calc = calculator(sampling.charge)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(
        atoms, 0.5 * units.fs, temperature_K=temperature, friction=0.02, rng=rng
    )
    dynamics.run(5 * sampling.spacing)
    frames = []
    for _ in range(length):
        dynamics.run(sampling.spacing)
        frames.append(labelled(atoms))
    return frames


def labelled(atoms, order=slice(None)):
    """Return a copy with its energy and forces, its atoms in another order."""
    frame = Atoms(atoms.numbers[order], atoms.positions[order])
    frame.calc = SinglePointCalculator(
        frame, energy=atoms.get_potential_energy(), forces=atoms.get_forces()[order]
    )
    return frame
