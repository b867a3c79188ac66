"""Covariances of observations, against loops over dense Jacobians.

Over inverse distances every formula is written out in the test; over distances, angles
and torsions the Jacobians are those of the descriptor.
"""

import numpy as np
import pytest
from toys import (
    CO2,
    KERNELS,
    WATER,
    additive_covariance,
    additive_kernel,
    labelled,
    morse,
    name_of,
    row_operations,
    shaken,
    slow_covariance,
    symmetric_group,
    toy_frames,
)

from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.gdml.covariance import CrossCovariance, covariance, prior_blocks
from kforce.gdml.observations import Observations
from kforce.gdml.prior import Prior
from kforce.kernels.base import Scaled, Sum
from kforce.kernels.stationary import Matern32, Matern52, Matern72
from kforce.labels import Labels
from kforce.structures import Batch

both = pytest.mark.parametrize("energies", [False, True], ids=["forces", "energies"])
every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=name_of)

PAIRS = InverseDistances()
TILES = [5, 16, 40, 2048]
MIRROR = np.array([[0, 1, 2, 3], [1, 0, 3, 2]])

#: Symmetries to sum over: hydrogens of ammonia and peroxide, a methyl group, a mirror.
GROUPS = {
    "NH3": symmetric_group(4, 3),
    "H2O2": MIRROR,
    "CH3OH": np.array([[0, 1, *p] for p in ([2, 3, 4, 5], [2, 3, 5, 4])]),
    "C2H2": MIRROR,
    "H2": symmetric_group(2, 2),
}


class Case:
    """Frames, their features and observations, and a prior."""

    def __init__(self, frames, group, energies=True, kernel=None, descriptor=PAIRS):
        batch = Batch.from_frames(frames)
        self.frames, self.descriptor = frames, descriptor.bind(batch)
        self.features = self.descriptor(batch)
        labels = Labels.from_frames(frames)
        self.observations = Observations.build(batch, labels, energies)
        self.prior = Prior(Matern52(1.0) if kernel is None else kernel, group)
        self.is_plain = isinstance(descriptor, InverseDistances)

    @classmethod
    def of_parts(cls, frames, group, energies=True, profile=None, bonds=None):
        """With a kernel that is a sum over parts of the molecule."""
        profile = Matern72(1.0) if profile is None else profile
        case = cls(frames, group, energies, profile, InternalCoordinates(bonds))
        n_atoms = case.features.n_atoms
        kernel = additive_kernel(profile, case.descriptor, group, n_atoms)
        case.prior = Prior(kernel, group)
        return case

    def covariance(self, kernel=None, tile_rows=2048, progress=None):
        kernel = self.prior.kernel if kernel is None else kernel
        prior = Prior(kernel, self.prior.permutations)
        return covariance(prior, self.features, self.observations, tile_rows, progress)

    def slow(self, left, right):
        """Covariance of all forces and energies of frames with those of others."""
        if self.is_plain:
            positions = ([f.positions for f in frames] for frames in (left, right))
            return slow_covariance(
                *positions, self.prior.kernel, self.prior.permutations
            )
        left, right = (self.descriptor(Batch.from_frames(f)) for f in (left, right))
        feature_perms, _ = left.coordinates.images(self.prior.permutations)
        components = self.prior.kernel.components(left.x.shape[1])
        return additive_covariance(left, right, *components, feature_perms)

    def compare(self, tile_rows=2048):
        tiled = self.covariance(tile_rows=tile_rows)
        fast = tiled.to_dense()
        R = row_operations(self.observations)
        slow = R @ self.slow(self.frames, self.frames) @ R.T
        # W amplifies rounding a little: the scale is that of the matrix before it.
        atol = (2e-13 if self.is_plain else 5e-13) * np.abs(slow).max()
        np.testing.assert_allclose(fast, slow, rtol=0, atol=atol)
        return tiled, fast


@both
@every_kernel
def test_every_kernel(kernel, energies):
    frames = toy_frames([6, 1, 1, 1], 7)
    Case(frames, symmetric_group(4, 3), energies, kernel).compare(tile_rows=16)


@both
@pytest.mark.parametrize("name", GROUPS)
def test_sums_over_parts_of_molecules(name, energies):
    Case.of_parts(shaken(name, 4), GROUPS[name], energies).compare()


@every_kernel
def test_sums_of_every_profile(kernel):
    Case.of_parts(shaken("NH3", 4), GROUPS["NH3"], True, kernel).compare()


@both
@pytest.mark.parametrize("tile_rows", TILES)
@pytest.mark.parametrize("n_atoms", [2, 3, 5, 9])
def test_every_size_and_tiling(n_atoms, tile_rows, energies):
    frames = toy_frames([6] + [1] * (n_atoms - 1), 6, linear=(1, 2, 5))
    case = Case(frames, symmetric_group(n_atoms, 2), energies)
    tiled, _ = case.compare(tile_rows)
    if tile_rows == 5:
        assert tiled.n_tiles > 1


@pytest.mark.parametrize("tile_rows", [5, 16, 2048])
def test_every_tiling_of_a_sum(tile_rows):
    tiled, _ = Case.of_parts(shaken("H2O2", 6), MIRROR).compare(tile_rows)
    assert (tiled.n_tiles > 1) == (tile_rows < 2048)


def without_labels(frames, atoms_without_forces):
    for s, atoms in atoms_without_forces.items():
        frames[s].calc.results["forces"][atoms] = np.nan
    del frames[5].calc.results["energy"]
    return frames


@both
@pytest.mark.parametrize("tile_rows", TILES)
def test_frames_that_miss_labels(tile_rows, energies):
    frames = toy_frames(CO2, 8, linear=(2, 3, 6))
    frames = without_labels(frames, {1: [0], 3: [1, 2], 4: [0, 1, 2], 6: [2]})
    group = np.array([[0, 1, 2], [2, 1, 0]])
    Case(frames, group, energies).compare(tile_rows)
    frames = without_labels(shaken("NH3", 6), {1: [0], 3: [1, 2], 4: [0, 1, 2, 3]})
    Case.of_parts(frames, GROUPS["NH3"], energies).compare(tile_rows)


@pytest.mark.parametrize("tile_rows", [30, 2048])
def test_more_frames_than_fit_side_by_side(tile_rows):
    # Linear ones in between break the packs.
    frames = toy_frames(WATER, 75, linear=range(66, 70))
    Case(frames, symmetric_group(3, 2)).compare(tile_rows)


def test_more_frames_of_a_sum_than_fit_side_by_side():
    frames = shaken("H2O", 68) + toy_frames(WATER, 3, linear=(0, 1))
    group, bonds = symmetric_group(3, 2), [(0, 1), (0, 2)]
    Case.of_parts(frames, group, bonds=bonds).compare()


def test_straight_molecules_among_bent_ones():
    frames = shaken("C2H2", 2) + shaken("C2H2", 1, scale=0.0)
    longer = frames[2].positions * 1.02
    frames.append(labelled(frames[2].numbers, longer, *morse(longer, [6, 6, 1, 1])))
    case = Case.of_parts(frames, MIRROR)
    assert case.observations.n_rigid.tolist() == [6, 6, 5, 5]
    _, K = case.compare()
    assert np.isfinite(K).all()


def test_energies_alone():
    frames = toy_frames(WATER, 5)
    bare = [labelled(f.numbers, f.positions, f.get_potential_energy()) for f in frames]
    tiled, K = Case(bare, symmetric_group(3, 2)).compare(tile_rows=2)
    assert tiled.n_rows == 5
    assert tiled.n_tiles == 3
    assert (K > 0).all()


@both
@every_kernel
def test_it_is_a_covariance(kernel, energies):
    frames = toy_frames([6, 1, 1, 1], 6)
    case = Case(frames, symmetric_group(4, 3), energies, kernel)
    K = case.covariance(tile_rows=14).to_dense()
    np.testing.assert_array_equal(K, K.T)
    eigenvalues = np.linalg.eigvalsh(K)
    assert eigenvalues[0] > -1e-13 * eigenvalues[-1]
    np.testing.assert_allclose(case.covariance().diagonal(), np.diag(K), rtol=1e-12)


@pytest.mark.parametrize("kernel", [Matern32(1.0), Matern52(1.0)], ids=name_of)
def test_two_copies_of_a_frame_have_equal_rows(kernel):
    # Zero distance off the diagonal as well.
    frames = toy_frames(WATER, 3)
    frames.append(frames[0])
    _, K = Case(frames, symmetric_group(3, 2), kernel=kernel).compare(tile_rows=5)
    np.testing.assert_allclose(K[:4], K[-4:], atol=1e-13 * np.abs(K).max())


def test_the_number_of_threads_changes_nothing(monkeypatch):
    case = Case(toy_frames([6, 1, 1, 1], 30), symmetric_group(4, 3))
    matrices = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        matrices.append(case.covariance(tile_rows=40).to_dense())
    np.testing.assert_array_equal(matrices[0], matrices[1])
    np.testing.assert_array_equal(matrices[0], matrices[2])


def test_permuting_the_atoms_of_a_frame_permutes_its_rows():
    # With the whole group, a frame and its permuted copy are the same random variable.
    group = symmetric_group(4, 3)
    matrices = []
    for p in (group[0], group[3]):
        frames = toy_frames([6, 1, 1, 1], 3)
        energies = [labelled(f.numbers, f.positions[p], 0.0) for f in frames]
        matrices.append(Case(energies, group).covariance().to_dense())
    np.testing.assert_allclose(matrices[1], matrices[0], rtol=1e-13)


def test_progress_counts_what_is_stored():
    counted = []
    case = Case(toy_frames(WATER, 9), symmetric_group(3, 2))
    K = case.covariance(tile_rows=8, progress=counted.append)
    stored = sum(K.tile(i, j).size for i in range(K.n_tiles) for j in range(i + 1))
    assert sum(counted) == stored


def test_the_projection_loses_nothing():
    # Forces are free of rigid motions by themselves: all 3 n of them have the rank of
    # those that remain.
    case = Case.of_parts(shaken("NH3", 3), GROUPS["NH3"], energies=False)
    slow = case.slow(case.frames, case.frames)
    forces = np.concatenate([np.arange(12) + 13 * s for s in range(3)])
    full = np.linalg.eigvalsh(slow[np.ix_(forces, forces)])[-18:]
    K = case.covariance().to_dense()
    np.testing.assert_allclose(np.linalg.eigvalsh(K), full, rtol=1e-8)


@both
@pytest.mark.parametrize("amplitude", [1.0, 2.5])
@pytest.mark.parametrize("bonds", [None, [(0, 1), (0, 2)]], ids=["pairs", "bonds"])
def test_one_component_of_unit_scales_is_the_plain_kernel(bonds, amplitude, energies):
    group = symmetric_group(4, 3 if bonds is None else 1)
    descriptor = PAIRS if bonds is None else InternalCoordinates(bonds)
    case = Case(toy_frames([6, 1, 1, 1], 5), group, energies, descriptor=descriptor)
    plain = Matern52(length_scale=1.3)
    one = np.ones((1, case.features.x.shape[1]))
    pairs = [
        (plain, Sum(plain, one)),
        (Scaled(plain, amplitude), Sum(plain, one, [amplitude])),
        (Scaled(plain, amplitude), Scaled(Sum(plain, one), amplitude)),
    ]
    for kernels in pairs:
        K, same = (case.covariance(kernel).to_dense() for kernel in kernels)
        np.testing.assert_allclose(same, K, rtol=0, atol=1e-13 * np.abs(K).max())


def test_components_add_up():
    case = Case.of_parts(shaken("NH3", 4), GROUPS["NH3"])
    whole = case.prior.kernel
    parts = 0.0
    for scales, amplitude in zip(whole.scales, whole.amplitudes, strict=True):
        kernel = Sum(whole.kernel, scales[None], [amplitude])
        # One component alone need not be symmetric: the lower triangle is kept.
        parts += np.tril(case.covariance(kernel).to_dense())
    K = case.covariance().to_dense()
    np.testing.assert_allclose(np.tril(K), parts, atol=1e-12 * np.abs(K).max())


def test_scales_are_those_of_the_features():
    # Distances in other units with the inverse scales are the same.
    case = Case(toy_frames(WATER, 4), symmetric_group(3, 2))
    K = case.covariance(Matern52(2.0)).to_dense()
    scaled = case.covariance(Sum(Matern52(1.0), np.full((1, 3), 0.5))).to_dense()
    np.testing.assert_allclose(scaled, K, atol=1e-13 * np.abs(K).max())


def test_features_without_scale_do_not_count():
    # A component of the N-H distances alone: moving two hydrogens about them changes
    # the descriptor, but not the covariance of energies.
    frames = shaken("NH3", 3)
    case = Case(frames, GROUPS["NH3"], descriptor=InternalCoordinates())
    coordinates = case.features.coordinates
    owner = np.repeat(np.arange(len(coordinates.atoms)), np.diff(coordinates.first))
    bonds = coordinates.n_body[owner] == 2
    bonds &= (coordinates.atoms[owner, :2] == 0).any(axis=1)
    kernel = Sum(Matern72(1.0), bonds[None].astype(float))
    turned = [frame.copy() for frame in frames]
    for s, frame in enumerate(turned):
        frame.rotate(10, "z", center=frame.positions[0])
        frame.positions[1:3] = frames[0].positions[1:3]
        for b in (1, 2):
            frame.set_distance(0, b, frames[s].get_distance(0, b), fix=0)
    other = case.descriptor(Batch.from_frames(turned))
    x, moved = case.features.x, other.x
    assert np.abs(moved[:, ~bonds] - x[:, ~bonds]).max() > 0.01
    np.testing.assert_allclose(moved[:, bonds], x[:, bonds], rtol=1e-12)
    prior, both = Prior(kernel, GROUPS["NH3"]), (case.features, other)
    blocks = [prior_blocks(prior, features)[:, 12, 12] for features in both]
    np.testing.assert_allclose(blocks[1], blocks[0], rtol=1e-12)
    with_others = CrossCovariance(prior, case.features, case.observations)
    cross = [with_others(features)[:, np.arange(12, 39, 13)] for features in both]
    np.testing.assert_allclose(cross[1], cross[0], atol=1e-12)


def assert_cross_covariance(case, others):
    queries = case.descriptor(Batch.from_frames(others))
    fast = CrossCovariance(case.prior, case.features, case.observations)(queries)
    slow = row_operations(case.observations) @ case.slow(case.frames, others)
    atol = (2e-13 if case.is_plain else 5e-13) * np.abs(slow).max()
    np.testing.assert_allclose(fast, slow, rtol=0, atol=atol)


@both
@every_kernel
def test_with_other_structures(kernel, energies):
    # More frames than fit side by side, some of them linear or without labels, and one
    # of them among the queries.
    frames = toy_frames(WATER, 75, linear=range(66, 70))
    frames[3].calc.results["forces"][1] = np.nan
    case = Case(frames, symmetric_group(3, 2), energies, kernel)
    assert_cross_covariance(case, [*toy_frames(WATER, 3, seed=1), frames[68]])


@both
def test_sums_with_other_structures(energies):
    frames = shaken("NH3", 5)
    frames[3].calc.results["forces"][1] = np.nan
    case = Case.of_parts(frames, GROUPS["NH3"], energies)
    assert_cross_covariance(case, [*shaken("NH3", 2, seed=1), frames[1]])


def assert_prior_blocks(case):
    blocks = prior_blocks(case.prior, case.features)
    for frame, block in zip(case.frames, blocks, strict=True):
        slow = case.slow([frame], [frame])
        atol = (2e-13 if case.is_plain else 5e-13) * np.abs(slow).max()
        np.testing.assert_allclose(block, slow, atol=atol)


@every_kernel
@pytest.mark.parametrize("n_atoms", [2, 4])
def test_prior_blocks(kernel, n_atoms):
    frames = toy_frames([6] + [1] * (n_atoms - 1), 5, linear=(2,))
    group = symmetric_group(n_atoms, n_atoms - 1)
    assert_prior_blocks(Case(frames, group, kernel=kernel))


@pytest.mark.parametrize("name", GROUPS)
def test_prior_blocks_of_sums(name):
    assert_prior_blocks(Case.of_parts(shaken(name, 2), GROUPS[name]))
