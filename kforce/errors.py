"""Errors of user input, and the checks of plain values that raise them."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np


class InputError(ValueError):
    """Input that kforce cannot use: what was expected, what was found, what to do.

    The command line prints the message alone, without a traceback.
    """


def check_noise(name: str, value) -> None:
    """Raise an error unless a noise is a positive number or None.

    Raises
    ------
    InputError
        If it is something else.
    """
    if value is None or (isinstance(value, Real) and 0.0 < value < np.inf):
        return
    raise InputError(
        f"{name} must be a positive standard deviation or None, found {value!r}."
    )


def check_seed(seed) -> None:
    """Raise an error unless `seed` is a whole number that is not negative.

    Raises
    ------
    InputError
        If it is something else.
    """
    check_count("seed", seed, least=0)


def check_count(name: str, value, least: int = 1) -> None:
    """Raise an error unless a value is a whole number of at least `least`.

    Raises
    ------
    InputError
        If it is something else.

    Examples
    --------
    >>> check_count("n_train", 2.5)
    Traceback (most recent call last):
    kforce.errors.InputError: n_train must be a whole number ≥ 1, found 2.5.
    """
    if not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} must be a whole number ≥ {least}, found {value!r}.")
