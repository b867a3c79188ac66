"""How densities of elements are mixed into fewer ones, so that alike ones mix alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import covalent_radii

#: Atomic numbers of the noble gases: the ends of the periods.
_ENDS = (0, 2, 10, 18, 36, 54, 86, 118)

#: Differences of period, group and covalent radius (in Å) that count as one: their
#: ranges. In smaller units an element unlike all others has hardly any weight in the
#: first density, and there may be no other.
_UNITS = (6.0, 17.0, 2.3)

#: ASE knows no radii beyond this element, and what it has instead depends on its
#: version.
_CURIUM = 96


def mixing_matrix(species: Sequence[int], n_mixed: int) -> np.ndarray:
    """Return weights (n_mixed, n_species) of densities of elements in fewer densities.

    Elements are points with the coordinates period, group and covalent radius. Rows are
    the leading eigenvectors of the matrix exp(−d) of their distances, orthonormal: the
    first sums all densities, with positive weights, and those that follow tell apart
    the elements that differ most. Nothing but the elements decides on them.

    References
    ----------
    Willatt, Musil and Ceriotti, Phys. Chem. Chem. Phys. 20, 29661 (2018).

    Examples
    --------
    >>> mixing_matrix((1, 7, 8), 2).round(2)
    array([[ 0.43,  0.64,  0.64],
           [ 0.9 , -0.29, -0.32]])
    """
    order = np.argsort(species)
    points = np.array([_place(int(z)) for z in np.asarray(species)[order]]) / _UNITS
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    # Not its square: the eigenvalues fall so slowly that rounding mixes no vectors.
    _, vectors = np.linalg.eigh(np.exp(-distance))
    leading = vectors.T[::-1][:n_mixed]
    # Of a vector and its negative we take the one whose largest weight is positive; of
    # weights that differ by rounding, the first.
    size = np.abs(leading)
    largest = np.argmax(size > size.max(axis=1, keepdims=True) - 1e-6, axis=1)
    signs = np.sign(leading[np.arange(n_mixed), largest])
    mixing = np.empty_like(leading)
    mixing[:, order] = leading * signs[:, None]
    return np.ascontiguousarray(mixing)


def _place(z):
    """Return period, group and covalent radius of an element.

    Elements from lanthanum to lutetium, and those below, are between groups 3 and 4.
    """
    period = int(np.searchsorted(_ENDS, z))
    place, before_end = z - _ENDS[period - 1], _ENDS[period] - z
    if place <= 2 and z != 2:
        group = float(place)
    elif before_end < 15 or period < 6:
        group = 18.0 - before_end
    else:
        group = 3.0 + (place - 3) / 15.0
    return period, group, covalent_radii[min(z, _CURIUM)]
