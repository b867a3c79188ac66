"""The silicon and lithium sets of Zuo et al., stresses put in order, and copper."""

import ase.io
import numpy as np
from _gap_common import SHARED
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

STRESSES = ("mended", "given", "none")


def read_zuo(element, part, stress="mended"):
    """Return frames of the "train" or "test" part.

    In the silicon set yz and xz of the stress are exchanged in all groups but Elastic:
    a model of energies and forces alone predicts them to 10 to 25 meV/atom once they
    are exchanged again, and to 80 to 130 as they are (xy: 10 to 25). Lithium is in
    order.

    Parameters
    ----------
    element : {"Si", "Li"}
        Which set.
    part : {"train", "test"}
        Which part of it.
    stress : {"mended", "given", "none"}
        Whether stresses are put right, left as they are, or left out.
    """
    frames = ase.io.read(SHARED / "data" / "zuo2020" / f"{element}_{part}.extxyz", ":")
    for atoms in frames:
        results = dict(atoms.calc.results)
        if stress == "none":
            del results["stress"]
        elif (
            stress == "mended" and element == "Si" and atoms.info["group"] != "Elastic"
        ):
            results["stress"] = results["stress"][[0, 1, 2, 4, 3, 5]]
        atoms.calc = SinglePointCalculator(atoms, **results)
    return frames


def copper(n_frames, seed, cells=3):
    """Return frames of rattled and strained fcc copper, of effective medium theory.

    Volumes vary by 4 %, angles by some degrees, and atoms by up to 0.15 Å; `cells`: of
    4 atoms along each edge.
    """
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n_frames):
        atoms = bulk("Cu", a=3.59, cubic=True) * cells
        shear = rng.uniform(-0.03, 0.03, (3, 3))
        np.fill_diagonal(shear, 0.0)
        length = (1.0 + rng.uniform(-0.04, 0.04)) ** (1 / 3)
        deformation = length * np.eye(3) + (shear + shear.T) / 2
        atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
        scale = rng.choice([0.02, 0.05, 0.1, 0.15])
        atoms.positions += rng.normal(scale=scale, size=atoms.positions.shape)
        frames.append(labelled_by_emt(atoms))
    return frames


def labelled_by_emt(atoms):
    """Attach energy, forces and stress of effective medium theory to a cell."""
    atoms.calc = EMT()
    results = {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(),
        "stress": atoms.get_stress(),
    }
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms
