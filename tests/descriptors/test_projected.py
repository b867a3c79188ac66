"""Descriptors along few directions of their features."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from conformance import LocalDescriptorConformance
from sklearn.base import clone
from soap_twin import CASES

from kforce import InputError
from kforce.descriptors.projected import Projected
from kforce.descriptors.soap.soap import SOAP
from kforce.neighbours.search import find_neighbours
from kforce.storage.codec import decode, encode
from kforce.structures import Batch

METHANE_SOAP = SOAP(cutoff=3.0, n_max=3, l_max=2, atom_sigma=0.5, species=(1, 6))


def directions(n, d=METHANE_SOAP.n_features):
    return np.linalg.qr(np.random.default_rng(1).normal(size=(d, n)))[0]


class TestProjected(LocalDescriptorConformance):
    rounding = 1e-12
    # Single features: products of them are exact.
    cases = {
        "two species": Projected(SOAP(**CASES["two species"]), np.eye(85)[:, 4:40:3]),
    }

    def test_parameters_and_copies(self, case):
        """The cutoff is a parameter of the other descriptor."""
        assert repr(clone(case)) == repr(case)
        case.check()
        for bad in (0.0, -3.0, np.nan, "4"):
            wrong = clone(case).set_params(descriptor__cutoff=bad)
            with pytest.raises(InputError, match="cutoff must be a positive"):
                wrong.for_species((14,))


def environments(descriptor, atoms):
    batch = Batch.from_frames([atoms])
    return descriptor(batch.numbers, find_neighbours(batch, descriptor.cutoff))


def methane():
    atoms = molecule("CH4")
    atoms.rattle(0.1, seed=1)
    return atoms


def test_features_are_products_with_directions():
    matrix = directions(5)
    whole = environments(METHANE_SOAP, methane())
    part = environments(Projected(METHANE_SOAP, matrix), methane())
    np.testing.assert_allclose(part.x, whole.x @ matrix, atol=1e-14)
    for ours, theirs in zip(part.jacobians(), whole.jacobians(), strict=True):
        np.testing.assert_allclose(ours.dx, theirs.dx @ matrix, atol=1e-13)
        np.testing.assert_array_equal(ours.atoms, theirs.atoms)


@pytest.mark.parametrize("atoms", [methane(), bulk("C", cubic=True)])
def test_pull_is_the_transpose_of_the_jacobian(atoms):
    atoms.rattle(0.1, seed=2)
    env = environments(Projected(METHANE_SOAP, directions(7)), atoms)
    by_x = np.random.default_rng(3).normal(size=env.x.shape)
    displacement = np.random.default_rng(4).normal(size=(len(atoms), 3))
    gradient, strain = np.zeros((len(atoms), 3)), np.zeros((len(atoms), 3, 3))
    env.pull(by_x, np.zeros(len(by_x)), gradient, strain)
    along = (env.push(displacement)[0] * by_x).sum()
    np.testing.assert_allclose((gradient * displacement).sum(), along, rtol=1e-10)


def test_files_hold_the_directions():
    descriptor = Projected(METHANE_SOAP, directions(4))
    copy = decode(*encode(descriptor))
    np.testing.assert_array_equal(copy.matrix, descriptor.matrix)
    assert repr(copy.descriptor) == repr(METHANE_SOAP)
    assert clone(descriptor).n_features == 4


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        (np.eye(4), "rows, one for each feature"),
        (directions(3)[:, 0], "rows, one for each feature"),
        (2.0 * directions(3), "orthonormal columns"),
    ],
)
def test_matrix_that_is_no_projection(matrix, match):
    with pytest.raises(InputError, match=match):
        Projected(METHANE_SOAP, matrix).check()


def test_descriptor_that_is_none():
    with pytest.raises(InputError, match="descriptor to project"):
        Projected(3, np.eye(3)).check()
