"""Two- and three-body terms on splines, at a cost without inducing environments."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import spline_filter

from kforce.descriptors.local import Environments, LocalDescriptor
from kforce.errors import InputError
from kforce.gap._splines import evaluate
from kforce.gap.sparse_term import SparseTerm

#: Points of a grid: of the first along its longest side and at least along others, and
#: at most of all together.
_FIRST, _FEWEST, _MOST_POINTS = 16, 4, 4_000_000

#: Points beyond the ends: there the filter assumes mirror images, and what is wrong
#: with that falls off by a factor of four from point to point.
_PADDING = 24

#: Random points that the error is measured at.
_SAMPLE = 2000


@dataclass(frozen=True)
class TabulatedTerm:
    """Spline of the local energy of a term, over its factor F.

    The `descriptor` has one or three features. `coefficients` (n_0, n_1, n_2) are those
    of cubic B-splines, 4 along dimensions that the descriptor lacks; `low` and `step`
    (3,) are the first point and the distance of points of the grid. `error` is the
    largest error of local energies that was measured, in eV.
    """

    descriptor: LocalDescriptor
    coefficients: np.ndarray
    low: np.ndarray
    step: np.ndarray
    error: float

    is_tabulated = True

    def jet(self, environments: Environments):
        """Return local energies and their derivatives, as `SparseTerm.jet` does.

        Raises `InputError` if atoms are closer than where the spline starts.
        """
        x = np.zeros((len(environments.x), 3))
        n_features = environments.x.shape[1]
        x[:, :n_features] = environments.x
        value, gradient = np.empty(len(x)), np.empty((len(x), 3))
        outside = evaluate(self.coefficients, self.low, self.step, x, value, gradient)
        if outside >= 0:
            raise InputError(
                f"Atom {int(environments.central_atoms[outside])} has neighbours "
                "closer than where the spline of a tabulated term starts (its features "
                f"are {environments.x[outside].round(3).tolist()}, the spline starts "
                f"at {self.low[:n_features].round(3).tolist()}): use the model that is "
                "not tabulated, or tabulate from a shorter distance on."
            )
        value *= environments.multiplicity
        f_cut = environments.multiplicity * environments.f_cut
        by_x = gradient[:, :n_features] * f_cut[:, None]
        return environments.f_cut * value, by_x, value


def tabulate(term: SparseTerm, error: float, start: float) -> TabulatedTerm:
    """Put a term on a grid that is refined until it is as accurate as wanted.

    The term has weights, and a descriptor that can be tabulated: of distances r, or of
    (r + r', (r − r')², r''). `error` bounds that of local energies, over F, at random
    points, in eV; that of their derivatives is at most ten times as large, in eV over
    the length scales of the term. `start` is the shortest distance in Å. Raises
    `InputError` if the grid would not fit into memory, or features are powers of r.
    """
    cutoff = term.descriptor.cutoff
    if tuple(getattr(term.descriptor, "exponents", (1,))) != (1,):
        raise InputError(
            "Only two-body terms of the distance itself can be tabulated, found "
            f"{term.descriptor!r}."
        )
    if term.inducing_points.shape[1] == 1:
        low, high = np.array([start]), np.array([cutoff])
    else:
        # Third sides shorter than `start` have no place on the grid either.
        low = np.array([2.0 * start, 0.0, start])
        high = np.array([2.0 * cutoff, (cutoff - start) ** 2, 2.0 * cutoff])
    rng = np.random.default_rng(0)
    sample = low + (high - low) * rng.random((_SAMPLE, len(low)))
    exact, slopes = _energies(term, sample)
    # As many points to each length scale along all sides.
    extent = (high - low) / term.length_scales
    n = np.maximum(np.ceil(_FIRST * extent / extent.max()), _FEWEST).astype(int)
    while True:
        spline = TabulatedTerm(term.descriptor, *_grid(term, low, high, n), 0.0)
        value, by_x = _energies(spline, sample)
        off = np.abs(value - exact).max()
        steep = np.abs((by_x - slopes) * term.length_scales).max()
        if off <= error and steep <= 10.0 * error:
            return replace(spline, error=float(off))
        n = np.ceil(1.5 * n).astype(int)
        if np.prod(n, dtype=float) > _MOST_POINTS:
            raise InputError(
                f"A spline with errors below {error:g} eV, and of slopes below ten "
                f"times that per length scale, would need more than {_MOST_POINTS:,} "
                "points (with two thirds as many along each side the error is "
                f"{off:.1e} eV, that of slopes {steep:.1e} eV): allow a larger error, "
                "or start farther out."
            )


def _energies(term, x):
    """Return local energies over F at features x, and their gradients."""
    n = len(x)
    everywhere = Environments(x, np.ones(n), np.zeros(n, dtype=int), 1)
    value, by_x, _ = term.jet(everywhere)
    return value, by_x


def _grid(term, low, high, n):
    """Return coefficients, first point and distance of points of a spline."""
    n_features = len(low)
    first, step = np.zeros(3), np.ones(3)
    first[:n_features], step[:n_features] = low, (high - low) / (n - 1)
    axes = [
        a + h * np.arange(-_PADDING, k + _PADDING)
        for a, h, k in zip(first, step, n, strict=False)
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    flat = points.reshape(-1, n_features)
    parts = np.array_split(flat, 1 + len(flat) // 4096)
    values = np.concatenate([_energies(term, part)[0] for part in parts])
    values = spline_filter(values.reshape(points.shape[:-1]))
    used = tuple(slice(_PADDING - 1, _PADDING + k + 1) for k in n)
    # The same everywhere along dimensions that are not there.
    missing = 3 - n_features
    coefficients = values[used].reshape(*(n + 2), *(1,) * missing)
    full = np.broadcast_to(coefficients, (*(n + 2), *(4,) * missing))
    return np.ascontiguousarray(full), first, step
