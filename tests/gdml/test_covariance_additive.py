"""Covariances of sums of terms over bonds, angles and torsions, against dense ones."""

import numpy as np
import pytest
from toys import (
    KERNELS,
    additive_covariance,
    additive_kernel,
    labelled,
    morse,
    name_of,
    row_operations,
    shaken,
    symmetric_group,
    toy_frames,
)

from kforce.descriptors.internal_coordinates import InternalCoordinates
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.gdml.covariance import CrossCovariance, covariance, prior_blocks
from kforce.gdml.observations import Observations
from kforce.gdml.prior import Prior
from kforce.kernels.additive import Additive, terms_of
from kforce.kernels.base import Scaled
from kforce.kernels.stationary import Matern52, Matern72
from kforce.labels import Labels
from kforce.structures import Batch

NOISES = {"forces": None, "energies too": 0.1}
TILES = [5, 16, 2048]

#: Symmetries to sum over: hydrogens of ammonia and peroxide, a methyl group, a mirror.
GROUPS = {
    "NH3": symmetric_group(4, 3),
    "H2O2": np.array([[0, 1, 2, 3], [1, 0, 3, 2]]),
    "CH3OH": np.array([[0, 1, *p] for p in ([2, 3, 4, 5], [2, 3, 5, 4])]),
    "C2H2": np.array([[0, 1, 2, 3], [1, 0, 3, 2]]),
    "H2": symmetric_group(2, 2),
}


def build(frames, noise_energy=None, descriptor=None):
    batch, labels = Batch.from_frames(frames), Labels.from_frames(frames)
    descriptor = (descriptor or InternalCoordinates()).bind(batch)
    observations = Observations.build(batch, labels, noise_energy is not None)
    return descriptor, descriptor(batch), observations


def slow_matrix(left, right, kernel, group):
    terms = terms_of(kernel, left.x.shape[1])
    feature_perms, _ = left.coordinates.images(group)
    return additive_covariance(
        left, right, terms.profile, terms.scales, terms.variances, feature_perms
    )


def compare(frames, group, noise_energy, profile=None, tile_rows=2048, descriptor=None):
    descriptor, features, observations = build(frames, noise_energy, descriptor)
    profile = Matern72(length_scale=1.0) if profile is None else profile
    kernel = additive_kernel(profile, descriptor, group, features.n_atoms)
    tiled = covariance(Prior(kernel, group), features, observations, tile_rows)
    fast = tiled.to_dense()
    R = row_operations(observations)
    slow = R @ slow_matrix(features, features, kernel, group) @ R.T
    np.testing.assert_allclose(fast, slow, rtol=0, atol=5e-13 * np.abs(slow).max())
    return tiled, fast


@pytest.mark.parametrize("noise_energy", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("name", GROUPS)
def test_molecules(name, noise_energy):
    compare(shaken(name, 4), GROUPS[name], noise_energy)


@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
def test_every_profile(kernel):
    compare(shaken("NH3", 4), GROUPS["NH3"], 0.1, kernel)


@pytest.mark.parametrize("tile_rows", TILES)
def test_every_tiling(tile_rows):
    tiled, _ = compare(shaken("H2O2", 6), GROUPS["H2O2"], 0.1, tile_rows=tile_rows)
    assert (tiled.n_tiles > 1) == (tile_rows < 2048)


@pytest.mark.parametrize("tile_rows", TILES)
def test_frames_that_miss_labels(tile_rows):
    frames = shaken("NH3", 6)
    for s, atoms in ((1, [0]), (3, [1, 2]), (4, [0, 1, 2, 3])):
        frames[s].calc.results["forces"][atoms] = np.nan
    del frames[5].calc.results["energy"]
    for noise_energy in NOISES.values():
        compare(frames, GROUPS["NH3"], noise_energy, tile_rows=tile_rows)


def test_more_frames_than_fit_side_by_side():
    # At most 64 structures are computed side by side; linear ones break the chunks.
    frames = shaken("H2O", 68) + toy_frames([8, 1, 1], 3, linear=(0, 1))
    water = InternalCoordinates([(0, 1), (0, 2)])
    compare(frames, symmetric_group(3, 2), 0.1, descriptor=water)


def test_straight_molecules_among_bent_ones():
    frames = shaken("C2H2", 2) + shaken("C2H2", 1, scale=0.0)
    longer = frames[2].positions * 1.02
    frames.append(labelled(frames[2].numbers, longer, *morse(longer, [6, 6, 1, 1])))
    assert build(frames)[2].n_rigid.tolist() == [6, 6, 5, 5]
    _, K = compare(frames, GROUPS["C2H2"], 0.1)
    assert np.isfinite(K).all()


def test_the_projection_loses_nothing():
    # Forces are free of rigid motions by themselves: all 3 n of them have the rank of
    # those that are left.
    descriptor, features, observations = build(shaken("NH3", 3))
    group = GROUPS["NH3"]
    kernel = additive_kernel(Matern72(1.0), descriptor, group, 4)
    slow = slow_matrix(features, features, kernel, group)
    forces = np.concatenate([np.arange(12) + 13 * s for s in range(3)])
    full = np.linalg.eigvalsh(slow[np.ix_(forces, forces)])[-18:]
    K = covariance(Prior(kernel, group), features, observations).to_dense()
    np.testing.assert_allclose(np.linalg.eigvalsh(K), full, rtol=1e-8)


@pytest.mark.parametrize("noise_energy", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("amplitude", [1.0, 2.5])
def test_one_term_of_unit_scales_is_the_plain_kernel(noise_energy, amplitude):
    frames = toy_frames([6, 1, 1, 1], 5)
    group = symmetric_group(4, 3)
    plain = Matern52(length_scale=1.3)
    for descriptor in (InverseDistances(), InternalCoordinates([(0, 1), (0, 2)])):
        if isinstance(descriptor, InternalCoordinates):
            group = symmetric_group(4, 1)
        descriptor, features, observations = build(frames, noise_energy, descriptor)
        one = np.ones((1, features.x.shape[1]))
        pairs = [
            (plain, Additive(plain, one)),
            (Scaled(plain, amplitude), Additive(plain, one, [amplitude])),
            (Scaled(plain, amplitude), Scaled(Additive(plain, one), amplitude)),
        ]
        for left, right in pairs:
            K = covariance(Prior(left, group), features, observations).to_dense()
            same = covariance(Prior(right, group), features, observations).to_dense()
            np.testing.assert_allclose(same, K, rtol=0, atol=1e-13 * np.abs(K).max())


def test_terms_add_up():
    frames = shaken("NH3", 4)
    descriptor, features, observations = build(frames, 0.1)
    group = GROUPS["NH3"]
    whole = additive_kernel(Matern72(1.0), descriptor, group, 4)
    parts = 0.0
    for scales, amplitude in zip(whole.scales, whole.amplitudes, strict=True):
        kernel = Additive(whole.kernel, scales[None], [amplitude])
        # One term alone need not be symmetric: the lower triangle is what is kept.
        parts += np.tril(
            covariance(Prior(kernel, group), features, observations).to_dense()
        )
    K = covariance(Prior(whole, group), features, observations).to_dense()
    np.testing.assert_allclose(np.tril(K), parts, atol=1e-12 * np.abs(K).max())


def test_scales_are_those_of_the_features():
    # Distances in other units with the inverse scales are the same.
    frames = toy_frames([8, 1, 1], 4)
    _, features, observations = build(frames, 0.1, InverseDistances())
    group = symmetric_group(3, 2)
    K = covariance(Prior(Matern52(2.0), group), features, observations).to_dense()
    kernel = Additive(Matern52(1.0), np.full((1, 3), 0.5))
    scaled = covariance(Prior(kernel, group), features, observations).to_dense()
    np.testing.assert_allclose(scaled, K, atol=1e-13 * np.abs(K).max())


def test_features_without_scale_do_not_count():
    # A term of the N-H distances alone: moving two hydrogens about them changes the
    # descriptor, but not the covariance of energies.
    frames = shaken("NH3", 3)
    descriptor, features, observations = build(frames, 0.1)
    atoms = descriptor.coordinates(4).atoms
    owner = np.repeat(np.arange(len(atoms)), np.diff(descriptor.coordinates(4).first))
    bonds = descriptor.coordinates(4).n_body[owner] == 2
    bonds &= (atoms[owner, :2] == 0).any(axis=1)
    kernel = Additive(Matern72(1.0), bonds[None].astype(float))
    group = GROUPS["NH3"]
    turned = [frame.copy() for frame in frames]
    for frame in turned:
        frame.rotate(10, "z", center=frame.positions[0])
        frame.positions[1:3] = frames[0].positions[1:3]
        for b in (1, 2):
            r = frames[turned.index(frame)].get_distance(0, b)
            frame.set_distance(0, b, r, fix=0)
    other = descriptor(Batch.from_frames(turned))
    assert np.abs(other.x[:, ~bonds] - features.x[:, ~bonds]).max() > 0.01
    np.testing.assert_allclose(other.x[:, bonds], features.x[:, bonds], rtol=1e-12)
    energies = np.arange(12, 39, 13)
    blocks = [
        prior_blocks(Prior(kernel, group), f)[:, 12, 12] for f in (features, other)
    ]
    np.testing.assert_allclose(blocks[1], blocks[0], rtol=1e-12)
    cross = [
        CrossCovariance(Prior(kernel, group), features, observations)(f)[:, energies]
        for f in (features, other)
    ]
    np.testing.assert_allclose(cross[1], cross[0], atol=1e-12)


@pytest.mark.parametrize("noise_energy", NOISES.values(), ids=NOISES)
def test_with_other_structures(noise_energy):
    frames = shaken("NH3", 5)
    frames[3].calc.results["forces"][1] = np.nan
    group = GROUPS["NH3"]
    descriptor, features, observations = build(frames, noise_energy)
    kernel = additive_kernel(Matern72(1.0), descriptor, group, 4)
    # A training structure among the queries.
    queries = descriptor(Batch.from_frames([*shaken("NH3", 2, seed=1), frames[1]]))
    fast = CrossCovariance(Prior(kernel, group), features, observations)(queries)
    full = slow_matrix(features, queries, kernel, group)
    slow = row_operations(observations) @ full
    np.testing.assert_allclose(fast, slow, rtol=0, atol=5e-13 * np.abs(slow).max())


@pytest.mark.parametrize("name", GROUPS)
def test_prior_blocks(name):
    frames, group = shaken(name, 2), GROUPS[name]
    descriptor, features, _ = build(frames)
    kernel = additive_kernel(Matern72(1.0), descriptor, group, features.n_atoms)
    blocks = prior_blocks(Prior(kernel, group), features)
    for s, block in enumerate(blocks):
        one = features.take(np.array([s]))
        slow = slow_matrix(one, one, kernel, group)
        np.testing.assert_allclose(block, slow, atol=5e-13 * np.abs(slow).max())
