"""The fitted latent function: one expansion in descriptor space.

f(x) = Σ_s Σ_m [ a_m k(P_s x, x_m) + v_m · ∂k(P_s x, x_m)/∂x_m ]: permutations act on
the query, not on the training points, so a model stores each structure once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kforce.kernels._expansion import clip, gather, scatter, weigh
from kforce.kernels.base import Kernel
from kforce.kernels.ranges import StructureRange
from kforce.kernels.symmetrised import SymmetrisedKernel
from kforce.parallel import run_parallel, slices
from kforce.storage.codec import check_array, check_evaluates

#: Training points of a block, and entries of the (queries × training points) arrays
#: that one thread works on: they stay in its cache, and outweigh the switching between
#: threads.
_BLOCK_POINTS, _BLOCK_ENTRIES = 1024, 100_000


@dataclass(frozen=True)
class Expansion:
    """Values and gradients of the latent function f, with a kernel k in eV².

    x_m are `x_train` and v_m the `directions`, −J_m α_m for a model of forces, both
    (n_x_train, n_features); a_m are the `weights` (n_x_train,), None where no energies
    were fitted. `feature_perms` (n_perms, n_features) are the images of the features
    under the atom permutations.
    """

    kernel: Kernel
    x_train: np.ndarray
    directions: np.ndarray
    weights: np.ndarray | None
    feature_perms: np.ndarray

    def to_fields(self) -> dict[str, np.ndarray | None]:
        """Return what a file holds of it, beside the kernel and the permutations."""
        names = ("x_train", "directions", "weights")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_fields(
        cls, kernel, feature_perms, *, x_train, directions, weights
    ) -> Expansion:
        """Return the expansion of which a file holds this; ValueError if it is none."""
        check_array("x_train", x_train, (None, feature_perms.shape[1]))
        check_array("directions", directions, x_train.shape)
        if weights is not None:
            check_array("weights", weights, (len(x_train),))
        expansion = cls(kernel, x_train, directions, weights, feature_perms)
        with np.errstate(all="ignore"):
            check_evaluates(*expansion.jet(0.5 * x_train[:1]))
        return expansion

    @cached_property
    def training_range(self) -> StructureRange:
        """Where the training points and their images are.

        Far outside of it the kernel knows nothing, and f goes to a constant.
        """
        return StructureRange.of(self.x_train, self.feature_perms)

    @cached_property
    def _components(self):
        """One sum over the training points for each component of the kernel."""
        kernel = SymmetrisedKernel(self.kernel, self.feature_perms)
        return [
            _ComponentSum(
                kernel.profile,
                component,
                self.x_train[:, component.active] * component.scales,
                self.directions[:, component.active] * component.scales,
                self.weights,
            )
            for component in kernel.components
        ]

    def jet(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return f (n,) in eV and ∂f/∂x (n, n_features) at the points x of this shape.

        Many queries are shared among threads; a few are computed at once, with little
        more overhead than their matrix products.
        """
        f = np.zeros(len(x))
        gradient = np.zeros(x.shape)
        columns = min(len(self.x_train), _BLOCK_POINTS)
        step = max(1, _BLOCK_ENTRIES // (len(self.feature_perms) * columns))
        components = self._components

        def add(part):
            for component in components:
                component.add_jet(x[part], f[part], gradient[part])

        if len(x) <= step:
            add(slice(None))
        else:
            run_parallel(add, slices(len(x), step))
        return f, gradient


class _ComponentSum:
    """The expansion of one component of the kernel.

    `x_train` and `directions` (n_x_train, n_active) are the features that the component
    looks at, times its scales.
    """

    def __init__(self, profile, component, x_train, directions, weights):
        self._profile = profile
        self._component = component
        # Around the mean of the points, u = |y|² + |x|² − 2 y·x loses no digits.
        self._origin = x_train.mean(axis=0)
        self._blocks = list(self._cut(x_train - self._origin, directions, weights))

    def _cut(self, X, V, weights):
        """Right-hand factors of the matrix products, for each block of training points.

        With rows [y, 1, |y|²] on the left: u, −4 d·v; then [Σ b x, Σ b] and Σ c1 v.
        """
        ones, zeros = np.ones((len(X), 1)), np.zeros((len(X), 1))
        squares = np.einsum("md,md->m", X, X)[:, None]
        products = np.einsum("md,md->m", X, V)[:, None]
        to_u = np.hstack([-2.0 * X, squares, ones]).T
        to_dv = np.hstack([-4.0 * V, 4.0 * products, zeros]).T
        back, along_v = np.hstack([X, ones]), -2.0 * V
        for m in slices(len(X), _BLOCK_POINTS):
            factors = (to_u[:, m], to_dv[:, m], back[m], along_v[m])
            factors = [np.ascontiguousarray(factor) for factor in factors]
            yield (*factors, None if weights is None else weights[m])

    def add_jet(self, x, f, gradient):
        """Add values and gradients at x (n, n_features) to f and gradient."""
        component = self._component
        images, scales = component.images, component.scales
        n_images, n_active = images.shape
        left = np.empty((len(x) * n_images, n_active + 2))
        gather(x, scales, self._origin, images, left)
        values = np.zeros(len(left))
        for to_u, to_dv, back, along_v, weights in self._blocks:
            u = left @ to_u
            clip(u)
            dphi, ddphi = self._profile.profile(u, orders=(1, 2))
            b = left @ to_dv
            weigh(dphi, ddphi, b, values)
            if weights is not None:
                values += self._profile(u) @ weights
                b += 2.0 * dphi * weights
            from_d, from_v = b @ back, dphi @ along_v
            scatter(images, component.weight * scales, left, from_d, from_v, gradient)
        f += component.weight * values.reshape(-1, n_images).sum(axis=1)
