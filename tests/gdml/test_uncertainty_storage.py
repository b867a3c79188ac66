"""An uncertainty as arrays and back."""

from dataclasses import replace

import numpy as np
import pytest
from toys import CO2, toy_frames
from uncertainty_toys import build, features_of

from kforce.gdml.uncertainty_storage import from_arrays, to_arrays
from kforce.kernels.expansion import Expansion
from kforce.structures import Batch

GROUP = np.array([[0, 1, 2], [2, 1, 0]])


@pytest.fixture
def frames():
    frames = toy_frames(CO2, 9, linear=(2, 3))
    frames[1].calc.results["forces"][0] = np.nan
    del frames[4].calc.results["energy"]
    return frames


def restored(arrays, model, frames):
    """What a model that reads its file does."""
    kept = [
        next(f for f in frames if np.array_equal(f.positions, p))
        for p in arrays["train_positions"]
    ]
    return from_arrays(arrays, Batch.from_frames(kept), features_of(kept), model, GROUP)


def expansion(uncertainty):
    x = uncertainty.features.x
    images = uncertainty.features.coordinates.images(GROUP)[0]
    return Expansion(uncertainty.prior.kernel, x, x, None, images)


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
    arrays = to_arrays(uncertainty, with_factor)
    again = restored(arrays, expansion(whole), frames)
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
    again = restored(to_arrays(kept), expansion(kept), frames)
    queries = features_of(frames)
    for a, b in zip(kept.deviations(queries), again.deviations(queries), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_factor_comes_back_in_all_its_tiles(frames, monkeypatch):
    uncertainty = next(cases(frames))
    uncertainty.prepare()
    dense = uncertainty.factor.to_dense()
    tiled = type(uncertainty.factor).from_dense(dense, tile_rows=5)
    uncertainty = replace(uncertainty, factor=tiled)
    arrays = to_arrays(uncertainty, with_factor=True)
    again = restored(arrays, expansion(uncertainty), frames)
    assert again.factor.n_tiles == tiled.n_tiles > 3
    np.testing.assert_array_equal(again.factor.to_dense(), dense)


def test_what_was_never_written_is_not_stored(frames):
    uncertainty = next(cases(frames))
    uncertainty.prepare()
    tile = uncertainty.factor.tile(0, 0)
    tile[np.triu_indices(len(tile), 1)] = np.nan
    arrays = to_arrays(uncertainty, with_factor=True)
    restored(arrays, expansion(uncertainty), frames).deviations(features_of(frames))
    assert np.isnan(tile).any()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda a: a.pop("noise_variance"), KeyError),
        (lambda a: a.pop("calibration"), KeyError),
        (lambda a: a.pop("reference"), KeyError),
        (lambda a: a.pop("factor_0_0"), KeyError),
        (lambda a: a.update(noise_variance=a["noise_variance"][:-1]), ValueError),
        (lambda a: a.update(noise_variance=-a["noise_variance"]), ValueError),
        (lambda a: a.update(calibration=np.array(np.nan)), ValueError),
        (lambda a: a.update(calibration=np.array(0.0)), ValueError),
        (lambda a: a.update(observed=a["observed"][:-1]), ValueError),
        (lambda a: a.update(observed=a["observed"].astype(int)), ValueError),
        (lambda a: a.update(n_rigid=a["n_rigid"] - 1), ValueError),
        (lambda a: a.update(n_rigid=a["n_rigid"] + 1), ValueError),
        (lambda a: a.update(n_rigid=a["n_rigid"].astype(float)), ValueError),
        (lambda a: a.update(reference=np.ones(3)), ValueError),
        (lambda a: a.update(factor_offsets=np.array([0, 3])), ValueError),
        (lambda a: a.update(factor_offsets=np.array([0, 0, 3])), ValueError),
        (lambda a: a.update(factor_offsets=np.zeros((2, 2), dtype=int)), ValueError),
        (lambda a: a.update(factor_0_0=-a["factor_0_0"]), ValueError),
        (lambda a: a.update(factor_0_0=a["factor_0_0"][:-1]), ValueError),
    ],
)
def test_damaged_arrays(frames, change, error):
    uncertainty = next(cases(frames))
    arrays = to_arrays(uncertainty, with_factor=True)
    change(arrays)
    with pytest.raises(error):
        restored(arrays, expansion(uncertainty), frames)
