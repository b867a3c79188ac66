"""What a kernel that is summed over permutations compares: terms and their images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from kforce.additive import terms_of
from kforce.core.hessian import Images, Topology
from kforce.descriptors.base import Coordinates
from kforce.kernels import Kernel


@dataclass(frozen=True)
class TermImages:
    """One term of a kernel, and the permuted descriptors that it tells apart.

    Attributes
    ----------
    scales : ndarray of shape (n_active,)
        Of the features that the term looks at.
    active : ndarray of int, shape (n_active,)
        Which they are.
    images : ndarray of int, shape (n_images, n_active)
        ``x[images[s]]`` are these features of the permuted structure s.
    members : ndarray of int, shape (n_images,)
        A permutation that each image stands for.
    weight : float
        Variance of the term, times the permutations that have the same image.
    """

    scales: np.ndarray
    active: np.ndarray
    images: np.ndarray
    members: np.ndarray
    weight: float


def images_of_terms(
    kernel: Kernel, feature_perms: np.ndarray
) -> tuple[Kernel, list[TermImages]]:
    """Return the profile of a kernel and its terms with their images.

    Parameters
    ----------
    kernel : Kernel
        A kernel.
    feature_perms : ndarray of int, shape (n_perms, n_features)
        Images of the features under a group of atom permutations.
    """
    terms = terms_of(kernel, feature_perms.shape[1])
    found = []
    for scales, variance in zip(terms.scales, terms.variances, strict=True):
        active = np.flatnonzero(scales)
        # The permutations that leave all active features in place are a subgroup:
        # every image stands for equally many.
        images, members = np.unique(feature_perms[:, active], axis=0, return_index=True)
        weight = variance * len(feature_perms) / len(images)
        found.append(TermImages(scales[active], active, images, members, weight))
    return terms.profile, found


def value_covariance(
    kernel: Kernel, feature_perms: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Return Σ_s k(x, P_s y) of the latent values, (len(x), len(y)).

    Parameters
    ----------
    kernel : Kernel
        A kernel.
    feature_perms : ndarray of int, shape (n_perms, n_features)
        Images of the features.
    x, y : ndarray of shape (n, n_features)
        Descriptors.
    """
    profile, terms = images_of_terms(kernel, feature_perms)
    K = np.zeros((len(x), len(y)))
    for term in terms:
        left = x[:, term.active] * term.scales
        for image in term.images:
            right = y[:, image] * term.scales
            K += term.weight * profile(cdist(left, right, "sqeuclidean"))
    return K


def value_variance(
    kernel: Kernel, feature_perms: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Return Σ_s k(x, P_s x) of the latent values, (len(x),)."""
    profile, terms = images_of_terms(kernel, feature_perms)
    out = np.zeros(len(x))
    for term in terms:
        left = x[:, term.active] * term.scales
        for image in term.images:
            right = x[:, image] * term.scales
            out += term.weight * profile(np.sum((left - right) ** 2, axis=1))
    return out


@dataclass(frozen=True)
class Comparison:
    """The index arrays with which the assembly compares structures.

    Attributes
    ----------
    profile : Kernel
        Profile of the kernel.
    topology, images : Topology, Images
        See `kforce.core.hessian`.
    weights : ndarray of shape (n_images, 1)
        Factor of the profile at each image.
    """

    profile: Kernel
    topology: Topology
    images: Images
    weights: np.ndarray

    @classmethod
    def of(
        cls, kernel: Kernel, coordinates: Coordinates, permutations: np.ndarray
    ) -> Comparison:
        """Prepare the comparison of structures.

        Parameters
        ----------
        kernel : Kernel
            A kernel.
        coordinates : Coordinates
            Of the descriptor.
        permutations : ndarray of int, shape (n_perms, n_atoms)
            The group over which the kernel is summed.
        """
        feature_perms, coordinate_perms = coordinates.images(permutations)
        profile, terms = images_of_terms(kernel, feature_perms)
        owner = np.repeat(np.arange(len(coordinates.atoms)), np.diff(coordinates.first))
        metric = np.zeros((len(terms), feature_perms.shape[1]))
        components = np.arange(3 * permutations.shape[1])
        active, touches, columns = [], [], []
        for t, term in enumerate(terms):
            metric[t, term.active] = term.scales**2
            active.append(np.unique(owner[term.active]))
            here = coordinates.components(active[t])
            touches += [np.isin(components, here)] * len(term.images)
            for s in term.members:
                columns.append(coordinates.components(coordinate_perms[s, active[t]]))
        members = np.concatenate([term.members for term in terms])
        counts = [len(term.images) for term in terms]
        images = Images(
            features=feature_perms[members],
            coordinates=coordinate_perms[members],
            term=np.repeat(np.arange(len(terms)), counts),
            metric=metric,
            begin=_starts(active),
            active=np.concatenate(active),
            touches=np.array(touches),
            start=_starts(columns),
            columns=np.concatenate(columns),
        )
        weights = np.repeat([term.weight for term in terms], counts)[:, None]
        topology = Topology(coordinates.atoms, coordinates.n_body, coordinates.first)
        return cls(profile, topology, images, weights)

    def weighted(self, u: np.ndarray, orders: tuple[int, ...]) -> list[np.ndarray]:
        """Return derivatives of the profile at u (..., n_images, n_lanes)."""
        return [self.weights * p for p in self.profile.profile(u, orders)]


def _starts(lists):
    return np.concatenate([[0], np.cumsum([len(part) for part in lists])])
