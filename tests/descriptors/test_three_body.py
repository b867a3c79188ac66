from itertools import permutations

import few_body_checks as checks
import numpy as np
import pytest
from ase import Atoms
from conformance import LocalDescriptorConformance
from conformance.local_descriptors import (
    STRUCTURES,
    crystal,
    energy_of,
    environments,
    pulled,
    rows,
)
from sklearn.base import clone

from kforce.descriptors import few_body
from kforce.descriptors._environments import cutoff_function
from kforce.descriptors.three_body import ThreeBody
from kforce.errors import InputError
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

DESCRIPTORS = {
    "any": ThreeBody(cutoff=3.1),
    "one centre": ThreeBody(cutoff=3.3, centre=6),
    "like": ThreeBody(cutoff=3.6, centre=14, species=(6, 6), transition_width=1.0),
    "unlike": ThreeBody(cutoff=3.4, centre=14, species=(6, 14)),
    "half known": ThreeBody(cutoff=3.2, species=(None, 6)),
    "all fading": ThreeBody(cutoff=3.4, species=(14, 14), transition_width=3.4),
}
CASES = [
    "Si8__3b_default",
    "SiC8__3b_SiC",
    "SiC8__3b_same",
    "methanol__3b_CHO",
    "methanol__3b_any",
]
each = pytest.mark.parametrize("name", DESCRIPTORS)
both = pytest.mark.parametrize("structure", STRUCTURES)


def slow_triplets(descriptor, atoms):
    """Owner, x and F of all ordered triplets by the formulas."""
    d, found = descriptor, []
    n = find_neighbours(Batch.from_frames([atoms]), d.cutoff)
    for i in range(len(atoms)):
        if d.centre not in (None, atoms.numbers[i]):
            continue
        for j, k in permutations(range(n.offsets[i], n.offsets[i + 1]), 2):
            ends = atoms.numbers[n.atoms[[j, k]]]
            wanted = (None, None) if d.species is None else d.species
            matches = [
                all(z in (None, number) for z, number in zip(w, ends, strict=True))
                for w in (wanted, wanted[::-1])
            ]
            if not any(matches):
                continue
            r_j, r_k = n.dist[j], n.dist[k]
            r_jk = np.linalg.norm(n.vec[j] - n.vec[k])
            f = np.prod(
                [cutoff_function(r, d.cutoff, d.transition_width) for r in (r_j, r_k)]
            )
            found.append([i, r_j + r_k, (r_j - r_k) ** 2, r_jk, f])
    table = np.array(found)
    return table[np.lexsort(np.round(table, 8).T)]


@each
@both
def test_against_the_formulas(name, structure):
    descriptor, atoms = DESCRIPTORS[name], STRUCTURES[structure]()
    env = environments(descriptor, atoms)
    assert env.multiplicity == 2
    assert structure == "cluster" or (env.f_cut < 1.0).any()
    # Ordered triplets are twice as many, with the same values.
    slow = slow_triplets(descriptor, atoms)
    both_orders = np.repeat(rows(env), 2, axis=0)
    np.testing.assert_allclose(both_orders, slow, rtol=1e-12, atol=1e-13)


class TestThreeBody(LocalDescriptorConformance):
    cases = DESCRIPTORS


@pytest.mark.parametrize("case", CASES)
def test_against_reference(shared, case):
    def make(keys):
        centre = keys.get("Z", keys.get("Z_center"))
        return ThreeBody(
            cutoff=keys["cutoff"][0],
            centre=None if centre is None else int(centre[0]),
            species=(int(keys["Z1"][0]), int(keys["Z2"][0])) if "Z1" in keys else None,
            transition_width=keys.get("cutoff_transition_width", [0.5])[0],
        )

    checks.assert_as_reference(shared, case, make, [(0, 1), (1, 0)])


def test_a_triplet_by_hand():
    atoms = Atoms("OHH", [(0, 0, 0), (1.5, 0, 0), (0, 2.0, 0)])
    env = environments(ThreeBody(cutoff=2.2, centre=8), atoms)
    np.testing.assert_allclose(env.x, [[3.5, 0.25, 2.5]], rtol=1e-15)
    np.testing.assert_allclose(env.f_cut, [0.5 * (1 + np.cos(np.pi * 0.6))], rtol=1e-12)
    np.testing.assert_array_equal(env.central_atoms, [0])
    np.testing.assert_array_equal(np.sort(env.atoms), [[1, 2]])
    # Farther apart than the cutoff, the neighbours see each other all the same.
    assert env.x[0, 2] > 2.2


def test_images_of_one_atom_make_triplets():
    atoms = Atoms("Cu", cell=[2.5, 9.0, 9.0], pbc=True)
    env = environments(ThreeBody(cutoff=3.0), atoms)
    np.testing.assert_allclose(env.x, [[5.0, 0.0, 5.0]], atol=1e-14)
    gradient, strain = pulled(env, 1)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-14)
    assert abs(strain[0, 0, 0]) > 0.1


def test_it_is_smooth_for_all_third_sides():
    descriptor = ThreeBody(cutoff=3.0, transition_width=0.4)

    def at(r):
        atoms = Atoms("CH2", [(0, 0, 0), (0, 1.1, 0), (0, 0, r)])
        env = environments(descriptor, atoms)
        return energy_of(env), *pulled(env, 3)[0].ravel()

    step = 1e-8
    # Where r_jk passes the cutoff, and where both distances are equal.
    for start in (np.sqrt(9.0 - 1.1**2), 1.1):
        below, above = at(start - step), at(start + step)
        np.testing.assert_allclose(above, below, atol=1e-5)


def test_blocks_of_derivatives(monkeypatch):
    env = environments(ThreeBody(cutoff=3.4), crystal())
    (whole,) = env.jacobians()
    monkeypatch.setattr(few_body, "_BLOCK_BYTES", 1e4)
    blocks = list(env.jacobians())
    assert len(blocks) > 5
    for key in ("environments", "central_atoms", "atoms", "vec", "dx", "df_cut"):
        joined = np.concatenate([getattr(block, key) for block in blocks])
        np.testing.assert_array_equal(joined, getattr(whole, key))
    assert all(block.dx.nbytes <= 1e4 for block in blocks)


@pytest.mark.parametrize(
    "parameters", [{"centre": 8}, {"species": (8, 14)}, {"cutoff": 0.6}]
)
def test_no_triplets(parameters):
    descriptor = ThreeBody(**{"cutoff": 3.0} | parameters)
    env = environments(descriptor, crystal())
    assert env.x.shape == (0, 3)
    assert env.vec.shape == (0, 2, 3)
    assert list(env.jacobians()) == []
    for derivative in pulled(env, 4):
        assert not derivative.any()


def test_descriptors_of_a_training_set():
    template = ThreeBody(cutoff=3.0, transition_width=0.3)
    found = template.for_species((14, 6))
    pairs = [(14, 14), (14, 6), (6, 6)]
    expected = [(centre, pair) for centre in (14, 6) for pair in pairs]
    assert [(d.centre, d.species) for d in found] == expected
    for d in found:
        parameters = d.get_params() | {"species": None, "centre": None}
        assert parameters == template.get_params()
        assert d.for_species((14, 6)) == [d]
    # Together they hold every triplet once.
    atoms = crystal()
    n = sum(len(environments(d, atoms).x) for d in found)
    assert n == len(environments(template, atoms).x)
    assert clone(found[0]).get_params() == found[0].get_params()
    for given in (ThreeBody(cutoff=3.0, centre=6), DESCRIPTORS["half known"]):
        assert given.for_species((14, 6)) == [given]


BAD = [
    ({"cutoff": 0.0}, "cutoff must be a positive length in Å, found 0.0"),
    ({"cutoff": None}, "cutoff must be a positive length in Å, found None"),
    ({"transition_width": 3.1}, "at most the cutoff .3.0., found 3.1"),
    ({"transition_width": -0.5}, "transition_width must be a positive length"),
    ({"species": (14, 14, 6)}, "species must be two atomic numbers"),
    ({"species": (14, -1)}, "species must be given as atomic numbers .* found -1"),
    ({"centre": "C"}, "centre must be .* None for any element, found 'C'"),
    ({"centre": (14, 6)}, "centre must be"),
    ({"centre": 0}, "centre must be given as atomic numbers from 1 to 118"),
]


@pytest.mark.parametrize(("parameters", "match"), BAD)
def test_bad_parameters(parameters, match):
    descriptor = ThreeBody(**{"cutoff": 3.0} | parameters)
    with pytest.raises(InputError, match=match):
        descriptor.for_species((14,))
    batch = Batch.from_frames([crystal()])
    with pytest.raises(InputError, match=match):
        descriptor(batch.numbers, find_neighbours(batch, 4.0))
