"""How a function of the covariance changes with the scales of the features."""

from __future__ import annotations

import numpy as np

from kforce.core.hessian import squared_distances
from kforce.core.scale_gradient import scale_gradient
from kforce.descriptors.base import Features
from kforce.images import Comparison
from kforce.kernels import Kernel
from kforce.lanes import lanes_that_fit, one_by_one, side_by_side, spans
from kforce.observations import Observations
from kforce.threads import run_parallel


def sensitivity(
    features: Features,
    observations: Observations,
    kernel: Kernel,
    permutations: np.ndarray,
    G: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ⟨G, ∂K⟩ for the scales and amplitudes of the terms of a kernel.

    Parameters
    ----------
    features, observations, kernel, permutations
        As in `kforce.covariance.covariance`, which gives K.
    G : ndarray of shape (n_observations, n_observations)
        A symmetric matrix, of which the lower triangle is read.

    Returns
    -------
    scales : ndarray of shape (n_terms, n_features)
        ⟨G, ∂K/∂log s_tk⟩.
    terms : ndarray of shape (n_terms,)
        ⟨G, K_t⟩, of which their sum is ⟨G, K⟩.
    """
    comparison = Comparison.of(kernel, features.coordinates, permutations)
    topology, images = comparison.topology, comparison.images
    single = one_by_one(features, observations)
    n_lanes = lanes_that_fit(observations.rows.shape[1])
    lanes = side_by_side(single, np.arange(len(features.x)), n_lanes)

    def part(span):
        start, stop = span
        u = np.empty((stop - start, len(lanes.frame), len(images.term), n_lanes))
        squared_distances(start, stop, single, lanes, topology, images, u)
        phi, dphi, ddphi, dddphi = comparison.weighted(u, orders=(0, 1, 2, 3))
        weights = (-2.0 * dphi, 4.0 * ddphi, 4.0 * dddphi, phi)
        scales, terms = np.zeros(images.metric.shape), np.zeros(len(images.metric))
        scale_gradient(
            start, stop, single, lanes, topology, images, *weights, G,
            scales, terms,
        )  # fmt: skip
        return scales, terms

    parts = run_parallel(part, spans(0, len(features.x)))
    return sum(scales for scales, _ in parts), sum(terms for _, terms in parts)
