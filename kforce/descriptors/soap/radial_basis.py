"""Radial bases of SOAP: from radial functions at points to orthonormal coefficients.

A Gaussian at the distance r from the centre has, at the radial points ρ_a, the
projections h_la(r) on harmonics. Coefficients in a basis that is orthonormal (on the
half line, or up to its end for "gto" and "poly") are linear in these values: R_nl(r) =
Σ_a h_la(r) T_an, where T may depend on l.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve, solve_triangular
from scipy.special import erf, gamma, gammainc

from kforce.errors import InputError

#: Names of the bases.
BASES = ("equispaced", "gto", "poly")

#: Points per basis function where the coefficients are fitted to them.
_OVERSAMPLING = 3

#: A function of the "gto" basis has decayed to it at the distance that it belongs to.
_GTO_TAIL = 1e-3


@dataclass(frozen=True)
class RadialBasis:
    """The points ρ (n_points,) in Å and the matrices T (n_matrices, n_points, n_max).

    There is a matrix for every l, or one for all. `origin` (n_max,) are the
    coefficients of a Gaussian at the centre, for l = 0, without the factor Y₀₀.
    """

    points: np.ndarray
    matrices: np.ndarray
    origin: np.ndarray


@lru_cache(maxsize=32)
def radial_basis(
    kind: str, n_max: int, l_max: int, cutoff: float, sigma: float, exponent: float
) -> RadialBasis:
    """Return a radial basis of n_max functions, for angular momenta up to l_max.

    "equispaced" is of Gaussians at equidistant points, which interpolate; "gto" of
    Gaussians times rˡ at the origin and "poly" of powers of the distance to the end of
    the range, which are fitted. `cutoff` and `sigma` are the largest distance of a
    Gaussian and its width, in Å; the range ends where the outermost Gaussian has
    decayed to 10 to minus the exponent. An `InputError` says that so many functions
    are not independent in double precision.

    References
    ----------
    Bartók, Kondor and Csányi, Phys. Rev. B 87, 184115 (2013).
    """
    try:
        with np.errstate(invalid="raise"):
            return _basis(kind, n_max, l_max, cutoff, sigma, exponent)
    except (LinAlgError, FloatingPointError):
        raise InputError(
            f"{n_max} radial functions ({kind}) up to {cutoff:g} Å, of Gaussians of "
            f"{sigma:g} Å and l_max={l_max}, are the same to double precision: take a "
            "smaller n_max, or a smaller atom_sigma."
        ) from None


def _basis(kind, n_max, l_max, cutoff, sigma, exponent):
    end = cutoff + sigma * np.sqrt(2.0 * exponent * np.log(10.0))
    alpha = 0.5 / sigma**2
    if kind == "equispaced":
        points = np.arange(n_max) * (end / n_max)
        matrices, origin = _interpolating(points, alpha)
    else:
        points = np.arange(_OVERSAMPLING * n_max) * (end / (_OVERSAMPLING * n_max))
        if kind == "poly":
            fits = [_fit(*_powers(points, n_max, end))]
        else:
            gaussians = (_gaussians(points, n_max, end, l) for l in range(l_max + 1))
            fits = [_fit(*functions) for functions in gaussians]
        matrices = np.stack(fits)
        origin = np.exp(-alpha * points**2) @ matrices[0]
    for array in (points, matrices, origin):
        array.flags.writeable = False
    return RadialBasis(points, matrices, origin)


def _interpolating(points, alpha):
    """Gaussians of the atoms' width at the points; see `RadialBasis`."""
    apart = (points[:, None] - points) ** 2
    middle = 0.5 * (points[:, None] + points)
    p = 2.0 * alpha
    half_line = 0.5 * np.sqrt(np.pi / p) * (1.0 + erf(np.sqrt(p) * middle))
    overlap = middle * np.exp(-p * middle**2) / (2.0 * p)
    overlap += (middle**2 + 0.5 / p) * half_line
    overlap *= np.exp(-0.5 * alpha * apart)
    factor = cholesky(overlap, lower=True)
    matrix = solve(np.exp(-alpha * apart), factor, assume_a="pos")
    # The Gaussian at the centre is the first basis function itself.
    return np.ascontiguousarray(matrix)[None], np.ascontiguousarray(factor[0])


def _fit(values, overlap):
    """T of functions with values (n_points, n_max) and overlaps (n_max, n_max)."""
    factor = cholesky(overlap, lower=True)
    orthonormal = solve_triangular(factor, values.T, lower=True).T
    return np.ascontiguousarray(np.linalg.pinv(orthonormal, rcond=0.0).T)


def _powers(points, n_max, end):
    """(end − r)ⁿ⁺², normalised, and their overlaps."""
    n = np.arange(1, n_max + 1)
    square = end ** (2 * n + 7.0) / ((n + 3) * (2 * n + 5) * (2 * n + 7))
    both = n[:, None] + n
    overlap = 2.0 * end ** (both + 7.0) / ((both + 5) * (both + 6) * (both + 7))
    norm = np.sqrt(square)
    values = (end - points[:, None]) ** (n + 2) / norm
    return values, overlap / (norm[:, None] * norm)


def _gaussians(points, n_max, end, angular):
    """rˡ exp(−a r²) with functions that decay further and further out, and overlaps."""
    reach = end * np.arange(1, n_max + 1) / n_max
    decay = (angular * np.log(reach) - np.log(_GTO_TAIL)) / reach**2
    values = points[:, None] ** angular * np.exp(-decay * points[:, None] ** 2)
    both = decay[:, None] + decay
    t = angular + 1.5
    return values, 0.5 * both**-t * gamma(t) * gammainc(t, both * end**2)
