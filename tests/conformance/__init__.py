"""What every kernel, descriptor and solver has to do: classes of tests to subclass."""

from conformance.global_descriptors import GlobalDescriptorConformance
from conformance.kernels import KernelConformance
from conformance.local_descriptors import LocalDescriptorConformance
from conformance.solvers import SolverConformance

__all__ = [
    "GlobalDescriptorConformance",
    "KernelConformance",
    "LocalDescriptorConformance",
    "SolverConformance",
]
