"""Gaussian processes for force fields, learned from energies, forces and virials.

A model is fitted to a list of `ase.Atoms` that carry reference energies and forces,
predicts both with the forces as the exact gradient of the energy, and drives molecular
dynamics as an ASE calculator. Units are eV, Å and eV/Å throughout.
"""

from kforce import startup  # noqa: F401  # isort: skip
from kforce import calibration, conformal, datasets, io, metrics
from kforce.baselines.zbl import ZBL
from kforce.data.readers import read_frames
from kforce.data.splits import split
from kforce.descriptors.soap.soap import SOAP
from kforce.descriptors.three_body import ThreeBody
from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError
from kforce.evaluation.learning_curve import learning_curve
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import Term
from kforce.gdml.regressor import GDMLRegressor
from kforce.kernels.base import Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import (
    RBF,
    Matern32,
    Matern52,
    Matern72,
    RationalQuadratic,
)
from kforce.storage.files import load
from kforce.symmetry.recovery import find_permutations
from kforce.vectors.regressor import GradientGPRegressor

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
    "calibration",
    "conformal",
    "datasets",
    "find_permutations",
    "io",
    "learning_curve",
    "load",
    "metrics",
    "read_frames",
    "split",
]
