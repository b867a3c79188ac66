"""What the figures show, read back from their artists."""

import sys
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from kforce.errors import InputError
from kforce.evaluation.calibration import coverage
from kforce.evaluation.learning_curve import LearningCurve
from kforce.evaluation.plots import (
    calibration_figure,
    error_figure,
    learning_curve_figure,
    parity_figure,
)
from kforce.labels import Labels

pytest.importorskip("matplotlib")

UNCERTAIN = (calibration_figure, error_figure)


def prediction_of(frames, seed=0):
    """A calibrated prediction, drawn around the labels."""
    rng = np.random.default_rng(seed)
    labels = Labels.from_frames(frames)
    energy_std = rng.uniform(0.01, 0.05, len(frames))
    forces_std = [rng.uniform(0.02, 0.2, f.shape) for f in labels.forces]
    return SimpleNamespace(
        energy=rng.normal(labels.energy, energy_std),
        forces=[rng.normal(*p) for p in zip(labels.forces, forces_std, strict=True)],
        energy_std=energy_std,
        forces_std=forces_std,
    )


def only_forces(frames):
    copies = [frame.copy() for frame in frames]
    for copy, frame in zip(copies, frames, strict=True):
        copy.calc = SinglePointCalculator(copy, forces=frame.get_forces())
    return copies


def points(axes):
    """Coordinates of the first line of an axes that is drawn as points."""
    return next(line.get_xydata() for line in axes.lines if line.get_marker() == ".")


def test_parity_shows_predictions_over_references(methanol):
    frames = methanol[:50]
    prediction, labels = prediction_of(frames), Labels.from_frames(frames)
    energy, forces, energy_error, forces_error = parity_figure(prediction, frames).axes
    origin = labels.energy.mean()
    expected = np.column_stack([labels.energy - origin, prediction.energy - origin])
    np.testing.assert_array_equal(points(energy), expected)
    residual = 1e3 * (prediction.energy - labels.energy)
    np.testing.assert_allclose(points(energy_error)[:, 1], residual)
    np.testing.assert_array_equal(points(forces)[:, 0], np.ravel(labels.forces))
    np.testing.assert_array_equal(points(forces)[:, 1], np.ravel(prediction.forces))
    assert forces_error.get_ylabel() == "error (meV/Å)"
    assert energy_error.get_xlabel() == "reference energy - mean (eV)"


def test_calibration_shows_the_coverage(methanol):
    prediction = prediction_of(methanol)
    (axes,) = calibration_figure(prediction, methanol).axes
    curves = {line.get_label().partition(",")[0]: line for line in axes.lines}
    residual = Labels.from_frames(methanol).energy - prediction.energy
    x, y = curves["energy"].get_data()
    for level in (10.0, 50.0, 95.0):
        # A step is at its new height from the edge to its left on.
        shown = y[np.searchsorted(x, level)]
        assert shown == pytest.approx(
            100.0 * coverage(residual, prediction.energy_std, level / 100)
        )
    assert set(curves) >= {"energy", "forces"}


def test_errors_show_calibrated_bins_on_the_diagonal(methanol):
    energy, forces = error_figure(prediction_of(methanol[:100]), methanol[:100]).axes
    for axes, tolerance in ((energy, 0.6), (forces, 0.25)):
        bins = next(line for line in axes.lines if line.get_marker() == "o")
        rmv, rmse = bins.get_data()
        assert len(rmv) == 10
        np.testing.assert_allclose(rmse, rmv, rtol=tolerance)
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert axes.get_xlabel().startswith("predicted std")


def test_many_points_are_counted(methanol):
    prediction = prediction_of(methanol)
    for figure in (parity_figure, error_figure):
        axes = figure(prediction, methanol).axes
        (counts,) = [c for a in axes for c in a.collections if c.get_array() is not None
                     and a.get_ylabel() != "number"]  # fmt: skip
        n_components = 3 * sum(map(len, methanol))
        assert 0.97 * n_components < counts.get_array().sum() <= n_components
        assert axes[-1].get_ylabel() == "number"


@pytest.mark.parametrize("figure", [parity_figure, *UNCERTAIN])
def test_what_has_no_labels_is_left_out(figure, methanol):
    frames = only_forces(methanol[:30])
    drawn = figure(prediction_of(methanol[:30]), frames)
    text = " ".join(a.get_xlabel() + a.get_ylabel() for a in drawn.axes)
    text += " ".join(line.get_label() for a in drawn.axes for line in a.lines)
    assert "energy" not in text
    bare = [frame.copy() for frame in methanol[:30]]
    with pytest.raises(InputError, match="neither energies nor forces"):
        figure(prediction_of(methanol[:30]), bare)


@pytest.mark.parametrize("figure", UNCERTAIN)
def test_uncertainty_takes_standard_deviations(figure, methanol):
    prediction = prediction_of(methanol[:5])
    del prediction.energy_std
    with pytest.raises(InputError, match=r"no energy_std: .* return_std=True"):
        figure(prediction, methanol[:5])


@pytest.mark.parametrize("figure", [parity_figure, *UNCERTAIN])
def test_one_structure_and_equal_stds_can_be_drawn(figure, methanol, tmp_path):
    prediction = prediction_of(methanol[:1])
    prediction.forces_std = [np.full_like(prediction.forces[0], 0.1)]
    figure(prediction, methanol[:1]).savefig(tmp_path / "figure.png")


def test_learning_curves_show_errors_over_sizes():
    sizes = np.array([10, 20, 40])
    error, gaps = 1.0 / sizes, np.full(3, np.nan)
    curve = LearningCurve(sizes, error, 2 * error, 3 * error, 4 * error, 60)
    energy, forces = learning_curve_figure(curve).axes
    for axes, expected in ((energy, (2, 1)), (forces, (4, 3))):
        for line, factor in zip(axes.lines, expected, strict=True):
            np.testing.assert_allclose(line.get_xdata(), sizes)
            np.testing.assert_allclose(line.get_ydata(), 1e3 * factor * error)
        assert [t.get_text() for t in axes.get_xticklabels()] == ["10", "20", "40"]
    assert "slope -1.00" in forces.lines[1].get_label()
    (alone,) = learning_curve_figure(
        LearningCurve(sizes, gaps, gaps, error, error, 60)
    ).axes
    assert "meV/Å" in alone.get_ylabel()


def test_no_global_state_is_touched(methanol):
    before = set(sys.modules)
    figure = error_figure(prediction_of(methanol[:9]), methanol[:9])
    figure.savefig(BytesIO(), format="png")
    assert "matplotlib.pyplot" not in set(sys.modules) - before
