import numpy as np
import pytest
from ase import Atoms
from toys import (
    geometry,
    inverse_distances,
    labelled,
    morse,
    rigid_complement,
    slow_covariance,
    toy_frames,
)

from kforce.descriptors.inverse_distances import InverseDistances
from kforce.gdml.observations import Observations, elimination, rigid_motions
from kforce.gdml.prior import RELATIVE_NOISE, Noise
from kforce.kernels.stationary import Matern52
from kforce.labels import Labels
from kforce.structures import Batch

WATER, CO2 = [8, 1, 1], [8, 6, 8]


def build(frames, **kwargs):
    return Observations.build(
        Batch.from_frames(frames), Labels.from_frames(frames), **kwargs
    )


@pytest.mark.parametrize(
    ("n_atoms", "linear", "periodic", "expected"),
    [
        (1, False, False, 3),
        (2, True, False, 5),
        (3, False, False, 6),
        (3, True, False, 5),
        (5, False, False, 6),
        (9, True, False, 5),
        (4, False, True, 3),
    ],
)
def test_rigid_motions_are_orthonormal_and_change_no_distance(
    n_atoms, linear, periodic, expected
):
    positions = np.array([geometry(n_atoms, s, linear) for s in range(4)])
    basis, n_rigid = rigid_motions(positions, periodic)
    np.testing.assert_array_equal(n_rigid, expected)
    for r, U in zip(positions, basis, strict=True):
        identity = np.diag(np.arange(6) < expected).astype(float)
        np.testing.assert_allclose(U.T @ U, identity, atol=1e-13)
        if n_atoms > 1:
            _, J = inverse_distances(r)
            np.testing.assert_allclose(J @ U, 0.0, atol=1e-13)


def test_translations_are_all_that_a_cell_leaves_free():
    positions = geometry(4, 0)[None]
    basis, _ = rigid_motions(positions, periodic=True)
    moved = basis[0].reshape(4, 3, 6)
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:1], moved.shape))


def test_a_nearly_linear_molecule_is_not_linear():
    # 1e-4 Å off the axis is far above rounding: its third rotation is real.
    positions = np.array([[0, 0, -1.16], [1e-4, 0, 0], [0, 0, 1.16]])
    basis, n_rigid = rigid_motions(positions[None], periodic=False)
    assert n_rigid[0] == 6
    np.testing.assert_allclose(basis[0].T @ basis[0], np.eye(6), atol=1e-10)
    np.testing.assert_allclose(
        inverse_distances(positions)[1] @ basis[0], 0, atol=1e-10
    )


@pytest.mark.parametrize(
    ("n_atoms", "linear"), [(2, True), (3, False), (3, True), (5, False), (9, False)]
)
def test_elimination_is_an_orthonormal_projection(n_atoms, linear):
    # For v ⟂ U, Q̃ᵀ v = Qᵀ v with orthonormal Q: norms and products survive.
    positions = np.array([geometry(n_atoms, s, linear) for s in range(3)])
    basis, n_rigid = rigid_motions(positions, periodic=False)
    W = elimination(basis, n_rigid)
    rng = np.random.default_rng(0)
    for s in range(3):
        n, r = 3 * n_atoms, n_rigid[s]
        np.testing.assert_array_equal(W[s, :r], 0.0)
        reduce = np.hstack([-W[s, r:, :r], np.eye(n - r)])
        Q = rigid_complement(positions[s])
        assert Q.shape[1] == n - r
        v = Q @ rng.normal(size=(n - r, 4))
        # |W| is bounded by the pivots of a Householder factor: no digit is lost.
        assert np.abs(W[s]).max() < 1e2
        np.testing.assert_allclose((reduce @ v).T @ (reduce @ v), v.T @ v, atol=1e-12)


@pytest.mark.parametrize(
    ("numbers", "linear"),
    [(WATER, ()), (CO2, (0, 1, 2, 3)), (CO2, (1, 2)), ([1, 1], (0, 1, 2, 3))],
    ids=["water", "linear", "some linear", "two atoms"],
)
def test_eliminated_system_is_the_projected_one_up_to_a_rotation(numbers, linear):
    # Gram matrices on the explicit complement and in eliminated coordinates have the
    # same spectrum, and yᵀ(K + σ²)⁻¹y agrees, because they differ by an orthogonal map.
    frames = toy_frames(numbers, 4, linear=linear)
    positions = [f.positions for f in frames]
    observations = build(frames)
    n = 3 * len(numbers)
    full = slow_covariance(
        positions, positions, Matern52(1.0), [np.arange(len(numbers))]
    )
    keep = np.arange(len(full)).reshape(4, n + 1)[:, :n].ravel()
    full = full[np.ix_(keep, keep)]
    Q = np.zeros((4 * n, 0))
    y = []
    R = np.zeros((len(observations.y), 4 * n))
    for s, frame in enumerate(frames):
        q = rigid_complement(frame.positions)
        column = np.zeros((4 * n, q.shape[1]))
        column[s * n : (s + 1) * n] = q
        Q = np.hstack([Q, column])
        y.append(q.T @ frame.get_forces().ravel())
        eliminate = np.eye(n)
        eliminate[:, :6] -= observations.rigid[s]
        for r, row in enumerate(observations.rows[s, :n]):
            if row >= 0:
                R[row, s * n : (s + 1) * n] = eliminate[r]
    y = np.concatenate(y)
    explicit, eliminated = Q.T @ full @ Q, R @ full @ R.T
    np.testing.assert_allclose(
        np.linalg.eigvalsh(eliminated), np.linalg.eigvalsh(explicit), atol=1e-11
    )
    noise = 0.1 * np.eye(len(y))
    np.testing.assert_allclose(
        observations.y @ np.linalg.solve(eliminated + noise, observations.y),
        y @ np.linalg.solve(explicit + noise, y),
        rtol=1e-10,
    )


def test_net_force_and_torque_do_not_reach_the_targets():
    frames = toy_frames(WATER, 2)
    clean = build(frames).y
    spoiled = []
    for frame in frames:
        arms = frame.positions - frame.positions.mean(axis=0)
        rigid = np.array([0.3, -0.2, 0.5]) + np.cross([0.2, 0.1, -0.4], arms)
        forces = frame.get_forces() + rigid
        spoiled.append(labelled(WATER, frame.positions, forces=forces))
    np.testing.assert_allclose(build(spoiled).y, clean, atol=1e-13)


def test_of_a_cell_only_the_net_force_is_removed():
    positions = geometry(3, 0)
    forces = np.random.default_rng(0).normal(size=(3, 3))
    cell = {"cell": [9.0, 9.0, 9.0], "pbc": True}
    frame = labelled(WATER, positions, forces=forces, **cell)
    observations = build([frame])
    np.testing.assert_array_equal(observations.n_rigid, 3)
    without_net = forces - forces.mean(axis=0)
    np.testing.assert_allclose(
        np.linalg.norm(observations.y), np.linalg.norm(without_net), rtol=1e-13
    )


def mixed_frames():
    """Complete, without forces, with forces on one atom, linear, without energy."""
    frames = toy_frames(CO2, 5, linear=(3,))
    energies = [f.get_potential_energy() for f in frames]
    forces = [f.get_forces().copy() for f in frames]
    forces[1] = energies[4] = None
    forces[2][[0, 2]] = np.nan
    return [
        labelled(CO2, f.positions, e, g)
        for f, e, g in zip(frames, energies, forces, strict=True)
    ]


def test_rows_targets_and_noise_of_mixed_frames():
    frames = mixed_frames()
    observations = build(frames, with_energies=True, energy_offset=-1.0)
    np.testing.assert_array_equal(observations.n_rigid, [6, 0, 0, 5, 6])
    np.testing.assert_array_equal(observations.sizes, [3 + 1, 1, 3 + 1, 4 + 1, 3])
    rows = observations.rows[observations.rows >= 0]
    np.testing.assert_array_equal(rows, np.arange(len(observations.y)))
    energy_rows = [3, 4, 8, 13]
    np.testing.assert_array_equal(observations.energy_rows, energy_rows)
    np.testing.assert_array_equal(
        np.flatnonzero(~observations.is_force), observations.energy_rows
    )
    np.testing.assert_allclose(
        observations.y[energy_rows],
        [f.get_potential_energy() + 1.0 for f in frames[:4]],
        rtol=1e-14,
    )
    # Noise: forces 0.1 eV/Å, energies 0.2 eV per atom times √3.
    expected = np.full(len(observations.y), 0.1**2)
    expected[energy_rows] = 0.2**2 * 3
    np.testing.assert_allclose(
        Noise(0.1, 0.2).variance(observations), expected, rtol=1e-14
    )
    assert not observations.is_given.any()
    # Partial forces are taken as they are, not projected.
    np.testing.assert_array_equal(observations.y[5:8], frames[2].get_forces()[1])


@pytest.mark.parametrize("given", ["none", "some", "all"])
def test_a_noise_of_none_is_a_share_of_the_prior(given):
    frames = toy_frames(WATER, 3)
    for frame in frames[: {"none": 0, "some": 1, "all": 3}[given]]:
        frame.info["noise_forces"] = 0.5
    observations = build(frames, with_energies=True)
    prior_variance = np.where(observations.is_force, 4.0, 9.0)
    noise = Noise(None, 0.2).resolved(observations, prior_variance)
    expected = 0.5 if given == "all" else 2.0 * RELATIVE_NOISE
    np.testing.assert_allclose(noise.forces, expected)
    assert noise.energy == 0.2
    variance = noise.variance(observations)
    np.testing.assert_allclose(variance[~observations.is_force], 3 * 0.2**2)
    np.testing.assert_allclose(variance[observations.is_given], 0.25)
    others = observations.is_force & ~observations.is_given
    np.testing.assert_allclose(variance[others], expected**2)
    assert Noise(0.1, 0.2).resolved(observations, prior_variance) == Noise(0.1, 0.2)
    assert Noise(0.1).scaled(2.0) == Noise(0.2)


def test_energies_are_left_out_unless_they_are_wanted():
    observations = build(mixed_frames())
    assert len(observations.energy_rows) == 0
    assert observations.is_force.all()
    np.testing.assert_array_equal(observations.sizes, [3, 0, 3, 4, 3])


def test_take_is_building_from_fewer_frames():
    frames = mixed_frames()
    everything = build(frames, with_energies=True)
    for chosen in ([3], [0, 4], [4, 2, 1]):
        some = everything.take(np.array(chosen))
        again = build([frames[s] for s in chosen], with_energies=True)
        for name in ("rows", "y", "label_variance", "positions", "rigid", "n_rigid"):
            np.testing.assert_allclose(
                getattr(some, name), getattr(again, name), rtol=1e-14, err_msg=name
            )


def test_split_is_the_adjoint_of_collect():
    # ⟨collect(F, E), c⟩ = ⟨(F, E), split(c)⟩ for every F, E and c.
    frames = mixed_frames()
    observations = build(frames, with_energies=True)
    rng = np.random.default_rng(1)
    forces, energies = rng.normal(size=(5, 9)), rng.normal(size=5)
    coef = rng.normal(size=len(observations.y))
    f, e = observations.split(coef)
    left = observations.collect(forces, energies) @ coef
    right = (forces.reshape(5, 3, 3) * f).sum() + energies @ e
    np.testing.assert_allclose(left, right, rtol=1e-13)


def test_split_gives_nothing_to_what_is_not_observed():
    observations = build(mixed_frames(), with_energies=True)
    f, e = observations.split(np.ones(len(observations.y)))
    assert e[4] == 0.0
    np.testing.assert_array_equal(f[1], 0.0)
    np.testing.assert_array_equal(f[2, [0, 2]], 0.0)


def test_targets_are_collected_from_forces_without_rigid_motions():
    frames = toy_frames(WATER, 3)
    observations = build(frames, with_energies=True)
    forces = np.array([morse(f.positions, f.numbers)[1].ravel() for f in frames])
    energies = np.array([f.get_potential_energy() for f in frames])
    np.testing.assert_allclose(
        observations.collect(forces, energies), observations.y, atol=1e-13
    )


def test_a_pushed_and_pulled_vector_has_no_rigid_part():
    # Forces of any invariant model pass the projection unchanged in norm.
    frames = [Atoms(WATER, geometry(3, s)) for s in range(2)]
    features = InverseDistances()(Batch.from_frames(frames))
    forces = features.pull(np.random.default_rng(0).normal(size=features.x.shape))
    basis, _ = rigid_motions(np.array([f.positions for f in frames]), periodic=False)
    along = np.einsum("sre,sr->se", basis, forces.reshape(2, -1))
    np.testing.assert_allclose(along, 0.0, atol=1e-13)
