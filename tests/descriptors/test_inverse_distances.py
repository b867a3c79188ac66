from itertools import product

import numpy as np
import pytest
from ase import Atoms
from conformance import GlobalDescriptorConformance
from toys import (
    assert_second_order,
    geometry,
    inverse_distances,
    permuted_descriptor,
)

from kforce.descriptors.base import Coordinates
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.errors import InputError
from kforce.structures import Batch

SIZES = [2, 3, 5, 9]
CELLS = {
    "cubic": np.diag([2.5, 2.5, 2.5]),
    "tiny": np.diag([1.1, 1.3, 0.9]),
    "flat": np.diag([2.0, 9.0, 1.2]),
    "skewed": np.array([[2.0, 0, 0], [1.9, 1.0, 0], [-1.7, 0.8, 1.1]]),
    "very skewed": np.array([[10.0, 0, 0], [9.0, 1.0, 0], [0, 0, 10.0]]),
    "left-handed": np.array([[0, 2.0, 0], [1.5, 0.3, 0], [0.4, 0.2, 1.8]]),
}


def features_of(positions, **kwargs):
    positions = np.asarray(positions)
    positions = positions[None] if positions.ndim == 2 else positions
    frames = [Atoms(np.ones(len(r), dtype=int), r, **kwargs) for r in positions]
    return InverseDistances()(Batch.from_frames(frames))


@pytest.mark.parametrize("n_atoms", SIZES)
def test_values_and_jacobian_against_loops(n_atoms):
    positions = np.array([geometry(n_atoms, s) for s in range(3)])
    features = features_of(positions)
    for s, r in enumerate(positions):
        x, J = inverse_distances(r)
        np.testing.assert_allclose(features.x[s], x, rtol=1e-14)
        one = features.take(np.array([s]))
        dense = np.array(
            [one.push(e.reshape(1, -1, 3))[0] for e in np.eye(3 * n_atoms)]
        )
        np.testing.assert_allclose(dense.T, J, atol=1e-14)


class TestInverseDistances(GlobalDescriptorConformance):
    cases = {"": InverseDistances()}


def test_push_is_the_derivative_in_a_cell():
    # No pair is near half the cell, where the nearest image changes.
    positions = geometry(4, 1)
    direction = np.random.default_rng(2).normal(size=positions.shape)
    direction /= np.linalg.norm(direction)
    cell = {
        "cell": np.array([[5.5, 0, 0], [1.0, 5.0, 0], [0.4, -0.8, 6.0]]),
        "pbc": True,
    }
    assert_second_order(
        lambda r: features_of(r, **cell).x[0],
        features_of(positions, **cell).push(direction[None])[0],
        positions,
        direction,
    )


@pytest.mark.parametrize("n_atoms", SIZES)
def test_images_are_the_features_of_permuted_structures(n_atoms):
    positions = np.array([geometry(n_atoms, s) for s in range(3)])
    rng = np.random.default_rng(5)
    perms = np.array([rng.permutation(n_atoms) for _ in range(6)])
    features = features_of(positions)
    feature_perms, coordinate_perms = features.coordinates.images(perms)
    np.testing.assert_array_equal(feature_perms, coordinate_perms)
    for p, images in zip(perms, feature_perms, strict=True):
        # 1/r of the same two atoms: not a digit may differ.
        np.testing.assert_array_equal(
            features.x[:, images], features_of(positions[:, p]).x
        )


def test_jacobian_rows_move_with_the_images():
    positions, p = geometry(5, 0), np.array([2, 0, 1, 4, 3])
    features = features_of(positions)
    images = features.coordinates.images(p[None])[0][0]
    u = np.random.default_rng(0).normal(size=(5, 3))
    _, J = permuted_descriptor(positions, p)
    np.testing.assert_allclose(
        features.push(u[None])[0, images], J @ u.ravel(), rtol=1e-13, atol=1e-14
    )


def test_coordinates_that_are_not_symmetric_are_refused():
    missing_pair = Coordinates(
        atoms=np.array([[1, 0], [2, 0]]),
        n_body=np.array([2, 2]),
        first=np.array([0, 1, 2]),
    )
    swapped = missing_pair.images(np.array([[0, 2, 1]]))[0]
    np.testing.assert_array_equal(swapped, [[1, 0]])
    with pytest.raises(InputError, match="not symmetric under the permutations"):
        missing_pair.images(np.array([[1, 0, 2]]))


def nearest_by_brute_force(vec, cell, pbc):
    """Shortest of all images out to eight cells."""
    span = [range(-8, 9) if periodic else (0,) for periodic in pbc]
    images = vec + np.array(list(product(*span))) @ cell
    return images[np.argmin(np.linalg.norm(images, axis=1))]


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 0, 0), (0, 1, 1)], ids=str)
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_nearest_images_against_brute_force(cell, pbc):
    rng = np.random.default_rng(6)
    # A compact molecule, and positions anywhere, also outside of the cell.
    compact = rng.uniform(0, 4, size=(5, 4, 3))
    positions = np.concatenate([compact, rng.uniform(-1, 2, size=(5, 4, 3)) @ cell])
    features = features_of(positions, cell=cell, pbc=pbc)
    for s, r in enumerate(positions):
        for k, (a, b) in enumerate(features.coordinates.atoms):
            vec = nearest_by_brute_force(r[a] - r[b], cell, pbc)
            dist = np.linalg.norm(vec)
            np.testing.assert_allclose(features.x[s, k], 1.0 / dist, rtol=1e-12)
            unit = np.array([vec, -vec]) / dist
            np.testing.assert_allclose(features.b_matrix[s, k], unit, atol=1e-12)


def test_a_short_vector_of_a_skewed_cell_is_found():
    # a − b = (1, −1, 0) is far shorter than a and b: the nearest image of (4, 0, 0) is
    # (2, 2, 0), also where all pairs of the batch look near.
    positions = [[0.0, 0.0, 0.0], [4.0, 0.0, 0.0]]
    features = features_of(positions, cell=CELLS["very skewed"], pbc=True)
    np.testing.assert_allclose(1.0 / features.x, np.sqrt(8.0), rtol=1e-14)


def test_moving_an_atom_by_a_cell_vector_changes_nothing():
    cell = np.array([[6.0, 0, 0], [1.0, 7.0, 0], [-2.0, 0.5, 8.0]])
    positions = geometry(5, 7)
    moved = positions.copy()
    moved[2] += cell[0] - 2 * cell[2]
    np.testing.assert_allclose(
        features_of(moved, cell=cell, pbc=True).x,
        features_of(positions, cell=cell, pbc=True).x,
        rtol=1e-14,
    )


def test_a_large_cell_is_no_cell():
    positions = geometry(5, 8)
    np.testing.assert_allclose(
        features_of(positions, cell=[40.0] * 3, pbc=True).x,
        features_of(positions).x,
        rtol=1e-14,
    )


@pytest.mark.parametrize(
    "cell", [{}, {"cell": [3.0] * 3, "pbc": True}], ids=["", "pbc"]
)
@pytest.mark.parametrize(
    ("positions", "match"),
    [
        ([[[0, 0, 0]]], "at least two atoms"),
        (
            [np.eye(3), [[0, 0, 0], [1, 0, 0], [1, 0, 0]]],
            "Atoms 1 and 2 of structure 1 are at the same place",
        ),
    ],
    ids=["one atom", "coincident"],
)
def test_errors(positions, match, cell):
    with pytest.raises(InputError, match=match):
        features_of(positions, **cell)


def test_an_atom_on_its_neighbours_image_is_refused():
    positions = [[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]]
    with pytest.raises(InputError, match="at the same place"):
        features_of(positions, cell=[3.0] * 3, pbc=True)


@pytest.mark.parametrize("n_atoms", [2, 3, 9])
def test_every_feature_is_described_by_its_atoms(n_atoms):
    descriptor = InverseDistances()
    pairs = descriptor.coordinates(n_atoms).atoms
    for k, (a, b) in enumerate(pairs):
        near = descriptor.describe(n_atoms, k, value=1.0, low=0.25, high=0.5)
        assert near == (
            f"Atoms {b} and {a} are 1.00 Å apart, closer than in training (2.00 Å at "
            "least)."
        )
        far = descriptor.describe(n_atoms, k, value=0.2, low=0.25, high=0.5)
        assert far == (
            f"Atoms {b} and {a} are 5.00 Å apart, farther than in training (4.00 Å at "
            "most)."
        )
