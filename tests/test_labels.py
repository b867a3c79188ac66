"""Labels that frames hold, with virials and noises."""

from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.emt import EMT
from sparse_toys import cluster, crystal, labelled, mixed_frames, strained

from kforce.errors import InputError
from kforce.gap.covariance import VIRIAL_COMPONENTS
from kforce.labels import Labels, read_stresses, stress_of, virial_of


def test_virials_are_derivatives():
    """−∂E/∂ε of the calculator, in the order of the rows."""
    atoms = crystal(3)
    (stress,) = read_stresses([labelled(atoms)])
    virial = virial_of(stress, atoms.get_volume())

    def energy(epsilon):
        changed = strained(atoms, epsilon)
        changed.calc = EMT()
        return changed.get_potential_energy()

    for t, (a, b) in enumerate(VIRIAL_COMPONENTS):
        epsilon = np.zeros((3, 3))
        epsilon[a, b] += 5e-5
        epsilon[b, a] += 5e-5
        slope = (energy(epsilon) - energy(-epsilon)) / 2e-4
        np.testing.assert_allclose(virial[t], -slope, rtol=1e-5, atol=1e-5)


def test_stress_of_a_virial():
    atoms = labelled(crystal(4))
    virial = virial_of(atoms.get_stress(), atoms.get_volume())
    full = np.zeros((3, 3))
    for t, (a, b) in enumerate(VIRIAL_COMPONENTS):
        full[a, b] = full[b, a] = virial[t]
    stress = atoms.get_stress()
    np.testing.assert_allclose(stress_of(full, atoms.get_volume()), stress, rtol=1e-12)
    lopsided = full + np.array([[0, 1, 2], [-1, 0, 3], [-2, -3, 0]])
    found = stress_of(lopsided, atoms.get_volume())
    np.testing.assert_allclose(found, stress, rtol=1e-11)


def test_stresses_are_read_where_they_are_asked_for():
    """One without three periodic directions does not matter elsewhere."""
    frames = [labelled(cluster(0)), labelled(crystal(1), stress=False), crystal(2)]
    assert np.isnan(read_stresses(frames)).all()
    frames[0].calc.results["stress"] = np.zeros(6)
    labels = Labels.from_frames(frames)
    assert labels.stress is labels.noise_virial is None
    with pytest.raises(InputError, match="has a stress, but is not periodic in three"):
        read_stresses(frames)


def test_some_of_the_frames():
    frames = mixed_frames(5)
    frames[2].info |= {"noise_virial": 0.1, "noise_forces": 0.2}
    frames[1].info["noise_energy"] = 0.3

    def read(frames):
        return replace(Labels.from_frames(frames), stress=read_stresses(frames))

    chosen = [2, 1]
    found, expected = read(frames).take(chosen), read([frames[s] for s in chosen])
    for name, value in vars(expected).items():
        for a, b in zip(value, getattr(found, name), strict=True):
            np.testing.assert_array_equal(a, b)


def test_noises_of_virials_that_make_no_sense():
    frame = labelled(crystal(1))
    frame.info["noise_virial"] = -1.0
    with pytest.raises(InputError, match="noise_virial of frame 0 must be positive"):
        Labels.from_frames([frame])
