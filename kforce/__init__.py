"""Gaussian processes for molecular force fields, learned from forces.

A model is fitted to a list of `ase.Atoms` that carry reference energies and forces,
predicts both with the forces as the exact gradient of the energy, and drives molecular
dynamics as an ASE calculator. Units are eV, Å and eV/Å throughout.
"""

from kforce import datasets, io
from kforce.data.readers import read_frames
from kforce.data.splits import split
from kforce.errors import InputError
from kforce.kernels import RBF, Matern32, Matern52, Matern72, RationalQuadratic, Scaled
from kforce.learning_curve import learning_curve
from kforce.models.gdml import GDMLRegressor
from kforce.models.vector import GradientGPRegressor
from kforce.persistence import load
from kforce.symmetry import find_permutations

__version__ = "0.1.0"

__all__ = [
    "RBF",
    "GDMLRegressor",
    "GradientGPRegressor",
    "InputError",
    "Matern32",
    "Matern52",
    "Matern72",
    "RationalQuadratic",
    "Scaled",
    "datasets",
    "find_permutations",
    "io",
    "learning_curve",
    "load",
    "read_frames",
    "split",
]
