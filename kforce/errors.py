"""Errors of user input, and the checks of plain values that raise them."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np

#: Noises are larger, and smaller than one over this: their squares are numbers.
SMALLEST_NOISE = 1e-100


class InputError(ValueError):
    """Input that kforce cannot use: what was expected, what was found, what to do.

    The command line prints the message alone, without a traceback.
    """


class ExtrapolationError(InputError):
    """A structure that a model cannot be trusted with; see `ForceField.calculator`.

    Attributes
    ----------
    atoms : ase.Atoms
        The structure.
    grade : float or None
        Its largest extrapolation grade; None where the model has none.
    energy_std : float or None
        Standard deviation of its energy in eV, where that was computed.
    """

    def __init__(self, message, atoms=None, grade=None, energy_std=None):
        super().__init__(message)
        self.atoms, self.grade, self.energy_std = atoms, grade, energy_std


def one_line(text: str, most: int = 200) -> str:
    """Return a text, of another program or a file, cut to a line of a message."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def distinct(a: float, b: float, digits: int = 2) -> tuple[str, str]:
    """Return two numbers with as many digits as it takes to tell them apart.

    >>> distinct(1.912, 1.914), distinct(0.5, 1.0)
    (('1.912', '1.914'), ('0.50', '1.00'))
    """
    while f"{a:.{digits}f}" == f"{b:.{digits}f}" and a != b and digits < 12:
        digits += 1
    return f"{a:.{digits}f}", f"{b:.{digits}f}"


def check_positive(
    name: str, value, what: str = "number", or_zero: bool = False
) -> None:
    """Raise an `InputError` unless a value is a positive, finite number, or zero.

    >>> check_positive("cutoff", -1.0, "length in Å")
    Traceback (most recent call last):
    kforce.errors.InputError: cutoff must be a positive length in Å, found -1.0.
    """
    least = 0.0 if or_zero else np.nextafter(0.0, 1.0)
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number and least <= value < np.inf:
        return
    wanted = f"{what}, 0 or positive" if or_zero else f"positive {what}"
    raise InputError(f"{name} must be a {wanted}, found {value!r}.")


def check_noise(name: str, value) -> None:
    """Raise an `InputError` unless a noise is None, or it and its square positive."""
    if value is None:
        return
    check_positive(name, value, "standard deviation or None")
    if not SMALLEST_NOISE < value < 1.0 / SMALLEST_NOISE:
        raise InputError(
            f"{name} must be a standard deviation in eV or eV/Å, found {value!r}: "
            "correct it, or leave it out to learn it."
        )


def check_seed(seed) -> None:
    """Raise an `InputError` unless `seed` is a whole number that is not negative."""
    check_count("seed", seed, least=0)


def check_count(name: str, value, least: int = 1) -> None:
    """Raise an `InputError` unless a value is a whole number of at least `least`."""
    if not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} must be a whole number ≥ {least}, found {value!r}.")
