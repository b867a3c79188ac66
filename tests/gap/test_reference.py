"""Fits with the settings and sparse points of gap_fit against what it predicts."""

from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from ase.stress import full_3x3_to_voigt_6_stress

from kforce.descriptors.soap.soap import SOAP
from kforce.descriptors.three_body import ThreeBody
from kforce.descriptors.two_body import TwoBody
from kforce.gap import term as gap_term
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import Term
from kforce.io import read_quip_xml
from kforce.kernels.base import Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import RBF

SI = [
    Term(
        TwoBody(cutoff=5.0, transition_width=1.0),
        Scaled(RBF(), amplitude=1.0),
        n_inducing=12,
        length_scales=1.0,
    ),
    Term(
        SOAP(cutoff=4.5, n_max=6, l_max=4, atom_sigma=0.5, transition_width=0.8),
        Scaled(Polynomial(zeta=4), amplitude=0.3),
        n_inducing=60,
    ),
]

BENZENE = [
    # Length scales that are not given start at 0.3 of the spread: theta_fac=0.3.
    Term(TwoBody(cutoff=5.0), Scaled(RBF(), amplitude=1.0), n_inducing=6),
    Term(
        ThreeBody(cutoff=3.0),
        Scaled(RBF(), amplitude=0.3),
        n_inducing=8,
        length_scales=1.2,
        constant=0.1,
        selection="uniform",
    ),
    Term(
        SOAP(cutoff=3.0, n_max=4, l_max=3, atom_sigma=0.4),
        Scaled(Polynomial(zeta=2), amplitude=0.2),
        n_inducing=20,
    ),
]


def folder_of(shared, name):
    folder = shared / "reference" / "gap" / name
    if not folder.is_dir():
        pytest.skip(f"no reference data: {folder} is missing")
    return folder


def stress_of(virial, frame):
    stress = -np.reshape(virial, (3, 3)) / frame.get_volume()
    return full_3x3_to_voigt_6_stress(stress)


def training_set(folder):
    """Its labels as ours: stresses, and noises per atom where a frame has its own."""
    frames = read(folder / "train.xyz", ":")
    for frame in frames:
        info, labels = frame.info, {"forces": frame.arrays["ref_forces"]}
        labels["energy"] = info["ref_energy"]
        if "ref_virial" in info:
            labels["stress"] = stress_of(info["ref_virial"], frame)
        for name in ("energy", "virial"):
            if f"{name}_sigma" in info:
                sigma = info[f"{name}_sigma"] / np.sqrt(len(frame))
                info[f"noise_{name}"] = sigma
        frame.calc = SinglePointCalculator(frame, **labels)
    return frames


@pytest.fixture
def same_points(monkeypatch):
    """Make fits choose the points of a model, where the training set has them."""

    def of(model):
        left = list(model.terms_)

        def choose(x, n, *arguments):
            term = left.pop(0)
            assert n == term.n_inducing
            chosen = []
            for center in term.inducing_points / term.length_scales:
                apart = np.abs(x - center).max(axis=1)
                assert apart.min() < 1e-11  # it is there, and scaled like this
                chosen.append(int(np.argmin(apart)))
            return np.array(chosen)

        monkeypatch.setattr(gap_term, "choose_inducing", choose)
        return left

    return of


def assert_predicts_like_gap(model, folder, with_stress):
    stored = np.load(folder / "predictions.npz")
    for k, frame in enumerate(read(folder / "test.xyz", ":")):
        found = model.evaluate([frame], ("energy", "forces", "energies"))
        # The systems have condition numbers of 1e9, see the README of the data.
        np.testing.assert_allclose(
            found.energy, stored[f"{k}__energy"], rtol=0, atol=1e-7
        )
        np.testing.assert_allclose(
            found.energies[0], stored[f"{k}__energies"], rtol=0, atol=1e-7
        )
        np.testing.assert_allclose(
            found.forces[0], stored[f"{k}__forces"], rtol=0, atol=1e-6
        )
        if with_stress:
            stress = model.evaluate([frame], ["stress"]).stress[0]
            expected = stress_of(stored[f"{k}__virial"], frame)
            np.testing.assert_allclose(stress, expected, rtol=0, atol=1e-8)


def test_silicon(shared, same_points):
    """Noises by config_type and frame, virials, an isolated atom as the reference."""
    folder = folder_of(shared, "si_2b_soap")
    reference = read_quip_xml(folder / "gap.xml")
    left = same_points(reference)
    frames = training_set(folder)
    assert sum("noise_energy" in f.info for f in frames) == 1
    model = GAPRegressor(
        SI,
        config_noises={
            "isolated_atom": (0.0001, 0.01, 1.0),
            "default": (0.002, 0.05, 0.1),
        },
        jitter=1e-8,
        optimize=False,
    ).fit(frames)
    assert not left
    assert model.reference_energies_ == {14: -0.5}
    assert model.solution_.jitter == 1e-8
    for own, theirs in zip(model.terms_, reference.terms_, strict=True):
        np.testing.assert_allclose(
            own.inducing_points, theirs.inducing_points, rtol=0, atol=1e-11
        )
        np.testing.assert_allclose(own.f_cut, theirs.f_cut, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(own.length_scales, theirs.length_scales)
    assert_predicts_like_gap(model, folder, with_stress=True)


def test_benzene(shared, same_points):
    """Two elements: pairs, triplets with a constant, and densities of both."""
    folder = folder_of(shared, "benzene_2b_3b_soap")
    reference = read_quip_xml(folder / "gap.xml")
    left = same_points(reference)
    model = GAPRegressor(
        BENZENE,
        noise_energy=0.001,
        noise_forces=0.05,
        reference_energies={"C": -85.50058706375225, "H": 13.6},
        jitter=1e-8,
        optimize=False,
    ).fit(training_set(folder))
    assert not left
    assert len(model.terms_) == len(reference.terms_) == 11
    for own, theirs in zip(model.terms_, reference.terms_, strict=True):
        assert own.constant == theirs.constant
        np.testing.assert_allclose(own.f_cut, theirs.f_cut, rtol=0, atol=1e-12)
        np.testing.assert_allclose(own.length_scales, theirs.length_scales, rtol=1e-9)
    assert_predicts_like_gap(model, folder, with_stress=False)


def test_the_right_hand_side(shared):
    """Targets and noises of all rows, with the signs of gap_fit."""
    from kforce.gap.reference_energies import find_reference_energies
    from kforce.gap.training_set import TrainingSet
    from kforce.labels import Labels, read_stresses

    folder = folder_of(shared, "si_2b_soap")
    frames = training_set(folder)
    labels = replace(Labels.from_frames(frames), stress=read_stresses(frames))
    references, are_fitted = find_reference_energies(None, frames, labels.energy)
    assert not are_fitted
    labels.energy[:] -= [references[14] * len(frame) for frame in frames]
    by_type = {"isolated_atom": (0.0001, 0.01, 1.0), "bulk": (0.002, 0.05, 0.1)}
    training = TrainingSet.build(frames, labels, (1.0, 1.0, 1.0), by_type)
    energies, others = [], []
    for s, known in enumerate(training.observations):
        assert not known.is_default.any()
        kind = known.kind
        rows = np.column_stack([known.y, training.noise(s) ** 2])
        rows[kind > 0, 0] *= -1.0
        # xx, xy, xz, yy, yz, zz
        virial = rows[kind == 2]
        virial = virial[[0, 5, 4, 1, 3, 2]] if len(virial) else virial
        energies.append(rows[kind == 0])
        others += [rows[kind == 1], virial]
    found = np.concatenate(energies + others)
    stored = np.load(folder / "linear_system.npz")
    np.testing.assert_allclose(found[:, 0], stored["y"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[:, 1], stored["sigma2"], rtol=1e-12)


def test_novelty_is_the_variance_of_gap(shared):
    folder = folder_of(shared, "si_2b_soap")
    model = read_quip_xml(folder / "gap.xml")
    stored = np.load(folder / "predictions.npz")
    frames = read(folder / "test.xyz", ":")
    for k, found in enumerate(model.novelty(frames, regularisation=0.001)):
        expected = stored[f"{k}__local_gap_variance"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)
        assert np.abs(expected).max() > 1e-7
