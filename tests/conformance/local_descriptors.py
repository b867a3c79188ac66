"""What holds for all descriptors of atomic environments."""

from itertools import count

import numpy as np
import pytest
from ase import Atoms
from sklearn.base import clone
from toys import assert_second_order, labelled, rotation

import kforce
from conformance.cases import Cases
from kforce import GAPRegressor, InputError, Term
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
    inner = getattr(descriptor, "descriptor", descriptor)
    width = getattr(inner, "transition_width", 0.0)
    kinks = np.array([descriptor.cutoff, descriptor.cutoff - width])
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


def sums_of(env):
    """A sum s = Σ w x of each environment, and the weights w of its features."""
    weights = np.cos(np.arange(env.x.shape[1]))
    return env.x @ weights, weights


def energy_of(env):
    """A sum Σ F log(1 + s²): the order of environments does not matter."""
    s, _ = sums_of(env)
    return env.multiplicity * (env.f_cut * np.log1p(s**2)).sum()


def weights_of(env):
    """Derivatives of that sum with respect to x and F."""
    s, weights = sums_of(env)
    by_x = env.multiplicity * env.f_cut * 2.0 * s / (1.0 + s**2)
    by_f_cut = env.multiplicity * np.log1p(s**2)
    return by_x[:, None] * weights, by_f_cut


def pulled(env, n_atoms, pull=None, by=None):
    gradient, strain = np.zeros((n_atoms, 3)), np.zeros((n_atoms, 3, 3))
    by = weights_of(env) if by is None else by
    (pull or type(env).pull)(env, *by, gradient, strain)
    return gradient, strain


def random_weights(env, seed=2):
    rng = np.random.default_rng(seed)
    return rng.normal(size=env.x.shape), rng.normal(size=env.f_cut.shape)


def rows(env):
    """Owner, x and F of all environments, in an order of their own."""
    table = np.column_stack([env.central_atoms, env.x, env.f_cut])
    return table[np.lexsort(np.round(table, 8).T)]


class LocalDescriptorConformance(Cases):
    """Subclasses name descriptors, which have environments in silicon carbide."""

    axes = {"structure": STRUCTURES}

    #: Steps of differences of positions and of strains.
    steps = 1e-3, 4e-4

    #: Rounding of two ways to the same derivatives.
    rounding = 1e-13

    def test_pull_is_the_derivative(self, case, structure):
        """With respect to positions, and to a strain of positions and cell."""
        atoms = clear_of_kinks(case, structure)
        gradient, strain = pulled(environments(case, atoms), len(atoms))
        rng = np.random.default_rng(1)

        def moved(positions):
            changed = atoms.copy()
            changed.positions = positions
            return energy_of(environments(case, changed))

        for _ in range(2):
            direction = rng.normal(size=gradient.shape)
            derivative = np.array([np.sum(gradient * direction)])
            assert_second_order(
                moved, derivative, atoms.positions, direction, self.steps[0]
            )

        def strained(epsilon):
            changed, stretch = atoms.copy(), np.eye(3) + epsilon
            changed.set_cell(atoms.cell.array @ stretch, scale_atoms=False)
            changed.positions = atoms.positions @ stretch
            return energy_of(environments(case, changed))

        direction = rng.normal(size=(3, 3))
        derivative = np.array([np.sum(strain.sum(axis=0) * direction)])
        assert_second_order(
            strained, derivative, np.zeros((3, 3)), direction, self.steps[1]
        )
        # Neither translations nor rotations change the energy.
        whole = strain.sum(axis=0)
        np.testing.assert_allclose(gradient.sum(axis=0), 0.0, atol=1e-12)
        np.testing.assert_allclose(whole, whole.T, atol=1e-12 * np.abs(whole).max())

    def test_pull_is_that_of_jacobians(self, case, structure):
        env = environments(case, STRUCTURES[structure]())
        by = random_weights(env)
        fused = pulled(env, 4, by=by)
        for one, other in zip(
            fused, pulled(env, 4, Environments.pull, by), strict=True
        ):
            scale = np.abs(other).max()
            np.testing.assert_allclose(one, other, rtol=0.0, atol=self.rounding * scale)
        # It adds to what is there.
        twice = np.array(fused[0]), np.array(fused[1])
        env.pull(*by, *twice)
        np.testing.assert_allclose(twice[0], 2.0 * fused[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(twice[1], 2.0 * fused[1], rtol=1e-12, atol=1e-12)

    def test_push_and_pull_are_adjoint(self, case, structure):
        env = environments(case, STRUCTURES[structure]())
        by_x, by_f_cut = random_weights(env)
        motion = np.random.default_rng(3).normal(size=(4, 3))
        tangents, fading = env.push(motion)
        left = np.vdot(tangents, by_x) + np.vdot(fading, by_f_cut)
        gradient, _ = pulled(env, 4, by=(by_x, by_f_cut))
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(
            left, np.vdot(gradient, motion), rtol=1e-11, atol=1e-12 * scale
        )

    def test_symmetries(self, case, structure):
        """Nothing changes when atoms are turned, moved, wrapped, numbered otherwise."""
        atoms = STRUCTURES[structure]()
        expected, close = rows(environments(case, atoms)), {"rtol": 0.0, "atol": 1e-12}
        turned = atoms.copy()
        turned.positions = atoms.positions @ rotation(3) + [0.3, -7.0, 1.1]
        turned.set_cell(atoms.cell.array @ rotation(3), scale_atoms=False)
        np.testing.assert_allclose(rows(environments(case, turned)), expected, **close)
        if atoms.pbc.all():
            image = atoms.copy()
            image.positions[1] += 2 * atoms.cell[0] - atoms.cell[1]
            found = rows(environments(case, image))
            np.testing.assert_allclose(found, expected, **close)
        order = np.random.default_rng(4).permutation(len(atoms))
        env = environments(case, atoms[order])
        # Atom k of the new numbering is order[k] of the old one.
        table = np.column_stack([order[env.central_atoms], env.x, env.f_cut])
        found = table[np.lexsort(np.round(table, 8).T)]
        np.testing.assert_allclose(found, expected, **close)

    def test_neighbours_leave_smoothly(self, case):
        """Energy and gradient where an atom enters the transition, or leaves it."""
        width = getattr(case, "transition_width", 0.5 * case.cutoff)
        for symbols in ("Si2", "SiC", "C2", "SiC2", "CSi2", "Si2C", "C3", "Si3"):
            atoms = Atoms(symbols)
            for r in (case.cutoff, case.cutoff - 0.999 * width):
                atoms.positions = [(0, 0, 0), (0, 0, r), (1.7, 0.3, 0.4)][: len(atoms)]
                results = []
                for step in (-1e-8, 1e-8):
                    atoms.positions[1, 2] = r + step
                    env = environments(case, atoms)
                    gradient, _ = pulled(env, len(atoms))
                    results.append((energy_of(env), gradient))
                below, above = results
                np.testing.assert_allclose(above[0], below[0], atol=1e-6)
                np.testing.assert_allclose(above[1], below[1], atol=2e-5)

    def test_frames_and_centres_do_not_see_each_other(self, case):
        frames = [crystal(1), cluster(2)]
        batch = Batch.from_frames(frames)
        neighbours = find_neighbours(batch, case.cutoff)
        whole = case(batch.numbers, neighbours)
        parts = [case(batch.numbers, neighbours.take(*p)) for p in [(0, 3), (3, 8)]]
        for key in ("x", "f_cut", "central_atoms"):
            joined = np.concatenate([getattr(part, key) for part in parts])
            np.testing.assert_array_equal(joined, getattr(whole, key))
        second = environments(case, frames[1], margin=0.0)
        last = whole.central_atoms >= 4
        np.testing.assert_array_equal(whole.x[last], second.x)
        np.testing.assert_array_equal(
            whole.central_atoms[last] - 4, second.central_atoms
        )
        # A list that reaches farther than the descriptor makes no difference.
        farther = environments(case, frames[1], margin=1.0)
        np.testing.assert_array_equal(rows(farther), rows(second))

    def test_there_may_be_no_neighbours(self, case):
        for atoms in (Atoms("Si"), Atoms("Xe2", [(0, 0, 0), (0, 0, 50.0)])):
            env = environments(case, atoms)
            assert env.x.shape[1] == case.n_features
            assert np.isfinite(env.x).all()
            for derivative in pulled(env, len(atoms)):
                assert not derivative.any()

    def test_elements_of_a_training_set(self, case):
        for descriptor in case.for_species((14, 6)):
            assert descriptor.for_species((14, 6)) == [descriptor]
            env = environments(descriptor, crystal())
            assert env.x.shape[1] == descriptor.n_features

    def test_parameters_and_copies(self, case):
        assert repr(clone(case)) == repr(case)
        case.check()
        for bad in (0.0, -3.0, np.nan, "4"):
            wrong = clone(case).set_params(cutoff=bad)
            for call in (wrong.check, lambda w=wrong: w.for_species((14,))):
                with pytest.raises(InputError, match="cutoff must be a positive"):
                    call()
            batch = Batch.from_frames([crystal()])
            with pytest.raises(InputError, match="cutoff must be a positive"):
                wrong(batch.numbers, find_neighbours(batch, 4.0))

    def test_a_model_with_it_is_saved(self, case, tmp_path):
        frames = [
            labelled(
                f.numbers,
                f.positions,
                cell=f.cell,
                pbc=True,
                energy=-3.0 - k,
                forces=np.cos(f.positions),
            )
            for k, f in enumerate(map(crystal, range(3)))
        ]
        model = GAPRegressor(
            [Term(case, n_inducing=5)], noise_forces=0.1, optimize=False
        )
        model.fit(frames).save(tmp_path / "model.npz")
        again = kforce.load(tmp_path / "model.npz")
        assert repr(again.terms) == repr(model.terms)
        np.testing.assert_array_equal(again.predict(frames), model.predict(frames))
