import ase.units
import pytest

from kforce.errors import InputError
from kforce.units import (
    energy_unit,
    force_unit,
    length_unit,
    parse_model_units,
    parse_units,
)


@pytest.mark.parametrize(
    ("spellings", "in_ev"),
    [
        (("eV", "ev", " EV "), 1.0),
        (("meV",), 1e-3),
        (("kcal/mol", "kcal", "KCAL/MOL", "kcal mol^-1"), 0.04336410),
        (("kJ/mol", "kj"), 0.01036427),
        (("Hartree", "Ha", "Eh", "au", "a.u.", "A.U."), 27.21138),
        (("Rydberg", "Ry"), 13.60569),
    ],
)
def test_energies(spellings, in_ev):
    for name in spellings:
        # Literature values, given to seven digits.
        assert energy_unit(name) == pytest.approx(in_ev, rel=1e-6)


@pytest.mark.parametrize(
    ("spellings", "in_angstrom"),
    [
        (("Ang", "Å", "angstrom", "A"), 1.0),
        (("Bohr", "a0", "au", "a.u."), 0.529177),
        (("nm",), 10.0),
    ],
)
def test_lengths(spellings, in_angstrom):
    for name in spellings:
        assert length_unit(name) == pytest.approx(in_angstrom, rel=1e-6)


def test_values_are_those_of_ase():
    # A file that ASE converts and one that we convert must agree to the last digit.
    assert energy_unit("kcal/mol") == ase.units.kcal / ase.units.mol
    assert energy_unit("Hartree") == ase.units.Hartree
    assert length_unit("Bohr") == ase.units.Bohr


@pytest.mark.parametrize("name", ["", "joule", "eV/Å", None, 1.0])
def test_unknown_units_are_named(name):
    with pytest.raises(
        InputError, match=r"Unknown unit of energy .* expected one of ev"
    ):
        energy_unit(name)
    with pytest.raises(InputError, match=r"Unknown unit of length .* expected one of"):
        length_unit(name)


@pytest.mark.parametrize(
    ("name", "energy", "length"),
    [
        ("Hartree/Bohr", "Hartree", "Bohr"),
        ("au", "Hartree", "Bohr"),
        ("kcal/mol/Ang", "kcal/mol", "Ang"),
        ("Ry / a0", "Rydberg", "Bohr"),
    ],
)
def test_forces(name, energy, length):
    assert force_unit(name) == energy_unit(energy) / length_unit(length)


@pytest.mark.parametrize("name", ["Hartree", "eV/s", "K", "", "/", "eV*Ang"])
def test_unknown_units_of_forces(name):
    with pytest.raises(InputError, match=r"unit of forces .* energy over a length"):
        force_unit(name)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("eV", ("eV", "nm", "eV/nm")),
        ("kcal/mol,Ang", ("kcal/mol", "Ang", "kcal/mol/Ang")),
        ("Hartree, Ang, Hartree/Bohr", ("Hartree", "Ang", "Hartree/Bohr")),
        ("au", ("Hartree", "Bohr", "Hartree/Bohr")),
        ("a.u.,Ang", ("Hartree", "Ang", "Hartree/Ang")),
        ("au,au,au", ("Hartree", "Bohr", "au")),
    ],
)
def test_units_of_a_file(text, names):
    units = parse_units(text, length="nm")
    assert units == names
    assert units.factors() == (
        energy_unit(names[0]),
        length_unit(names[1]),
        force_unit(names[2]),
    )


def test_units_of_a_model_are_two():
    assert parse_model_units("au,Bohr,Hartree/Bohr") == ("Hartree", "Bohr")
    with pytest.raises(InputError, match="energy over length, Hartree/Ang, found Hart"):
        parse_model_units("Hartree,Ang,Hartree/Bohr")
