"""Labels with virials and noises, and the rows that they make."""

import numpy as np
import pytest
from ase.calculators.emt import EMT
from sparse_toys import (
    cluster,
    crystal,
    labelled,
    lone,
    mixed_frames,
    relative,
    rows_of,
    several_terms,
    strained,
)

from kforce.gap import training_set as local_fit
from kforce.gap.covariance import VIRIAL_COMPONENTS
from kforce.gap.training_set import (
    gather_rows,
    observed,
    prior_covariance,
    whitened_rows,
)
from kforce.labels import Labels, LocalLabels, Noises, read_virials, stress_of

NOISES = Noises(energy=0.01, forces=0.2, virial=0.03)


def collected(frames, by_type=None, noises=NOISES):
    return LocalLabels.collect(frames, Labels.from_frames(frames), noises, by_type)


def test_virials_are_derivatives():
    """−∂E/∂ε of the calculator, in the order of the rows."""
    atoms = crystal(3)
    (virial,) = read_virials([labelled(atoms)])

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
    (virial,) = read_virials([atoms])
    full = np.zeros((3, 3))
    for t, (a, b) in enumerate(VIRIAL_COMPONENTS):
        full[a, b] = full[b, a] = virial[t]
    stress = atoms.get_stress()
    np.testing.assert_allclose(stress_of(full, atoms.get_volume()), stress, rtol=1e-12)
    lopsided = full + np.array([[0, 1, 2], [-1, 0, 3], [-2, -3, 0]])
    found = stress_of(lopsided, atoms.get_volume())
    np.testing.assert_allclose(found, stress, rtol=1e-11)


def test_frames_without_a_stress():
    frames = [labelled(cluster(0)), labelled(crystal(1), stress=False), crystal(2)]
    assert np.isnan(read_virials(frames)).all()
    found = collected([*frames, labelled(crystal(3), energy=False, forces=False)])
    np.testing.assert_array_equal(found.counts, [2, 27, 6])


def test_noises_of_whole_frames_are_per_atom():
    frames = mixed_frames(3)
    found = collected(frames)
    root = np.sqrt([len(f) for f in frames])
    np.testing.assert_allclose(found.noise_energy, 0.01 * root)
    np.testing.assert_allclose(found.noise_virial, 0.03 * root)
    for frame, noise in zip(frames, found.noise_forces, strict=True):
        np.testing.assert_array_equal(noise, np.full(len(frame), 0.2))
    assert found.is_default.all()


def test_noises_by_type_and_frame():
    """A frame's own come before those of its type, which come before the model's."""
    frames = mixed_frames(6)
    for frame, name in zip(frames, "aabb", strict=False):
        frame.info["config_type"] = name
    frames[1].info |= {"noise_energy": 0.5, "noise_virial": 0.6}
    frames[2].info["noise_forces"] = 0.7
    own = np.full(len(frames[3]), np.nan)
    own[1] = 0.8
    frames[3].arrays["noise_forces"] = own
    frames[5].info["noise_virial"] = 0.9
    found = collected(frames, {"a": (1.0, 2.0, 3.0), "default": (4.0, 5.0, 6.0)})
    root = np.sqrt([len(f) for f in frames])
    np.testing.assert_allclose(found.noise_energy / root, [1, 0.5, 4, 4, 4, 4])
    np.testing.assert_allclose(found.noise_virial / root, [3, 0.6, 6, 6, 6, 0.9])
    forces = [noise[0] for noise in found.noise_forces]
    np.testing.assert_allclose(forces, [2, 2, 0.7, 5, 5, 5])
    assert found.noise_forces[3][1] == 0.8
    # An entry "default" is for frames without a type as well.
    assert not found.is_default.any()


def test_other_noises_of_the_model():
    """They replace its own, and leave those of frames and types alone."""
    frames = mixed_frames(5)
    frames[0].info["config_type"] = "a"
    frames[1].info["noise_forces"] = 0.7
    frames[2].info["noise_energy"] = 0.6
    by_type, other = {"a": (1.0, 2.0, 3.0)}, Noises(0.11, 0.12, 0.13)
    found = collected(frames, by_type).with_noises(other)
    expected = collected(frames, by_type, noises=other)
    np.testing.assert_allclose(found.noise_energy, expected.noise_energy)
    np.testing.assert_allclose(found.noise_virial, expected.noise_virial)
    for a, b in zip(found.noise_forces, expected.noise_forces, strict=True):
        np.testing.assert_allclose(a, b)


def test_rows_that_are_known():
    """Rows, targets and noises go together, whatever labels are missing."""
    terms = several_terms()
    frame = labelled(crystal(6))
    frame.calc.results["forces"][1, 2] = np.nan
    frame.calc.results["stress"][3] = np.nan  # yz
    frames = [
        frame,
        labelled(crystal(7), energy=False),
        labelled(crystal(8), forces=False),
        labelled(crystal(9), energy=False, forces=False),
        labelled(cluster(10)),
        labelled(cluster(11), energy=False),
        crystal(12),
    ]
    labels = collected(frames)
    sizes = []
    for s, atoms in enumerate(frames):
        whole = rows_of(terms, [atoms], with_virials=True)
        virial = labels.virial[s]
        whole = np.concatenate(
            [whole.energies, whole.forces.reshape(3 * len(atoms), -1), whole.virials[0]]
        )
        y = np.concatenate([[labels.energy[s]], labels.forces[s].ravel(), virial])
        noise = np.concatenate(
            [
                [0.01 * np.sqrt(len(atoms))],
                np.full(3 * len(atoms), 0.2),
                np.full(6, 0.03 * np.sqrt(len(atoms))),
            ]
        )
        known = np.isfinite(y)
        rows, targets, log_noise = whitened_rows(terms, atoms, labels, s)
        expected = (whole / noise[:, None])[known]
        np.testing.assert_allclose(rows, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(targets, (y / noise)[known], rtol=1e-13)
        np.testing.assert_allclose(log_noise, np.log(noise[known]))
        kind = np.repeat([0, 1, 2], [1, 3 * len(atoms), 6])[known]
        np.testing.assert_array_equal(observed(labels, s)[2], kind)
        sizes.append(len(rows))
    assert sizes == [17, 18, 7, 6, 16, 15, 0]


def dense_posterior(terms, frames, labels, jitter):
    """Weights, evidence by dense algebra."""
    parts = [whitened_rows(terms, f, labels, s) for s, f in enumerate(frames)]
    rows, y, log_noise = (np.concatenate(part) for part in zip(*parts, strict=True))
    K = prior_covariance(terms)
    K += jitter * np.eye(len(K))
    # Least squares with the root of K, as normal equations would lose digits.
    A = np.concatenate([rows, np.linalg.cholesky(K).T])
    coef = np.linalg.lstsq(A, np.append(y, np.zeros(len(K))), rcond=0)[0]
    covariance = rows @ np.linalg.solve(K, rows.T) + np.eye(len(y))
    _, log_det = np.linalg.slogdet(covariance)
    fit = y @ np.linalg.solve(covariance, y)
    evidence = -0.5 * (fit + log_det + len(y) * np.log(2 * np.pi)) - log_noise.sum()
    return coef, evidence


@pytest.mark.parametrize("limit", [1, 40, 2048])
@pytest.mark.parametrize("solver", ["qr", "normal"])
def test_the_fit_is_the_dense_posterior(monkeypatch, limit, solver):
    """Whatever blocks the frames come in, those without labels included."""
    terms = several_terms()
    frames = [*mixed_frames(4), crystal(30), labelled(lone()), cluster(31)]
    labels = collected(frames)
    monkeypatch.setattr(local_fit, "_ROWS", limit)
    solution, evidence = gather_rows(terms, frames, labels, 1e-6, solver).solve()
    coef, expected = dense_posterior(terms, frames, labels, 1e-6)
    assert relative(solution.coef, coef) < 1e-5
    np.testing.assert_allclose(evidence, expected, rtol=1e-9)


def test_the_prior_of_independent_terms():
    terms = several_terms()
    K = prior_covariance(terms)
    first = 0
    for term in terms:
        own = slice(first, first + term.n_inducing)
        np.testing.assert_array_equal(K[own, own], term.covariance())
        assert not K[own, own.stop :].any()
        assert not K[own.stop :, own].any()
        first += term.n_inducing
    assert first == len(K)
