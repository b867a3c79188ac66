"""Checks of what users pass to an estimator's constructor."""

from __future__ import annotations

from kforce.descriptors.base import Descriptor
from kforce.errors import InputError


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
