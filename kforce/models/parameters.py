"""Checks of what users pass to an estimator's constructor."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np

from kforce.descriptors.base import Descriptor
from kforce.errors import InputError


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


def check_descriptor(descriptor) -> None:
    """Raise an error unless `descriptor` is a descriptor or None.

    Raises
    ------
    InputError
        If it is something else.
    """
    if not isinstance(descriptor, Descriptor | None):
        raise InputError(
            "descriptor must be None or a descriptor such as InverseDistances(), found "
            f"{descriptor!r}."
        )


def check_seed(seed) -> None:
    """Raise an error unless `seed` is a whole number that is not negative.

    Raises
    ------
    InputError
        If it is something else.
    """
    if not isinstance(seed, Integral) or seed < 0:
        raise InputError(f"seed must be a whole number ≥ 0, found {seed!r}.")
