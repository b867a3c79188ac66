"""Gaussian processes for force fields, learned from energies, forces and virials.

A model is fitted to a list of `ase.Atoms` that carry reference energies and forces,
predicts both with the forces as the exact gradient of the energy, and drives molecular
dynamics as an ASE calculator. Units are eV, Å and eV/Å throughout.
"""

from kforce import datasets, io
from kforce.data.readers import read_frames
from kforce.data.splits import split
from kforce.descriptors.soap import SOAP
from kforce.descriptors.three_body import ThreeBody
from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError
from kforce.kernels import RBF, Matern32, Matern52, Matern72, RationalQuadratic, Scaled
from kforce.learning_curve import learning_curve
from kforce.local_kernels import Polynomial
from kforce.models.gap import GAPRegressor
from kforce.models.gdml import GDMLRegressor
from kforce.models.term import Term
from kforce.models.vector import GradientGPRegressor
from kforce.models.zbl import ZBL
from kforce.persistence import load
from kforce.symmetry import find_permutations

__version__ = "0.1.0"

__all__ = [
    "RBF",
    "SOAP",
    "ZBL",
    "GAPRegressor",
    "GDMLRegressor",
    "GradientGPRegressor",
    "InputError",
    "Matern32",
    "Matern52",
    "Matern72",
    "Polynomial",
    "RationalQuadratic",
    "Scaled",
    "Term",
    "ThreeBody",
    "TwoBody",
    "datasets",
    "find_permutations",
    "io",
    "learning_curve",
    "load",
    "read_frames",
    "split",
]
