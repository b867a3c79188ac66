"""Noises whose squares are no numbers are refused before a fit."""

import pytest

import kforce
from kforce.errors import InputError


@pytest.mark.parametrize("noise", [1e160, 1e300, 1e-160, 1e-300])
@pytest.mark.parametrize(
    "make",
    [
        lambda noise: kforce.GDMLRegressor(noise_forces=noise),
        lambda noise: kforce.GDMLRegressor(noise_energy=noise),
        lambda noise: kforce.GAPRegressor(noise_forces=noise),
        lambda noise: kforce.GAPRegressor(jitter=noise),
    ],
)
def test_of_models(noise, make, methanol):
    with pytest.raises(InputError, match=r"must be a standard deviation in eV"):
        make(noise).fit(methanol[:8])


@pytest.mark.parametrize("noise", [1e300, 1e-300])
@pytest.mark.parametrize("model", [kforce.GDMLRegressor(), kforce.GAPRegressor()])
def test_of_frames(noise, model, methanol):
    frames = [frame.copy() for frame in methanol[:8]]
    for frame, labelled in zip(frames, methanol, strict=False):
        frame.calc = labelled.calc
    frames[3].info["noise_forces"] = noise
    with pytest.raises(InputError, match="noise_forces of frame 3 must be positive"):
        model.fit(frames)
