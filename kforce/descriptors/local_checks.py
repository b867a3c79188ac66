"""Whether descriptors of atomic environments make sense, before they meet any atoms."""

from __future__ import annotations

from kforce.descriptors.composition import Composition
from kforce.descriptors.few_body import check_species
from kforce.descriptors.local import LocalDescriptor
from kforce.descriptors.soap.soap import SOAP, as_tuple, check_soap
from kforce.descriptors.two_body import TwoBody


def check_parameters(descriptor: LocalDescriptor) -> None:
    """Raise an error unless all parameters of a descriptor make sense.

    Raises
    ------
    InputError
        That names the first that does not.

    Examples
    --------
    >>> check_parameters(TwoBody(cutoff=-1.0))
    Traceback (most recent call last):
    kforce.errors.InputError: cutoff must be a positive length in Å, found -1.0.
    """
    if isinstance(descriptor, SOAP):
        check_soap(descriptor)
    elif isinstance(descriptor, Composition):
        for pair in zip(descriptor.species, descriptor.species, strict=True):
            check_species(pair)
    else:
        descriptor.for_species(())


def n_features(descriptor: LocalDescriptor) -> int:
    """Return the number of features of a descriptor with parameters that make sense.

    Examples
    --------
    >>> n_features(SOAP(cutoff=5.0, n_max=10, l_max=12, atom_sigma=0.5))
    716
    """
    if isinstance(descriptor, TwoBody):
        return len(descriptor.exponents)
    if isinstance(descriptor, Composition):
        return len(descriptor.species)
    if not isinstance(descriptor, SOAP):
        return 3
    n, channels = descriptor.n_max, descriptor.compression
    if channels is None:
        channels = len(as_tuple(descriptor.species))  # None is one density of all
    if descriptor.diagonal_radial:
        pairs = n * channels * (channels + 1) // 2
    else:
        pairs = n * channels * (n * channels + 1) // 2
    return pairs * (descriptor.l_max + 1) + 1
