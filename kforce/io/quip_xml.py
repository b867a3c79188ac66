"""The XML of QUIP's model files, read without trust and checked before it is used."""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from kforce.errors import InputError

#: Files of models of a few million numbers are smaller by far.
_MAX_BYTES_OF_XML = 2**30

#: Bytes of a number in a file of sparse points, at most.
_MAX_BYTES_OF_NUMBER = 64

#: Numbers beyond it come from damage, and would overflow.
_LARGEST_VALUE = 1e100


def read_xml(path: str | os.PathLike) -> Stanza:
    """Read an XML file; one with a document type declaration is refused."""
    path = Path(path)
    _check_file(path, _MAX_BYTES_OF_XML, "a GAP model")
    try:
        root = parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException:
        raise InputError(
            f"{path} holds a document type declaration, which can make a program read "
            "other files or use up its memory, and which no GAP model needs: remove it."
        ) from None
    except OSError as error:
        raise InputError(f"Could not read {path}: {error.strerror or error}.") from None
    # What is no text in the encoding that it claims raises more than ParseError.
    except (ParseError, ValueError, LookupError) as error:
        raise InputError(
            f"Expected a GAP model in XML, but {path} is damaged or of another kind "
            f"({str(error)[:100]}): get a fresh copy or choose another file."
        ) from None
    return Stanza(path, root)


def _check_file(path, most, what):
    if not path.exists():
        raise InputError(f"Expected {what}, but there is no {path}.")
    if not path.is_file():
        raise InputError(f"Expected {what}, but {path} is not a regular file.")
    if path.stat().st_size > most:
        raise InputError(
            f"Expected {what}, but {path} is too large for one: it has "
            f"{path.stat().st_size} bytes."
        )


@dataclass(frozen=True)
class Stanza:
    """Checked access to an element of a file; what is wrong is an `InputError`."""

    path: Path
    element: Element

    def all(self, name: str) -> list[Stanza]:
        """Return the elements of a name directly below this one."""
        return [Stanza(self.path, found) for found in self.element.findall(name)]

    def anywhere(self, name: str) -> list[Stanza]:
        """Return the elements of a name at any depth, with this one."""
        return [Stanza(self.path, found) for found in self.element.iter(name)]

    def one(self, name: str) -> Stanza:
        """Return the only element of a name directly below this one."""
        stanzas = self.all(name)
        if len(stanzas) != 1:
            count = len(stanzas)
            raise self.damaged(f"{self.tag} holds {count} × {name}, expected one")
        return stanzas[0]

    @property
    def tag(self) -> str:
        """Name of the element, and its label or number if it has one."""
        values = [self.element.get(key) for key in ("label", "i")]
        return " ".join([self.element.tag, *(v[:60] for v in values if v)])

    @property
    def text(self) -> str:
        """What stands between the start and the end of the element."""
        return self.element.text or ""

    def get(self, name: str, default: str | None = None) -> str:
        """Return an attribute."""
        value = self.element.get(name, default)
        if value is None:
            raise self.damaged(f"{self.tag} lacks {name}")
        return value

    def number(self, name: str) -> float:
        """Return an attribute that is a number."""
        return float(self._numbers(self.get(name), 1, name)[0])

    def positive(self, name: str) -> float:
        """Return the size of an attribute that is a number other than 0."""
        value = abs(self.number(name))
        if not value > 1.0 / _LARGEST_VALUE:
            raise self.damaged(f"{self.tag} has {name}={value:g}, expected more")
        return value

    def whole(self, name: str, default: int | None = None, least: int = 0) -> int:
        """Return an attribute that is a whole number of at least `least`."""
        text = self.get(name, None if default is None else str(default)).strip()
        if not text.isascii() or not text.isdigit() or len(text) > 12:
            raise self.damaged(
                f"{self.tag} has {name}={text[:40]!r}, expected a number"
            )
        if int(text) < least:
            raise self.damaged(
                f"{self.tag} has {name}={text}, expected {least} or more"
            )
        return int(text)

    def flag(self, name: str, default: str) -> bool:
        """Return an attribute that is T or F."""
        text = self.get(name, default).strip()
        if text.upper() not in ("T", "F"):
            raise self.damaged(f"{self.tag} has {name}={text[:40]!r}, expected T or F")
        return text.upper() == "T"

    def numbers(self, n: int) -> np.ndarray:
        """Return the numbers (n,) that the text of the element consists of."""
        return self._numbers(self.text, n, "its text")

    def _numbers(self, text, n, where):
        try:
            return as_numbers(text, n)
        except ValueError as error:
            raise self.damaged(f"{self.tag}: {where} {error}") from None

    def damaged(self, what: str) -> InputError:
        """Return an error that says what is wrong with the file."""
        return InputError(
            f"Expected an intact GAP model, but {self.path} is not: {what}."
        )


def as_numbers(text: str | bytes, n: int) -> np.ndarray:
    r"""Return the `n` finite numbers of a text, separated by white space.

    >>> as_numbers(" .29999 -.15E-005\n2.D0", 3)
    array([ 2.9999e-01, -1.5000e-06,  2.0000e+00])
    """
    text = text.encode(errors="replace") if isinstance(text, str) else text
    text = text.replace(b"D", b"e").replace(b"d", b"e").strip()
    values = np.zeros(0)
    if text:
        try:
            with warnings.catch_warnings():
                # How numpy says that it stopped before the end of the text.
                warnings.simplefilter("error", DeprecationWarning)
                values = np.fromstring(text, sep=" ")
        except (DeprecationWarning, ValueError):
            raise ValueError("holds something else than numbers") from None
    if len(values) != n:
        raise ValueError(f"holds {len(values)} numbers, expected {n}")
    if not (np.abs(values) < _LARGEST_VALUE).all():
        raise ValueError("holds values that are not finite")
    return values


def read_numbers(stanza: Stanza, name: str, n: int, md5: str) -> np.ndarray:
    """Return the numbers (n,) of a text file in the folder of the XML file.

    The stanza is what names the file; `md5` is the checksum that the file must have, ""
    if there is none.
    """
    folder = stanza.path.parent
    plain = (
        name.isprintable() and not set(name) & {"/", "\\"} and name not in ("", "..")
    )
    if not plain or not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise stanza.damaged(
            f"{stanza.tag} names the file {name[:100]!r}, expected one in the folder "
            "of the model"
        )
    path = folder / name
    _check_file(path, _MAX_BYTES_OF_NUMBER * n + 1024, f"{n} numbers of {stanza.path}")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"Could not read {path}: {error.strerror or error}.") from None
    if md5 and hashlib.md5(text, usedforsecurity=False).hexdigest() != md5.lower():
        raise stanza.damaged(
            f"{path} does not have the checksum that {stanza.tag} expects, so it "
            "changed or belongs to another model"
        )
    try:
        return as_numbers(text, n)
    except ValueError as error:
        raise stanza.damaged(f"{path} {error}") from None
