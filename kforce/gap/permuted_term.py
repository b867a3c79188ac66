"""A term whose kernel is averaged over permutations of the features.

For features that equal atoms can exchange, QUIP sums the kernel over a group of
permutations and normalises the sum::

    k(x, s) = δ² G(x, s) / √(G(x, x) G(s, s)) + f0²,   G(x, s) = Σ_π φ(|x − s_π|²)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kforce.descriptors.local import Environments
from kforce.errors import InputError
from kforce.gap.sparse_term import SparseTerm
from kforce.registry import register
from kforce.symmetry.groups import validate_permutations


@register
@dataclass(frozen=True)
class PermutedTerm(SparseTerm):
    """A term of a model that was read, with permutations of features: it predicts only.

    The kernel must be radial. `permutations` (n_permutations, n_features) are a group
    of rows π: x[π] is permuted. Raises `InputError` if they are no group, or change the
    length scales.
    """

    permutations: np.ndarray | None = None

    def __post_init__(self):
        perms = validate_permutations(
            self.permutations, np.zeros(len(self.length_scales), dtype=int)
        )
        if (self.length_scales[perms] != self.length_scales).any():
            raise InputError(
                "length_scales must not change under the permutations of a term, found "
                f"{self.length_scales.tolist()}."
            )

    def check_stored(self) -> None:
        """Raise an error unless it is a term that evaluates to numbers."""
        super().check_stored()
        if self.kernel.is_product:
            raise ValueError("a kernel of products with permutations")

    def prior_variance(self, environments: Environments) -> np.ndarray:
        """Return F² k(x, x) of each environment, in eV²."""
        return environments.f_cut**2 * (self._variance + self.constant**2)

    def compare(self, x: np.ndarray, orders=(0,)):
        """Return covariances with the inducing environments, and None.

        Derivatives are no functions of one invariant: `InputError` if they are wanted.
        """
        if orders != (0,):
            raise InputError(
                "A term with permutations of features predicts only: leave it out of "
                "the terms of a fit."
            )
        k, _ = self._images.compare(x, orders=(0,))
        k = k.reshape(len(x), len(self.permutations), -1).sum(axis=1)
        k *= self._variance / np.sqrt(self._norm(x))[:, None]
        return k + self.f_cut * self.constant**2, None

    def jet(self, environments: Environments):
        """Return local energies and their derivatives, see `SparseTerm.jet`."""
        x = environments.x
        plain = Environments(x, np.ones(len(x)), environments.central_atoms, 1)
        total, by_x, _ = self._images.jet(plain)
        norm, dnorm = self._norm(x), self._norm_gradient(x)
        factor = self._variance / np.sqrt(norm)
        by_x -= (0.5 * total / norm)[:, None] * dnorm
        energy = factor * total + self.constant**2 * (self.f_cut @ self.weights)
        f_cut = environments.multiplicity * environments.f_cut
        by_x *= (f_cut * factor)[:, None]
        return f_cut * energy, by_x, environments.multiplicity * energy

    @property
    def _variance(self):
        """δ², the plain kernel of two equal points."""
        return float(self.kernel(np.zeros(())))

    @cached_property
    def _images(self) -> SparseTerm:
        """All images of the inducing environments, with factors 1/√G(s, s)."""
        perms = self.permutations
        n_images, n_features = len(perms), self.inducing_points.shape[1]
        images = (
            self.inducing_points[:, perms].transpose(1, 0, 2).reshape(-1, n_features)
        )
        f_cut = self.f_cut / np.sqrt(self._norm(self.inducing_points))
        weights = None if self.weights is None else np.tile(self.weights, n_images)
        return SparseTerm(
            self.descriptor,
            self.kernel,
            self.length_scales,
            0.0,
            images,
            np.tile(f_cut, n_images),
            weights,
        )

    def _norm(self, x):
        """Return G(x, x), (n_env,)."""
        _, u = self._apart(x)
        return self.kernel(u).sum(axis=1)

    def _norm_gradient(self, x):
        """Return ∂G(x, x)/∂x, to which x and its image contribute the same."""
        apart, u = self._apart(x)
        (dphi,) = self.kernel.profile(u, orders=(1,))
        return 4.0 * np.einsum("ep,epd->ed", dphi, apart) / self.length_scales

    def _apart(self, x):
        """Return scaled x − x_π, (n_env, n_permutations, n_features), and squares."""
        x = x / self.length_scales
        apart = x[:, None] - x[:, self.permutations]
        return apart, np.einsum("epd,epd->ep", apart, apart)
