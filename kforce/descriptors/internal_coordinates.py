"""Distances, bond angles and torsions of a molecule."""

from __future__ import annotations

import logging
from functools import lru_cache

import numpy as np

from kforce.bonds import (
    BONDED,
    bond_distances,
    bond_images,
    closed_bonds,
    find_angles,
    find_bonds,
    find_breaking_bonds,
    find_torsions,
    sorted_bonds,
    stretches,
)
from kforce.descriptors._coordinates import angles, torsions, weigh
from kforce.descriptors.base import Coordinates, Descriptor, Features
from kforce.descriptors.inverse_distances import InverseDistances, describe_distance
from kforce.errors import InputError
from kforce.registry import register

_log = logging.getLogger("kforce.descriptors")

#: Powers of a distance that are features: one of short range, the usual one, and one
#: that still changes where atoms are far apart.
_POWERS = (-3, -1, 1)

#: Stretches between which a bond that breaks loses its weight in angles and torsions,
#: slowly: hydrogens that hop between two atoms feel both of them on their way.
_SWITCHED = (BONDED, 3.5)

#: Angles and torsions at most with bonds that break, and the same times permutations:
#: the cost of learning their scales grows with both.
_MAX_BENDS, _MAX_IMAGES = 400, 20_000

#: Parts of the molecule are an atom and all that are at most so many bonds away.
_REACHES = (2, 1)


@register
class InternalCoordinates(Descriptor):
    """Distances of all pairs of atoms, bond angles and torsions.

    The features are 1/r³, 1/r and r of every pair of atoms, cos θ of every angle
    between bonds, and sin θ₁ sin θ₂ cos φ of every torsion along three bonds. All are
    smooth wherever atoms do not collide: where an angle θ becomes straight and φ is
    undefined, the factor sin θ goes to zero. They count with scales that are learned,
    see `kforce.kernels.Sum`.

    Angles and torsions along bonds that break carry a factor for each of these: a
    switch of its length r, which falls from 1 to 0 with three continuous derivatives,
    s(t) = 1 − 35 t⁴ + 84 t⁵ − 70 t⁶ + 20 t⁷ with t = (r − near)/(far − near). An atom
    that moves from one partner to another has the angles of both, and forces are smooth
    on the way.

    Parameters
    ----------
    bonds : sequence of (int, int), default=None
        Pairs of bonded atoms. None takes those of the training structures, with their
        images under the permutations: bonds that hold in all, and those that break in
        some, with switches.
    switches : sequence of (float, float) or None, default=None
        For each of the bonds that are given, `near` and `far` in Å, or None where the
        bond always counts. None is for bonds that all do.

    References
    ----------
    Wilson, Decius and Cross, Molecular Vibrations (1955), chapter 4.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from kforce.structures import Batch
    >>> batch = Batch.from_frames([molecule("H2O")])
    >>> InternalCoordinates().bind(batch)(batch).x.shape
    (1, 10)
    """

    learns_scales = True

    def __init__(self, bonds=None, switches=None):
        self.bonds = bonds
        self.switches = switches

    def bind(self, batch, permutations=None):
        """Return the descriptor with the bonds of these structures.

        Those that hold in all of them, with their images under the permutations,
        (n_perms, n_atoms), and those that break in some, with theirs.
        """
        n_atoms = int(batch.offsets[1])
        if self.bonds is not None:
            self._check_bonds(n_atoms)
            self._check_switches()
            if not self._is_symmetric(permutations):
                raise InputError(
                    "The bonds are not symmetric under the permutations: give the "
                    "images of each, too, or other permutations."
                )
            return self
        numbers = batch.numbers[:n_atoms]
        x = InverseDistances()(batch).x
        a, b = np.tril_indices(n_atoms, -1)
        distances = np.zeros((len(x), n_atoms, n_atoms))
        distances[:, a, b] = distances[:, b, a] = 1.0 / x
        bonds = find_bonds(numbers, distances)
        held = closed_bonds(bonds, permutations)
        # A bond that holds breaks all the same if one that it is exchanged with does.
        breaking = {*find_breaking_bonds(numbers, distances), *bonds} - {*held}
        stretch = stretches(numbers, distances)
        kinds = {bond_images([bond], permutations) for bond in breaking}
        n_perms = 1 if permutations is None else len(permutations)
        most = min(_MAX_BENDS, _MAX_IMAGES // n_perms)
        breaking = _affordable(held, kinds, stretch, most)
        if not breaking:
            return InternalCoordinates(held)
        both = sorted_bonds((*held, *breaking))
        unit = 1.0 / stretches(numbers, np.ones((n_atoms, n_atoms)))
        switches = {
            bond: tuple(round(float(length * unit[bond]), 4) for length in _SWITCHED)
            for bond in breaking
        }
        return InternalCoordinates(both, tuple(map(switches.get, both)))

    def _is_symmetric(self, permutations):
        """Whether each image of a bond is a bond with the same switch."""
        alike = {}
        for s, bond in enumerate(self.bonds):
            between = None if self.switches is None else self.switches[s]
            key = None if between is None else tuple(between)
            alike.setdefault(key, []).append(bond)
        return all(
            closed_bonds(bonds, permutations) == sorted_bonds(bonds)
            for bonds in alike.values()
        )

    @classmethod
    def from_fields(cls, bonds, switches=None):
        """Return the descriptor of which a file holds this; older ones lack switches.

        A ValueError says that they do not make sense.
        """
        descriptor = cls(bonds, switches)
        descriptor._check_switches()
        return descriptor

    def _check_switches(self):
        if self.switches is None:
            return
        given = [pair for pair in self.switches if pair is not None]
        good = self.bonds is not None and len(self.switches) == len(self.bonds)
        good = good and all(
            len(pair) == 2 and 0.0 <= pair[0] < pair[1] < np.inf for pair in given
        )
        if not good:
            raise InputError(
                "switches must be (near, far) in Å with 0 <= near < far, or None, for "
                f"each of the bonds, found {self.switches!r}."
            )

    def _check_bonds(self, n_atoms):
        pairs = np.asarray(self.bonds)
        good = pairs.size == 0 or (pairs.ndim == 2 and pairs.shape[1] == 2)
        good = good and (pairs.size == 0 or pairs.dtype.kind in "iu")
        if good and pairs.size:
            good = (pairs >= 0).all() and (pairs < n_atoms).all()
            good = good and (pairs[:, 0] != pairs[:, 1]).all()
            good = good and len(np.unique(np.sort(pairs), axis=0)) == len(pairs)
        if not good:
            raise InputError(
                f"bonds must be different pairs of atoms from 0 to {n_atoms - 1}, "
                f"found {self.bonds!r}."
            )

    def coordinates(self, n_atoms: int) -> Coordinates:
        """Return the pairs, angles and torsions of the molecule, in this order."""
        return _coordinates(n_atoms, tuple((int(a), int(b)) for a, b in self.bonds))

    def parts(self, n_atoms: int) -> list[np.ndarray]:
        """Return the features near each atom, and those within each torsion.

        Near is within two bonds, and within one. With bonds that break, atoms may all
        be near one another: what looks at everything is no part then.
        """
        coordinates = self.coordinates(n_atoms)
        apart = bond_distances(self.bonds, n_atoms)
        torsion_atoms = coordinates.atoms[coordinates.n_body == 4]
        in_torsion = np.zeros((len(torsion_atoms), n_atoms), dtype=bool)
        np.put_along_axis(in_torsion, torsion_atoms, True, axis=1)
        used = np.arange(4) < coordinates.n_body[:, None]
        kinds = []
        for members in (*(apart <= reach for reach in _REACHES), in_torsion):
            inside = (members[:, coordinates.atoms] | ~used).all(axis=-1)
            features = inside.repeat(np.diff(coordinates.first), axis=1)
            features = np.unique(features[features.any(axis=1)], axis=0)
            if self.switches is not None:
                features = features[~features.all(axis=1)]
            if len(features):
                kinds.append(features)
        return kinds

    def __call__(self, batch):
        """Return the features; refuse periodic structures and unknown bonds."""
        if self.bonds is None:
            raise InputError(
                "The bonds are not known yet: give them, or call bind with structures."
            )
        if batch.pbc.any():
            raise InputError(
                "InternalCoordinates are for molecules without periodic boundaries: "
                "use InverseDistances."
            )
        n_atoms = int(batch.offsets[1])
        coordinates = self.coordinates(n_atoms)
        pairs = InverseDistances()(batch)
        n_pairs = pairs.x.shape[1]
        shape = (len(pairs.x), len(coordinates.atoms))
        value = np.empty(shape)
        b_matrix = np.zeros((*shape, 4, 3))
        b_matrix[:, :n_pairs, :2] = pairs.b_matrix
        positions = batch.positions.reshape(-1, n_atoms, 3)
        end = n_pairs + int((coordinates.n_body == 3).sum())
        angles(positions, coordinates.atoms[n_pairs:end], n_pairs, value, b_matrix)
        torsions(positions, coordinates.atoms[end:], end, value, b_matrix)
        if self.switches is not None:
            chains, n_body = coordinates.atoms[n_pairs:], coordinates.n_body[n_pairs:]
            ranges = self._ranges(chains, n_atoms)
            weigh(positions, chains, n_body, ranges, n_pairs, value, b_matrix)
        x = np.empty((len(value), coordinates.first[-1]))
        dx_dq = np.ones_like(x)
        dist = 1.0 / pairs.x
        last = len(_POWERS) * n_pairs
        for k, power in enumerate(_POWERS):
            x[:, k : last : len(_POWERS)] = dist ** float(power)
            dx_dq[:, k : last : len(_POWERS)] = power * dist ** (power - 1.0)
        x[:, last:] = value[:, n_pairs:]
        return Features(x, dx_dq, b_matrix, coordinates, n_atoms)

    def _ranges(self, chains, n_atoms):
        """Return the switches (n_coordinates, 3, 2) of the bonds along coordinates."""
        table = np.full((n_atoms, n_atoms, 2), np.inf)
        for (a, b), between in zip(self.bonds, self.switches, strict=True):
            if between is not None:
                table[a, b] = table[b, a] = between
        return table[chains[:, :-1], chains[:, 1:]]

    def describe(self, n_atoms, feature, value, low, high):  # noqa: D102
        atoms = self.coordinates(n_atoms).atoms_of(feature)
        if len(atoms) > 2:
            name = "angle" if len(atoms) == 3 else "torsion"
            atoms = "-".join(map(str, atoms))
            return f"The {name} of atoms {atoms} is unlike any in training."
        power = _POWERS[feature % len(_POWERS)]  # pairs come first
        # The margin around the training data may reach below zero: no limit there.
        bounds = (max(v, 0.0) for v in (value, low, high))
        with np.errstate(divide="ignore"):
            dist, one, other = (np.float64(v) ** (1.0 / power) for v in bounds)
        return describe_distance(atoms, dist, min(one, other), max(one, other))


def _affordable(held, kinds, stretch, most):
    """Return the bonds that break, nearest kinds first, with so many angles at most."""

    def mean_stretch(kind):
        a, b = np.transpose(kind)
        return stretch[:, a, b].mean(), kind

    chosen, left_out = (), ()
    for kind in sorted(kinds, key=mean_stretch):
        bonds = sorted_bonds((*held, *chosen, *kind))
        if len(find_angles(bonds)) + len(find_torsions(bonds)) <= most:
            chosen += kind
        else:
            left_out += kind
    if chosen:
        _log.info(
            "the bonds %s break in some structures: angles and torsions along them are "
            "weighted by their lengths",
            _listed(chosen),
        )
    if left_out:
        _log.warning(
            "the bonds %s, which break in some structures, are left out: there would "
            "be more than %d angles and torsions",
            _listed(left_out),
            most,
        )
    return chosen


def _listed(bonds):
    return ", ".join(f"{a}-{b}" for a, b in sorted(bonds))


@lru_cache(maxsize=32)
def _coordinates(n_atoms, bonds):
    pairs = np.stack(np.tril_indices(n_atoms, -1), axis=1)
    groups = [pairs, find_angles(bonds), find_torsions(bonds)]
    sizes = [len(group) for group in groups]
    atoms = np.zeros((sum(sizes), 4), dtype=np.intp)
    n_body = np.repeat([2, 3, 4], sizes).astype(np.intp)
    for n, group in zip((2, 3, 4), groups, strict=True):
        if len(group):
            atoms[n_body == n, :n] = group
    features = np.where(n_body == 2, len(_POWERS), 1)
    first = np.concatenate([[0], np.cumsum(features)]).astype(np.intp)
    return Coordinates(atoms, n_body, first)
