"""Predictions of a fitted model: gradients, symmetry, batches."""

import numpy as np
import pytest
from ase import Atoms
from toys import (
    AMMONIA,
    WATER,
    assert_second_order,
    geometry,
    name_of,
    regressor,
    rotation,
    symmetric_group,
    toy_frames,
)

from kforce.kernels.stationary import Matern32, Matern52


@pytest.fixture(scope="module")
def ammonia():
    """A model of energies and forces with the permutations of three hydrogens."""
    model = regressor(
        permutations=symmetric_group(4, 3), noise_forces=0.05, noise_energy=0.02
    )
    return model.fit(toy_frames(AMMONIA, 8))


def test_forces_are_minus_the_gradient_of_the_energy(ammonia):
    positions = geometry(4, 99)
    direction = np.random.default_rng(0).normal(size=(4, 3))
    direction /= np.linalg.norm(direction)
    forces = ammonia.evaluate([Atoms(AMMONIA, positions)]).forces[0]
    assert_second_order(
        lambda r: ammonia.predict([Atoms(AMMONIA, r)])[0],
        -(forces * direction).sum(),
        positions,
        direction,
    )


def test_forces_of_methanol_are_minus_the_gradient_of_its_energy(
    methanol, methanol_model
):
    frame = methanol[-1]
    direction = np.random.default_rng(0).normal(size=(6, 3))
    direction /= np.linalg.norm(direction)
    forces = methanol_model.evaluate([frame]).forces[0]
    # Terms of 1e7 eV cancel in these energies, which leaves a rounding of 4e-7 eV: a
    # step of 1e-2 Å makes 4e-5 eV/Å of it.
    assert_second_order(
        lambda r: methanol_model.predict([Atoms(frame.numbers, r)])[0],
        -(forces * direction).sum(),
        frame.positions,
        direction,
        step=1e-1,
        digits=4e-5,
    )


def test_rigid_motions(ammonia):
    positions, R = geometry(4, 99), rotation(1)
    shift = np.array([1.0, -2.0, 3.0])
    moved = [positions, positions @ R.T, positions + shift, -positions]
    p = ammonia.evaluate([Atoms(AMMONIA, r) for r in moved])
    # Rounding of 1/r times the coefficients, which are of order 1.
    np.testing.assert_allclose(p.energy, p.energy[0], rtol=1e-14)
    np.testing.assert_allclose(p.forces[1], p.forces[0] @ R.T, atol=1e-13)
    np.testing.assert_allclose(p.forces[2], p.forces[0], atol=1e-13)
    np.testing.assert_allclose(p.forces[3], -p.forces[0], atol=1e-13)
    arms = positions - positions.mean(axis=0)
    np.testing.assert_allclose(p.forces[0].sum(axis=0), 0.0, atol=1e-13)
    np.testing.assert_allclose(np.cross(arms, p.forces[0]).sum(axis=0), 0, atol=1e-13)


def test_permutations_of_equal_atoms(ammonia):
    positions = geometry(4, 99)
    group = ammonia.permutations_
    p = ammonia.evaluate([Atoms(AMMONIA, positions[g]) for g in group])
    # The sum over the images is taken in another order.
    np.testing.assert_allclose(p.energy, p.energy[0], rtol=1e-14)
    for g, forces in zip(group, p.forces, strict=True):
        np.testing.assert_allclose(forces, p.forces[0][g], atol=1e-13)


def test_a_batch_is_its_frames_one_by_one(ammonia):
    # More than the 512 structures that are held in memory at a time.
    frames = [Atoms(AMMONIA, geometry(4, s)) for s in range(520)]
    p = ammonia.evaluate(frames)
    for s in (0, 1, 511, 512, 519):
        one = ammonia.evaluate([frames[s]])
        np.testing.assert_allclose(one.energy[0], p.energy[s], rtol=1e-13)
        np.testing.assert_allclose(one.forces[0], p.forces[s], atol=1e-13)
        energy, forces, _ = ammonia.evaluate_one(frames[s])
        np.testing.assert_allclose(energy, p.energy[s], rtol=1e-13)
        np.testing.assert_allclose(forces, p.forces[s], atol=1e-13)


def test_only_what_is_asked_for_is_predicted(ammonia):
    frames = toy_frames(AMMONIA, 2)
    assert ammonia.evaluate(frames, properties=("energy",)).forces is None
    assert len(ammonia.evaluate(frames, properties=("forces",)).forces) == 2


def test_permutations_are_recovered_from_the_data(methanol_model):
    # C O H H H H: the methyl hydrogens 2, 3, 4 are equal, the hydroxyl's is not.
    group = methanol_model.permutations_
    assert group.shape == (6, 6)
    np.testing.assert_array_equal(group[:, [0, 1]], np.tile([0, 1], (6, 1)))
    assert len({tuple(g) for g in group}) == 6


@pytest.mark.parametrize("kernel", [Matern52(1.3), Matern32(1.3)], ids=name_of)
def test_the_training_range_is_remembered(kernel):
    frames = toy_frames(WATER, 6)
    model = regressor(kernel).fit(frames)
    assert all(model.evaluate_one(f)[2] for f in frames)
    closer = frames[0].copy()
    closer.positions *= 0.5
    assert not model.evaluate_one(closer)[2]
    assert "closer than in training" in model.describe_extrapolation(closer)
    farther = frames[0].copy()
    farther.positions *= 4.0
    assert "farther than in training" in model.describe_extrapolation(farther)
    assert all(model.describe_extrapolation(f) is None for f in frames)
