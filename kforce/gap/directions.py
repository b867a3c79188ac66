"""Directions of features that the environments of a training set vary along."""

from __future__ import annotations

import logging

import numpy as np
from scipy.linalg import eigh

from kforce.descriptors.local import LocalDescriptor
from kforce.gap.training_set import TrainingSet

_log = logging.getLogger("kforce.gap")

#: Share of the prior variance of forces, and of differences of local energies, that may
#: be lost. Errors for labels without noise begin to change at ten times as much.
MAX_LOST = 1e-6

#: Environments whose features are looked at, and whose derivatives, at most, and
#: derivatives of each of these.
N_FEATURE_ENVIRONMENTS, N_TANGENT_ENVIRONMENTS, N_TANGENTS = 3000, 600, 10

#: Matrix products are fastest for multiples of it.
LANES = 8

#: Shares below this are rounding.
ROUNDING = 1e-13

#: Directions that are looked for among more features than these: eigenvectors of large
#: matrices take long, and most of them are of no use.
MAX_DIRECTIONS = 600


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
    x = rng.permutation(x)[:N_FEATURE_ENVIRONMENTS]
    parts = [(x.T @ x, np.square(x - x.mean(axis=0)).sum())]
    tangents = _tangents(descriptor, training, rng)
    if tangents.any():
        parts.append((tangents.T @ tangents, np.square(tangents).sum()))
    vectors = _eigenvectors(sum(moments / np.trace(moments) for moments, _ in parts))
    lost = np.zeros(vectors.shape[1])
    for moments, scale in parts:
        held = np.einsum("ad,ad->d", vectors, moments @ vectors)
        lost = np.maximum(
            lost,
            (np.trace(moments) - np.cumsum(held))
            / max(scale, ROUNDING * np.trace(moments)),
        )
    few_enough = np.flatnonzero(lost <= max_lost)
    n = few_enough[0] + 1 if len(few_enough) else len(lost)
    n = min(-(-n // LANES) * LANES, len(lost))
    _log.info(
        "%s: %d of %d features, %.1e of the variance of forces and energies lost",
        type(descriptor).__name__,
        n,
        len(vectors),
        max(lost[n - 1], 0.0),
    )
    return np.ascontiguousarray(vectors[:, :n])


def _tangents(descriptor, training, rng):
    """Return some derivatives (n, n_features) of environments of random frames."""
    chosen, most = [np.zeros((0, descriptor.n_features))], N_TANGENT_ENVIRONMENTS
    for _, environments in training.random_environments(descriptor, rng, most):
        for block in environments.jacobians():
            dx = block.dx.reshape(-1, descriptor.n_features)
            n = N_TANGENTS * len(np.unique(block.environments))
            chosen.append(dx[rng.permutation(len(dx))[:n]])
    return np.concatenate(chosen)


def _eigenvectors(M):
    """Return eigenvectors of M ≥ 0, the leading ones first: not all of large matrices.

    Those of large ones are found in the range of M² times random vectors (Halko,
    Martinsson and Tropp, SIAM Rev. 53, 217 (2011)).
    """
    if len(M) <= MAX_DIRECTIONS:
        return eigh(M)[1][:, ::-1]
    start = np.random.default_rng(0).normal(size=(len(M), MAX_DIRECTIONS))
    basis = np.linalg.qr(M @ np.linalg.qr(M @ start)[0])[0]
    return basis @ eigh(basis.T @ M @ basis)[1][:, ::-1]
