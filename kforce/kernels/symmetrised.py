"""Kernels that are summed over a group of permutations.

With components t of scales s_t and variances a_t² (see `Kernel.components`),

    k(x, y) = Σ_t a_t² Σ_p φ(u_tp),   u_tp = Σ_k s_tk² (x_k − (P_p y)_k)²

A component that looks at a few features tells fewer permuted descriptors apart than the
group has elements: only these images are computed, and weighted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from kforce.kernels.base import Kernel


@dataclass(frozen=True)
class Component:
    """One component of a kernel, and the permuted descriptors that it tells apart.

    `scales` (n_active,) are those of the features `active` (n_active,) that it looks
    at; ``x[images[s]]`` are these features of the permuted structure s, with `images`
    (n_images, n_active), and `members` (n_images,) names a permutation that each image
    stands for. `weight` is the component's variance times the permutations that have
    the same image.
    """

    scales: np.ndarray
    active: np.ndarray
    images: np.ndarray
    members: np.ndarray
    weight: float


class SymmetrisedKernel:
    """A kernel of descriptors, summed over permutations of the second one.

    `feature_perms` (n_perms, n_features) are the images of the features under a group
    of atom permutations. `profile` is the φ that all `components` share.
    """

    def __init__(self, kernel: Kernel, feature_perms: np.ndarray):
        self.profile, table, variances = kernel.components(feature_perms.shape[1])
        self.components = []
        for scales, variance in zip(table, variances, strict=True):
            active = np.flatnonzero(scales)
            # The permutations that leave all active features in place are a subgroup:
            # every image stands for equally many.
            images, members = np.unique(
                feature_perms[:, active], axis=0, return_index=True
            )
            weight = variance * len(feature_perms) / len(images)
            component = Component(scales[active], active, images, members, weight)
            self.components.append(component)

    def covariance(
        self, x: np.ndarray, y: np.ndarray, phi: Callable | None = None
    ) -> np.ndarray:
        """Return k between points (n, n_features) and (m, n_features), (n, m).

        Another function of the squared distances may stand in for the profile.
        """
        phi = self.profile if phi is None else phi
        K = np.zeros((len(x), len(y)))
        for component in self.components:
            left = x[:, component.active] * component.scales
            for image in component.images:
                right = y[:, image] * component.scales
                K += component.weight * phi(cdist(left, right, "sqeuclidean"))
        return K

    def variance(self, x: np.ndarray, phi: Callable | None = None) -> np.ndarray:
        """Return k(x, x) at points (n, n_features), (n,); phi as in `covariance`."""
        phi = self.profile if phi is None else phi
        out = np.zeros(len(x))
        for component in self.components:
            for image in component.images:
                d = component.scales * (x[:, component.active] - x[:, image])
                out += component.weight * phi(np.sum(d**2, axis=1))
        return out
