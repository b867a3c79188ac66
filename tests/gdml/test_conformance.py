"""Global models keep to what is taken for granted of every force field."""

import pytest
from ase.calculators.lj import LennardJones
from force_field_conformance import ForceFieldConformance
from sklearn.base import clone
from toys import WATER, regressor, symmetric_group, toy_frames

from kforce.kernels.base import Scaled
from kforce.kernels.stationary import Matern52


@pytest.mark.filterwarnings("ignore:.*The model extrapolates")
class TestGDMLRegressor(ForceFieldConformance):
    # A length scale far below the spread of the descriptors learns nothing.
    grid = ("kernel__length_scale", 0.02, 1.3)

    def regressor(self, **parameters):
        return regressor(noise_forces=0.01, noise_energy=1e-3, **parameters)

    def open_regressor(self):
        return regressor(Matern52(), symmetric_group(3, 2), noise_energy=0.01)

    def frames(self, n, seed=0):
        return toy_frames(WATER, n, seed=seed)

    def cheap(self):
        return LennardJones(sigma=1.0, epsilon=0.01)


def test_nested_parameters_of_a_copy():
    model = regressor(Scaled(Matern52(length_scale=2.0), amplitude=3.0))
    assert model.get_params()["kernel__kernel__length_scale"] == 2.0
    clone(model).set_params(kernel__kernel__length_scale=4.0)
    assert model.kernel.kernel.length_scale == 2.0
