"""Cells and clusters of copper and gold, labelled by EMT, and local models of them."""

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from kforce import SOAP, GAPRegressor, Term, ThreeBody, TwoBody


def with_labels(atoms):
    """Return the structure with energy, forces and, in a 3-D cell, stress of EMT."""
    atoms.calc = EMT()
    names = ("energy", "forces", "stress") if atoms.pbc.all() else ("energy", "forces")
    labels = {name: atoms.calc.get_property(name, atoms) for name in names}
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


def cells(n, seed=0):
    """Return strained and shaken cells of 4 copper atoms, in turn with 4 more."""
    rng, frames = np.random.default_rng(seed), []
    for k in range(n):
        atoms = bulk("Cu", cubic=True) * (1, 1, 1 + k % 2)
        atoms.numbers[[1, -1]] = 79
        strain = np.eye(3) + rng.normal(scale=0.02, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.rattle(0.08, rng=rng)
        frames.append(with_labels(atoms))
    return frames


def clusters(n, seed=0):
    """Return shaken clusters of 4 copper atoms without cell."""
    rng = np.random.default_rng(seed)
    corner = np.concatenate([np.zeros((1, 3)), 2.5 * np.eye(3)])
    return [
        with_labels(Atoms("Cu4", corner + rng.normal(scale=0.1, size=(4, 3))))
        for _ in range(n)
    ]


def isolated():
    """Return the two atoms alone."""
    return [with_labels(Atoms(symbol)) for symbol in ("Cu", "Au")]


def terms():
    """Return one term of each kind, small ones."""
    soap = SOAP(cutoff=3.5, n_max=3, l_max=2, atom_sigma=0.6)
    return [
        Term(TwoBody(cutoff=4.5), n_inducing=8, length_scales=0.5),
        Term(ThreeBody(cutoff=3.2, centre=29), n_inducing=8, selection="random"),
        Term(soap, n_inducing=8),
    ]


def local_model(**parameters):
    """Return an unfitted model without anything to learn."""
    return GAPRegressor(**{"terms": terms(), "optimize": False} | parameters)
