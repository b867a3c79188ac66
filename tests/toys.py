"""Toy molecules with labels, and slow, obviously right twins of what kforce computes.

A permuted structure is ``positions[p]``; the descriptor here is 1/r of all pairs, in
the order of ``np.tril_indices``.
"""

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from kforce.gdml.regressor import GDMLRegressor
from kforce.kernels.base import Scaled, Sum
from kforce.kernels.stationary import (
    RBF,
    Matern32,
    Matern52,
    Matern72,
    RationalQuadratic,
)

#: Every kernel, with a length scale that suits distances of the order of 1.
KERNELS = [
    Matern32(length_scale=1.3),
    Matern52(length_scale=1.3),
    Matern72(length_scale=1.3),
    RBF(length_scale=1.3),
    RationalQuadratic(length_scale=1.3, alpha=0.7),
    Scaled(Matern52(length_scale=1.3), amplitude=2.5),
]


#: Atomic numbers of the molecules that most tests use.
AMMONIA, WATER, CO2, H2 = [7, 1, 1, 1], [8, 1, 1], [8, 6, 8], [1, 1]


def name_of(kernel):
    return type(kernel).__name__


def rotation(seed):
    """A random proper rotation."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)


def geometry(n_atoms, seed, linear=False):
    """Random positions in Å, between 1 and a few Å apart."""
    rng = np.random.default_rng(seed)
    if linear:
        along = 1.3 * np.arange(n_atoms) + rng.uniform(-0.15, 0.15, n_atoms)
        axis = rotation(seed)[0]
        return along[:, None] * axis + rng.normal(size=3)
    grid = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)])
    grid = np.concatenate([grid, 1 - grid])[:n_atoms]
    return 1.5 * grid + rng.uniform(-0.2, 0.2, (n_atoms, 3))


def morse(positions, numbers):
    """Energy in eV and forces in eV/Å of a sum of Morse potentials over pairs."""
    energy, forces = 0.0, np.zeros(positions.shape)
    for a in range(len(numbers)):
        for b in range(a):
            vec = positions[a] - positions[b]
            r = np.linalg.norm(vec)
            depth = 1.0 + 0.2 * np.sqrt(numbers[a] * numbers[b])
            e = np.exp(-(r - 1.4))
            energy += depth * (1.0 - e) ** 2
            push = -2.0 * depth * (1.0 - e) * e * vec / r
            forces[a] += push
            forces[b] -= push
    return energy, forces


def labelled(numbers, positions, energy=None, forces=None, **kwargs):
    """An Atoms whose calculator holds the labels that are given."""
    atoms = Atoms(numbers, positions, **kwargs)
    labels = {"energy": energy, "forces": forces}
    labels = {k: v for k, v in labels.items() if v is not None}
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


def toy_frames(numbers, n_frames, seed=0, linear=()):
    """Frames of a toy molecule with Morse labels; `linear` lists the linear ones."""
    frames = []
    for s in range(n_frames):
        positions = geometry(len(numbers), 1000 * seed + s, linear=s in linear)
        frames.append(labelled(numbers, positions, *morse(positions, numbers)))
    return frames


def symmetric_group(n_atoms, equal):
    """All permutations of the last `equal` atoms of a molecule."""
    from itertools import permutations

    fixed = list(range(n_atoms - equal))
    return np.array([fixed + list(p) for p in permutations(range(len(fixed), n_atoms))])


def inverse_distances(positions):
    """The descriptor and its dense Jacobian, (n_pairs,) and (n_pairs, 3 n_atoms)."""
    n_atoms = len(positions)
    x, J = [], []
    for a in range(n_atoms):
        for b in range(a):
            vec = positions[a] - positions[b]
            r = np.linalg.norm(vec)
            row = np.zeros((n_atoms, 3))
            row[a], row[b] = -vec / r**3, vec / r**3
            x.append(1.0 / r)
            J.append(row.ravel())
    return np.array(x), np.array(J)


def permuted_descriptor(positions, p):
    """Descriptor of ``positions[p]`` and its Jacobian with respect to `positions`."""
    x, J = inverse_distances(positions[p])
    back = np.empty_like(J).reshape(len(x), -1, 3)
    back[:, p] = J.reshape(len(x), -1, 3)
    return x, back.reshape(len(x), -1)


def slow_block(positions_i, positions_j, kernel, permutations):
    """Covariance of (forces, energy) of two structures, (3N + 1, 3N + 1)."""
    xi, Ji = inverse_distances(positions_i)
    n = 3 * len(positions_i)
    block = np.zeros((n + 1, n + 1))
    for p in permutations:
        xj, Jj = permuted_descriptor(positions_j, p)
        d = xi - xj
        phi, dphi, ddphi = kernel.profile(d @ d, orders=(0, 1, 2))
        c1, c2 = -2.0 * dphi, 4.0 * ddphi
        middle = c1 * np.eye(len(d)) - c2 * np.outer(d, d)
        block[:n, :n] += Ji.T @ middle @ Jj
        block[:n, n] += c1 * (Ji.T @ d)
        block[n, :n] -= c1 * (Jj.T @ d)
        block[n, n] += phi
    return block


def slow_covariance(left, right, kernel, permutations):
    """The same for lists of structures, frame after frame."""
    return np.block(
        [[slow_block(a, b, kernel, permutations) for b in right] for a in left]
    )


def rigid_complement(positions):
    """Orthonormal basis of what no translation or rotation does, (3N, q)."""
    motions = []
    for axis in np.eye(3):
        motions.append(np.tile(axis, (len(positions), 1)).ravel())
        motions.append(np.cross(axis, positions - positions.mean(axis=0)).ravel())
    u, s, _ = np.linalg.svd(np.array(motions).T, full_matrices=True)
    return u[:, np.sum(s > 1e-9 * s[0]) :]


def central_differences(function, x, direction, step):
    """Derivative of `function` along `direction` with an error of O(step²)."""
    plus, minus = function(x + step * direction), function(x - step * direction)
    return (np.asarray(plus) - np.asarray(minus)) / (2.0 * step)


def assert_second_order(function, derivative, x, direction, step=1e-2, digits=1e-8):
    """Central differences converge to `derivative` at second order.

    The error must fall by 100 when the step falls by 10 (up to the next order of the
    step), and the extrapolation to step zero must agree to `digits` of the scale.
    """
    x, derivative = np.asarray(x, dtype=float), np.asarray(derivative)
    coarse = central_differences(function, x, direction, step)
    fine = central_differences(function, x, direction, step / 10)
    scale = np.linalg.norm(derivative)
    ratio = np.linalg.norm(coarse - derivative) / np.linalg.norm(fine - derivative)
    assert 90 < ratio < 110
    extrapolated = (100.0 * fine - coarse) / 99.0
    # The next term of the series is O(step⁴).
    assert np.linalg.norm(extrapolated - derivative) < max(digits, step**4) * scale


def regressor(kernel=None, permutations=None, **kwargs):
    """A model without anything to be searched for, unless it is asked for."""
    kernel = Matern52(length_scale=1.3) if kernel is None else kernel
    kwargs = {"optimize": False} | kwargs
    return GDMLRegressor(kernel=kernel, permutations=permutations, **kwargs)


def row_operations(observations):
    """The observations as combinations of all forces and energies, a dense matrix."""
    n_structures, width = observations.rows.shape
    R = np.zeros((len(observations.y), n_structures * width))
    for s, W in enumerate(observations.rigid):
        reduce = np.eye(width)
        reduce[:-1, :6] -= W
        for r, row in enumerate(observations.rows[s]):
            if row >= 0:
                R[row, s * width : (s + 1) * width] = reduce[r]
    return R


def shaken(name, n_frames, seed=0, scale=0.05):
    """Structures of a molecule that ASE knows, with Morse labels."""
    start, rng = molecule(name), np.random.default_rng(seed)
    frames = []
    for _ in range(n_frames):
        positions = start.positions + rng.normal(scale=scale, size=(len(start), 3))
        frames.append(
            labelled(start.numbers, positions, *morse(positions, start.numbers))
        )
    return frames


def dense_jacobians(features):
    """∂x/∂R of each structure, (n, n_features, 3 n_atoms), by unit displacements."""
    n, columns = len(features.x), []
    for unit in np.eye(3 * features.n_atoms):
        columns.append(features.push(np.tile(unit.reshape(-1, 3), (n, 1, 1))))
    return np.stack(columns, axis=-1)


def additive_block(x_i, J_i, x_j, J_j, profile, scales, variances, feature_perms):
    """As `slow_block`, of a sum of terms over dense features and Jacobians."""
    n = J_i.shape[1]
    block = np.zeros((n + 1, n + 1))
    for w, variance in zip(scales, variances, strict=True):
        for p in feature_perms:
            d = w * (x_i - x_j[p])
            A, B = w[:, None] * J_i, w[:, None] * J_j[p]
            phi, dphi, ddphi = profile.profile(d @ d, orders=(0, 1, 2))
            c1, c2 = -2.0 * variance * dphi, 4.0 * variance * ddphi
            middle = c1 * np.eye(len(d)) - c2 * np.outer(d, d)
            block[:n, :n] += A.T @ middle @ B
            block[:n, n] += c1 * (A.T @ d)
            block[n, :n] -= c1 * (B.T @ d)
            block[n, n] += variance * phi
    return block


def additive_covariance(left, right, profile, scales, variances, feature_perms):
    """The same for `Features` of several structures, one after the other."""
    J_left, J_right = dense_jacobians(left), dense_jacobians(right)
    terms = (profile, scales, variances, feature_perms)
    return np.block(
        [
            [
                additive_block(x_i, J_i, x_j, J_j, *terms)
                for x_j, J_j in zip(right.x, J_right, strict=True)
            ]
            for x_i, J_i in zip(left.x, J_left, strict=True)
        ]
    )


def additive_kernel(profile, descriptor, permutations, n_atoms, seed=0):
    """A `Sum` with random scales that respect the permutations.

    It has a term of all features and one for each part of the descriptor.
    """
    rng = np.random.default_rng(seed)
    feature_perms, _ = descriptor.coordinates(n_atoms).images(permutations)
    orbit = feature_perms.min(axis=0)
    masks = [np.ones((1, len(orbit)), dtype=bool), *descriptor.parts(n_atoms)]
    scales, amplitudes = [], []
    for mask in masks:
        scales.append(mask * rng.uniform(0.2, 0.6, len(orbit))[orbit])
        amplitudes += [rng.uniform(0.5, 2.0)] * len(mask)
    return Sum(profile, np.concatenate(scales), np.array(amplitudes))


def shuffle(numbers, rng):
    """An order of atoms with like ones numbered at random."""
    order = np.arange(len(numbers))
    for z in set(numbers):
        order[numbers == z] = rng.permutation(order[numbers == z])
    return order
