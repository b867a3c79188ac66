"""The strings that describe descriptors in files of QUIP, such as ``soap n_max=8``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from kforce.descriptors.local import LocalDescriptor
from kforce.descriptors.soap.soap import SOAP
from kforce.descriptors.three_body import ThreeBody
from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError

#: Before these versions SOAP lacked the factor (2l + 1)^−½, and the centre counted in
#: the densities of all elements.
FACTOR_SINCE, OWN_DENSITY_SINCE = 1423143769, 1426512068

_BASES = {"EQUISPACED_GAUSS": "equispaced", "GTO": "gto", "POLY": "poly"}

#: Keys that change a descriptor in ways that kforce does not know, and their values
#: that change nothing.
_NEUTRAL_VALUES = {
    "average": "F",
    "nu_R": "2",
    "nu_S": "2",
    "Z_mix": "F",
    "R_mix": "F",
    "sym_mix": "F",
    "K": "0",
    "coupling": "T",
    "Z_map": None,
    "resid_name": None,
    "only_intra": "F",
    "only_inter": "F",
}


def read_descriptor(text: str, version: int) -> LocalDescriptor:
    """Return the descriptor that a string stands for.

    As in QUIP, case does not matter in keys, the last of equal keys counts, and keys
    that belong to no descriptor mean nothing. Old files follow other rules: `version`
    is the stamp of the file, 0 if it has none.

    >>> read_descriptor("distance_2b cutoff=4.0 Z1=14 Z2=6 n_sparse=9", 1527075646)
    TwoBody(cutoff=4.0, species=(14, 6))
    """
    keys = Keys.parse(text)
    if keys.name not in _READERS:
        raise InputError(
            f"kforce knows no descriptor {keys.name!r}, only {', '.join(_READERS)}"
        )
    for name, neutral in _NEUTRAL_VALUES.items():
        value = keys.get(name)
        if value is not None and (neutral is None or value.upper() != neutral):
            raise InputError(f"kforce knows no {keys.name} with {name}={value}")
    return _READERS[keys.name](keys, version)


def _read_soap(keys, version):
    species = keys.elements("species_Z", keys.whole("n_species", 1))
    centre = keys.elements("Z", keys.whole("n_Z", 1))
    basis = keys.get("radial_basis") or "EQUISPACED_GAUSS"
    if basis not in _BASES:
        raise InputError(f"kforce knows no radial_basis={basis}")
    everywhere = keys.flag("central_reference_all_species")
    damping = (
        keys.whole("cutoff_dexp", 0),
        keys.number("cutoff_scale", 1.0),
        keys.number("cutoff_rate", 1.0),
    )
    return SOAP(
        cutoff=keys.number("cutoff"),
        n_max=keys.whole("n_max"),
        l_max=keys.whole("l_max"),
        atom_sigma=keys.number(keys.first("atom_sigma", "atom_gaussian_width")),
        transition_width=keys.number("cutoff_transition_width", 0.5),
        species=species,
        centre=centre if centre is None or len(centre) > 1 else centre[0],
        central_weight=keys.number("central_weight", 1.0),
        sigma0=keys.number("covariance_sigma0", 0.0),
        normalise=keys.flag(keys.first("normalise", "normalize")) is not False,
        radial_basis=_BASES[basis],
        basis_error_exponent=keys.number("basis_error_exponent", 10.0),
        central_everywhere=True if version < OWN_DENSITY_SINCE else everywhere,
        damping=damping if damping[0] else None,
        diagonal_radial=bool(keys.flag("diagonal_radial")),
        legacy_factor=version < FACTOR_SINCE,
    )


def _read_two_body(keys, version):
    n = keys.whole("n_exponents", 1)
    usual = (1,) if n == 1 else tuple(-q for q in range(1, min(n, 1000) + 1))
    tail = keys.whole("tail_exponent", 0), keys.number("tail_range", 1.0)
    return TwoBody(
        cutoff=keys.number("cutoff"),
        species=(keys.element("Z1"), keys.element("Z2")),
        transition_width=keys.number("cutoff_transition_width", 0.5),
        exponents=keys.wholes("exponents", n) or usual,
        tail=tail if tail[0] else None,
    )


def _read_three_body(keys, version):
    return ThreeBody(
        cutoff=keys.number("cutoff"),
        centre=keys.element(keys.first("Z", "Z_center")),
        species=(keys.element("Z1"), keys.element("Z2")),
        transition_width=keys.number("cutoff_transition_width", 0.5),
    )


_READERS = {
    "soap": _read_soap,
    "distance_2b": _read_two_body,
    "angle_3b": _read_three_body,
}


def write_descriptor(descriptor: LocalDescriptor) -> str:
    """Return the string that stands for a descriptor.

    Old rules (`SOAP.legacy_factor`) are no part of it: they follow from the version
    stamp of a file.

    >>> write_descriptor(TwoBody(cutoff=4.0, species=(14, 6)))
    'distance_2b cutoff=4.0 cutoff_transition_width=0.5 Z1=14 Z2=6'
    """
    if type(descriptor) not in _WRITERS:
        raise InputError(
            "A file of QUIP holds the descriptors TwoBody, ThreeBody and SOAP, found "
            f"{descriptor!r}: save the model with model.save."
        )
    name, write = _WRITERS[type(descriptor)]
    keys = {
        "cutoff": float(descriptor.cutoff),
        "cutoff_transition_width": float(descriptor.transition_width),
        **write(descriptor),
    }
    return " ".join([name, *(f"{key}={_as_text(keys[key])}" for key in keys)])


def _soap_keys(soap):
    if soap.compression is not None:
        raise InputError(
            "QUIP knows no SOAP with densities mixed as by "
            f"compression={soap.compression!r}: save the model with model.save."
        )
    species = (0,) if soap.species is None else soap.species
    centres = (0,) if soap.centre is None else soap.centre
    centres = centres if isinstance(centres, tuple | list) else (centres,)
    names_of_bases = {name: quip_name for quip_name, name in _BASES.items()}
    keys = {
        "n_max": soap.n_max,
        "l_max": soap.l_max,
        "atom_sigma": float(soap.atom_sigma),
        "central_weight": float(soap.central_weight),
        "covariance_sigma0": float(soap.sigma0),
        "normalise": bool(soap.normalise),
        "radial_basis": names_of_bases[soap.radial_basis],
        "basis_error_exponent": float(soap.basis_error_exponent),
        "diagonal_radial": bool(soap.diagonal_radial),
        "n_species": len(species),
        "species_Z": tuple(species),
        "n_Z": len(centres),
        "Z": tuple(centres),
        "central_reference_all_species": _central_everywhere(soap),
    }
    if soap.damping is None:
        return keys
    m, scale, rate = soap.damping
    if m != int(m):
        raise InputError(
            f"QUIP knows whole exponents of the damping of SOAP only, found {m!r}: "
            "save the model with model.save."
        )
    return keys | {"cutoff_dexp": int(m), "cutoff_scale": scale, "cutoff_rate": rate}


def _two_body_keys(pair):
    keys = _species_keys(pair)
    if tuple(pair.exponents) != (1,):
        keys |= {"n_exponents": len(pair.exponents), "exponents": pair.exponents}
    if pair.tail is not None:
        keys |= {"tail_exponent": pair.tail[0], "tail_range": float(pair.tail[1])}
    return keys


def _three_body_keys(triplet):
    return {"Z": triplet.centre or 0, **_species_keys(triplet)}


def _species_keys(descriptor):
    a, b = descriptor.species or (0, 0)
    return {"Z1": a or 0, "Z2": b or 0}


_WRITERS = {
    SOAP: ("soap", _soap_keys),
    TwoBody: ("distance_2b", _two_body_keys),
    ThreeBody: ("angle_3b", _three_body_keys),
}


def _as_text(value):
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, tuple | list):
        return "{" + " ".join(str(int(z)) for z in value) + "}"
    return value if isinstance(value, str) else repr(value)


def _central_everywhere(soap):
    if soap.central_everywhere is None:
        return soap.species is None or len(soap.species) == 1
    return bool(soap.central_everywhere)


def version_of(descriptors: list[LocalDescriptor], usual: int) -> int:
    """Return the version stamp of a file that makes QUIP follow the same rules.

    There is none if some SOAP descriptors follow the rules of old files and others do
    not.
    """
    soaps = [d for d in descriptors if "legacy_factor" in d.get_params()]
    if not any(soap.legacy_factor for soap in soaps):
        return usual
    if all(soap.legacy_factor and _central_everywhere(soap) for soap in soaps):
        return FACTOR_SINCE - 1
    raise InputError(
        "QUIP leaves out the factor of legacy_factor=True in files only in which it "
        "does so for all SOAP descriptors, with central_everywhere=True: save the "
        "model with model.save."
    )


#: A key, and after = a value that may hold blanks in braces or quotes. Braces that are
#: left over mean nothing.
_WORD = re.compile(
    r"""([^\s={}"',]+)(?:\s*=\s*(\{[^{}]*\}|"[^"]*"|'[^']*'|[^\s{}]+))?"""
)

#: No number of a descriptor is as large.
_LARGEST_PARAMETER = 10**6


@dataclass(frozen=True)
class Keys:
    """The keys of one string.

    The name is the first word that has no value; values are by key in small letters,
    "T" for keys without one. What is missing or wrong is an `InputError`.

    >>> Keys.parse("soap n_max=8 species_Z={6 1 }")
    Keys(name='soap', values={'soap': 'T', 'n_max': '8', 'species_z': '6 1'})
    """

    name: str
    values: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> Keys:
        """Take a string apart."""
        words = _WORD.findall(text)
        bare = [key for key, value in words if not value]
        values = {key.lower(): value.strip("{}\"' ") or "T" for key, value in words}
        return cls(bare[0] if bare else "", values)

    def get(self, name: str) -> str | None:
        """Return a value, None if the key is not there."""
        return self.values.get(name.lower())

    def first(self, *names: str) -> str:
        """Return the first of some keys that is there, or else the first of all."""
        return next((name for name in names if self.get(name) is not None), names[0])

    def number(self, name: str, default: float | None = None) -> float:
        """Return a number; a key without default must be there."""
        text = self._text(name, default)
        if not isinstance(text, str):
            return text
        try:
            value = float(text.lower().replace("d", "e"))
        except ValueError:
            value = math.nan
        if not abs(value) <= _LARGEST_PARAMETER:
            raise self._wrong(name, text, "a number")
        return value

    def whole(self, name: str, default: int | None = None) -> int:
        """Return a whole number; a key without default must be there."""
        text = self._text(name, default)
        if not isinstance(text, str):
            return text
        (value,) = self._wholes(name, text, 1)
        return value

    def wholes(self, name: str, n: int) -> tuple[int, ...] | None:
        """Return `n` whole numbers, None if the key is not there."""
        text = self.get(name)
        return None if text is None else self._wholes(name, text, n)

    def element(self, name: str) -> int | None:
        """Return an atomic number; None for 0 or no key: any element."""
        return self.whole(name, 0) or None

    def elements(self, name: str, n: int) -> tuple[int, ...] | None:
        """Return `n` atomic numbers; None for any element."""
        if n == 1 and self.whole(name, 0) == 0:
            return None
        numbers = self.wholes(name, n)
        if numbers is None or 0 in numbers:
            raise self._wrong(name, self.get(name) or "", f"{n} atomic numbers")
        return numbers

    def flag(self, name: str) -> bool | None:
        """Return a logical value, None if the key is not there."""
        text = self.get(name)
        if text is None:
            return None
        if text.upper() not in ("T", "F", "TRUE", "FALSE"):
            raise self._wrong(name, text, "T or F")
        return text.upper().startswith("T")

    def _text(self, name, default):
        text = self.get(name)
        if text is None and default is None:
            raise InputError(f"its descriptor {self.name} lacks {name}")
        return default if text is None else text

    def _wholes(self, name, text, n):
        words = text.replace(",", " ").split()
        if len(words) != n or not all(
            re.fullmatch("[+-]?[0-9]{1,6}", w) for w in words
        ):
            wanted = "a whole number" if n == 1 else f"{n} whole numbers"
            raise self._wrong(name, text, wanted)
        return tuple(int(word) for word in words)

    def _wrong(self, name, text, wanted):
        return InputError(
            f"its descriptor {self.name} has {name}={text[:40]!r}, expected {wanted}"
        )
