from math import cos, erf, pi

import few_body_checks as checks
import numpy as np
import pytest
from ase import Atoms
from conformance import LocalDescriptorConformance
from conformance.local_descriptors import (
    STRUCTURES,
    crystal,
    environments,
    pulled,
    rows,
)
from sklearn.base import clone

from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

DESCRIPTORS = {
    "plain": TwoBody(cutoff=4.0),
    "like": TwoBody(cutoff=4.2, species=(14, 14)),
    "unlike": TwoBody(cutoff=3.8, species=(6, 14), transition_width=1.1),
    "half known": TwoBody(cutoff=3.8, species=(None, 6)),
    "powers": TwoBody(cutoff=4.0, exponents=(-1, -3, 2)),
    "tail": TwoBody(cutoff=4.0, tail=(2, 0.7)),
    "all fading": TwoBody(cutoff=4.0, transition_width=4.0, tail=(6, 1.0)),
}
CASES = [
    "Si8__2b_default",
    "SiC8__2b_SiC",
    "SiC8__2b_any",
    "SiC8__2b_exp",
    "methanol__2b_nexp",
    "SiC8__2b_tail",
]
each = pytest.mark.parametrize("name", DESCRIPTORS)
both = pytest.mark.parametrize("structure", STRUCTURES)


def slow_pairs(descriptor, atoms):
    """Owner, x and F by the formulas, pair after pair."""
    d, found = descriptor, []
    n = find_neighbours(Batch.from_frames([atoms]), d.cutoff)
    for i, j, r in zip(n.owners, n.atoms, n.dist, strict=True):
        if d.species is not None:
            pair = atoms.numbers[i], atoms.numbers[j]
            matches = [
                all(
                    z in (None, number) for z, number in zip(species, pair, strict=True)
                )
                for species in (d.species, d.species[::-1])
            ]
            if not any(matches):
                continue
        start = d.cutoff - d.transition_width
        f_cut = 1.0
        if r > start:
            f_cut = 0.5 * (1 + cos(pi * (r - start) / d.transition_width))
        if d.tail is not None:
            f_cut *= (erf(d.tail[1] * r) / r) ** d.tail[0]
        found.append([i, *(r ** float(e) for e in d.exponents), f_cut])
    table = np.array(found)
    return table[np.lexsort(np.round(table, 8).T)]


@each
@both
def test_against_the_formulas(name, structure):
    descriptor, atoms = DESCRIPTORS[name], STRUCTURES[structure]()
    env = environments(descriptor, atoms)
    assert env.multiplicity == 1
    assert structure == "cluster" or (env.f_cut < 1.0).any()
    slow = slow_pairs(descriptor, atoms)
    np.testing.assert_allclose(rows(env), slow, rtol=1e-13, atol=1e-14)


class TestTwoBody(LocalDescriptorConformance):
    cases = DESCRIPTORS


@pytest.mark.parametrize("case", CASES)
def test_against_reference(shared, case):
    def make(keys):
        n = int(keys.get("n_exponents", [1])[0])
        given = keys.get("exponents", [1] if n == 1 else [-q - 1 for q in range(n)])
        tail = None
        if "tail_exponent" in keys:
            tail = int(keys["tail_exponent"][0]), keys["tail_range"][0]
        return TwoBody(
            cutoff=keys["cutoff"][0],
            species=(int(keys["Z1"][0]), int(keys["Z2"][0])) if "Z1" in keys else None,
            transition_width=keys.get("cutoff_transition_width", [0.5])[0],
            exponents=tuple(int(e) for e in given),
            tail=tail,
        )

    checks.assert_as_reference(shared, case, make, [(0,)])


def test_each_bond_counts_at_both_ends():
    env = environments(TwoBody(cutoff=3.0), Atoms("SiC", [(0, 0, 0), (0, 0, 2)]))
    np.testing.assert_array_equal(env.central_atoms, [0, 1])
    np.testing.assert_array_equal(env.atoms, [[1], [0]])
    np.testing.assert_array_equal(env.x, [[2.0], [2.0]])
    np.testing.assert_array_equal(env.f_cut, [1.0, 1.0])


def test_no_pairs():
    env = environments(TwoBody(cutoff=3.0, species=(8, 8)), crystal())
    assert env.x.shape == (0, 1)
    assert env.vec.shape == (0, 1, 3)
    assert list(env.jacobians()) == []
    for derivative in pulled(env, 4):
        assert not derivative.any()


def test_descriptors_of_a_training_set():
    template = TwoBody(cutoff=3.0, transition_width=0.3, exponents=(-1,), tail=(1, 1.0))
    found = template.for_species((14, 6, 1))
    pairs = [(14, 14), (14, 6), (14, 1), (6, 6), (6, 1), (1, 1)]
    assert [d.species for d in found] == pairs
    for d in found:
        assert d.get_params() | {"species": None} == template.get_params()
        assert d.for_species((14, 6, 1)) == [d]
    # Together they hold every pair once.
    atoms = crystal()
    n = sum(len(environments(d, atoms).x) for d in found)
    assert n == len(environments(template, atoms).x)
    assert clone(found[0]).get_params() == found[0].get_params()


BAD = [
    ({"cutoff": 0.0}, "cutoff must be a positive length in Å, found 0.0"),
    ({"cutoff": -3.0}, "cutoff must be a positive length"),
    ({"cutoff": np.nan}, "cutoff must be a positive length"),
    ({"cutoff": "4"}, "cutoff must be a positive length in Å, found '4'"),
    ({"transition_width": 3.1}, "at most the cutoff .3.0., found 3.1"),
    ({"transition_width": 0.0}, "transition_width must be a positive length"),
    ({"species": (14,)}, "species must be two atomic numbers"),
    ({"species": 14}, "species must be two atomic numbers, .* found 14"),
    ({"species": (14, 0)}, "numbers from 1 to 118, or None for any element, found 0"),
    ({"species": ("Si", "C")}, "found 'Si'"),
    ({"species": (14, 119)}, "found 119"),
    ({"species": (14, True)}, "found True"),
    ({"exponents": ()}, "exponents must be whole numbers other than 0"),
    ({"exponents": 2}, "exponents must be whole numbers .* found 2"),
    ({"exponents": (1, 0)}, "exponents must be whole numbers other than 0"),
    ({"exponents": (0.5,)}, "exponents must be whole numbers other than 0"),
    ({"tail": 2}, "tail must be a positive whole exponent"),
    ({"tail": (2, 0.0)}, "tail must be .* positive range in 1/Å"),
    ({"tail": (0, 1.0)}, "tail must be a positive whole exponent"),
    ({"tail": (1.5, 1.0)}, "tail must be a positive whole exponent"),
]


@pytest.mark.parametrize(("parameters", "match"), BAD)
def test_bad_parameters(parameters, match):
    descriptor = TwoBody(**{"cutoff": 3.0} | parameters)
    with pytest.raises(InputError, match=match):
        descriptor.for_species((14,))
    batch = Batch.from_frames([crystal()])
    with pytest.raises(InputError, match=match):
        descriptor(batch.numbers, find_neighbours(batch, 4.0))
