"""Groups of atom permutations: rows p, for which ``positions[p]`` is permuted."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kforce.errors import InputError


def validate_permutations(permutations: ArrayLike, numbers: ArrayLike) -> np.ndarray:
    """Return rows (n_perms, n_atoms) that are a group of permutations of equal atoms.

    The `numbers` (n_atoms,) are atomic numbers. Where the rows are no such group, an
    `InputError` says what is wrong, and what to do.

    Examples
    --------
    >>> validate_permutations([[0, 1, 2], [0, 2, 1]], [8, 1, 1])
    array([[0, 1, 2], [0, 2, 1]])
    """
    numbers = np.asarray(numbers)
    try:
        perms = np.asarray(permutations)
    except ValueError:
        raise InputError("The rows of permutations must be of equal length.") from None
    n_atoms = len(numbers)
    if perms.ndim != 2 or perms.shape[1] != n_atoms or len(perms) == 0:
        raise InputError(
            f"permutations must have shape (n_perms, {n_atoms}), one column an atom; "
            f"found {perms.shape}."
        )
    if not np.issubdtype(perms.dtype, np.integer):
        raise InputError(
            f"permutations must be integers (atom indices from 0), found {perms.dtype}."
        )
    perms = perms.astype(int)
    identity = np.arange(n_atoms)
    if len(wrong := np.argwhere(np.sort(perms, axis=1) != identity)):
        k = wrong[0, 0]
        raise InputError(
            f"Row {k} of permutations must hold each of 0...{n_atoms - 1} once, "
            f"found {perms[k].tolist()}. Atom indices start at 0."
        )
    if len(wrong := np.argwhere(numbers[perms] != numbers)):
        k, i = wrong[0]
        j = perms[k, i]
        raise InputError(
            f"Row {k} of permutations puts atom {j} (Z={numbers[j]}) in the "
            f"place of atom {i} (Z={numbers[i]}): only equal elements may be "
            "exchanged. Check the order of the atoms."
        )
    if not (perms == identity).all(axis=1).any():
        raise InputError("permutations must hold the identity: add it as a row.")
    if len(set(row_keys(perms))) < len(perms):
        raise InputError("permutations must differ: remove the repeated rows.")
    factors = generators(perms)
    if closure(factors, n_atoms, len(perms)) is None:
        raise InputError(
            f"permutations must be a group, but these {len(perms)} have products "
            f"that are missing (among others with {cycles(factors[-1])}). Add the "
            "missing products, or leave the choice to find_permutations."
        )
    return perms


def generators(group: np.ndarray) -> list[np.ndarray]:
    """Return rows of a group whose products are all of its rows.

    Examples
    --------
    >>> group = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1],
    ...                   [2, 1, 0]])
    >>> [cycles(p) for p in generators(group)]
    ['(1 2)', '(0 1)']
    """
    n_atoms = group.shape[1]
    factors, members = [], set(row_keys([np.arange(n_atoms)]))
    for p, key in zip(group, row_keys(group), strict=True):
        if key in members:
            continue
        factors.append(p)
        products = closure(factors, n_atoms, len(group))
        if products is None:  # the rows are no group
            break
        members = set(row_keys(products))
    return factors


def cycles(permutation: ArrayLike) -> str:
    """Write a permutation in cycle notation, with atom indices from 0.

    Examples
    --------
    >>> cycles([0, 2, 1, 4, 5, 3])
    '(1 2)(3 4 5)'
    >>> cycles([0, 1])
    '()'
    """
    written = (f"({' '.join(map(str, c))})" for c in cycle_lists(permutation))
    return "".join(written) or "()"


def closure(factors, n_atoms: int, limit: int) -> np.ndarray | None:
    """Return all products of permutations as sorted rows; None if more than `limit`."""
    latest = np.arange(n_atoms)[None]
    group = dict(zip(row_keys(latest), latest, strict=True))
    while len(factors) and len(latest) and len(group) <= limit:
        products = np.concatenate([latest[:, list(g)] for g in factors])
        fresh = dict(zip(row_keys(products), products, strict=True))
        fresh = {key: p for key, p in fresh.items() if key not in group}
        group |= fresh
        latest = np.array(list(fresh.values()))
    if len(group) > limit:
        return None
    rows = np.array(list(group.values()))
    return rows[np.lexsort(rows.T[::-1])]


def row_keys(permutations: ArrayLike) -> list[bytes]:
    """Return every row as bytes, for sets that tell at once whether a row is known."""
    rows = np.ascontiguousarray(permutations, dtype=np.int64)
    return rows.view(f"V{rows.itemsize * rows.shape[1]}").ravel().tolist()


def cycle_lists(permutation: ArrayLike) -> list[list[int]]:
    """Return the cycles of two and more atoms, each from its lowest index."""
    seen, lists = set(), []
    for start in range(len(permutation)):
        atoms, i = [], start
        while i not in seen:
            seen.add(i)
            atoms.append(int(i))
            i = int(permutation[i])
        if len(atoms) > 1:
            lists.append(atoms)
    return lists
