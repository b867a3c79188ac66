"""One term of a sparse model: a descriptor, a kernel, and its inducing environments.

The local energy of an environment is ε(x, F) = F Σ_m α_m F_m k(x, x_m), where F fades
out at the cutoff. Features are divided by `length_scales` before they meet a radial
kernel, and `constant` adds its square to the kernel.

For features that equal atoms can exchange, QUIP sums the kernel over a group of
permutations and normalises the sum::

    k(x, s) = δ² G(x, s) / √(G(x, x) G(s, s)) + f0²,   G(x, s) = Σ_π φ(|x − s_π|²)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kforce.descriptors.local import Environments, LocalDescriptor
from kforce.errors import InputError
from kforce.kernels.base import Kernel
from kforce.parallel import slices
from kforce.registry import register
from kforce.storage.codec import check_array, check_evaluates
from kforce.symmetry.groups import validate_permutations

#: Environments whose covariances with inducing ones are held at a time.
COMPARED_ENVIRONMENTS = 2048

#: Features up to which squared distances are sums of squares of differences.
MAX_DIFFERENCE_FEATURES = 3


def largest_cutoff(terms: Sequence[SparseTerm]) -> float:
    """Return the distance up to which atoms interact through any of the terms, in Å."""
    return max(term.descriptor.cutoff for term in terms)


@register
@dataclass(frozen=True)
class SparseTerm:
    """A term with its inducing environments.

    The `kernel`, in eV², is one of features of the `descriptor` divided by
    `length_scales` (n_features,), in units of the features. `constant` is the prior
    standard deviation of a shift of all local energies, in eV. Inducing environments
    have features x_m, `inducing_points` (n_inducing, n_features), factors F_m, `f_cut`
    (n_inducing,), and `weights` α_m (n_inducing,) in 1/eV, None before the fit.
    """

    descriptor: LocalDescriptor
    kernel: Kernel
    length_scales: np.ndarray
    constant: float
    inducing_points: np.ndarray
    f_cut: np.ndarray
    weights: np.ndarray | None = None

    #: Whether only energies are left of the term.
    is_tabulated = False

    def check_stored(self) -> None:
        """Raise an error unless it is a term that evaluates to numbers."""
        self.descriptor.check()
        width = self.descriptor.n_features
        check_array("inducing_points", self.inducing_points, (None, width))
        check_array("length_scales", self.length_scales, (width,))
        for name in ("f_cut", "weights"):
            check_array(name, getattr(self, name), (self.n_inducing,))
        if not (self.length_scales > 0.0).all() or self.constant < 0.0:
            raise ValueError("length scales or constants are not positive")
        with np.errstate(all="ignore"):
            x, nowhere = 0.5 * self.inducing_points[:1], np.zeros(1, dtype=int)
            check_evaluates(*self.jet(Environments(x, np.ones(1), nowhere, 1)))

    @property
    def n_inducing(self) -> int:
        """Number of inducing environments."""
        return len(self.inducing_points)

    @cached_property
    def scaled_inducing_points(self) -> np.ndarray:
        """x_m / ℓ, (n_inducing, n_features)."""
        return np.ascontiguousarray(self.inducing_points / self.length_scales)

    @property
    def _has_few_features(self):
        """Whether differences are cheaper than products, and more accurate."""
        n_features = self.inducing_points.shape[1]
        return not self.kernel.is_product and n_features <= MAX_DIFFERENCE_FEATURES

    def covariance(self) -> np.ndarray:
        """Return K_mm of the inducing environments, faded, in eV²."""
        k, _ = self.compare(self.inducing_points, orders=(0,))
        return k * self.f_cut[:, None]

    def prior_variance(self, environments: Environments) -> np.ndarray:
        """Return F² k(x, x) of each environment, in eV²."""
        x = environments.x / self.length_scales
        u = np.einsum("ed,ed->e", x, x) if self.kernel.is_product else np.zeros(len(x))
        return environments.f_cut**2 * (self.kernel(u) + self.constant**2)

    def compare(self, x: np.ndarray, orders=(0, 1)):
        """Return F_m k(x, x_m), in eV², and F_m φ'(u), both (n_env, n_inducing).

        x (n_env, n_features) are features. The orders (0,) leave the derivatives out:
        None.
        """
        k, *dphi = self.kernel.profile(self.invariant(x / self.length_scales), orders)
        if self.constant:
            k = k + self.constant**2
        k *= self.f_cut
        return k, dphi[0] * self.f_cut if dphi else None

    def invariant(self, x: np.ndarray) -> np.ndarray:
        """Return what the kernel is a function of, (n_env, n_inducing).

        These are squared distances of scaled features from the inducing environments,
        or products.
        """
        points = self.scaled_inducing_points
        if self._has_few_features:
            # Coefficients of two-body terms reach 1e6: no digit may cancel.
            u = np.square(x[:, 0, None] - points[:, 0])
            for d in range(1, x.shape[1]):
                u += np.square(x[:, d, None] - points[:, d])
            return u
        u = x @ points.T
        if not self.kernel.is_product:
            u *= -2.0
            u += np.einsum("ed,ed->e", x, x)[:, None]
            u += np.einsum("md,md->m", points, points)
            np.maximum(u, 0.0, out=u)
        return u

    def gradients(self, dphi: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the factors of x and of x_m in ∂k/∂x, for scaled features.

        Of F_m φ'(u), (n_env, n_inducing), they are 2 φ' and −2 φ' for radial kernels,
        None, which stands for 0, and φ' for kernels of products.
        """
        if self.kernel.is_product:
            return None, dphi
        return 2.0 * dphi, -2.0 * dphi

    def jet(self, environments: Environments):
        """Return local energies and their derivatives by features and by F.

        The energies (n_env,) are multiplicity × F Σ_m α_m F_m k, in eV; their
        derivatives are (n_env, n_features) and (n_env,).
        """
        parts = []
        for block in slices(max(1, len(environments.x)), COMPARED_ENVIRONMENTS):
            f_cut = environments.multiplicity * environments.f_cut[block]
            value, by_x = self._values(environments.x[block] / self.length_scales)
            by_x *= f_cut[:, None] / self.length_scales
            parts.append((f_cut * value, by_x, environments.multiplicity * value))
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    def _values(self, x):
        """Return Σ_m α_m F_m k at scaled features, and its derivatives."""
        if self._collapsed is not None:
            return self._collapsed_values(x)
        phi, dphi = self.kernel.profile(self.invariant(x), orders=(0, 1))
        weights, points = self.weights * self.f_cut, self.scaled_inducing_points
        value = phi @ weights
        if self.constant:
            value += self.constant**2 * weights.sum()
        dphi *= weights
        if self._has_few_features:
            by_x = np.empty_like(x)
            for d in range(x.shape[1]):
                difference = x[:, d, None] - points[:, d]
                by_x[:, d] = 2.0 * np.einsum("em,em->e", dphi, difference)
        else:
            of_x, of_inducing = self.gradients(dphi)
            by_x = of_inducing @ points
            if of_x is not None:
                by_x += of_x.sum(axis=1)[:, None] * x
        return value, by_x

    @cached_property
    def _collapsed(self):
        """Coefficients of a linear or quadratic form that the sum is, if cheaper.

        Σ_m α_m F_m (x · x_m) is one product, Σ_m α_m F_m (x · x_m)² is xᵀ M x.
        """
        degree = self.kernel.unscaled.degree
        if degree is None or self.constant:
            return None
        n_inducing, n_features = self.inducing_points.shape
        weights = self.weights * self.f_cut * float(self.kernel(1.0))
        if degree == 1:
            return weights @ self.scaled_inducing_points
        if degree == 2 and n_features < 2 * n_inducing:
            points = self.scaled_inducing_points
            return (points.T * weights) @ points
        return None

    def _collapsed_values(self, x):
        if self._collapsed.ndim == 1:
            return x @ self._collapsed, np.tile(self._collapsed, (len(x), 1))
        by_x = x @ self._collapsed
        return np.einsum("ed,ed->e", x, by_x), 2.0 * by_x


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
        """See `SparseTerm.check_stored`."""
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
        images = self.inducing_points[:, perms].transpose(1, 0, 2)
        f_cut = self.f_cut / np.sqrt(self._norm(self.inducing_points))
        weights = None if self.weights is None else np.tile(self.weights, n_images)
        return SparseTerm(
            self.descriptor,
            self.kernel,
            self.length_scales,
            constant=0.0,
            inducing_points=images.reshape(-1, n_features),
            f_cut=np.tile(f_cut, n_images),
            weights=weights,
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
