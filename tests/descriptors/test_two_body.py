from math import cos, erf, pi

import few_body_checks as checks
import numpy as np
import pytest
from ase import Atoms
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
both = pytest.mark.parametrize("structure", checks.STRUCTURES)


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
    descriptor, atoms = DESCRIPTORS[name], checks.STRUCTURES[structure]()
    env = checks.environments(descriptor, atoms)
    assert env.multiplicity == 1
    assert structure == "cluster" or (env.f_cut < 1.0).any()
    slow = slow_pairs(descriptor, atoms)
    np.testing.assert_allclose(checks.rows(env), slow, rtol=1e-13, atol=1e-14)


@each
@both
def test_pull(name, structure):
    descriptor = DESCRIPTORS[name]
    atoms = checks.clear_of_kinks(descriptor, structure)
    checks.assert_pull_is_the_derivative(descriptor, atoms)
    env = checks.environments(descriptor, atoms)
    checks.assert_pull_is_that_of_jacobians(env, 4)


@each
def test_symmetries(name):
    checks.assert_symmetries(DESCRIPTORS[name], checks.crystal())


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
    env = checks.environments(TwoBody(cutoff=3.0), Atoms("SiC", [(0, 0, 0), (0, 0, 2)]))
    np.testing.assert_array_equal(env.central_atoms, [0, 1])
    np.testing.assert_array_equal(env.atoms, [[1], [0]])
    np.testing.assert_array_equal(env.x, [[2.0], [2.0]])
    np.testing.assert_array_equal(env.f_cut, [1.0, 1.0])


def test_it_is_smooth_at_the_cutoff():
    descriptor = TwoBody(cutoff=3.0, transition_width=0.4, tail=(1, 0.9))

    def at(r):
        atoms = Atoms("H2", [(0, 0, 0), (0, 0, r)])
        env = checks.environments(descriptor, atoms)
        return checks.energy_of(env), checks.pulled(env, 2)[0][1, 2]

    assert at(3.0) == (0.0, 0.0)
    for start in (2.6, 3.0):
        step = 1e-7
        below, above = at(start - step), at(start + step)
        np.testing.assert_allclose(above[0], below[0], atol=1e-6)
        np.testing.assert_allclose(above[1], below[1], atol=2e-5)


def test_environments_of_some_centres_and_of_several_frames():
    frames = [checks.crystal(1), checks.cluster(2)]
    batch = Batch.from_frames(frames)
    descriptor = TwoBody(cutoff=4.0, species=(14, 6))
    neighbours = find_neighbours(batch, 4.0)
    whole = descriptor(batch.numbers, neighbours)
    parts = [descriptor(batch.numbers, neighbours.take(*p)) for p in [(0, 3), (3, 8)]]
    for key in ("x", "f_cut", "central_atoms", "atoms", "vec"):
        joined = np.concatenate([getattr(part, key) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole, key))
    second = checks.environments(descriptor, frames[1])
    last = whole.central_atoms >= 4
    np.testing.assert_array_equal(whole.x[last], second.x)


def test_no_pairs():
    env = checks.environments(TwoBody(cutoff=3.0, species=(8, 8)), checks.crystal())
    assert env.x.shape == (0, 1)
    assert env.vec.shape == (0, 1, 3)
    assert list(env.jacobians()) == []
    for derivative in checks.pulled(env, 4):
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
    atoms = checks.crystal()
    n = sum(len(checks.environments(d, atoms).x) for d in found)
    assert n == len(checks.environments(template, atoms).x)
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
    batch = Batch.from_frames([checks.crystal()])
    with pytest.raises(InputError, match=match):
        descriptor(batch.numbers, find_neighbours(batch, 4.0))
