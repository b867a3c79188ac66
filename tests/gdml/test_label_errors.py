"""Wrong labels: found by leaving out, against fits without them, and left out."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from sklearn.base import clone
from toys import WATER, symmetric_group, toy_frames

import kforce
from kforce import GDMLRegressor, InputError, Matern52
from kforce.data.worst_frames import WorstFrames
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.gdml import label_errors
from kforce.gdml.label_errors import _Search, _Without, calibrated, find_label_errors
from kforce.gdml.observations import Observations
from kforce.gdml.posterior import condition
from kforce.gdml.prior import Noise, Prior
from kforce.labels import Labels
from kforce.structures import Batch

FRAMES = kforce.datasets.load_methanol_ccsdt()
TRAIN, TEST = FRAMES[:60], FRAMES[-80:]


def with_wrong(frames, wrong):
    """Copies of frames, some with what `wrong`, by frame, makes of both labels."""
    copies = []
    for s, frame in enumerate(frames):
        copy = frame.copy()
        labels = frame.get_potential_energy(), frame.get_forces()
        energy, forces = wrong.get(s, lambda e, f: (e, f))(*labels)
        copy.calc = SinglePointCalculator(copy, energy=energy, forces=forces)
        copies.append(copy)
    return copies


def one_atom(e, f):
    f = f.copy()
    f[2] += [0.5, -0.4, 0.3]
    return e, f


def one_component(e, f):
    f = f.copy()
    f[1, 2] += 1.0
    return e, f


MISTAKES = {
    "energy": ("energy", lambda e, f: (e + 5.0, f)),
    "small energy": ("energy", lambda e, f: (e - 0.3, f)),
    "forces times three": ("forces", lambda e, f: (e, 3.0 * f)),
    "other sign": ("forces", lambda e, f: (e, -f)),
    "one atom": ("forces", one_atom),
    "one component": ("forces", one_component),
}


def posterior_of(frames, with_energies=True, rows=None):
    """A posterior of toys with given hyper-parameters, and that of some rows alone."""
    batch, labels = Batch.from_frames(frames), Labels.from_frames(frames)
    observations = Observations.build(batch, labels, with_energies)
    if rows is not None:
        kept = np.where(np.isin(observations.rows, rows), observations.rows, -1)
        observations = observations._with_rows(kept)
    noise = Noise(0.02, 0.01 if with_energies else None)
    prior = Prior(Matern52(1.3), symmetric_group(len(frames[0]), 2), noise)
    return condition(prior, InverseDistances()(batch), observations)


@pytest.mark.parametrize("outside", [[], [3], [2, 3], [0, 5, 9]], ids=str)
@pytest.mark.parametrize("with_energies", [True, False], ids=["energies", "forces"])
def test_predictions_against_fits_without_the_labels(outside, with_energies):
    """Each label from all others in trust: the fit without it is repeated."""
    frames = toy_frames(WATER, 7)
    outside = [k for k in outside if with_energies or k < 7]
    fitted = posterior_of(frames, with_energies)
    search = _Search(fitted, np.arange(7), 0)
    search._exactly(range(7))
    without = _Without(search, outside)
    everything = np.arange(fitted.observations.n_rows)
    A = fitted.prior.noise.variance(fitted.observations)
    K = label_errors_twin(fitted) + np.diag(A)
    for k, label in enumerate(search.labels):
        hidden = np.concatenate(
            [label.rows, *(search.labels[o].rows for o in outside if o != k)]
        )
        rest = np.setdiff1d(everything, hidden)
        gain = np.linalg.solve(K[np.ix_(rest, rest)], K[np.ix_(rest, label.rows)])
        y = fitted.observations.y
        residual, C = without._prediction(label)
        np.testing.assert_allclose(
            residual, y[label.rows] - gain.T @ y[rest], rtol=1e-6, atol=1e-8
        )
        own = K[np.ix_(label.rows, label.rows)]
        np.testing.assert_allclose(
            C, own - K[np.ix_(label.rows, rest)] @ gain, rtol=1e-5, atol=1e-9
        )


def label_errors_twin(fitted):
    """The prior covariance of all rows."""
    from kforce.gdml.covariance import covariance

    K = covariance(fitted.prior, fitted.features, fitted.observations)
    return K.to_dense()


def test_coefficients_without_labels_are_those_of_the_fit_without_them():
    frames = toy_frames(WATER, 7)
    fitted = posterior_of(frames)
    search = _Search(fitted, np.arange(7), 0)
    outside = [0, 3]
    rows = np.concatenate([search.labels[k].rows for k in outside])
    kept = np.setdiff1d(np.arange(fitted.observations.n_rows), rows)
    alone = posterior_of(frames, rows=kept)
    alpha = _Without(search, outside).alpha
    np.testing.assert_allclose(alpha[kept], alone.coef, rtol=1e-6, atol=1e-9)
    assert not alpha[rows].any()


def test_residual_forces_have_no_part_along_rigid_motions():
    frames = toy_frames([8, 6, 8], 4, linear=(1,))
    observations = posterior_of(frames).observations
    rng = np.random.default_rng(0)
    for s, frame in enumerate(frames):
        Q = observations.cartesian(s)
        np.testing.assert_allclose(Q.T @ Q, np.eye(Q.shape[1]), atol=1e-10)
        f = (Q @ rng.normal(size=Q.shape[1])).reshape(-1, 3)
        np.testing.assert_allclose(f.sum(axis=0), 0.0, atol=1e-10)
        torque = np.cross(frame.positions, f).sum(axis=0)
        np.testing.assert_allclose(torque, 0.0, atol=1e-9)
        labels = np.zeros((4, Q.shape[0]))
        labels[s] = f.ravel()
        of_frame = observations.rows[s, :-1]
        projected = observations.collect(labels, np.zeros(4))[of_frame[of_frame >= 0]]
        np.testing.assert_allclose(Q @ projected, f.ravel(), atol=1e-10)


def test_estimated_blocks_name_the_same(monkeypatch):
    """Where all blocks are too expensive, samples tell where to look exactly."""
    wrong = {3: MISTAKES["energy"][1], 20: MISTAKES["forces times three"][1]}
    model = GDMLRegressor(kernel=Matern52(), noise_energy=1e-3)
    model.fit(with_wrong(TRAIN, wrong))
    posterior, energy = model.uncertainty_, np.zeros(60)
    exact, _ = find_label_errors(posterior, energy, np.arange(60))
    monkeypatch.setattr(label_errors, "_ROWS_OF_ALL", 0)
    monkeypatch.setattr(label_errors, "_SHARE", 0.0)
    estimated, _ = find_label_errors(posterior, energy, np.arange(60))
    assert exact.suspects.frame.tolist() == estimated.suspects.frame.tolist()
    assert set(exact.suspects.frame) == {3, 20}
    # Deviations from 256 samples, without looking exactly.
    search = _Search(posterior, np.arange(0), 0)
    looks = [_Without(search, []).look(label) for label in search.labels]
    assert not search.precision
    search._exactly(range(60))
    again = [_Without(search, []).look(label) for label in search.labels]
    ratio = np.array([a[2] / b[2] for a, b in zip(looks, again, strict=True)])
    np.testing.assert_allclose(ratio, 1.0, atol=0.2)


@pytest.mark.parametrize("power", [1.0, 1.4])
@pytest.mark.parametrize("n_components", [1, 18])
def test_right_labels_are_normal_after_calibration(n_components, power):
    rng = np.random.default_rng(1)
    std = rng.uniform(0.1, 3.0, 400)
    z = np.abs(rng.normal(size=(400, n_components))).max(axis=1) ** power * 0.2 * std
    trusted = np.ones(400, dtype=bool)
    out = calibrated(z, std, trusted, n_components)
    middle = np.abs(rng.normal(size=(9000, n_components))).max(axis=1)
    for q in (0.5, 0.9, 0.97):
        expected = np.quantile(middle, q)
        np.testing.assert_allclose(np.quantile(out, q), expected, rtol=0.2)
    # One in ten is far off.
    z[::10] = 40.0 * 0.2 * std[::10]
    assert calibrated(z, std, trusted, n_components)[::10].min() > 6.0


@pytest.mark.parametrize("kind", ["energy", "forces times three", "other sign"])
@pytest.mark.parametrize("settings", [{}, {"noise_energy": 1e-3}], ids=["forces", "E"])
def test_one_wrong_label_is_named_by_a_plain_kernel(kind, settings, caplog):
    label, wrong = MISTAKES[kind]
    model = GDMLRegressor(kernel=Matern52(), **settings)
    with caplog.at_level(logging.WARNING, logger="kforce.labels"):
        model.fit(with_wrong(TRAIN, {11: wrong}))
    (suspect,) = model.worst_frames().suspects
    assert (suspect.frame, suspect.label) == (11, label)
    (line,) = caplog.messages
    assert line.startswith(f"frame 11: {label} ")
    assert line.endswith(" σ: check this calculation")
    if label == "energy":
        np.testing.assert_allclose(suspect.error, 5.0, rtol=0.15)


@pytest.fixture(scope="module")
def clean():
    return GDMLRegressor().fit(TRAIN)


def force_error(model):
    predicted = model.evaluate(TEST).forces
    right = [frame.get_forces() for frame in TEST]
    return float(np.mean(np.abs(np.subtract(predicted, right))))


def judged(model, wrong):
    """What the kernel and the noise of a model say of other labels."""
    labels = Labels.from_frames(with_wrong(TRAIN, wrong))
    nothing = np.zeros((60, 2), dtype=bool)
    return model._judge(TRAIN, labels, nothing, np.arange(60))[0]


@pytest.mark.parametrize("kind", MISTAKES)
@pytest.mark.parametrize("s", [0, 11, 40])
def test_each_kind_of_wrong_label_is_told_by_learned_scales(clean, kind, s):
    label, wrong = MISTAKES[kind]
    worst = judged(clean, {s: wrong})
    (suspect,) = worst.suspects
    assert (suspect.frame, suspect.label) == (s, label)


def test_wrong_labels_do_not_hide_one_another(clean):
    frames = range(3, 60, 10)
    wrong = {s: MISTAKES["energy"][1] for s in frames}
    worst = judged(clean, wrong)
    assert sorted(worst.suspects.frame) == list(frames)
    np.testing.assert_allclose(worst.suspects.error, 5.0, atol=0.1)


def test_right_labels_are_not_named(clean, caplog):
    assert len(clean.worst_frames_) == 60
    assert not len(clean.worst_frames_.suspects)
    assert not caplog.messages


def test_robust_is_the_fit_without_the_wrong_labels(clean):
    names = "energy", "forces times three", "one atom", "other sign"
    wrong = {7 * k + 2: MISTAKES[name][1] for k, name in enumerate(names)}
    frames = with_wrong(TRAIN, wrong)
    spoilt = GDMLRegressor().fit(frames)
    robust = GDMLRegressor(robust=True).fit(frames)
    assert force_error(spoilt) > 3.0 * force_error(clean)
    left_out = [one for one in robust.worst_frames_ if one.is_left_out]
    assert {one.frame for one in left_out} == set(wrong)
    for one in left_out:
        assert one.label == MISTAKES[names[(one.frame - 2) // 7]][0]
    # As a fit that never saw them, to the last digit: of frame 2 the forces are right.
    frames[2].calc = SinglePointCalculator(frames[2], forces=TRAIN[2].get_forces())
    kept = [frame for s, frame in enumerate(frames) if s == 2 or s not in wrong]
    without = GDMLRegressor().fit(kept)
    np.testing.assert_array_equal(robust.predict(TEST), without.predict(TEST))
    assert force_error(robust) < 1.1 * force_error(clean)


def test_robust_without_wrong_labels_is_the_plain_fit(clean):
    robust = GDMLRegressor(robust=True).fit(TRAIN)
    np.testing.assert_array_equal(robust.predict(TEST), clean.predict(TEST))
    assert not any(one.is_left_out for one in robust.worst_frames_)


def test_numbers_are_those_of_the_frames_that_were_given():
    frames = with_wrong(TRAIN, {11: MISTAKES["energy"][1]})
    frames[4] = frames[4].copy()  # without labels
    model = GDMLRegressor(kernel=Matern52()).fit(frames)
    assert model.worst_frames(1)[0].frame == 11
    assert 4 not in model.worst_frames(60).frame


def test_the_diagnosis_of_a_wrong_unit_takes_more_than_one_label(recwarn):
    GDMLRegressor(kernel=Matern52()).fit(with_wrong(TRAIN, {5: MISTAKES["energy"][1]}))
    assert not recwarn.list


def test_worst_frames_are_in_the_file(tmp_path, clean):
    clean.save(tmp_path / "model.npz")
    again = kforce.load(tmp_path / "model.npz")
    assert str(again.worst_frames(60)) == str(clean.worst_frames(60))
    assert clone(again).robust is False


def test_refusals(clean):
    for n in (0, -1, 2.5):
        with pytest.raises(InputError, match="n must be a whole number ≥ 1"):
            clean.worst_frames(n)
    unknown = GDMLRegressor(kernel=Matern52()).fit(TRAIN[:5])
    unknown.worst_frames_ = None
    with pytest.raises(InputError, match="does not know how far"):
        unknown.worst_frames()
    with pytest.raises(InputError, match=r"from 10 frames on, found 9: add frames"):
        GDMLRegressor(robust=True).fit(TRAIN[:9])
    with pytest.raises(InputError, match="robust must be True or False, found 'yes'"):
        GDMLRegressor(robust="yes").fit(TRAIN)


def test_table():
    z = np.array([[np.nan, 2.0], [np.nan, np.nan], [8.0, 7.0]])
    worst = WorstFrames.of(np.array([3, 5, 9]), -z, z)
    assert [(one.frame, one.label) for one in worst] == [(9, "energy"), (3, "forces")]
    assert len(worst[:1]) == 1
    assert worst.named(range(100, 110))[0].frame == 109
    named = replace(worst, names={9: "9 of a.xyz"})
    assert named.advice() == [
        "frame 9 of a.xyz: energy 8.00 eV off, 8.0 σ: check this calculation"
    ]
    many = WorstFrames.of(np.arange(9), np.full((9, 2), 7.0), np.full((9, 2), 7.0))
    assert len(many.advice()) == 6
    assert many.advice()[-1] == "4 more frames have labels beyond 6 σ: 5, 6, 7, 8"
