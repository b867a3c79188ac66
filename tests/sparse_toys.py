"""Small structures for sparse models, and slow, obviously right twins of parts."""

from dataclasses import replace
from itertools import count

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from kforce.descriptors.composition import Composition
from kforce.descriptors.projected import Projected
from kforce.descriptors.soap.soap import SOAP
from kforce.descriptors.three_body import ThreeBody
from kforce.descriptors.two_body import TwoBody
from kforce.gap.covariance import sparse_rows
from kforce.gap.prediction import predict_local
from kforce.gap.sparse_term import SparseTerm
from kforce.gap.term import Term, composition_term
from kforce.gap.training_set import Observations, TrainingSet
from kforce.kernels.base import Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import RBF, Matern52, Matern72, PiecewisePolynomial
from kforce.labels import Labels, read_stresses
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

PAIRS = TwoBody(cutoff=3.9, transition_width=0.9, exponents=(1, -2))
TRIPLETS = ThreeBody(cutoff=3.1, transition_width=0.8)
DENSITY = SOAP(
    cutoff=3.5,
    n_max=3,
    l_max=2,
    atom_sigma=0.5,
    transition_width=0.7,
    species=(29, 79),
    sigma0=0.2,
)

#: Name, descriptor, kernel, length scales and constant of a term of each sort.
SORTS = {
    "few features": (PAIRS, Scaled(Matern72(length_scale=1.0), 0.7), (0.9, 0.4), 0.0),
    "constant": (TRIPLETS, Scaled(RBF(length_scale=1.0), 0.4), (1.2, 1.9, 1.0), 0.6),
    "many features": (DENSITY, Scaled(Matern52(length_scale=1.0), 1.3), 0.8, 0.0),
    "many, constant": (DENSITY, RBF(length_scale=1.0), 0.5, 0.3),
    "product": (DENSITY, Scaled(Polynomial(zeta=4), 0.8), 1.0, 0.0),
    "product, constant": (DENSITY, Scaled(Polynomial(zeta=2), 0.8), 1.0, 0.4),
    "broken power": (DENSITY, Scaled(Polynomial(zeta=2.5), 1.1), 1.0, 0.0),
    "line": (DENSITY, Scaled(Polynomial(zeta=1), 0.8), 1.0, 0.0),
    "square": (DENSITY, Scaled(Polynomial(zeta=2), 0.8), 1.0, 0.0),
    "compact": (TRIPLETS, PiecewisePolynomial(n_features=3), (1.5, 2.5, 1.4), 0.0),
    "elements": (
        Composition(species=(29, 79)),
        Scaled(Polynomial(zeta=1), 3.0),
        1.0,
        0.0,
    ),
}


def crystal(seed=0, numbers=(29, 29, 79, 79)):
    """Four atoms in a skewed cell that is smaller than the cutoffs."""
    rng = np.random.default_rng(seed)
    cell = np.array([[3.9, 0.2, 0.0], [1.1, 3.6, -0.3], [0.4, -0.6, 4.1]])
    cell = cell @ (np.eye(3) + rng.uniform(-0.03, 0.03, (3, 3)))
    start = np.array([(0, 0, 0), (0.5, 0.5, 0.1), (0.5, 0, 0.5), (0, 0.5, 0.55)])
    positions = (start + rng.uniform(-0.05, 0.05, (4, 3))) @ cell
    return Atoms(numbers, positions, cell=cell, pbc=True)


def cluster(seed=0, numbers=(29, 79, 79, 29, 29)):
    """Up to eight atoms in free space, no two closer than about 2 Å."""
    rng = np.random.default_rng(seed)
    grid = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    positions = 2.5 * grid[: len(numbers)] + rng.uniform(-0.25, 0.25, (len(numbers), 3))
    return Atoms(numbers, positions)


def own_neighbour(seed=0):
    """One atom whose only neighbours are images of itself."""
    rng = np.random.default_rng(seed)
    cell = 2.6 * np.eye(3) + rng.uniform(-0.2, 0.2, (3, 3))
    return Atoms([29], rng.uniform(0, 2, (1, 3)), cell=cell, pbc=True)


def slab(seed=0):
    """Periodic along two directions only, with a cell that means nothing along z."""
    atoms = crystal(seed)
    atoms.pbc = (True, True, False)
    return atoms


def lone(number=79):
    return Atoms([number], [(0.3, 0.1, 0.2)])


STRUCTURES = {
    "crystal": crystal,
    "cluster": cluster,
    "own neighbour": own_neighbour,
    "slab": slab,
}


def clear_of_kinks(make, terms, first=0):
    """A structure without distances near the ends of the terms' transitions.

    The second derivative of f jumps there, where differences converge more slowly.
    """
    descriptors = [
        t.descriptor.descriptor if isinstance(t.descriptor, Projected) else t.descriptor
        for t in terms
    ]
    descriptors = [d for d in descriptors if not isinstance(d, Composition)]
    kinks = [d.cutoff - w for d in descriptors for w in (0.0, d.transition_width)]
    for seed in count(first):
        atoms = make(seed)
        dist = find_neighbours(Batch.from_frames([atoms]), 4.5).dist
        if not kinks or np.abs(dist[:, None] - kinks).min() > 0.006:
            return atoms


def environments(descriptor, frames, cutoff=None):
    batch = Batch.from_frames(frames)
    return descriptor(batch.numbers, find_neighbours(batch, cutoff or 4.3))


def make_term(descriptor, kernel, lengths, constant, n_inducing=7, seed=0):
    """A term whose inducing environments and weights are picked at random."""
    rng = np.random.default_rng(seed)
    found = environments(descriptor, [crystal(50), cluster(51), crystal(52)])
    chosen = rng.choice(len(found.x), min(n_inducing, len(found.x)), replace=False)
    lengths = np.broadcast_to(np.asarray(lengths, float), found.x.shape[1:]).copy()
    f_cut = found.f_cut[chosen]
    weights = rng.normal(size=len(chosen))
    if (
        found.f_cut == 1.0
    ).all():  # a factor that descriptors do not have, but terms do
        f_cut = rng.uniform(0.5, 1.0, len(chosen))
    x = found.x[chosen]
    if isinstance(descriptor, Composition):
        x, f_cut, weights = np.eye(2), np.ones(2), weights[:2]
    return SparseTerm(descriptor, kernel, lengths, constant, x, f_cut, weights)


def sort_of_term(name, **kwargs):
    return make_term(*SORTS[name], **kwargs)


def several_terms(names=("few features", "constant", "product", "elements")):
    return [sort_of_term(name, seed=k) for k, name in enumerate(names)]


def terms_named(names):
    """Terms of which priors and posteriors differ in every way."""
    pairs = Scaled(RBF(length_scale=1.0), 0.7)
    triplets = Scaled(RBF(length_scale=1.0), 0.3)
    densities = Scaled(Polynomial(zeta=3), 0.8)
    terms = {
        "pairs": make_term(PAIRS, pairs, (0.9, 0.4), 0.0),
        "triplets": make_term(TRIPLETS, triplets, (1.2, 1.9, 1.0), 0.2),
        "densities": make_term(DENSITY, densities, 1.0, 0.0),
        "elements": composition_term((29, 79)),
    }
    return [terms[name] for name in names]


def slow_kernel(term, x, y):
    """k(x, y) from its definition, for two points."""
    kernel, inner = term.kernel, term.kernel.unscaled
    variance = kernel.amplitude**2 if isinstance(kernel, Scaled) else 1.0
    x, y = x / term.length_scales, y / term.length_scales
    r = np.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))
    if isinstance(inner, Polynomial):
        value = sum(a * b for a, b in zip(x, y, strict=True)) ** inner.zeta
    elif isinstance(inner, PiecewisePolynomial):
        j = inner.n_features // 2 + 2
        value = max(0.0, 1 - r) ** (j + 1) * ((j + 1) * r + 1)
    else:
        s = r / inner.length_scale
        value = {
            "RBF": lambda: np.exp(-0.5 * s**2),
            "Matern52": lambda: (
                (1 + np.sqrt(5) * s + 5 * s**2 / 3) * np.exp(-np.sqrt(5) * s)
            ),
            "Matern72": lambda: (
                (1 + np.sqrt(7) * s + 14 * s**2 / 5 + 7 * np.sqrt(7) * s**3 / 15)
                * np.exp(-np.sqrt(7) * s)
            ),
        }[type(inner).__name__]()
    return variance * value + term.constant**2


def slow_row(terms, atoms):
    """Covariances of the energy with all inducing environments, a sum of loops."""
    row = []
    for term in terms:
        found = environments(term.descriptor, [atoms])
        for center, f_cut in zip(term.inducing_points, term.f_cut, strict=True):
            pairs = zip(found.x, found.f_cut, strict=True)
            row.append(
                found.multiplicity
                * sum(f * f_cut * slow_kernel(term, x, center) for x, f in pairs)
            )
    return np.array(row)


def slow_energy(terms, atoms):
    weights = np.concatenate([term.weights for term in terms])
    return float(slow_row(terms, atoms) @ weights)


def rows_of(terms, frames, **kwargs):
    batch = Batch.from_frames(frames)
    cutoff = max(term.descriptor.cutoff for term in terms)
    return sparse_rows(terms, batch, find_neighbours(batch, cutoff), **kwargs)


def predicted(terms, frames, cutoff=None, **kwargs):
    batch = Batch.from_frames(frames)
    cutoff = cutoff or max(term.descriptor.cutoff for term in terms)
    neighbours = find_neighbours(batch, cutoff)
    return predict_local(terms, batch.numbers, neighbours, **kwargs)


def moved(atoms, positions):
    changed = atoms.copy()
    changed.positions = positions
    return changed


def strained(atoms, epsilon):
    """Positions and cell deformed by 1 + ε."""
    changed = atoms.copy()
    changed.set_cell(atoms.cell.array @ (np.eye(3) + epsilon), scale_atoms=False)
    changed.positions = atoms.positions @ (np.eye(3) + epsilon)
    return changed


def training_set(frames, noises, atom_energy=0.0, **kwargs):
    """Frames with labels, their energies above a multiple of the number of atoms."""
    labels = replace(Labels.from_frames(frames), stress=read_stresses(frames))
    labels.energy[:] -= [atom_energy * len(frame) for frame in frames]
    return TrainingSet.build(frames, labels, noises, **kwargs)


def without(training, s):
    """The same training set without the labels of one frame."""
    observations = list(training.observations)
    nothing = {name: value[:0] for name, value in vars(observations[s]).items()}
    observations[s] = Observations(**nothing)
    return replace(training, observations=observations)


def whitened_rows(terms, training):
    """Rows, targets and noises of all frames."""
    parts = [training.whitened(terms, s) for s in range(len(training.frames))]
    return map(np.concatenate, zip(*parts, strict=True))


def labelled(atoms, energy=True, forces=True, stress=None, calculator=None):
    """The structure with labels of EMT (or another calculator), as they are asked for.

    stress=None gives one to structures that are periodic in three directions.
    """
    work = atoms.copy()
    work.calc = EMT() if calculator is None else calculator
    results = {}
    if energy:
        results["energy"] = work.get_potential_energy()
    if forces:
        results["forces"] = work.get_forces()
    if atoms.pbc.all() if stress is None else stress:
        results["stress"] = work.get_stress()
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def mixed_frames(n, seed=0, **kwargs):
    """Labelled crystals and clusters of copper and gold, of different sizes."""
    numbers = [(29, 79, 79, 29, 29), (29, 29, 79), (79, 79, 29, 29, 29, 79), (29, 79)]
    frames = []
    for k in range(n):
        if k % 2:
            atoms = cluster(100 * seed + k, numbers[k // 2 % 4])
        else:
            atoms = crystal(100 * seed + k)
        frames.append(labelled(atoms, **kwargs))
    return frames


def relative(found, expected):
    """Largest deviation in units of the largest value."""
    return np.abs(found - expected).max() / np.abs(expected).max()


TERMS = [
    Term(PAIRS, Scaled(RBF(), 2.0), n_inducing=12, length_scales=(1.0, 0.1)),
    Term(
        ThreeBody(cutoff=3.1, transition_width=0.8),
        Scaled(RBF(), 0.5),
        n_inducing=10,
        length_scales=(1.0, 1.0, 1.0),
        constant=0.1,
    ),
    Term(
        SOAP(cutoff=3.5, n_max=3, l_max=2, atom_sigma=0.5, transition_width=0.7),
        Scaled(Polynomial(zeta=2), 0.5),
        n_inducing=20,
    ),
]
