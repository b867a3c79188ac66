import re
from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from conformance import GlobalDescriptorConformance
from scipy.spatial.distance import cdist
from toys import (
    dense_jacobians,
    shaken,
    symmetric_group,
)

from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.errors import InputError
from kforce.structures import Batch

NAMES = ["H2", "CO2", "HCN", "C2H2", "H2O2", "NH3", "CH3OH", "C3H6_D3h", "C6H6"]
LINEAR = ["H2", "CO2", "HCN", "C2H2"]


def turned_into_itself(name, degrees):
    """The permutation of a molecule that is a rotation around z."""
    start = molecule(name)
    turned = start.copy()
    turned.rotate(degrees, "z")
    return np.argmin(cdist(turned.positions, start.positions), axis=1)


MIRROR = np.array([[0, 1, 2, 3], [1, 0, 3, 2]])
GROUPS = {
    "CO2": symmetric_group(3, 2),
    "C2H2": MIRROR,
    "H2O2": MIRROR,
    "NH3": symmetric_group(4, 3),
    "CH3OH": np.array([[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 5, 4]]),
    "C3H6_D3h": np.array([turned_into_itself("C3H6_D3h", d) for d in (0, 120, 240)]),
    "C6H6": np.array([turned_into_itself("C6H6", d) for d in range(0, 360, 60)]),
    "dimer": np.array([[0, 1, 2, 3, 4, 5], [3, 4, 5, 0, 1, 2]]),
}


def dimer():
    one, other = molecule("H2O"), molecule("H2O")
    other.translate([3.0, 0.5, 0.2])
    return one + other


def frames_of(name, n_frames=3, scale=0.05):
    if name != "dimer":
        return shaken(name, n_frames, scale=scale)
    rng = np.random.default_rng(0)
    frames = [dimer() for _ in range(n_frames)]
    for frame in frames:
        frame.positions += rng.normal(scale=scale, size=(6, 3))
    return frames


def describe(frames, bonds=None):
    batch = Batch.from_frames(frames)
    descriptor = InternalCoordinates(bonds).bind(batch)
    return descriptor, descriptor(batch)


def moved(atoms, positions):
    atoms = atoms.copy()
    atoms.positions = np.asarray(positions).reshape(-1, 3)
    return atoms


def slow_features(atoms, coordinates):
    """Distances, angles and dihedrals as ASE defines them."""
    x = []
    for members, n in zip(coordinates.atoms, coordinates.n_body, strict=True):
        a, b, c, d = map(int, members)
        if n == 2:
            r = atoms.get_distance(a, b)
            x += [r**-3, 1 / r, r]
        elif n == 3:
            x.append(np.cos(np.deg2rad(atoms.get_angle(a, b, c))))
        else:
            first, second = atoms.get_angle(a, b, c), atoms.get_angle(b, c, d)
            sines = np.sin(np.deg2rad(first)) * np.sin(np.deg2rad(second))
            dihedral = np.deg2rad(atoms.get_dihedral(a, b, c, d))
            x.append(sines * np.cos(dihedral))
    return np.array(x)


@pytest.mark.parametrize("name", [*NAMES, "dimer"])
def test_values_against_ase(name):
    frames = frames_of(name)
    descriptor, features = describe(frames)
    coordinates = descriptor.coordinates(len(frames[0]))
    for frame, x in zip(frames, features.x, strict=True):
        slow = slow_features(frame, coordinates)
        # The arc cosines of ASE lose digits near straight angles.
        np.testing.assert_allclose(x, slow, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", [*NAMES, "dimer"])
def test_all_pairs_angles_and_torsions_are_there(name):
    frames = frames_of(name)
    n = len(frames[0])
    coordinates = describe(frames)[0].coordinates(n)
    counts = np.bincount(coordinates.n_body, minlength=5)
    assert counts[2] == n * (n - 1) // 2
    assert coordinates.first[-1] == 3 * counts[2] + counts[3] + counts[4]
    names = {
        min(tuple(m[:k]), tuple(m[:k][::-1]))
        for m, k in zip(coordinates.atoms.tolist(), coordinates.n_body, strict=True)
    }
    assert len(names) == len(coordinates.atoms)


class TestInternalCoordinates(GlobalDescriptorConformance):
    cases = {"": InternalCoordinates()}
    axes = {"name": [*NAMES, "dimer"], "symmetric": list(GROUPS)}
    groups = GROUPS

    def frames(self, name):
        return frames_of(name)


def test_the_parts_of_peroxide_by_hand():
    # H2-O0-O1-H3: two bonds from O0 are all atoms, from H2 all but H3.
    frames = frames_of("H2O2")
    descriptor, _ = describe(frames)
    assert descriptor.bonds == ((0, 1), (0, 2), (1, 3))
    coordinates = descriptor.coordinates(4)
    owner = np.repeat(np.arange(len(coordinates.atoms)), np.diff(coordinates.first))

    def atoms_of(row):
        used = set()
        for g in owner[row]:
            used |= set(coordinates.atoms[g, : coordinates.n_body[g]].tolist())
        return tuple(sorted(used))

    near, neighbours, torsions = descriptor.parts(4)
    assert sorted(map(atoms_of, near)) == [(0, 1, 2), (0, 1, 2, 3), (0, 1, 3)]
    expected = [(0, 1, 2), (0, 1, 3), (0, 2), (1, 3)]
    assert sorted(map(atoms_of, neighbours)) == expected
    assert [atoms_of(row) for row in torsions] == [(0, 1, 2, 3)]
    # All features within these atoms, and no others.
    for kind in (near, neighbours, torsions):
        for row in kind:
            members = set(atoms_of(row))
            inside = [
                set(coordinates.atoms[g, : coordinates.n_body[g]].tolist()) <= members
                for g in owner
            ]
            np.testing.assert_array_equal(row, inside)


def test_without_bonds_there_are_no_parts():
    descriptor, features = describe([Atoms("He2", [(0, 0, 0), (0, 0, 4.0)])])
    assert descriptor.bonds == ()
    assert features.x.shape == (1, 3)
    assert descriptor.parts(2) == []


def bent(angle):
    """H-C-C-H whose first angle is given, in radians; it may go beyond 180°."""
    first = 1.06 * np.array([np.cos(angle), np.sin(angle), 0.0])
    second = np.array([1.6, -0.8, 0.6])
    return Atoms("CCHH", [(0, 0, 0), (1.2, 0, 0), first, second])


def test_a_scan_through_a_straight_angle_is_smooth():
    bonds = ((0, 1), (0, 2), (1, 3))
    descriptor = InternalCoordinates(bonds)

    def along(angles):
        features = descriptor(Batch.from_frames([bent(a) for a in angles]))
        return features.x, dense_jacobians(features)

    h = 1e-4
    angles = np.pi + h * np.arange(-3, 4)
    for values in along(angles):
        assert np.isfinite(values).all()
        # One-sided differences from both sides agree with one another.
        left, right = values[3] - values[2], values[4] - values[3]
        np.testing.assert_allclose(right, left, atol=20 * h**2)
        # So do the second ones.
        left = values[3] - 2 * values[2] + values[1]
        right = values[5] - 2 * values[4] + values[3]
        np.testing.assert_allclose(right, left, atol=100 * h**3)
    # Exactly straight: the torsion is zero, and the cosine has no slope.
    x, J = along([np.pi])
    kind = np.repeat(
        descriptor.coordinates(4).n_body, np.diff(descriptor.coordinates(4).first)
    )
    assert np.abs(x[0, kind == 4]).max() < 1e-15
    assert np.abs(J[0, kind == 3][0]).max() < 1e-15
    # The torsion has a slope there, or it could not tell both sides apart.
    assert np.abs(J[0, kind == 4]).max() > 0.5


@pytest.mark.parametrize("name", LINEAR)
def test_straight_molecules(name):
    frame = molecule(name)
    descriptor, features = describe([frame])
    J = dense_jacobians(features)
    assert np.isfinite(features.x).all()
    assert np.isfinite(J).all()
    kind = np.repeat(features.coordinates.n_body, np.diff(features.coordinates.first))
    np.testing.assert_allclose(np.abs(features.x[0, kind == 3]), 1.0, rtol=1e-14)
    np.testing.assert_allclose(features.x[0, kind == 4], 0.0, atol=1e-14)
    np.testing.assert_allclose(J[0, kind > 2], 0.0, atol=1e-13)
    # Half a degree off the axis changes next to nothing.
    for step in (1e-3, 1e-6):
        positions = frame.positions + step * np.random.default_rng(0).normal(
            size=frame.positions.shape
        )
        near = descriptor(Batch.from_frames([moved(frame, positions)]))
        np.testing.assert_allclose(near.x, features.x, atol=30 * step)


def test_binding_takes_the_bonds_of_all_frames(caplog):
    frames = frames_of("H2O", 10, scale=0.02)
    broken = moved(frames[0], frames[0].positions)
    broken.positions[1] += 1.2 * (broken.positions[1] - broken.positions[0])
    batch = Batch.from_frames([*frames, broken])
    descriptor = InternalCoordinates()
    bound = descriptor.bind(batch)
    assert descriptor.bonds is None
    assert bound.bonds == ((0, 2),)
    assert "the bonds 0-1 break" in caplog.text
    # Two distances of the bonded pair are there all the same, but no angle.
    assert bound(batch).x.shape == (11, 9)
    given = InternalCoordinates([(0, 1), (0, 2)])
    assert given.bind(batch) is given
    assert given(batch).x.shape == (11, 10)


def test_a_dimer_has_no_coordinates_between_its_molecules_but_distances():
    descriptor, features = describe(frames_of("dimer"))
    c = descriptor.coordinates(6)
    for atoms in c.atoms[c.n_body > 2][:, :3]:
        assert len({int(a) // 3 for a in atoms}) == 1
    assert features.x.shape == (3, 3 * 15 + 2)
    for kind in descriptor.parts(6):
        for row in kind:
            owner = np.repeat(np.arange(len(c.atoms)), np.diff(c.first))
            pairs = c.atoms[owner[row], :2]
            assert len(np.unique(pairs // 3)) == 1


def periodic():
    return Atoms("OHH", molecule("H2O").positions, cell=[9, 9, 9], pbc=True)


def coinciding():
    frame = molecule("H2O")
    frame.positions[2] = frame.positions[1]
    return frame


refused = [
    ("periodic", (), periodic, "molecules without periodic .* use InverseDistances"),
    ("unbound", None, dimer, "bonds are not known yet: give them, or call bind"),
    ("same place", (), coinciding, "Atoms 1 and 2 of structure 1 are at the same pla"),
    ("one atom", (), lambda: Atoms("H"), "at least two atoms"),
]


@pytest.mark.parametrize(
    ("bonds", "make", "match"), [r[1:] for r in refused], ids=[r[0] for r in refused]
)
def test_what_cannot_be_described(bonds, make, match):
    frame = make()
    good = moved(frame, np.arange(3.0 * len(frame)) ** 1.1)
    with pytest.raises(InputError, match=match):
        InternalCoordinates(bonds)(Batch.from_frames([good, frame]))


def test_bonds_that_the_permutations_break_are_refused():
    descriptor = InternalCoordinates([(0, 1), (0, 2)])
    group = np.array([[0, 1, 2, 3], [0, 2, 3, 1], [0, 3, 1, 2]])
    with pytest.raises(InputError, match="is not symmetric under the permutations"):
        descriptor.coordinates(4).images(group)


distances = [
    # A feature leaves its range above or below; a margin may take the least below zero.
    (0, 0.9**-3, 3.0**-3, 1.0, "0.90 Å apart, closer than in training .1.00 Å at l"),
    (0, 4.0**-3, 3.0**-3, 1.0, "4.00 Å apart, farther than in training .3.00 Å at"),
    (0, 0.5**-3, -0.01, 1.0, "0.50 Å apart, closer than in training .1.00 Å at least"),
    (1, 1 / 0.5, -0.01, 1.0, "0.50 Å apart, closer than in training .1.00 Å at least"),
    (2, 0.5, 1.0, 3.0, "0.50 Å apart, closer than in training .1.00 Å at least"),
    (2, 3.5, -1.0, 3.0, "3.50 Å apart, farther than in training .3.00 Å at most"),
    (9, 0.5, -1.0, 0.0, "The angle of atoms 1-0-2 is unlike any in training"),
]


@pytest.mark.parametrize(("feature", "value", "low", "high", "match"), distances)
def test_extrapolation_in_words(feature, value, low, high, match):
    water = InternalCoordinates([(0, 1), (0, 2)])
    values = map(np.float64, (value, low, high))
    text = water.describe(3, feature, *values)
    assert re.search(match, text), text


def test_a_chain_of_words_for_torsions():
    coordinates = InternalCoordinates([(0, 1), (1, 2), (2, 3)])
    last = coordinates.coordinates(4).first[-1] - 1
    assert "torsion of atoms 0-1-2-3" in coordinates.describe(4, last, 1.0, -1.0, 0.0)
    assert all(a <= b for a, b in pairwise(coordinates.coordinates(4).first))
