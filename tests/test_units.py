import ase.units
import pytest

from kforce.errors import InputError
from kforce.units import energy_unit, length_unit


@pytest.mark.parametrize(
    ("spellings", "in_ev"),
    [
        (("eV", "ev", " EV "), 1.0),
        (("meV",), 1e-3),
        (("kcal/mol", "kcal", "KCAL/MOL", "kcal mol^-1"), 0.04336410),
        (("kJ/mol", "kj"), 0.01036427),
        (("Hartree", "Ha", "Eh", "au"), 27.21138),
        (("Rydberg", "Ry"), 13.60569),
    ],
)
def test_energies(spellings, in_ev):
    for name in spellings:
        # Literature values, given to seven digits.
        assert energy_unit(name) == pytest.approx(in_ev, rel=1e-6)


@pytest.mark.parametrize(
    ("spellings", "in_angstrom"),
    [(("Ang", "Å", "angstrom", "A"), 1.0), (("Bohr", "a0"), 0.529177), (("nm",), 10.0)],
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
