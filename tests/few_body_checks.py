"""What holds for descriptors of pairs and for those of triplets."""

import json
from itertools import count

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from toys import assert_second_order, rotation

from kforce.descriptors.local import Environments
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch


def crystal(seed=0):
    """Four atoms of two elements in a skewed cell that is smaller than the cutoffs."""
    rng = np.random.default_rng(seed)
    cell = np.array([[3.9, 0.2, 0.0], [1.1, 3.6, -0.3], [0.4, -0.6, 4.1]])
    start = np.array([(0, 0, 0), (0.5, 0.5, 0.1), (0.5, 0, 0.5), (0, 0.5, 0.55)])
    positions = (start + rng.uniform(-0.06, 0.06, (4, 3))) @ cell
    return Atoms("Si2C2", positions, cell=cell, pbc=True)


def cluster(seed=0):
    atoms = crystal(seed)
    atoms.pbc = False
    return atoms


STRUCTURES = {"crystal": crystal, "cluster": cluster}


def clear_of_kinks(descriptor, structure):
    """A structure without distances near the ends of the transition.

    The second derivative of f jumps there, where differences converge more slowly.
    """
    kinks = np.array(
        [descriptor.cutoff, descriptor.cutoff - descriptor.transition_width]
    )
    for seed in count():
        atoms = STRUCTURES[structure](seed)
        batch = Batch.from_frames([atoms])
        dist = find_neighbours(batch, descriptor.cutoff + 0.1).dist
        if np.abs(dist[:, None] - kinks).min() > 0.012:
            return atoms


def environments(descriptor, *frames, margin=0.7):
    """Environments of frames, from a list that reaches farther than they do."""
    batch = Batch.from_frames(frames)
    neighbours = find_neighbours(batch, descriptor.cutoff + margin)
    return descriptor(batch.numbers, neighbours)


def energy_of(env):
    """A sum Σ F φ(x) that does not depend on the order of environments."""
    return env.multiplicity * (env.f_cut * np.cos(0.7 * env.x.sum(axis=1))).sum()


def weights_of(env):
    """Derivatives of that sum with respect to x and F."""
    phase = 0.7 * env.x.sum(axis=1)
    by_x = -0.7 * env.f_cut * np.sin(phase) * env.multiplicity
    return np.repeat(by_x[:, None], env.x.shape[1], 1), env.multiplicity * np.cos(phase)


def pulled(env, n_atoms, pull=None, by=None):
    gradient, strain = np.zeros((n_atoms, 3)), np.zeros((n_atoms, 3, 3))
    by = weights_of(env) if by is None else by
    (pull or type(env).pull)(env, *by, gradient, strain)
    return gradient, strain


def assert_pull_is_the_derivative(descriptor, atoms):
    """With respect to positions, and to a strain of positions and cell."""
    gradient, strain = pulled(environments(descriptor, atoms), len(atoms))
    rng = np.random.default_rng(1)

    def moved(positions):
        changed = atoms.copy()
        changed.positions = positions
        return energy_of(environments(descriptor, changed))

    for _ in range(2):
        direction = rng.normal(size=gradient.shape)
        derivative = np.array([np.sum(gradient * direction)])
        assert_second_order(moved, derivative, atoms.positions, direction, 1e-3)

    def strained(epsilon):
        changed = atoms.copy()
        changed.set_cell(atoms.cell.array @ (np.eye(3) + epsilon), scale_atoms=False)
        changed.positions = atoms.positions @ (np.eye(3) + epsilon)
        return energy_of(environments(descriptor, changed))

    direction = rng.normal(size=(3, 3))
    derivative = np.array([np.sum(strain.sum(axis=0) * direction)])
    assert_second_order(strained, derivative, np.zeros((3, 3)), direction, 4e-4)
    # Neither translations nor rotations change the energy.
    whole = strain.sum(axis=0)
    np.testing.assert_allclose(gradient.sum(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(whole, whole.T, atol=1e-12 * np.abs(whole).max())


def assert_pull_is_that_of_jacobians(env, n_atoms):
    rng = np.random.default_rng(2)
    by = rng.normal(size=env.x.shape), rng.normal(size=env.f_cut.shape)
    fused = pulled(env, n_atoms, by=by)
    dense = pulled(env, n_atoms, Environments.pull, by)
    for one, other in zip(fused, dense, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=0.0, atol=1e-13 * scale)
    # It adds to what is there.
    twice = np.array(fused[0]), np.array(fused[1])
    env.pull(*by, *twice)
    np.testing.assert_allclose(twice[0], 2.0 * fused[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(twice[1], 2.0 * fused[1], rtol=1e-12, atol=1e-12)


def rows(env):
    """Owner, x and F of all environments, in an order of their own."""
    table = np.column_stack([env.central_atoms, env.x, env.f_cut])
    return table[np.lexsort(np.round(table, 8).T)]


def assert_symmetries(descriptor, atoms):
    """Nothing changes when atoms are turned, moved, wrapped or numbered otherwise."""
    expected = rows(environments(descriptor, atoms))
    turned = atoms.copy()
    turned.positions = atoms.positions @ rotation(3) + [0.3, -7.0, 1.1]
    turned.set_cell(atoms.cell.array @ rotation(3), scale_atoms=False)
    found = rows(environments(descriptor, turned))
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-12)
    if atoms.pbc.all():
        image = atoms.copy()
        image.positions[1] += 2 * atoms.cell[0] - atoms.cell[1]
        found = rows(environments(descriptor, image))
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-12)
    order = np.random.default_rng(4).permutation(len(atoms))
    env = environments(descriptor, atoms[order])
    # Atom k of the new numbering is order[k] of the old one.
    table = np.column_stack([order[env.central_atoms], env.x, env.f_cut])
    found = table[np.lexsort(np.round(table, 8).T)]
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-12)


def assert_as_reference(shared, case, make, orders):
    """Values and derivatives of all environments agree with the stored ones.

    `make` turns the keys of a descriptor string into a descriptor; `orders` are those
    of the members in which a stored environment may come.
    """
    folder = shared / "reference" / "gap"
    if not folder.is_dir():
        pytest.skip(f"no reference data: {folder} is missing")
    strings = json.loads((folder / "body.json").read_text())
    (text,) = (c["args"] for c in strings if c["case"] == case)
    text = text.replace("{", "").replace("}", "")
    keys, last = {}, None
    for word in text.split()[1:]:
        if "=" in word:
            last, word = word.split("=")
        keys.setdefault(last, []).append(float(word))
    descriptor = make(keys)
    stored = np.load(folder / "body.npz")
    stored = {
        k: stored[f"{case}__{k}"] for k in ("x", "fc", "atoms", "pos", "dx", "dfc")
    }
    atoms = read(folder / f"{case.split('__')[0]}.xyz")
    env = environments(descriptor, atoms)
    assert len(stored["x"]) == len(orders) * len(env.x)
    (block,) = env.jacobians()
    n_members = env.atoms.shape[1]
    dx = block.dx.reshape(len(env.x), n_members, 3, -1)
    df_cut = block.df_cut.reshape(len(env.x), n_members, 3)
    ours = {}
    for e in range(len(env.x)):
        for order in orders:
            order = list(order)
            vec = env.vec[e, order].round(5) + 0.0
            key = env.central_atoms[e], *env.atoms[e, order], *vec.ravel()
            ours[key] = e, order
    seen = set()
    for n in range(len(stored["x"])):
        vec = (stored["pos"][n, 1:] - stored["pos"][n, 0]).round(5) + 0.0
        key = (*stored["atoms"][n], *vec.ravel())
        e, order = ours[key]
        seen.add(key)
        close = {"rtol": 0.0, "atol": 1e-12}
        np.testing.assert_allclose(env.x[e], stored["x"][n], **close)
        np.testing.assert_allclose(env.f_cut[e], stored["fc"][n], **close)
        np.testing.assert_allclose(dx[e, order], stored["dx"][n, 1:], **close)
        np.testing.assert_allclose(df_cut[e, order], stored["dfc"][n, 1:], **close)
        centre = -dx[e].sum(axis=0), -df_cut[e].sum(axis=0)
        np.testing.assert_allclose(centre[0], stored["dx"][n, 0], **close)
        np.testing.assert_allclose(centre[1], stored["dfc"][n, 0], **close)
    assert len(seen) == len(stored["x"])
