"""SOAP straight from its formulas: loops, complex harmonics, functions of SciPy."""

import numpy as np
from ase.build import bulk
from ase.neighborlist import neighbor_list
from scipy.special import sph_harm_y, spherical_in

from kforce.descriptors.soap.radial_basis import radial_basis
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

_BASE = {"cutoff": 4.0, "n_max": 4, "l_max": 3, "atom_sigma": 0.5}
_SMALL = _BASE | {"n_max": 3, "sigma0": 0.1, "central_weight": 0.4}

#: Every parameter that changes what is computed.
CASES = {
    "no species": _BASE,
    "one species": _BASE | {"species": (6,), "transition_width": 1.0},
    "one species, not at the centre": _BASE
    | {"species": (6,), "central_everywhere": False},
    "two species": _SMALL | {"species": (6, 14), "centre": 14},
    "other order": _SMALL | {"species": (14, 6), "centre": (6, 14)},
    "centre everywhere": _SMALL | {"species": (6, 14), "central_everywhere": True},
    "a species that is not there": _SMALL | {"species": (14, 8, 6), "centre": 6},
    "not normalised": _SMALL | {"species": (6, 14), "normalise": False},
    "diagonal": _SMALL | {"species": (6, 14), "diagonal_radial": True},
    "legacy": _SMALL | {"legacy_factor": True},
    "damped": _SMALL | {"damping": (2.0, 3.0, 0.7)},
    "damped without rate": _SMALL | {"damping": (2.0, 3.0, 0.0)},
    "larger range": _SMALL | {"basis_error_exponent": 14.0},
    "gto": _SMALL | {"species": (6, 14), "radial_basis": "gto"},
    "poly": _SMALL | {"species": (6, 14), "radial_basis": "poly"},
    "scalar": _BASE | {"l_max": 0, "n_max": 2},
    "sharp": _BASE | {"atom_sigma": 0.2, "n_max": 7, "l_max": 8},
}


def rattled():
    """Silicon carbide in a cell that is smaller than the cutoff: 4 atoms and images."""
    atoms = bulk("SiC", "zincblende", a=4.36).repeat((2, 1, 1))
    atoms.rattle(0.15, seed=4)
    return atoms


def environments(soap, *frames, cutoff=None):
    batch = Batch.from_frames(list(frames))
    neighbours = find_neighbours(batch, soap.cutoff if cutoff is None else cutoff)
    return soap(batch.numbers, neighbours)


def slow_soap(soap, atoms):
    """Vectors of all centres of one structure."""
    central_atoms = np.arange(len(atoms))
    if soap.centre is not None:
        central_atoms = central_atoms[np.isin(atoms.numbers, soap.centre)]
    i, j, vec = neighbor_list("ijD", atoms, soap.cutoff)
    species = (0,) if soap.species is None else soap.species
    rows = [
        _vector(soap, species, atoms.numbers[a], vec[i == a], atoms.numbers[j[i == a]])
        for a in central_atoms
    ]
    return np.array(rows)


def _vector(soap, species, own, vec, numbers):
    l_max, n_max, alpha = soap.l_max, soap.n_max, 0.5 / soap.atom_sigma**2
    basis = radial_basis(
        soap.radial_basis, n_max, l_max, soap.cutoff, soap.atom_sigma,
        soap.basis_error_exponent,
    )  # fmt: skip
    c = np.zeros((len(species) * n_max, l_max + 1, 2 * l_max + 1), dtype=complex)
    for s, z in enumerate(species):
        block = c[s * n_max : (s + 1) * n_max]
        for d, number in zip(vec, numbers, strict=True):
            if z in (0, number):
                block += _neighbour(soap, basis, alpha, d)
        everywhere = soap.central_everywhere
        everywhere = len(species) == 1 if everywhere is None else everywhere
        if everywhere or z in (0, own):
            factor = soap.central_weight / np.sqrt(4.0 * np.pi)
            block[:, 0, l_max] += factor * basis.origin
    return _power(soap, c)


def _neighbour(soap, basis, alpha, d):
    r = np.linalg.norm(d)
    theta, phi = np.arccos(d[2] / r), np.arctan2(d[1], d[0])
    begin = soap.cutoff - soap.transition_width
    weight = 1.0
    if r > begin:
        weight = 0.5 * (1.0 + np.cos(np.pi * (r - begin) / soap.transition_width))
    if soap.damping is not None:
        m, scale, rate = soap.damping
        weight *= (rate if rate > 0 else 1.0) / (rate + (r / scale) ** m)
    out = np.zeros((soap.n_max, soap.l_max + 1, 2 * soap.l_max + 1), dtype=complex)
    for q in range(soap.l_max + 1):
        T = basis.matrices[q if len(basis.matrices) > 1 else 0]
        h = np.exp(-alpha * (r**2 + basis.points**2))
        h = h * spherical_in(q, 2.0 * alpha * r * basis.points)
        for m in range(-q, q + 1):
            out[:, q, soap.l_max + m] = weight * (h @ T) * sph_harm_y(q, m, theta, phi)
    return out


def _power(soap, c):
    p = []
    for a in range(len(c)):
        for b in range(a + 1):
            if soap.diagonal_radial and (a - b) % soap.n_max:
                continue
            for q in range(soap.l_max + 1):
                value = (c[a, q] * c[b, q].conj()).sum().real
                value *= 1.0 if a == b else np.sqrt(2.0)
                p.append(value if soap.legacy_factor else value / np.sqrt(2 * q + 1))
    p = np.array(p)
    p = p / np.linalg.norm(p) if soap.normalise else p
    return np.append(p, soap.sigma0)
