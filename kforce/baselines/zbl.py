"""The repulsion of screened nuclei, a baseline for atoms that collide."""

from __future__ import annotations

from numbers import Real

import numpy as np
from ase import units
from ase.calculators.calculator import Calculator, all_changes
from ase.data import covalent_radii
from ase.stress import full_3x3_to_voigt_6_stress

from kforce.errors import InputError
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

#: φ(x) is the sum of these amplitudes times exp(−rate · x).
_AMPLITUDES = np.array([0.18175, 0.50986, 0.28022, 0.02817])
_RATES = np.array([3.19980, 0.94229, 0.40290, 0.20162])

#: e²/4πε₀ in eV Å, and 0.8854 a₀ in Å.
_COULOMB, _LENGTH = units.Hartree * units.Bohr, 0.8854 * units.Bohr

#: ASE knows no radii beyond curium; heavier elements have its radius.
_RADII = np.where(
    np.arange(len(covalent_radii)) > 96, covalent_radii[96], covalent_radii
)


class ZBL(Calculator):
    """Universal screened repulsion of nuclei (Ziegler, Biersack and Littmark).

    The energy is a sum over pairs, k Z₁Z₂/r φ(r/a) s(r), with k = e²/4πε₀, the
    screening φ(x) = 0.18175 exp(−3.1998 x) + 0.50986 exp(−0.94229 x) + 0.28022
    exp(−0.4029 x) + 0.02817 exp(−0.20162 x), and its length a = 0.8854 a₀/(Z₁^0.23 +
    Z₂^0.23). The switch s falls from 1 to 0 between two distances, as 1 − 10t³ + 15t⁴ −
    6t⁵: forces and their slopes are continuous. Learned on top of it, a force field
    stays repulsive where atoms are closer than in any training frame.

    Parameters
    ----------
    inner, outer : float, default=0.4, 0.75
        Where the switch begins and ends, in units of the sum of the covalent radii of
        two elements. Bonds of main-group elements are longer than the default, even
        triple ones (0.77 and more), so that nothing changes near equilibrium; those of
        some metals are not (0.72 in TiO).

    Raises
    ------
    InputError
        If the two are not 0 ≤ inner < outer.

    References
    ----------
    Ziegler, Biersack and Littmark, The Stopping and Range of Ions in Solids, Pergamon
    (1985).

    Examples
    --------
    >>> from ase import Atoms
    >>> atoms = Atoms("Si2", [[0, 0, 0], [0, 0, 1.0]], calculator=ZBL())
    >>> print(f"{atoms.get_potential_energy():.2f} eV")
    49.77 eV

    As a baseline:

    >>> from kforce.gap.regressor import GAPRegressor
    >>> model = GAPRegressor(baseline=ZBL(outer=0.7))
    """

    implemented_properties = ("energy", "forces", "stress")
    default_parameters = {"inner": 0.4, "outer": 0.75}  # noqa: RUF012
    discard_results_on_any_change = True

    def __init__(self, *, inner=0.4, outer=0.75):
        super().__init__(inner=inner, outer=outer)

    def set(self, **kwargs) -> dict:
        """Change `inner` or `outer`; see `ase.calculators.calculator.Calculator`."""
        found = dict(self.parameters) | kwargs
        for name in found.keys() - self.default_parameters.keys():
            raise InputError(f"ZBL has inner and outer, found {name!r}.")
        inner, outer = found["inner"], found["outer"]
        if not (_is_number(inner) and _is_number(outer) and 0.0 <= inner < outer):
            raise InputError(
                "ZBL needs 0 ≤ inner < outer, in units of the sum of covalent radii, "
                f"found inner={inner!r}, outer={outer!r}."
            )
        return super().set(**kwargs)

    def calculate(
        self,
        atoms=None,
        properties=implemented_properties,
        system_changes=all_changes,
    ):
        """Compute energy in eV, forces in eV/Å, and stress in eV/Å³ if periodic."""
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        numbers = atoms.numbers
        reach = 2.0 * self.parameters["outer"] * _RADII[numbers].max()
        neighbours = find_neighbours(Batch.from_frames([atoms]), reach)
        first, second = neighbours.owners, neighbours.atoms
        energy, slope = self._pairs(numbers[first], numbers[second], neighbours.dist)
        # Every pair is in the list twice.
        along = 0.5 * (slope / neighbours.dist)[:, None] * neighbours.vec
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, first, along)
        np.add.at(forces, second, -along)
        self.results = {"energy": 0.5 * energy.sum(), "forces": forces}
        if atoms.pbc.all():
            virial = neighbours.vec.T @ along
            stress = full_3x3_to_voigt_6_stress(virial / atoms.get_volume())
            self.results["stress"] = stress

    def _pairs(self, first, second, dist):
        """Return energies in eV and their derivatives in eV/Å of pairs, (n_pairs,)."""
        rate = (first**0.23 + second**0.23) / _LENGTH
        terms = _AMPLITUDES * np.exp(-np.outer(dist * rate, _RATES))
        phi, phi_slope = terms.sum(axis=1), -rate * (terms @ _RATES)
        energy = _COULOMB * first * second * phi / dist
        slope = _COULOMB * first * second * (phi_slope - phi / dist) / dist
        factor, factor_slope = self._switch(dist, _RADII[first] + _RADII[second])
        return energy * factor, slope * factor + energy * factor_slope

    def _switch(self, dist, unit):
        """Return the switch and its derivative at distances, (n_pairs,)."""
        begin = self.parameters["inner"] * unit
        width = self.parameters["outer"] * unit - begin
        t = np.clip((dist - begin) / width, 0.0, 1.0)
        value = 1.0 - t**3 * (10.0 - 15.0 * t + 6.0 * t**2)
        return value, -30.0 * t**2 * (1.0 - t) ** 2 / width


def _is_number(value):
    return isinstance(value, Real) and np.isfinite(value)
