"""What holds for all descriptors of whole molecules."""

import numpy as np
from ase import Atoms
from sklearn.base import clone
from toys import assert_second_order, rotation, shaken, symmetric_group

import kforce
from conformance.cases import Cases
from kforce import GDMLRegressor, Matern52
from kforce.structures import Batch


def moved(frame, positions):
    return Atoms(frame.numbers, np.asarray(positions), cell=frame.cell, pbc=frame.pbc)


GROUPS = {
    "H2O": symmetric_group(3, 2),
    "NH3": symmetric_group(4, 3),
    "H2O2": np.array([[0, 1, 2, 3], [1, 0, 3, 2]]),
    "CH3OH": np.array([[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 5, 4]]),
}


class GlobalDescriptorConformance(Cases):
    """Subclasses name descriptors as they come from a user, not bound to a molecule."""

    axes = {"name": tuple(GROUPS), "symmetric": tuple(GROUPS)}

    #: Groups of permutations of the molecules that are called symmetric.
    groups = GROUPS

    def frames(self, name):
        """Structures of a molecule."""
        return shaken(name, 3)

    def describe(self, case, name):
        """Frames of a molecule, the descriptor that is bound to them, its features."""
        frames = self.frames(name)
        batch = Batch.from_frames(frames)
        descriptor = case.bind(batch)
        return frames, descriptor, descriptor(batch)

    def test_push_is_the_derivative(self, case, name):
        (frame, *_), descriptor, features = self.describe(case, name)
        direction = np.random.default_rng(2).normal(size=frame.positions.shape)
        direction /= np.linalg.norm(direction)
        derivative = features.push(np.tile(direction, (3, 1, 1)))[0]
        kind = np.repeat(
            features.coordinates.n_body, np.diff(features.coordinates.first)
        )
        # Distances, angles and torsions each by themselves, or the stiff ones would
        # hide the others.
        for n in np.unique(kind):
            assert_second_order(
                lambda r, n=n: descriptor(Batch.from_frames([moved(frame, r)])).x[
                    0, kind == n
                ],
                derivative[kind == n],
                frame.positions,
                direction,
            )

    def test_push_and_pull_are_adjoint(self, case, name):
        _, _, features = self.describe(case, name)
        rng = np.random.default_rng(5)
        u = rng.normal(size=(3, features.n_atoms, 3))
        g = rng.normal(size=features.x.shape)
        left, right = features.push(u), features.pull(g)
        np.testing.assert_allclose(
            np.sum(right * u, axis=(1, 2)), np.sum(g * left, axis=1), rtol=1e-11
        )
        # In any memory order.
        np.testing.assert_array_equal(features.push(np.asfortranarray(u)), left)
        np.testing.assert_array_equal(features.pull(np.asfortranarray(g)), right)

    def test_moving_and_turning_changes_nothing(self, case, name):
        frames, descriptor, features = self.describe(case, name)
        g = np.random.default_rng(1).normal(size=features.x.shape)
        for turn in (rotation(3), -rotation(3)):
            turned = [moved(f, f.positions @ turn.T + [4.0, -2.0, 1.0]) for f in frames]
            again = descriptor(Batch.from_frames(turned))
            np.testing.assert_allclose(again.x, features.x, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(
                again.pull(g), features.pull(g) @ turn.T, rtol=0, atol=1e-11
            )

    def test_permutations_map_features(self, case, symmetric):
        group, frames = self.groups[symmetric], self.frames(symmetric)
        batch = Batch.from_frames(frames)
        descriptor = case.bind(batch, group)
        features = descriptor(batch)
        feature_perms, coordinate_perms = features.coordinates.images(group)
        first = features.coordinates.first
        for p, images, q in zip(group, feature_perms, coordinate_perms, strict=True):
            permuted = [moved(f, f.positions[p]) for f in frames]
            x = descriptor(Batch.from_frames(permuted)).x
            np.testing.assert_allclose(x, features.x[:, images], atol=1e-13)
            np.testing.assert_array_equal(np.sort(images), np.arange(len(images)))
            np.testing.assert_array_equal(images[first[:-1]], first[q])
        for kind in descriptor.parts(len(frames[0])):
            assert kind.dtype == bool
            assert kind.shape[1] == features.x.shape[1]
            assert kind.any(axis=1).all()
            sets = {tuple(row) for row in kind.tolist()}
            assert len(sets) == len(kind)
            for images in feature_perms:
                assert {tuple(row) for row in kind[:, images].tolist()} == sets

    def test_structures_do_not_see_each_other(self, case, name):
        frames, descriptor, features = self.describe(case, name)
        assert features.x.shape == (3, descriptor.n_features(len(frames[0])))
        for s, frame in enumerate(frames):
            one, part = descriptor(Batch.from_frames([frame])), features.take([s])
            for key in ("x", "b_matrix"):
                np.testing.assert_array_equal(getattr(one, key), getattr(part, key))

    def test_every_feature_is_described_by_its_atoms(self, case, name):
        _, descriptor, features = self.describe(case, name)
        n_atoms = features.n_atoms
        for k, x in enumerate(features.x[0]):
            text = descriptor.describe(n_atoms, k, x + 0.5, x - 0.1, x + 0.1)
            assert text.endswith(".")
            assert any(str(atom) in text for atom in range(n_atoms))

    def test_a_model_with_it_is_saved(self, case, tmp_path):
        copy = clone(case)
        assert repr(copy) == repr(case)
        frames = shaken("H2O", 5)
        model = GDMLRegressor(
            descriptor=case,
            kernel=Matern52(length_scale=1.3),
            permutations=None,
            optimize=False,
        )
        model.fit(frames).save(tmp_path / "model.npz")
        assert repr(case) == repr(copy)
        again = kforce.load(tmp_path / "model.npz")
        assert repr(again.descriptor_) == repr(model.descriptor_)
        query = shaken("H2O", 2, seed=1)
        np.testing.assert_array_equal(again.predict(query), model.predict(query))
        # Forces are the derivatives of energies.
        forces = model.evaluate(query[:1]).forces[0]
        direction = np.random.default_rng(0).normal(size=forces.shape)
        assert_second_order(
            lambda r: model.predict([moved(query[0], r)]),
            np.array([-np.vdot(forces, direction)]),
            query[0].positions,
            direction,
            step=3e-3,
            digits=1e-7,
        )
