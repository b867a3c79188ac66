"""SOAP vectors: a slow twin, symmetries, the edge of the cutoff, bad input."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from scipy.special import sph_harm_y, spherical_in
from soap_twin import CASES, environments, rattled, slow_soap

from kforce.descriptors.soap._harmonics import (
    azimuthal,
    harmonics,
    legendre,
    legendre_table,
)
from kforce.descriptors.soap._radial import bessel_starts, radial_functions
from kforce.descriptors.soap.radial_basis import radial_basis
from kforce.descriptors.soap.soap import SOAP
from kforce.errors import InputError


@pytest.mark.parametrize("name", CASES)
def test_vectors_against_the_slow_twin(name):
    atoms, soap = rattled(), SOAP(**CASES[name])
    found, expected = environments(soap, atoms), slow_soap(soap, atoms)
    # The twin's fits of powers are as ill-conditioned as ours.
    digits = 1e-9 if soap.radial_basis == "poly" else 1e-12
    assert found.x.shape == expected.shape
    scale = np.abs(expected[:, :-1]).max()
    np.testing.assert_allclose(found.x[:, :-1], expected[:, :-1], atol=digits * scale)
    assert (found.x[:, -1] == soap.sigma0).all()
    assert (found.f_cut == 1).all()
    assert found.multiplicity == 1


@pytest.mark.parametrize("l_max", [0, 1, 5, 12, 40])
@pytest.mark.parametrize("alpha", [0.003, 0.5, 4.0, 30.0])
def test_radial_functions_for_all_arguments(l_max, alpha):
    # At 30 the arguments of the Bessel functions are between 20 and 1600.
    r, points = np.linspace(0.4, 5.0, 24), np.arange(7) * 0.9
    h = np.empty((l_max + 2, len(points), len(r)))
    starts = bessel_starts(alpha, points, 5.0, l_max)
    radial_functions(r, alpha, points, starts, h, np.empty((5, len(r))))
    z = np.minimum(2.0 * alpha * r * points[:, None], 650.0)
    for q in range(l_max + 1):
        bessel = spherical_in(q, z) * np.exp(-z)
        expected = bessel * np.exp(-alpha * (r - points[:, None]) ** 2)
        known = (z < 650.0) & (expected > 1e-100)
        np.testing.assert_allclose(h[q][known], expected[known], rtol=1e-12)
        assert np.isfinite(h[q]).all()


def test_harmonics_are_orthonormal_polynomials():
    l_max, rng = 9, np.random.default_rng(0)
    u = rng.normal(size=(3, 16))
    u /= np.linalg.norm(u, axis=0)
    u[:, 0], u[:, 1] = (0, 0, 1), (0, 0, -1)
    x, y, z = u
    p, even = np.empty(((l_max + 1) * (l_max + 2) // 2, 16)), np.empty((l_max + 1, 16))
    odd, found = np.empty_like(even), np.empty(((l_max + 1) ** 2, 16))
    legendre(z, legendre_table(l_max), l_max, p)
    azimuthal(x, y, l_max, even, odd)
    harmonics(p, even, odd, np.ones(16), l_max, found)
    for q in range(l_max + 1):
        for m in range(-q, q + 1):
            complex_one = sph_harm_y(q, abs(m), np.arccos(z), np.arctan2(y, x))
            part = complex_one.real if m >= 0 else complex_one.imag
            factor = (-1) ** m * np.sqrt(2.0 if m else 1.0)
            np.testing.assert_allclose(found[q * q + q + m], factor * part, atol=1e-13)


@pytest.mark.parametrize("kind", ["equispaced", "gto", "poly"])
def test_a_gaussian_at_a_point_is_a_basis_function(kind):
    # At the centre there is one point only: R_n0(0) is what the basis makes of it.
    basis = radial_basis(kind, 5, 3, 5.0, 0.5, 10.0)
    at_origin = np.exp(-2.0 * basis.points**2) @ basis.matrices[0]
    np.testing.assert_allclose(at_origin, basis.origin, atol=1e-12)


def test_neighbours_fade_at_the_cutoff():
    soap = SOAP(cutoff=3.0, n_max=5, l_max=4, atom_sigma=0.5)
    lone = environments(soap, Atoms("Si")).x
    change = []
    for gap in (1e-1, 1e-2, 1e-3):
        pair = Atoms("Si2", [[0, 0, 0], [0, 0, 3.0 - gap]])
        change.append(np.abs(environments(soap, pair).x[:1] - lone).max())
    # The cutoff function falls to zero like the square of the gap.
    assert 80 < change[0] / change[1] < 120
    assert 80 < change[1] / change[2] < 120


@pytest.mark.parametrize("normalise", [True, False])
def test_a_lone_atom_without_weight_is_all_zero(normalise):
    soap = SOAP(
        cutoff=3.0, n_max=3, l_max=2, atom_sigma=0.5, central_weight=0.0,
        normalise=normalise, sigma0=0.1,
    )  # fmt: skip
    found = environments(soap, Atoms("Si"))
    assert (found.x[0, :-1] == 0.0).all()
    gradient, strain = np.zeros((1, 3)), np.zeros((1, 3, 3))
    found.pull(np.ones_like(found.x), np.ones(1), gradient, strain)
    assert (gradient == 0.0).all()
    assert (strain == 0.0).all()
    assert sum(len(block.dx) for block in found.jacobians()) == 0


def test_no_centre_gives_no_environment():
    found = environments(SOAP(**CASES["one species"] | {"centre": 79}), rattled())
    assert len(found.x) == 0
    assert list(found.jacobians()) == []


def test_environments_do_not_depend_on_threads(monkeypatch):
    atoms = bulk("Si", cubic=True).repeat((2, 2, 2))
    atoms.rattle(0.1, seed=0)
    soap = SOAP(cutoff=3.0, n_max=3, l_max=2, atom_sigma=0.5)
    results = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found = environments(soap, atoms)
        gradient, strain = np.zeros((64, 3)), np.zeros((64, 3, 3))
        g = np.random.default_rng(0).normal(size=found.x.shape)
        found.pull(g, np.zeros(64), gradient, strain)
        dx = np.concatenate([block.dx for block in found.jacobians()])
        results.append((found.x, gradient, strain, dx))
    for one, two in zip(*results, strict=True):
        assert (one == two).all()


def test_for_species_gives_one_descriptor_per_element():
    template = SOAP(cutoff=3.0, n_max=3, l_max=2, atom_sigma=0.5)
    expanded = template.for_species((6, 14))
    assert [(d.species, d.centre) for d in expanded] == [((6, 14), 6), ((6, 14), 14)]
    assert [d.centre for d in expanded] == [6, 14]
    assert expanded[0].for_species((6, 14)) == [expanded[0]]
    carbon = template.set_params(centre=6)
    assert [d.centre for d in carbon.for_species((6, 14))] == [6]


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("cutoff", 0.0, "cutoff must be a positive length in Å, found 0.0"),
        ("cutoff", "5", "cutoff must be a positive length in Å, found '5'"),
        ("atom_sigma", -0.5, "atom_sigma must be a positive number"),
        ("transition_width", 0.0, "transition_width must be a positive number"),
        ("n_max", 0, "n_max must be a whole number ≥ 1, found 0"),
        ("l_max", 2.5, "l_max must be a whole number ≥ 0, found 2.5"),
        ("l_max", 41, "l_max must be at most 40, found 41"),
        ("sigma0", np.nan, "sigma0 must be a number, 0 or positive, found nan"),
        ("central_weight", -1.0, "central_weight must be a number, 0 or positive"),
        ("species", (), "species must be different atomic numbers"),
        ("species", (6, 6), "species must be different atomic numbers"),
        ("species", ("C",), "species must be different atomic numbers"),
        ("centre", 0, "centre must be different atomic numbers from 1 to 118"),
        ("centre", 1.5, "centre must be different atomic numbers"),
        ("radial_basis", "GTO", "radial_basis must be one of equispaced, gto, poly"),
        ("damping", (2.0, 3.0), "damping must be None or three numbers"),
        ("damping", 2.0, "damping must be None or three numbers"),
    ],
)
def test_bad_parameters(parameter, value, message):
    good = {"cutoff": 3.0, "n_max": 3, "l_max": 2, "atom_sigma": 0.5}
    with pytest.raises(InputError, match=message):
        environments(SOAP(**good | {parameter: value}), rattled(), cutoff=3.0)


def test_atoms_at_one_place():
    soap = SOAP(cutoff=3.0, n_max=3, l_max=2, atom_sigma=0.5)
    with pytest.raises(InputError, match="at the same place"):
        environments(soap, Atoms("Si2", np.zeros((2, 3))))


@pytest.mark.parametrize(
    ("kind", "n_max", "l_max", "cutoff", "sigma"),
    [
        ("equispaced", 40, 3, 5.0, 0.5),
        ("poly", 14, 3, 5.0, 0.5),
        ("gto", 20, 3, 5.0, 0.5),
        ("gto", 16, 8, 4.0, 0.3),
    ],
)
def test_too_many_radial_functions_are_refused(kind, n_max, l_max, cutoff, sigma):
    with pytest.raises(InputError, match="the same to double precision: take a small"):
        radial_basis(kind, n_max, l_max, cutoff, sigma, 10.0)
