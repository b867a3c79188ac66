"""Checks of the parameters of SOAP."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np

from kforce.arguments import check_count
from kforce.descriptors.radial_basis import BASES
from kforce.errors import InputError

#: Atomic numbers are at most this.
LARGEST_NUMBER = 118

#: Recursions of larger angular momenta would leave the range of doubles.
_LARGEST_L = 40

_POSITIVE = ("cutoff", "atom_sigma", "transition_width", "basis_error_exponent")


def as_tuple(value) -> tuple:
    """Return one value or several as a tuple.

    Examples
    --------
    >>> as_tuple(6), as_tuple([6, 1])
    ((6,), (6, 1))
    """
    return tuple(value) if isinstance(value, Iterable) else (value,)


def check_soap(soap) -> None:
    """Raise an error unless all parameters of a `SOAP` make sense.

    Raises
    ------
    InputError
        If one of them does not.
    """
    check_count("n_max", soap.n_max)
    check_count("l_max", soap.l_max, least=0)
    if soap.l_max > _LARGEST_L:
        raise InputError(
            f"l_max must be at most {_LARGEST_L}, found {soap.l_max}: lower it."
        )
    for name in _POSITIVE:
        value = getattr(soap, name)
        if not _is_number(value) or value <= 0.0:
            raise InputError(f"{name} must be a positive number, found {value!r}.")
    for name in ("central_weight", "sigma0"):
        value = getattr(soap, name)
        if not _is_number(value) or value < 0.0:
            raise InputError(f"{name} must be a number ≥ 0, found {value!r}.")
    for name in ("species", "centre"):
        value = getattr(soap, name)
        if value is not None and not _are_elements(as_tuple(value)):
            raise InputError(
                f"{name} must be different atomic numbers from 1 to "
                f"{LARGEST_NUMBER}, or None for all elements, found {value!r}."
            )
    if soap.compression is not None:
        _check_compression(soap.compression, soap.species)
    if soap.radial_basis not in BASES:
        raise InputError(
            f"radial_basis must be one of {', '.join(BASES)}, "
            f"found {soap.radial_basis!r}."
        )
    if soap.damping is not None and not _is_damping(as_tuple(soap.damping)):
        raise InputError(
            "damping must be None or three numbers (exponent > 0, scale > 0, "
            f"rate ≥ 0), found {soap.damping!r}."
        )


def _check_compression(compression, species):
    if species is None:
        raise InputError(
            "compression mixes the densities of elements: give species, the atomic "
            "numbers of these, or compression=None."
        )
    n = len(as_tuple(species))
    whole = isinstance(compression, Integral) and not isinstance(compression, bool)
    if not whole or not 0 < compression < n:
        raise InputError(
            f"compression must be None or a whole number ≥ 1 and below the number {n} "
            f"of species, found {compression!r}."
        )


def _is_number(value):
    return isinstance(value, Real) and np.isfinite(value)


def _are_elements(numbers):
    good = all(isinstance(z, Integral) and 0 < z <= LARGEST_NUMBER for z in numbers)
    return good and 0 < len(numbers) == len(set(numbers))


def _is_damping(numbers):
    good = len(numbers) == 3 and all(_is_number(number) for number in numbers)
    return good and numbers[0] > 0.0 and numbers[1] > 0.0 and numbers[2] >= 0.0
