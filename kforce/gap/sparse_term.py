"""One term of a sparse model: a descriptor, a kernel, and its inducing environments.

The local energy of an environment is ε(x, F) = F Σ_m α_m F_m k(x, x_m), where F fades
out at the cutoff. Features are divided by `length_scales` before they meet a radial
kernel, and `constant` adds its square to the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kforce.descriptors.local import Environments, LocalDescriptor
from kforce.kernels.base import Kernel
from kforce.registry import register
from kforce.storage.codec import check_array, check_evaluates

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
        return (
            not self.kernel.is_product
            and self.inducing_points.shape[1] <= MAX_DIFFERENCE_FEATURES
        )

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
        inducing_points = self.scaled_inducing_points
        if self._has_few_features:
            # Coefficients of two-body terms reach 1e6: no digit may cancel.
            u = np.square(x[:, 0, None] - inducing_points[:, 0])
            for d in range(1, x.shape[1]):
                u += np.square(x[:, d, None] - inducing_points[:, d])
            return u
        u = x @ inducing_points.T
        if not self.kernel.is_product:
            u *= -2.0
            u += np.einsum("ed,ed->e", x, x)[:, None]
            u += np.einsum("md,md->m", inducing_points, inducing_points)
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
        for first in range(0, max(1, len(environments.x)), COMPARED_ENVIRONMENTS):
            block = slice(first, first + COMPARED_ENVIRONMENTS)
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
            return (
                self.scaled_inducing_points.T * weights
            ) @ self.scaled_inducing_points
        return None

    def _collapsed_values(self, x):
        if self._collapsed.ndim == 1:
            return x @ self._collapsed, np.tile(self._collapsed, (len(x), 1))
        by_x = x @ self._collapsed
        return np.einsum("ed,ed->e", x, by_x), 2.0 * by_x
