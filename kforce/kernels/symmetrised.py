"""Kernels that are summed over permutations: components and their images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from kforce.kernels.base import Kernel


@dataclass(frozen=True)
class TermImages:
    """One component of a kernel, and the permuted descriptors that it tells apart.

    `active` (n_active,) are the features that the component looks at, `scales` theirs;
    ``x[images[s]]`` are these features of the permuted structure s, for `images`
    (n_images, n_active), and `members` (n_images,) a permutation that each image
    stands for. `weight` is the variance of the component, times the permutations that
    have the same image.
    """

    scales: np.ndarray
    active: np.ndarray
    images: np.ndarray
    members: np.ndarray
    weight: float


def images_of_terms(
    kernel: Kernel, feature_perms: np.ndarray
) -> tuple[Kernel, list[TermImages]]:
    """Return the profile of a kernel and its components with their images.

    `feature_perms` (n_perms, n_features) are the images of the features under a group
    of atom permutations.
    """
    profile, table, variances = kernel.components(feature_perms.shape[1])
    components = []
    for scales, variance in zip(table, variances, strict=True):
        active = np.flatnonzero(scales)
        # The permutations that leave all active features in place are a subgroup:
        # every image stands for equally many.
        images, members = np.unique(feature_perms[:, active], axis=0, return_index=True)
        weight = variance * len(feature_perms) / len(images)
        component = TermImages(scales[active], active, images, members, weight)
        components.append(component)
    return profile, components


def value_covariance(
    kernel: Kernel, feature_perms: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Return Σ_s k(x, P_s y) of the latent values, (len(x), len(y)), in eV²."""
    profile, components = images_of_terms(kernel, feature_perms)
    K = np.zeros((len(x), len(y)))
    for component in components:
        left = x[:, component.active] * component.scales
        for image in component.images:
            right = y[:, image] * component.scales
            K += component.weight * profile(cdist(left, right, "sqeuclidean"))
    return K


def value_variance(
    kernel: Kernel, feature_perms: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Return Σ_s k(x, P_s x) of the latent values, (len(x),), in eV²."""
    profile, components = images_of_terms(kernel, feature_perms)
    out = np.zeros(len(x))
    for component in components:
        left = x[:, component.active] * component.scales
        for image in component.images:
            right = x[:, image] * component.scales
            out += component.weight * profile(np.sum((left - right) ** 2, axis=1))
    return out
