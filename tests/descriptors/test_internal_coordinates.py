import re
from itertools import pairwise, permutations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.data import covalent_radii
from conformance import GlobalDescriptorConformance
from scipy.spatial.distance import cdist
from toys import (
    assert_second_order,
    dense_jacobians,
    shaken,
    symmetric_group,
)

import kforce
from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.errors import InputError
from kforce.storage.codec import decode, encode
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


def water(*lengths):
    """Water with two lengths of its bonds in units of covalent radii."""
    unit = sum(covalent_radii[[8, 1]])
    u, v = np.array([1.0, 0.0, 0.0]), np.array([-0.25, 0.97, 0.0])
    return Atoms("OHH", [(0, 0, 0), lengths[0] * unit * u, lengths[1] * unit * v])


def test_binding_takes_the_bonds_of_all_frames_and_switches_those_that_break(caplog):
    batch = Batch.from_frames([*frames_of("H2O", 10, scale=0.02), water(2.2, 1.0)])
    descriptor = InternalCoordinates()
    with caplog.at_level("INFO", logger="kforce.descriptors"):
        bound = descriptor.bind(batch)
    assert descriptor.bonds is None
    assert bound.bonds == ((0, 1), (0, 2))
    assert bound.switches == ((1.2125, 3.395), None)
    assert "the bonds 0-1 break in some structures" in caplog.text
    plain = InternalCoordinates([(0, 1), (0, 2)])
    assert plain.bind(batch) is plain
    x, without = bound(batch).x, plain(batch).x
    # Where both bonds are there, nothing changes; the angle of the other has faded.
    np.testing.assert_array_equal(x[:-1], without[:-1])
    np.testing.assert_array_equal(x[:, :-1], without[:, :-1])
    assert 0.0 < x[-1, -1] / without[-1, -1] < 0.9


def test_images_of_bonds_that_break_are_switched_as_well():
    batch = Batch.from_frames([*frames_of("H2O", 10, scale=0.02), water(2.2, 1.0)])
    bound = InternalCoordinates().bind(batch, symmetric_group(3, 2))
    assert bound.switches == ((1.2125, 3.395),) * 2
    # So are those of a bond that is exchanged with one that never was.
    frames = [water(1.0, 3.0), water(1.05, 2.9)]
    bound = InternalCoordinates().bind(Batch.from_frames(frames))
    assert (bound.bonds, bound.switches) == (((0, 1),), None)
    bound = InternalCoordinates().bind(Batch.from_frames(frames), symmetric_group(3, 2))
    assert bound.bonds == ((0, 1), (0, 2))
    assert bound.switches == ((1.2125, 3.395),) * 2


def test_bonds_that_hold_make_the_descriptor_of_fixed_bonds():
    frames = kforce.datasets.load_methanol_ccsdt()[:20]
    batch = Batch.from_frames(frames)
    bound = InternalCoordinates().bind(batch, GROUPS["CH3OH"])
    assert bound.switches is None
    fixed = InternalCoordinates(bound.bonds)
    endless = InternalCoordinates(bound.bonds, [None] * len(bound.bonds))
    long = InternalCoordinates(bound.bonds, [(3.0, 4.0)] * len(bound.bonds))
    wanted = bound(batch)
    for descriptor in (fixed, endless, long):
        features = descriptor(batch)
        for key in ("x", "dx_dq", "b_matrix"):
            np.testing.assert_array_equal(getattr(features, key), getattr(wanted, key))


def exchanging(name, n_frames=6):
    """Frames of a chain H-O-O-H, and switches that it is in the middle of."""
    bonds = ((0, 1), (0, 2), (1, 2), (1, 3))
    switches = {
        "some": (None, (0.7, 1.3), (1.1, 2.6), (0.7, 1.3)),
        "all": ((1.2, 2.0), (0.5, 1.5), (1.1, 2.6), (0.6, 2.0)),
    }
    return frames_of("H2O2", n_frames), InternalCoordinates(bonds, switches[name])


def slow_switch(r, between):
    if between is None:
        return 1.0
    t = np.clip((r - between[0]) / (between[1] - between[0]), 0.0, 1.0)
    return 1.0 - 35 * t**4 + 84 * t**5 - 70 * t**6 + 20 * t**7


@pytest.mark.parametrize("name", ["some", "all"])
def test_switched_values_by_hand(name):
    frames, descriptor = exchanging(name)
    features = descriptor(Batch.from_frames(frames))
    between = dict(zip(descriptor.bonds, descriptor.switches, strict=True))
    c = features.coordinates
    for frame, x in zip(frames, features.x, strict=True):
        slow = slow_features(frame, c)
        for q in np.flatnonzero(c.n_body > 2):
            chain = c.atoms[q, : c.n_body[q]].tolist()
            for bond in pairwise(chain):
                pair = between[tuple(sorted(bond))]
                slow[c.first[q]] *= slow_switch(frame.get_distance(*bond), pair)
        np.testing.assert_allclose(x, slow, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("name", ["some", "all"])
def test_switched_derivatives_against_differences(name, kind):
    (frame, *_), descriptor = exchanging(name)
    features = descriptor(Batch.from_frames([frame]))
    c = features.coordinates
    chosen = np.repeat(c.n_body, np.diff(c.first)) == kind
    direction = np.random.default_rng(2).normal(size=frame.positions.shape)
    direction /= np.linalg.norm(direction)
    assert_second_order(
        lambda r: descriptor(Batch.from_frames([moved(frame, r)])).x[0, chosen],
        features.push(direction[None])[0, chosen],
        frame.positions,
        direction,
    )


@pytest.mark.parametrize("edge", [1.2, 1.9])
def test_features_are_smooth_where_a_switch_begins_and_ends(edge):
    bonds, switches = [(0, 1), (0, 2)], [(1.2, 1.9), (0.8, 3.0)]
    descriptor = InternalCoordinates(bonds, switches)

    def along(offsets):
        u, v = np.array([1.0, 0.0, 0.0]), np.array([-0.3, 1.0, 0.2])
        frames = [Atoms("OHH", [(0, 0, 0), (edge + h) * u, v]) for h in offsets]
        features = descriptor(Batch.from_frames(frames))
        return features.x[:, -1], features.b_matrix[:, -1]

    # First derivatives of the slopes from both sides of the edge agree the better the
    # smaller the step, to first order.
    gaps = []
    for h in (1e-2, 1e-3):
        _, slopes = along([-h, 0.0, h])
        gaps.append(np.abs((slopes[2] - 2 * slopes[1] + slopes[0]) / h).max())
    assert gaps[1] < 0.15 * gaps[0]
    x, slopes = along([0.0, 1e-9])
    np.testing.assert_allclose(x[0], x[1], atol=1e-8)
    np.testing.assert_allclose(slopes[0], slopes[1], atol=1e-7)
    assert (x[0] == 0.0) == (edge == 1.9)


def shared_proton():
    """H3O2- with the proton on either oxygen, and all arrangements of like atoms."""
    rng = np.random.default_rng(3)
    start = np.array(
        [[-1.25, 0, 0], [1.25, 0, 0], [0, 0.1, 0], [-1.6, 0.9, 0], [1.6, 0.2, 0.9]]
    )
    frames = []
    for shift in (-0.3, 0.0, 0.3, 0.1):
        positions = start + rng.normal(scale=0.05, size=(5, 3))
        positions[2, 0] += shift
        order = [*rng.permutation(2), *(2 + rng.permutation(3))]
        frames.append(Atoms("OOHHH", positions[order]))
    hydrogens = [[0, 1, *q] for q in permutations((2, 3, 4))]
    group = [p for q in hydrogens for p in (q, [1, 0, *q[2:]])]
    return frames, np.array(group)


def test_exchanged_atoms_have_the_features_of_one_another():
    frames, group = shared_proton()
    batch = Batch.from_frames(frames)
    descriptor = InternalCoordinates().bind(batch, group)
    assert descriptor.bonds == tuple((o, h) for o in (0, 1) for h in (2, 3, 4))
    features = descriptor(batch)
    counts = np.bincount(features.coordinates.n_body)
    assert counts.tolist() == [0, 0, 10, 9, 12]
    feature_perms, _ = features.coordinates.images(group)
    for p, images in zip(group, feature_perms, strict=True):
        permuted = [moved(f, f.positions[p]) for f in frames]
        x = descriptor(Batch.from_frames(permuted)).x
        np.testing.assert_allclose(x, features.x[:, images], atol=1e-13)
    # An oxygen with all hydrogens, a hydrogen between both oxygens, two of these; all
    # atoms are within two bonds, which makes no part.
    sizes = [len(kind) for kind in descriptor.parts(5)]
    assert sizes == [5, 3]
    assert not any(kind.all(axis=1).any() for kind in descriptor.parts(5))


def test_too_many_angles_keep_the_nearest_kinds(caplog):
    # A hydrogen above a cluster of others that come and go: each pair is a kind.
    rng = np.random.default_rng(1)
    frames = [Atoms("H14", 0.9 * s * rng.normal(size=(14, 3))) for s in (0.3, 3.0)]
    bound = InternalCoordinates().bind(Batch.from_frames(frames))
    assert "are left out: there would be more than 400 angles" in caplog.text
    c = bound.coordinates(14)
    assert 300 < np.count_nonzero(c.n_body > 2) <= 400


def test_large_groups_bound_the_angles(caplog):
    frames, group = shared_proton()
    batch = Batch.from_frames(frames)
    many = np.tile(group, (100, 1))  # 21 angles and torsions, 1,200 permutations
    bound = InternalCoordinates().bind(batch, many)
    assert (bound.bonds, bound.switches) == ((), None)
    assert "would be more than 16 angles and torsions" in caplog.text


def test_where_no_bond_that_breaks_is_affordable_those_that_hold_are_left(monkeypatch):
    monkeypatch.setattr("kforce.descriptors.internal_coordinates._MAX_BENDS", 0)
    batch = Batch.from_frames([*frames_of("H2O", 10, scale=0.02), water(2.2, 1.0)])
    bound = InternalCoordinates().bind(batch)
    assert (bound.bonds, bound.switches) == (((0, 2),), None)


def test_switches_are_stored_and_older_files_have_none():
    for descriptor in (exchanging("some")[1], InternalCoordinates(((0, 1),))):
        again = decode(*encode(descriptor))
        assert again.get_params() == descriptor.get_params()
    again = decode({"class": "InternalCoordinates", "bonds": [[0, 1]]}, {})
    assert again.get_params() == {"bonds": [[0, 1]], "switches": None}
    tree, arrays = encode(exchanging("some")[1])
    tree["switches"] = {"tuple": [None, None]}
    with pytest.raises(ValueError, match="switches must be"):
        decode(tree, arrays)


wrong_switches = [
    [(1.0, 2.0)],
    [(2.0, 1.0), None],
    [(1.0, np.inf), None],
    [(-1.0, 2.0), None],
    [(1.0,), None],
]


@pytest.mark.parametrize("switches", wrong_switches, ids=str)
def test_switches_that_make_no_sense(switches):
    descriptor = InternalCoordinates([(0, 1), (0, 2)], switches)
    with pytest.raises(InputError, match=r"switches must be \(near, far\) in Å"):
        descriptor.bind(Batch.from_frames(frames_of("H2O")))


def test_switches_must_be_the_same_for_images():
    descriptor = InternalCoordinates([(0, 1), (0, 2)], [(1.0, 2.0), None])
    batch = Batch.from_frames(frames_of("H2O"))
    assert descriptor.bind(batch) is descriptor
    with pytest.raises(InputError, match="not symmetric under the permutations"):
        descriptor.bind(batch, symmetric_group(3, 2))


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
