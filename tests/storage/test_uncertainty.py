"""What an exact model knows of its errors, as a file gives it back."""

from dataclasses import replace

import numpy as np
import pytest
from stored import through_file
from toys import CO2, toy_frames
from uncertainty_toys import build, features_of

from kforce.gdml.posterior import Posterior
from kforce.kernels.expansion import Expansion
from kforce.solvers.tiles import TiledMatrix
from kforce.structures import Batch

GROUP = np.array([[0, 1, 2], [2, 1, 0]])


@pytest.fixture
def frames():
    frames = toy_frames(CO2, 9, linear=(2, 3))
    frames[1].calc.results["forces"][0] = np.nan
    del frames[4].calc.results["energy"]
    return frames


def restored(fields, frames, whole):
    """What a model with all structures of `whole` does when its file is read."""
    kept = [
        next(f for f in frames if np.array_equal(f.positions, p))
        for p in fields["observations"]["positions"]
    ]
    x = whole.features.x
    images = whole.features.coordinates.images(GROUP)[0]
    mean = Expansion(whole.prior.kernel, x, x, None, images)
    return Posterior.from_fields(
        whole.prior, mean, Batch.from_frames(kept), features_of(kept), **fields
    )


def cases(frames):
    known = np.array([1, 1, 0, 1, 0, 1, 1], dtype=bool)
    yield build(frames[:7], group=GROUP)
    yield build(frames[:7], 0.01, group=GROUP, calibration=0.8)
    yield build(frames[:7], group=GROUP, known=known)


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("with_factor", [False, True])
@pytest.mark.parametrize("n_rows", [15, 1000])
def test_it_comes_back(frames, case, with_factor, n_rows):
    whole = list(cases(frames))[case]
    uncertainty = whole.subset(n_rows)
    fields = through_file(uncertainty.to_fields(with_factor))
    again = restored(fields, frames, whole)
    assert (again.factor is not None) == with_factor
    queries = features_of(frames)
    for a, b in zip(
        uncertainty.deviations(queries), again.deviations(queries), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    np.testing.assert_array_equal(
        again.observations.rows, uncertainty.observations.rows
    )
    np.testing.assert_array_equal(
        again.observations.positions, uncertainty.observations.positions
    )


def test_structures_whose_rigid_motions_were_kept_come_back(frames):
    # Where the forces of a frame differ in their noises, none are taken out.
    whole = build(frames[6:], group=GROUP)
    rows, n_rigid, rigid = (
        np.arange(27).reshape(3, 9),
        np.zeros(3, dtype=int),
        np.zeros((3, 9, 6)),
    )
    observations = replace(
        whole.observations,
        rows=np.hstack([rows, np.full((3, 1), -1)]),
        label_variance=np.linspace(1e-4, 1e-2, 27),
        y=np.zeros(27),
        rigid=rigid,
        n_rigid=n_rigid,
    )
    kept = replace(whole, observations=observations)
    again = restored(through_file(kept.to_fields()), frames, kept)
    queries = features_of(frames)
    for a, b in zip(kept.deviations(queries), again.deviations(queries), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"calibration": 0.0}, "calibration is 0.0"),
        ({"reference": np.ones(3)}, "reference has shape"),
        ({"factor": TiledMatrix.from_dense(np.eye(3))}, "the factor has 3 rows"),
    ],
)
def test_what_does_not_fit(frames, change, match):
    uncertainty = next(cases(frames))
    with pytest.raises(ValueError, match=match):
        restored(uncertainty.to_fields() | change, frames, uncertainty)


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("variance", lambda v: v[:-1], "variance has shape"),
        ("variance", np.negative, "noise variances are negative"),
        ("is_observed", lambda v: v[:-1], "is_observed has shape"),
        ("is_observed", lambda v: v.astype(int), "is_observed has shape"),
        ("n_rigid", lambda v: v - 1, "n_rigid does not fit"),
        ("n_rigid", lambda v: v + 1, "n_rigid does not fit"),
        ("n_rigid", lambda v: v.astype(float), "n_rigid has shape"),
    ],
)
def test_observations_that_do_not_fit(frames, name, change, match):
    uncertainty = next(cases(frames))
    fields = uncertainty.to_fields()
    part = fields if name in fields else fields["observations"]
    part[name] = change(part[name])
    with pytest.raises(ValueError, match=match):
        restored(fields, frames, uncertainty)
