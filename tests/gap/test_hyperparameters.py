"""Learning of noises, amplitudes and length scales."""

from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from sparse_toys import (
    DENSITY,
    PAIRS,
    cluster,
    crystal,
    environments,
    labelled,
    make_term,
    mixed_frames,
    rows_of,
    training_set,
)

from kforce.descriptors.two_body import TwoBody
from kforce.gap.covariance import (
    derivative_covariance,
    energy_variance,
    prior_covariance,
)
from kforce.gap.hyperparameters import (
    FreeEnergyProblem,
    FreeParameters,
    LengthDerivative,
    maximise_free_energy,
)
from kforce.gap.sparse_term import SparseTerm
from kforce.gap.term import composition_term
from kforce.kernels.base import Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import RBF, Matern52, RationalQuadratic

NOISES = np.array([0.03, 0.3, 0.2])


def terms_of(constant=0.0):
    return [
        make_term(PAIRS, Scaled(RBF(length_scale=1.0), 0.7), (0.9, 0.4), constant),
        make_term(DENSITY, Scaled(Polynomial(zeta=2), 0.8), 1.0, 0.0, n_inducing=5),
        make_term(DENSITY, Scaled(Matern52(length_scale=1.0), 1.3), 0.8, 0.0),
        composition_term((29, 79)),
    ]


def data(frames, noises=NOISES):
    types = {"a": (0.1, 0.2, 0.3)}
    return training_set(frames, noises, atom_energy=3.0, config_noises=types)


def some_frames():
    """One with noises of its own, one of a type, one without forces, one energy."""
    frames = mixed_frames(6)
    frames[1].info["noise_forces"] = 0.5
    frames[3].info["config_type"] = "a"
    frames.append(labelled(cluster(70), forces=False))
    frames.append(labelled(crystal(71), energy=False))
    return frames


FREE = FreeParameters(
    [True, True, True, False], [True, False, True, False], (True,) * 3
)
FREEDOMS = {
    "all": FREE,
    "amplitudes": FreeParameters([True, False, True, False], [False] * 4, (False,) * 3),
    "lengths": FreeParameters([False] * 4, [True, False, True, False], (False,) * 3),
    "noises": FreeParameters([False] * 4, [False] * 4, (True, True, True)),
    "noise of forces": FreeParameters([False] * 4, [False] * 4, (False, True, False)),
    "of energies and virials": FreeParameters(
        [True, False, False, False], [False] * 4, (True, False, True)
    ),
}


def problem_of(free, terms=None, frames=None, **kwargs):
    training = data(some_frames() if frames is None else frames)
    terms = terms_of() if terms is None else terms
    rng = np.random.default_rng(0)
    return FreeEnergyProblem(terms, training, free, rng, **kwargs)


@pytest.mark.parametrize("name", FREEDOMS)
@pytest.mark.parametrize("most", [200, 3])
def test_gradient(name, most):
    """By differences, with the traces of all terms or of some."""
    problem = problem_of(FREEDOMS[name], max_environments=most)
    assert all(problem.is_probed) == (most == 200)
    rng = np.random.default_rng(1)
    start = problem.start
    theta = start + 0.3 * rng.normal(size=start.shape)
    value, gradient = problem.evaluate(theta)
    assert np.isfinite(value)
    scale = np.linalg.norm(gradient)
    for k, unit in enumerate(np.eye(len(theta))):
        errors = []
        for h in (1e-2, 1e-3):
            plus, minus = (problem.evaluate(theta + s * h * unit)[0] for s in (1, -1))
            errors.append(abs((plus - minus) / (2 * h) - gradient[k]))
        assert errors[1] < 1e-4 * scale
        # Second order, down to what rounding in K_mm (1e-16 / 1e-8) leaves.
        assert errors[0] > 60 * errors[1] or errors[1] < 1e-6 * scale


def dense_free_energy(problem, terms, training):
    """The bound of the model that learning would return, probe by probe."""
    parts = [training.whitened(terms, s) for s in problem.chosen]
    rows, y, noise = (np.concatenate(part) for part in zip(*parts, strict=True))
    K = prior_covariance(terms)
    first = 0
    for term in terms:  # the jitter of each term
        own = np.arange(first, first + term.n_inducing)
        K[own, own] += 1e-8 * np.trace(term.covariance()) / len(own)
        first += len(own)
    Q = rows @ np.linalg.solve(K, rows.T)
    covariance = Q + np.eye(len(y))
    _, log_det = np.linalg.slogdet(covariance)
    fit = y @ np.linalg.solve(covariance, y)
    value = -0.5 * (fit + log_det + len(y) * np.log(2 * np.pi)) - np.log(noise).sum()
    probes = zip(problem.probes.probes, problem.probes.columns.T, strict=True)
    for (s, kind, _, motion), column in probes:
        known = training.observations[s]
        noise = training.noise(s)[known.kind == kind][0]
        motion = np.sign(motion) * np.abs(column).max() / noise
        prior = 0.0
        for term in terms:
            env = environments(term.descriptor, [training.frames[s]])
            f_cut = env.multiplicity * env.f_cut
            if kind == 0:
                prior += motion**2 * energy_variance(term, env.x, f_cut)
            else:
                tangents, df_cut = env.push(motion)
                df_cut = env.multiplicity * df_cut
                prior += derivative_covariance(
                    term, env.x, f_cut, tangents[None], df_cut[None]
                )[0, 0]
        value -= 0.5 * (prior - column @ Q @ column)
    return value


@pytest.mark.parametrize("constant", [0.0, 0.5])
def test_value_is_that_of_the_model_that_is_returned(constant):
    """Amplitudes, lengths and noises mean the same there and here."""
    frames, terms = some_frames(), terms_of(constant)
    problem = problem_of(FREE, terms, frames)
    rng = np.random.default_rng(2)
    start = problem.start
    theta = start + 0.3 * rng.normal(size=start.shape)
    changes = []
    for point in (np.zeros(len(theta)), theta):
        learned, noises = problem.result(point, terms)
        training = data(frames).with_noises(noises)
        expected = dense_free_energy(problem, learned, training)
        changes.append((problem.evaluate(point)[0], expected))
    # The value lacks a constant, the noises of the labels before they are learned.
    (found, expected), (found_there, expected_there) = changes
    np.testing.assert_allclose(
        found_there - found, expected_there - expected, rtol=1e-8
    )


def test_probes_stand_for_all_rows():
    """Their weights add up to the number of energies and of force components."""
    problem = problem_of(FREE)
    probes = problem.probes
    totals = np.square(probes.columns).sum(axis=0)
    kinds = np.array([probe.kind for probe in probes.probes])
    for kind in (0, 1):
        n_labels = problem.training.counts[kind]
        np.testing.assert_allclose(totals[kinds == kind].sum(), n_labels)


def test_results():
    terms = terms_of()
    problem = problem_of(FREE, terms)
    theta = np.log([2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    learned, noises = problem.result(theta, terms)
    ratios = [
        b.kernel.amplitude / a.kernel.amplitude
        for a, b in zip(terms, learned, strict=True)
    ]
    np.testing.assert_allclose(ratios, [2, 3, 4, 1])
    for old, new, factor in zip(terms, learned, [5, 1, 6, 1], strict=True):
        np.testing.assert_allclose(new.length_scales, factor * old.length_scales)
        assert type(new.kernel.kernel) is type(old.kernel.kernel)
        np.testing.assert_array_equal(new.inducing_points, old.inducing_points)
    np.testing.assert_allclose(noises, [0.21, 2.1, 1.4])


@pytest.mark.parametrize("kernel", [RBF(1.3), Matern52(0.7), RationalQuadratic(1.1)])
def test_derivative_of_a_kernel_with_respect_to_its_length(kernel):
    """∂/∂log ℓ of k and of its derivatives, for features divided by ℓ."""
    u = np.array([0.05, 0.5, 2.0])
    found = LengthDerivative(kernel).profile(u, orders=(0, 1, 2))
    h = 1e-4
    for order, derivative in enumerate(found):

        def stretched(log_length, order=order):
            shrink = np.exp(-2.0 * log_length)
            # The p-th derivative with respect to u of φ(u e^−2λ).
            return shrink**order * kernel.profile(u * shrink, orders=(order,))[0]

        slope = (stretched(h) - stretched(-h)) / (2 * h)
        np.testing.assert_allclose(derivative, slope, rtol=1e-6)


def synthetic(noise_forces, amplitude, n=14):
    """Labels drawn from a model: weights, rows, and white noise.

    Inducing pairs are as dense as the kernel is smooth, so the trace is nothing.
    """
    rng = np.random.default_rng(3)
    frames = [crystal(200 + k) if k % 2 else cluster(300 + k) for k in range(n)]
    pairs = TwoBody(cutoff=4.2, transition_width=1.0)
    x = np.linspace(1.7, 4.2, 30)[:, None]
    kernel = Scaled(RBF(length_scale=1.0), amplitude)
    truth = SparseTerm(pairs, kernel, np.array([0.5]), 0.0, x, np.ones(30))
    K = truth.covariance()
    K += 1e-9 * np.trace(K) / len(K) * np.eye(len(K))
    weights = np.linalg.solve(np.linalg.cholesky(K).T, rng.normal(size=len(K)))
    for frame in frames:
        rows = rows_of([truth], [frame])
        energy = float(rows.energies[0] @ weights)
        energy += 0.04 * noise_forces * np.sqrt(len(frame)) * rng.normal()
        forces = rows.forces @ weights
        forces += noise_forces * rng.normal(size=forces.shape)
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    return truth, frames


@pytest.mark.parametrize(("noise", "amplitude"), [(0.05, 0.5), (0.3, 2.0)])
def test_a_model_is_found_again(noise, amplitude):
    """Starting from other values, with a known ratio of noises."""
    truth, frames = synthetic(noise, amplitude)
    start = replace(
        truth,
        kernel=Scaled(RBF(length_scale=1.0), 1.0),
        length_scales=1.6 * truth.length_scales,
    )
    training = training_set(frames, (0.002, 0.05, 0.05))
    free = FreeParameters([True], [True], (True, True, True))
    rng = np.random.default_rng(0)
    (found,), learned = maximise_free_energy([start], training, free, rng)
    assert 0.85 < learned[1] / noise < 1.15
    np.testing.assert_allclose(learned[0], 0.04 * learned[1], rtol=1e-12)
    assert 0.5 < found.kernel.amplitude / amplitude < 2.0
    ratio = found.length_scales / truth.length_scales
    assert (ratio > 0.75).all()
    assert (ratio < 1.33).all()


def test_what_is_given_stays():
    training, terms = data(some_frames()), terms_of()
    rng = np.random.default_rng(0)
    nothing = FreeParameters([False] * 4, [False] * 4, (False,) * 3)
    learned, noises = maximise_free_energy(terms, training, nothing, rng)
    assert learned == terms
    np.testing.assert_array_equal(noises, NOISES)
    one = replace(nothing, noises=(False, True, False))
    learned, noises = maximise_free_energy(terms, training, one, rng)
    np.testing.assert_array_equal(noises == NOISES, [True, False, True])
    for old, new in zip(terms, learned, strict=True):
        assert new.kernel.amplitude == old.kernel.amplitude
        np.testing.assert_array_equal(new.length_scales, old.length_scales)


def test_a_part_decides():
    """Of many frames and inducing environments, which are all there in the end."""
    frames, terms = some_frames(), terms_of()
    problem = problem_of(FREE, terms, frames, n_rows=60, n_inducing=4, n_inducing_few=3)
    assert 1 <= len(problem.chosen) < len(frames)
    assert [term.n_inducing for term in problem.terms] == [3, 4, 4, 2]
    learned, _ = problem.result(problem.start, terms)
    sizes = [term.n_inducing for term in terms]
    assert [term.n_inducing for term in learned] == sizes


@pytest.mark.parametrize(
    "labels", [{"forces": False}, {"energy": False}, {"energy": False, "forces": False}]
)
def test_labels_of_one_kind(labels):
    frames = [labelled(crystal(k), **labels) for k in range(4)]
    problem = problem_of(FREE, frames=frames)
    start = problem.start
    assert np.isfinite(start).all()
    value, gradient = problem.evaluate(start)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_a_term_that_no_force_depends_on():
    """Pairs of gold occur in a frame that has an energy only: it starts with 1 eV."""
    frames = [labelled(cluster(k, (29,) * 4)) for k in range(3)]
    frames.append(labelled(cluster(9, (79, 79)), forces=False))
    gold = make_term(PAIRS, Scaled(RBF(length_scale=1.0), 0.7), (0.9, 0.4), 0.0)
    gold = replace(gold, descriptor=type(PAIRS)(**PAIRS.get_params()))
    gold.descriptor.set_params(species=(79, 79))
    problem = problem_of(FreeParameters([True], [False], (True,) * 3), [gold], frames)
    assert problem.start[0] == 0.0
    assert np.isfinite(problem.start).all()
