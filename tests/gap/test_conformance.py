"""Local models keep to what is taken for granted of every force field."""

from ase.calculators.lj import LennardJones
from force_field_conformance import ForceFieldConformance
from sklearn.base import clone
from sparse_toys import PAIRS, mixed_frames

from kforce.descriptors.soap.soap import SOAP
from kforce.descriptors.two_body import TwoBody
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import Term
from kforce.kernels.base import Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import RBF


def pairs(length_scale=1.0):
    return Term(TwoBody(cutoff=3.9), Scaled(RBF(length_scale), 2.0), n_inducing=8)


def density():
    soap = SOAP(cutoff=3.5, n_max=2, l_max=1, atom_sigma=0.5)
    return Term(soap, Scaled(Polynomial(zeta=2), 0.5), n_inducing=8)


class TestGAPRegressor(ForceFieldConformance):
    grid = ("terms", [pairs(length_scale=1e-3)], [pairs(), density()])

    def regressor(self, **parameters):
        return GAPRegressor([pairs(), density()], optimize=False, **parameters)

    def open_regressor(self):
        return GAPRegressor(
            [Term(PAIRS, RBF(), n_inducing=5)],
            config_noises={"default": (0.1, 0.2, 0.3)},
            reference_energies={"Cu": 1.0, "Au": 2.0},
        )

    def frames(self, n, seed=0):
        return mixed_frames(n, seed=seed, stress=False)

    def cheap(self):
        return LennardJones(sigma=2.1, epsilon=0.2, rc=6.0, ro=2.9, smooth=True)


def test_parameters_of_terms():
    soap = density()
    params = soap.get_params()
    assert params["kernel__kernel__zeta"] == 2
    assert params["descriptor__cutoff"] == 3.5
    copy = clone(soap)
    assert repr(copy) == repr(soap)
    copy.set_params(kernel__kernel__zeta=3, descriptor__n_max=4, n_inducing=2)
    assert soap.kernel.kernel.zeta == 2
    assert soap.descriptor.n_max == 2
    assert copy.descriptor.n_max == 4
    assert repr(pairs()).startswith("Term(descriptor=TwoBody(")


def test_parameters_and_clone():
    model = GAPRegressor(
        [pairs(), density()],
        seed=5,
        noise_energy=0.1,
        config_noises={"a": (1, 2, 3)},
        reference_energies={"Cu": 1.0},
    )
    params = model.get_params()
    assert set(params) >= {"terms", "noise_energy", "config_noises", "seed", "jitter"}
    copy = clone(model)
    assert repr(copy) == repr(model)
    assert copy.terms is not model.terms
    copy.terms[1].set_params(kernel__kernel__zeta=3)
    copy.config_noises["b"] = (1, 1, 1)
    assert model.terms[1].kernel.kernel.zeta == 2
    assert set(model.config_noises) == {"a"}
