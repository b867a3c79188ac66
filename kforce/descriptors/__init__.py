"""Descriptors: features of molecules or atomic environments, and the maps to space."""

from kforce.descriptors.base import Coordinates, Descriptor, Features
from kforce.descriptors.composition import Composition
from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.descriptors.local import (
    DenseEnvironments,
    Environments,
    Jacobian,
    LocalDescriptor,
)
from kforce.descriptors.projected import Projected
from kforce.descriptors.soap.soap import SOAP
from kforce.descriptors.three_body import ThreeBody
from kforce.descriptors.two_body import TwoBody

__all__ = [
    "SOAP",
    "Composition",
    "Coordinates",
    "DenseEnvironments",
    "Descriptor",
    "Environments",
    "Features",
    "InternalCoordinates",
    "InverseDistances",
    "Jacobian",
    "LocalDescriptor",
    "Projected",
    "ThreeBody",
    "TwoBody",
]
