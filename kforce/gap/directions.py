"""Directions of features that the environments of a training set vary along."""

from __future__ import annotations

import logging

import numpy as np
from scipy.linalg import eigh

from kforce.descriptors.local import LocalDescriptor
from kforce.gap.training_set import TrainingSet

_log = logging.getLogger("kforce.gap")

#: Environments whose derivatives are looked at, at least, if there are so many.
N_TANGENT_ENVIRONMENTS = 600

#: Share of the prior variance of forces, and of differences of local energies, that may
#: be lost.
MAX_LOST = 1e-6


def leading_directions(
    descriptor: LocalDescriptor,
    training: TrainingSet,
    x: np.ndarray,
    rng: np.random.Generator,
    max_lost: float = MAX_LOST,
) -> np.ndarray:
    """Return orthonormal directions (n_features, n_directions) that hold all but a bit.

    The prior variance of a force under a kernel of products goes with the squared
    length of the derivatives of features, that of a difference of local energies with
    the squared length of a difference of features. Of neither the directions lose more
    than a share of `max_lost`, summed over a sample. x (n_env, n_features) are features
    of environments of the training set; derivatives come from random frames of it.
    """
    of_x = x.T @ x
    of_tangents = _tangents(descriptor, training, rng)
    spread = np.square(x - x.mean(axis=0)).sum()
    scales = [(of_x, np.trace(of_x), spread)]
    if np.trace(of_tangents) > 0.0:
        scales.append((of_tangents, np.trace(of_tangents), np.trace(of_tangents)))
    both = sum(moments / size for moments, size, _ in scales)
    vectors = eigh(both)[1][:, ::-1]
    lost = np.zeros(len(vectors))
    for moments, _, scale in scales:
        held = np.einsum("ad,ad->d", vectors, moments @ vectors)
        # From the smallest on: what is left of a difference would be rounding.
        beyond = np.cumsum(held[::-1])[::-1]
        lost = np.maximum(lost, np.append(beyond[1:], 0.0) / max(scale, 1e-300))
    n = int(np.argmax(lost <= max_lost)) + 1
    _log.info(
        "%s: %d of %d features, %.1e of the variance of forces and energies lost",
        type(descriptor).__name__,
        n,
        len(vectors),
        lost[n - 1],
    )
    return np.ascontiguousarray(vectors[:, :n])


def _tangents(descriptor, training, rng):
    """Return Σ ∂x ∂xᵀ (n_features, n_features) of the members of random frames."""
    total = np.zeros((descriptor.n_features, descriptor.n_features))
    n_seen = 0
    for s in rng.permutation(len(training.frames)):
        batch, neighbours = training.neighbours.of(s, descriptor.cutoff)
        environments = descriptor(batch.numbers, neighbours)
        for block in environments.jacobians():
            dx = block.dx.reshape(-1, len(total))
            total += dx.T @ dx
        n_seen += len(environments.x)
        if n_seen >= N_TANGENT_ENVIRONMENTS:
            break
    return total
