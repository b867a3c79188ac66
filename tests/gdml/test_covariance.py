import numpy as np
import pytest
from toys import (
    KERNELS,
    labelled,
    name_of,
    row_operations,
    slow_block,
    slow_covariance,
    symmetric_group,
    toy_frames,
)

from kforce.descriptors.inverse_distances import InverseDistances
from kforce.gdml.covariance import CrossCovariance, covariance, prior_blocks
from kforce.gdml.observations import Observations
from kforce.gdml.prior import Prior
from kforce.kernels.stationary import Matern32, Matern52
from kforce.labels import Labels
from kforce.structures import Batch

NOISES = {"forces": None, "energies too": 0.1}
TILES = [5, 16, 40, 2048]


def build(frames, noise_energy):
    batch, labels = Batch.from_frames(frames), Labels.from_frames(frames)
    features = InverseDistances()(batch)
    return features, Observations.build(batch, labels, noise_energy is not None)


def slow_matrix(frames, observations, kernel, permutations):
    """Dense Jacobians, loops over everything, a dense matrix of row operations."""
    positions = [f.positions for f in frames]
    full = slow_covariance(positions, positions, kernel, permutations)
    R = row_operations(observations)
    return R @ full @ R.T


def compare(frames, kernel, permutations, noise_energy, tile_rows):
    features, observations = build(frames, noise_energy)
    tiled = covariance(Prior(kernel, permutations), features, observations, tile_rows)
    fast = tiled.to_dense()
    slow = slow_matrix(frames, observations, kernel, permutations)
    # W amplifies rounding a little, so the scale is that of the matrix before rounding.
    np.testing.assert_allclose(fast, slow, rtol=0, atol=2e-13 * np.abs(slow).max())
    return tiled, fast


@pytest.mark.parametrize("noise_energy", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
def test_every_kernel(kernel, noise_energy):
    frames = toy_frames([6, 1, 1, 1], 7)
    compare(frames, kernel, symmetric_group(4, 3), noise_energy, tile_rows=16)


@pytest.mark.parametrize("noise_energy", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("tile_rows", TILES)
@pytest.mark.parametrize("n_atoms", [2, 3, 5, 9])
def test_every_size_and_tiling(n_atoms, tile_rows, noise_energy):
    frames = toy_frames([6] + [1] * (n_atoms - 1), 6, linear=(1, 2, 5))
    permutations = symmetric_group(n_atoms, 2)
    tiled, _ = compare(frames, Matern52(1.0), permutations, noise_energy, tile_rows)
    if tile_rows == 5:
        assert tiled.n_tiles > 1


@pytest.mark.parametrize("tile_rows", TILES)
def test_frames_that_miss_labels(tile_rows):
    frames = toy_frames([8, 6, 8], 8, linear=(2, 3, 6))
    for s, atoms in ((1, [0]), (3, [1, 2]), (4, [0, 1, 2]), (6, [2])):
        frames[s].calc.results["forces"][atoms] = np.nan
    del frames[5].calc.results["energy"]
    permutations = np.array([[0, 1, 2], [2, 1, 0]])
    for noise_energy in NOISES.values():
        compare(frames, Matern52(1.0), permutations, noise_energy, tile_rows)


@pytest.mark.parametrize("tile_rows", [30, 2048])
def test_more_frames_than_fit_side_by_side(tile_rows):
    # At most 64 structures are computed side by side; a row of linear ones in between
    # breaks the chunks.
    frames = toy_frames([8, 1, 1], 75, linear=range(66, 70))
    compare(frames, Matern52(1.0), symmetric_group(3, 2), 0.1, tile_rows)


def test_energies_alone():
    frames = toy_frames([8, 1, 1], 5)
    bare = [labelled(f.numbers, f.positions, f.get_potential_energy()) for f in frames]
    tiled, K = compare(bare, Matern52(1.0), symmetric_group(3, 2), 0.1, 2)
    assert tiled.n_rows == 5
    assert tiled.n_tiles == 3
    assert (K > 0).all()


@pytest.mark.parametrize("noise_energy", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
def test_it_is_a_covariance(kernel, noise_energy):
    frames = toy_frames([6, 1, 1, 1], 6)
    features, observations = build(frames, noise_energy)
    group = symmetric_group(4, 3)
    K = covariance(
        Prior(kernel, group), features, observations, tile_rows=14
    ).to_dense()
    np.testing.assert_array_equal(K, K.T)
    eigenvalues = np.linalg.eigvalsh(K)
    assert eigenvalues[0] > -1e-13 * eigenvalues[-1]
    np.testing.assert_allclose(
        covariance(Prior(kernel, group), features, observations).diagonal(),
        np.diag(K),
        rtol=1e-12,
    )


@pytest.mark.parametrize("kernel", [Matern32(1.0), Matern52(1.0)], ids=name_of)
def test_two_copies_of_a_frame_have_equal_rows(kernel):
    # Zero distance off the diagonal as well.
    frames = toy_frames([8, 1, 1], 3)
    frames.append(frames[0])
    _, K = compare(frames, kernel, symmetric_group(3, 2), 0.1, 5)
    np.testing.assert_allclose(K[:4], K[-4:], atol=1e-13 * np.abs(K).max())


def test_the_number_of_threads_changes_nothing(monkeypatch):
    features, observations = build(toy_frames([6, 1, 1, 1], 30), 0.1)
    group = symmetric_group(4, 3)
    matrices = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        K = covariance(
            Prior(Matern52(1.0), group), features, observations, tile_rows=40
        )
        matrices.append(K.to_dense())
    np.testing.assert_array_equal(matrices[0], matrices[1])
    np.testing.assert_array_equal(matrices[0], matrices[2])


def test_permuting_the_atoms_of_a_frame_permutes_its_rows():
    # With the whole group, a frame and its permuted copy are the same random variable.
    frames = toy_frames([6, 1, 1, 1], 3)
    group = symmetric_group(4, 3)
    energies = [labelled(f.numbers, f.positions, 0.0) for f in frames]
    permuted = [labelled(f.numbers, f.positions[group[3]], 0.0) for f in frames]
    a = covariance(Prior(Matern52(1.0), group), *build(energies, 0.1)).to_dense()
    b = covariance(Prior(Matern52(1.0), group), *build(permuted, 0.1)).to_dense()
    np.testing.assert_allclose(b, a, rtol=1e-13)


def test_progress_counts_what_is_stored():
    features, observations = build(toy_frames([8, 1, 1], 9), 0.1)
    counted = []
    K = covariance(
        Prior(Matern52(1.0), symmetric_group(3, 2)),
        features,
        observations,
        8,
        counted.append,
    )
    stored = sum(K.tile(i, j).size for i in range(K.n_tiles) for j in range(i + 1))
    assert sum(counted) == stored


@pytest.mark.parametrize("noise_energy", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
def test_with_other_structures(kernel, noise_energy):
    # More frames than fit side by side, some of them linear or without labels.
    frames = toy_frames([8, 1, 1], 75, linear=range(66, 70))
    frames[3].calc.results["forces"][1] = np.nan
    group = symmetric_group(3, 2)
    features, observations = build(frames, noise_energy)
    # A training structure among the queries.
    others = [*toy_frames([8, 1, 1], 3, seed=1), frames[68]]
    queries, _ = build(others, None)
    fast = CrossCovariance(Prior(kernel, group), features, observations)(queries)
    full = slow_covariance(
        [f.positions for f in frames], [f.positions for f in others], kernel, group
    )
    slow = row_operations(observations) @ full
    np.testing.assert_allclose(fast, slow, rtol=0, atol=2e-13 * np.abs(slow).max())


@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
@pytest.mark.parametrize("n_atoms", [2, 4])
def test_prior_blocks(kernel, n_atoms):
    frames = toy_frames([6] + [1] * (n_atoms - 1), 5, linear=(2,))
    group = symmetric_group(n_atoms, n_atoms - 1)
    blocks = prior_blocks(Prior(kernel, group), build(frames, None)[0])
    for frame, block in zip(frames, blocks, strict=True):
        slow = slow_block(frame.positions, frame.positions, kernel, group)
        np.testing.assert_allclose(block, slow, atol=2e-13 * np.abs(slow).max())
