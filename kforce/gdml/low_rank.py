"""A low-rank posterior: standard deviations of energies for every step of dynamics.

Who knows less is less certain. Of the training structures a few are kept, far from one
another, and of what these explain r directions, those that explain most of the energies
of structures like the training set. With g(x) = f(x) − f̄, f̄ being the mean over the
training structures, K_* = cov(y, g) of what is kept, and orthonormal directions U,

    var g ≤ k_** − |b|²,   b = Vᵀ K_*,   V = L⁻ᵀ U,

an upper bound. It takes r n_kept numbers of single precision, where the exact variance
takes a triangular solve with n². The standard deviation of f̄ is added: by the triangle
inequality the sum is a bound of that of f.

The bound is far from tight where the posterior is narrow. On structures that were not
used for the directions the exact standard deviation is known, so the bound is divided
by a low quantile of the ratio of both. The quantile depends on the bound, falls with
it, and is 1 beyond the bounds that were looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from kforce.descriptors.base import Features
from kforce.gdml._energy_columns import add_slopes, squared_distances
from kforce.gdml.energy_differences import mean_energy
from kforce.gdml.observations import Observations
from kforce.gdml.posterior import Posterior
from kforce.kernels.expansion import Expansion
from kforce.kernels.symmetrised import SymmetrisedKernel

#: Rows of the structures that are kept, and directions: more of both are closer to the
#: exact deviation, and take more than a third of a step of a small molecule.
MAX_ROWS, RANK = 500, 128

#: Structures that the directions are made of, and others that the bound is compared on.
N_QUERIES, N_COMPARED = 600, 240

#: Share of the compared structures whose bound is divided by too much.
SHARE_BELOW = 0.02

#: Structures of similar bounds whose ratios are taken together.
_GROUP = 60

#: Structures of which the most similar two are taken, and the largest share of their
#: difference: what vibrates by δ then vibrates by 1.3 δ at most.
_N_CANDIDATES, LARGEST_SHARE = 8, 0.6

#: The first directions, in double precision: what is left has few digits to lose.
_N_DOUBLE = 16


class EnergyColumns:
    """Covariances of an energy f(x) with values and slopes of f at points x_m."""

    def __init__(self, kernel, x_train, feature_perms):
        symmetrised = SymmetrisedKernel(kernel, feature_perms)
        pairs = [(c, image) for c in symmetrised.components for image in c.images]
        self._profile = symmetrised.profile
        self._active = np.concatenate([c.active for c, _ in pairs])
        self._image = np.concatenate([image for _, image in pairs])
        self._scales = np.concatenate([c.scales for c, _ in pairs])
        self._starts = np.cumsum([0, *(len(image) for _, image in pairs)])
        self._weights = np.array([c.weight for c, _ in pairs])
        self._points = np.ascontiguousarray(x_train.T)

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return k(x, x_m) (n,) and ∂k(x, x_m)/∂x_m (n, n_features) at x."""
        indices = self._active, self._image, self._scales, self._starts
        u = np.empty((len(self._weights), self._points.shape[1]))
        squared_distances(x, self._points, *indices, u)
        phi, dphi = self._profile.profile(u, orders=(0, 1))
        dphi = self._weights[:, None] * dphi
        out = np.zeros(self._points.shape)
        add_slopes(x, self._points, *indices, dphi, out)
        return self._weights @ phi, out.T

    def variance(self, x: np.ndarray) -> float:
        """Return k(x, x) at x (n_features,)."""
        d = self._scales * (x[self._active] - x[self._image])
        u = np.add.reduceat(d * d, self._starts[:-1])
        return float(self._profile(u) @ self._weights)


@dataclass(frozen=True)
class LowRankPosterior:
    """Standard deviations of energies from a few structures and directions.

    Vᵀ is `first` and `others`, (r, n_observations). What the former explain of K_*,
    `explained` (n_observations, r) times their b, is taken off before the latter, which
    are of single precision. `mean_values` (n_kept,) and `mean_slopes` (n_kept,
    n_features) are what f̄ has for K_*, and `std_mean` is how well it is known, in eV.
    The bound is divided by `ratios`, which are interpolated between the `bounds`.
    """

    columns: EnergyColumns
    features: Features
    observations: Observations
    mean_values: np.ndarray
    mean_slopes: np.ndarray
    std_mean: float
    calibration: float
    first: np.ndarray | None = None
    explained: np.ndarray | None = None
    others: np.ndarray | None = None
    bounds: np.ndarray = field(default_factory=lambda: np.ones(1))
    ratios: np.ndarray = field(default_factory=lambda: np.ones(1))

    @classmethod
    def of(cls, posterior: Posterior, near: Features) -> LowRankPosterior:
        """Return the low-rank posterior of energies.

        `near` are structures like those that will be asked for, in random order: of all
        but the last ones are the directions, on these the bound is compared with the
        exact deviations.
        """
        kept = posterior.subset(MAX_ROWS)
        kept.prepare()
        features, n = kept.features, len(kept.features.x)
        perms = features.coordinates.images(kept.prior.permutations)[0]
        nowhere = np.zeros_like(features.x)
        some = Expansion(kept.prior.kernel, features.x, nowhere, None, perms)
        values, slopes = mean_energy(some, np.full(n, 1.0 / n)).jet(features.x)
        # Energies relative to the mean of what is kept: that of f̄ itself is one number.
        variance_of_mean = posterior.energy_covariance(features).mean()
        bound = cls(
            columns=EnergyColumns(kept.prior.kernel, features.x, perms),
            features=features,
            observations=kept.observations,
            mean_values=values,
            mean_slopes=slopes,
            std_mean=float(max(variance_of_mean, 0.0) ** 0.5),
            calibration=posterior.calibration,
        )
        cut = max(1, len(near.x) - N_COMPARED)
        columns = np.stack([bound.column(x)[0] for x in near.x[:cut]], axis=1)
        V, explained = _directions(kept.factor, columns)
        bound = replace(
            bound,
            first=np.ascontiguousarray(V.T[:_N_DOUBLE]),
            explained=explained[:, :_N_DOUBLE],
            others=np.ascontiguousarray(V.T[_N_DOUBLE:], dtype=np.float32),
        )
        compared = near.take(np.arange(cut, len(near.x)))
        exact, _ = posterior.deviations(compared, with_forces=False)
        found = np.array([bound.deviation(x) for x in compared.x])
        bounds, ratios = _falling_ratios(found, exact)
        return replace(bound, bounds=bounds, ratios=ratios)

    def column(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        """Return K_* (n_observations,) and k_** of the energy at x (n_features,)."""
        values, slopes = self.columns(x)
        # What energies differ by is small, and loses no digits later.
        forces = self.features.pull(self.mean_slopes - slopes)
        column = self.observations.collect(
            forces.reshape(len(forces), -1), values - self.mean_values
        )
        spread = self.mean_values.mean()
        return column, self.columns.variance(x) - 2.0 * values.mean() + spread

    def deviation(self, x: np.ndarray) -> float:
        """Return the standard deviation of the energy at x (n_features,), in eV."""
        column, prior = self.column(x)
        first = self.first @ column
        column -= self.explained @ first
        others = (self.others @ column.astype(np.float32)).astype(float)
        variance = prior - first @ first - others @ others
        std = self.calibration * max(variance, 0.0) ** 0.5 + self.std_mean
        return std / np.interp(std, self.bounds, self.ratios)


def _directions(factor, columns):
    """Return V and (K + Σ) V of what explains most of the energies with these columns.

    Both are (n_observations, r); the first directions explain most.
    """
    half = factor.half_solve(columns)
    explained, axes = np.linalg.eigh(half.T @ half)
    order = np.argsort(-explained)[:RANK]
    order = order[explained[order] > 1e-12 * explained.max()]  # the rest is rounding
    mix = axes[:, order] / np.sqrt(explained[order])
    R = np.linalg.qr(half @ mix, mode="r")
    explained = columns @ np.linalg.solve(R.T, mix.T).T
    return factor.solve(explained), explained


def _falling_ratios(bounds, exact):
    """Return bounds (n,) in ascending order, and what each is to be divided by.

    The ratios of bound and exact deviation are low quantiles of groups of similar
    bounds, which never rise, and reach 1 at twice the largest bound.
    """
    order = np.argsort(bounds)
    groups = np.array_split(order, max(1, len(order) // _GROUP))
    middle = [np.median(bounds[group]) for group in groups]
    low = [np.quantile(bounds[g] / exact[g], SHARE_BELOW) for g in groups]
    low = np.maximum(np.minimum.accumulate(low), 1.0)
    return np.array([*middle, 2.0 * bounds.max()]), np.array([*low, 1.0])


def nearby(
    positions: np.ndarray, permutations: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Return structures like those of a training set (n_structures, n_atoms, 3).

    There are twice as many as `LowRankPosterior.of` looks at. Each is a random training
    structure that is displaced by a random share of the difference of two others, which
    are similar to it up to symmetry.
    """
    n, rng = 2 * (N_QUERIES + N_COMPARED), np.random.default_rng(seed)
    centred = positions - positions.mean(axis=1, keepdims=True)
    shape = (n, _N_CANDIDATES)
    start = centred[rng.integers(len(centred), size=n)]
    group = permutations[rng.integers(len(permutations), size=shape)]
    other = centred[rng.integers(len(centred), size=shape)]
    other = np.take_along_axis(other, group[..., None], axis=2)
    # The best rotation or reflection of each onto the start; energies see neither.
    u, _, vt = np.linalg.svd(np.einsum("scai,saj->scij", other, start))
    other = np.einsum("scai,scij->scaj", other, u @ vt)
    distance = np.square(other - start[:, None]).sum(axis=(2, 3))
    first, second = np.argsort(distance, axis=1)[:, :2].T
    every = np.arange(n)
    share = rng.uniform(high=LARGEST_SHARE, size=(n, 1, 1))
    return start + share * (other[every, first] - other[every, second])
