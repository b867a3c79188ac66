"""Toys whose kernel is a sum over parts of a molecule, and changes of its numbers."""

import numpy as np
from toys import additive_kernel

from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.gdml.observations import Observations
from kforce.kernels.base import Sum
from kforce.kernels.stationary import Matern72
from kforce.labels import Labels
from kforce.structures import Batch


def problem(frames, group, noise_energy=0.1, profile=None, bonds=None):
    """Features, observations, kernel and a random symmetric matrix."""
    batch, labels = Batch.from_frames(frames), Labels.from_frames(frames)
    descriptor = InternalCoordinates(bonds).bind(batch)
    observations = Observations.build(batch, labels, noise_energy is not None, 1.0)
    profile = Matern72(length_scale=1.0) if profile is None else profile
    kernel = additive_kernel(profile, descriptor, group, len(frames[0]))
    G = np.random.default_rng(7).normal(size=2 * [len(observations.y)])
    return descriptor(batch), observations, kernel, G + G.T


def moved(kernel, log_scales, log_amplitudes):
    """The kernel with factors on its scales and amplitudes."""
    return Sum(
        kernel.kernel,
        kernel.scales * np.exp(log_scales),
        kernel.amplitudes * np.exp(log_amplitudes),
    )
