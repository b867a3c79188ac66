"""Keys and values in strings of QUIP: ``soap n_max=8 species_Z={6 1} normalise``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from kforce.errors import InputError

#: A key, and after = a value that may hold blanks in braces or quotes. Braces that are
#: left over mean nothing.
_WORD = re.compile(
    r"""([^\s={}"',]+)(?:\s*=\s*(\{[^{}]*\}|"[^"]*"|'[^']*'|[^\s{}]+))?"""
)

#: No number of a descriptor is as large.
_LARGEST = 10**6


@dataclass(frozen=True)
class Keys:
    """The keys of one string.

    Attributes
    ----------
    name : str
        The first word that has no value.
    values : dict of str to str
        Values by key in small letters; "T" for keys without one.
    """

    name: str
    values: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> Keys:
        """Take a string apart.

        Examples
        --------
        >>> Keys.parse("soap n_max=8 species_Z={6 1 }")
        Keys(name='soap', values={'soap': 'T', 'n_max': '8', 'species_z': '6 1'})
        """
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
        """Return a number.

        Raises
        ------
        InputError
            If it is missing and has no default, or is none.
        """
        text = self._text(name, default)
        if not isinstance(text, str):
            return text
        try:
            value = float(text.lower().replace("d", "e"))
        except ValueError:
            value = math.nan
        if not abs(value) <= _LARGEST:
            raise self._wrong(name, text, "a number")
        return value

    def whole(self, name: str, default: int | None = None) -> int:
        """Return a whole number; raise an error as `number` does."""
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
        """Return an atomic number; None for 0 or no key, which stand for any element.

        Raises
        ------
        InputError
            If it is none.
        """
        return self.whole(name, 0) or None

    def elements(self, name: str, n: int) -> tuple[int, ...] | None:
        """Return `n` atomic numbers; None for any element.

        Raises
        ------
        InputError
            If they are not that many, or some of them stand for any element.
        """
        if n == 1 and self.whole(name, 0) == 0:
            return None
        found = self.wholes(name, n)
        if found is None or 0 in found:
            raise self._wrong(name, self.get(name) or "", f"{n} atomic numbers")
        return found

    def flag(self, name: str) -> bool | None:
        """Return a logical value, None if the key is not there.

        Raises
        ------
        InputError
            If it is none.
        """
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
