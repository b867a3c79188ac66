"""Units: eV, Å and eV/Å everywhere inside; conversion happens once, on reading."""

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
    "au": "hartree",
    "ry": "rydberg",
    "kcal": "kcal/mol",
    "kcal mol^-1": "kcal/mol",
    "kj": "kj/mol",
    "a": "ang",
    "å": "ang",
    "angstrom": "ang",
    "a0": "bohr",
}


def _factor(name, table, kind):
    key = str(name).strip().lower()
    key = _SPELLINGS.get(key, key)
    if key not in table:
        raise InputError(
            f"Unknown unit of {kind} {name!r}: expected one of {', '.join(table)}."
        )
    return table[key]


def energy_unit(name: str) -> float:
    """Return one `name` in eV: 'eV', 'meV', 'kcal/mol', 'kJ/mol', 'Hartree', 'Rydberg'.

    >>> energy_unit("Hartree")
    27.211...
    """
    return _factor(name, ENERGY_UNITS, "energy")


def length_unit(name: str) -> float:
    """Return one `name` in Å: 'Ang' (or 'Å', 'Angstrom'), 'Bohr' or 'nm', in any case.

    >>> length_unit("Bohr")
    0.529...
    """
    return _factor(name, LENGTH_UNITS, "length")


def parse_units(text: str, length: str = "Ang") -> tuple[str, str]:
    """Split a unit of energy and one of length, written as in ``"kcal/mol,Ang"``.

    The unit of length is `length` where the text names none. Raises `InputError` if
    there are more than two names or one is not known.

    >>> parse_units("Hartree, Bohr")
    ('Hartree', 'Bohr')
    """
    names = [name.strip() for name in str(text).split(",")]
    if len(names) > 2 or not all(names):
        raise InputError(
            f"Expected units such as 'kcal/mol,Ang' or 'eV', found {text!r}."
        )
    pair = (names[0], names[1] if len(names) == 2 else length)
    energy_unit(pair[0]), length_unit(pair[1])
    return pair
