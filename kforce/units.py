"""Units: eV, Å and eV/Å everywhere inside; conversion happens once, on reading."""

from typing import NamedTuple

from ase import units as _ase

from kforce.errors import InputError

#: One unit of energy in eV (CODATA 2014, the values of ``ase.units``).
ENERGY_UNITS = {
    "ev": 1.0,
    "mev": 1e-3,
    "kcal/mol": _ase.kcal / _ase.mol,
    "kj/mol": _ase.kJ / _ase.mol,
    "hartree": _ase.Hartree,
    "rydberg": _ase.Rydberg,
}

#: One unit of length in Å.
LENGTH_UNITS = {"ang": 1.0, "bohr": _ase.Bohr, "nm": 10.0}

_SPELLINGS = {
    "ha": "hartree",
    "eh": "hartree",
    "ry": "rydberg",
    "kcal": "kcal/mol",
    "kcal mol^-1": "kcal/mol",
    "kj": "kj/mol",
    "a": "ang",
    "å": "ang",
    "angstrom": "ang",
    "a0": "bohr",
}


#: Spellings of the atomic unit, of energies, lengths and forces alike.
_ATOMIC = ("au", "a.u.")


class Units(NamedTuple):
    """Names of the units of a file: of energies, lengths and forces."""

    energy: str
    length: str
    forces: str

    def factors(self) -> tuple[float, float, float]:
        """Return one of each in eV, Å and eV/Å."""
        return (
            energy_unit(self.energy),
            length_unit(self.length),
            force_unit(self.forces),
        )


def _factor(name, table, kind, atomic):
    key = str(name).strip().lower()
    key = atomic if key in _ATOMIC else _SPELLINGS.get(key, key)
    if key not in table:
        raise InputError(
            f"Unknown unit of {kind} {name!r}: expected one of {', '.join(table)}, au."
        )
    return table[key]


def energy_unit(name: str) -> float:
    """Return one `name` in eV, in any case.

    Known are 'eV', 'meV', 'kcal/mol', 'kJ/mol', 'Hartree' (or 'Ha', 'au', 'a.u.') and
    'Rydberg'.

    >>> energy_unit("Hartree")
    27.211...
    """
    return _factor(name, ENERGY_UNITS, "energy", "hartree")


def length_unit(name: str) -> float:
    """Return one `name` in Å, in any case.

    Known are 'Ang' (or 'Å', 'Angstrom'), 'Bohr' (or 'a0', 'au', 'a.u.') and 'nm'.

    >>> length_unit("Bohr")
    0.529...
    """
    return _factor(name, LENGTH_UNITS, "length", "bohr")


def force_unit(name: str) -> float:
    """Return one `name` in eV/Å: an energy over a length, or 'au'.

    >>> force_unit("Hartree/Bohr")
    51.422...
    """
    if str(name).strip().lower() in _ATOMIC:
        return energy_unit("Hartree") / length_unit("Bohr")
    energy, _, length = str(name).rpartition("/")
    try:
        return energy_unit(energy) / length_unit(length)
    except InputError:
        raise InputError(
            f"Unknown unit of forces {name!r}: expected an energy over a length, such "
            "as 'Hartree/Bohr' or 'kcal/mol/Ang', or 'au'."
        ) from None


def parse_units(text: str, length: str = "Ang") -> Units:
    """Split the names of the units of energies, lengths and forces.

    They are written as in ``"kcal/mol,Ang"`` or ``"Hartree,Ang,Hartree/Bohr"``. Forces
    are in the first over the second unit where no third one is named, lengths in
    `length` where energies alone are; ``"au"`` alone stands for Hartree and Bohr.
    Raises `InputError` if there are more than three names or one is not known.

    >>> parse_units("Hartree, Bohr")
    Units(energy='Hartree', length='Bohr', forces='Hartree/Bohr')
    """
    names = [name.strip() for name in str(text).split(",")]
    if len(names) > 3 or not all(names):
        raise InputError(
            "Expected units of energies, lengths and forces such as 'kcal/mol,Ang', "
            f"'Hartree,Ang,Hartree/Bohr' or 'eV', found {text!r}."
        )
    if len(names) == 1:
        names.append("au" if names[0].lower() in _ATOMIC else length)
    atomic = ("Hartree", "Bohr")
    energy, length = (
        usual if name.lower() in _ATOMIC else name
        for name, usual in zip(names, atomic, strict=False)
    )
    forces = names[2] if len(names) == 3 else f"{energy}/{length}"
    energy_unit(energy), length_unit(length), force_unit(forces)
    return Units(energy, length, forces)


def parse_model_units(text: str, length: str = "Ang") -> tuple[str, str]:
    """Return the names of `parse_units` of a model: its forces are −∂E/∂r in them.

    Raises `InputError` also if the unit of forces is not that of energies over lengths.

    >>> parse_model_units("Hartree,Bohr")
    ('Hartree', 'Bohr')
    """
    energy, length, forces = parse_units(text, length)
    ratio = force_unit(forces) * length_unit(length) / energy_unit(energy)
    if abs(ratio - 1.0) > 1e-9:
        raise InputError(
            f"The forces of a model are in its units of energy over length, {energy}/"
            f"{length}, found {forces}: name energy and length alone."
        )
    return energy, length
