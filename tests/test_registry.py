"""Classes that only this module knows are used wherever those of kforce are."""

import numpy as np
import pytest
from ase.io import write
from local_frames import cells, local_model
from toys import regressor, shaken

import kforce
from kforce import InputError, Term
from kforce.cli.main import main
from kforce.descriptors import (
    DenseEnvironments,
    Descriptor,
    InverseDistances,
    Jacobian,
    LocalDescriptor,
)
from kforce.gap.term_files import read_terms
from kforce.kernels import RBF, Kernel, Matern52, RationalQuadratic, Stationary
from kforce.registry import register, registered, registered_names


@register(short="lk")
class LongKernel(Stationary):
    """A Gaussian that is twice as long, in words of its own."""

    def __init__(self, length_scale=None, steepness=1.0):
        super().__init__(length_scale)
        self.steepness = steepness

    def profile(self, u, orders=(0, 1, 2, 3)):
        gaussian = RBF(length_scale=2.0 * self.checked_length_scale() / self.steepness)
        return gaussian.profile(u, orders)


@register
class CrowdSize(LocalDescriptor):
    """Σ (1 − r²/r_cut²)³ over the neighbours, to some powers."""

    def __init__(self, *, cutoff, powers=(1,), mirrored=False):
        self.cutoff = cutoff
        self.powers = powers
        self.mirrored = mirrored

    @property
    def n_features(self):
        return len(self.powers)

    def __call__(self, numbers, neighbours):
        self.check()
        n, p = neighbours.within(self.cutoff), np.array(self.powers, dtype=float)
        t = 1.0 - (n.dist / self.cutoff) ** 2
        crowd = np.bincount(n.owners, t**3, len(n.central_atoms))[:, None] + 1.0
        slope = p * crowd ** (p - 1.0)
        by_vec = (-6.0 / self.cutoff**2 * t**2)[:, None] * n.vec
        dx = by_vec[:, :, None] * slope[n.owners][:, None]
        owners = n.central_atoms[n.owners]
        jacobian = Jacobian(n.owners, owners, n.atoms, n.vec, dx, np.zeros_like(n.vec))
        ones = np.ones(len(crowd))
        return DenseEnvironments(crowd**p, ones, n.central_atoms, 1, jacobian)


@register
class PlainPairs(InverseDistances):
    """Inverse distances by another name."""


TERMS = """
- {descriptor: crowd_size, cutoff: 3.6, powers: [1, 2], mirrored: true, kernel: lk,
   steepness: 0.5, amplitude: 0.4, n_inducing: 6}
- {descriptor: two_body, cutoff: 4.5, n_inducing: 8, kernel: long_kernel}
"""

FRAMES = cells(6)


def assert_survives(model, path, frames):
    model.save(path)
    again = kforce.load(path)
    assert repr(again) == repr(model)
    np.testing.assert_array_equal(again.predict(frames), model.predict(frames))


def test_local_models_with_them_from_yaml_to_file(tmp_path):
    path = tmp_path / "terms.yaml"
    path.write_text(TERMS)
    crowd, pairs = read_terms(path)
    assert type(crowd.descriptor) is CrowdSize
    assert crowd.descriptor.get_params() == {
        "cutoff": 3.6,
        "powers": (1, 2),
        "mirrored": True,
    }
    assert type(crowd.kernel.unscaled) is LongKernel
    assert crowd.kernel.unscaled.steepness == 0.5
    assert type(pairs.kernel) is LongKernel
    model = local_model(terms=[crowd, pairs]).fit(FRAMES)
    assert {type(term.descriptor) for term in model.terms_} > {CrowdSize}
    assert_survives(model, tmp_path / "model.npz", FRAMES)


def test_forces_of_such_a_model_are_the_slopes_of_its_energy():
    descriptor = CrowdSize(cutoff=3.6, powers=(1, 2))
    model = local_model(terms=[Term(descriptor, LongKernel(), n_inducing=6)])
    atoms = model.fit(FRAMES).evaluate(FRAMES[:1])
    step, moved = 1e-4, []
    for sign in (1, -1):
        frame = FRAMES[0].copy()
        frame.positions[1, 2] += sign * step
        moved.append(model.predict([frame])[0])
    slope = (moved[0] - moved[1]) / (2 * step)
    np.testing.assert_allclose(atoms.forces[0][1, 2], -slope, rtol=1e-5)


def test_global_models_with_them_are_saved(tmp_path):
    frames = shaken("H2O", 6)
    model = regressor(LongKernel(length_scale=0.7), descriptor=PlainPairs())
    assert_survives(model.fit(frames), tmp_path / "model.npz", frames)
    as_it_is = regressor(RBF(length_scale=1.4)).fit(frames)
    np.testing.assert_allclose(model.predict(frames), as_it_is.predict(frames))


def test_the_command_line_knows_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("water.xyz", shaken("H2O", 8))
    write("cells.xyz", FRAMES)
    (tmp_path / "terms.yaml").write_text(TERMS)
    options = ["--kernel", "long_kernel", "--length-scale", "2.5", "-q"]
    assert main(["train", "water.xyz", "-o", "water.npz", *options]) == 0
    assert kforce.load("water.npz").kernel_.unscaled.length_scale == 2.5
    assert type(kforce.load("water.npz").kernel_.unscaled) is LongKernel
    noises = ["--noise-energy", "0.01", "--noise-forces", "0.1"]
    options = ["--model", "gap", "--terms", "terms.yaml", *noises, "-q"]
    options += ["--noise-virial", "0.1"]
    assert main(["train", "cells.xyz", "-o", "cells.npz", *options]) == 0
    assert type(kforce.load("cells.npz").terms_[0].descriptor) is CrowdSize


def test_names_that_users_write():
    kernels = registered_names(Kernel)
    assert kernels["rq"] is kernels["rational_quadratic"] is RationalQuadratic
    assert kernels["matern52"] is Matern52
    assert {"rbf", "matern32", "matern72", "polynomial", "scaled", "sum"} < {*kernels}
    radial = registered_names(Stationary)
    assert {"rbf", "rq", "matern32", "lk", "long_kernel"} < {*radial}
    assert not {"polynomial", "sum"} & {*radial}
    assert {"two_body", "three_body", "soap"} < {*registered_names(LocalDescriptor)}
    assert {"inverse_distances", "plain_pairs"} < {*registered_names(Descriptor)}
    with pytest.raises(KeyError):
        registered("Nothing")


def test_a_name_belongs_to_one_class():
    def taken():
        return type("Matern52", (Stationary,), {"__module__": "elsewhere"})

    with pytest.raises(
        InputError, match=r"Matern52 belongs to kforce\.kernels\.statio"
    ):
        register(taken())
    assert registered("Matern52") is Matern52
