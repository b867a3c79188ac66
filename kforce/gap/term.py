"""A term of a sum of local energies, as the user describes it."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator

from kforce.descriptors.local import LocalDescriptor
from kforce.errors import InputError
from kforce.gap.inducing import METHODS
from kforce.kernels.base import Kernel
from kforce.registry import check_instance, register


@register
class Term(BaseEstimator):
    """A descriptor of environments, a kernel, and how many inducing environments.

    Parameters
    ----------
    descriptor : LocalDescriptor
        Such as `TwoBody`, `ThreeBody` or `SOAP`. Where it leaves elements open, the
        term stands for one of each: of each pair, triplet or central element of the
        training data.
    kernel : Kernel, default=None
        In eV², without or with amplitude (`Scaled`); the amplitude of one without is
        learned. None is what the descriptor defaults to: `Polynomial(zeta=4)` for
        SOAP and `RBF` for two- and three-body terms.
    n_inducing : int, default=None
        Inducing environments, at most as many as differ in the training data. None is
        20 for two-body, 100 for three-body and 1000 for SOAP terms.
    length_scales : float or sequence of float, default=None
        In units of the features, for radial kernels. None takes the spread of each
        feature in the training data, times a factor that is learned.
    selection : str, default=None
        How inducing environments are chosen: 'cur', 'farthest', 'kmeans', 'uniform',
        'random' or 'variance', see `kforce.gap.inducing`. None is 'uniform' for
        two-body and 'cur' for all other terms.
    stratify : bool, default=False
        Whether each ``info["config_type"]`` gets the same share of them, as far as it
        has so many.
    constant : float, default=0.0
        Prior standard deviation of a shift of all local energies of the term, in eV, or
        in units of the amplitude where that is learned.

    Examples
    --------
    >>> from kforce.descriptors.two_body import TwoBody
    >>> Term(TwoBody(cutoff=4.0), n_inducing=15)
    Term(descriptor=TwoBody(cutoff=4.0), n_inducing=15)
    """

    def __init__(
        self,
        descriptor,
        kernel=None,
        n_inducing=None,
        length_scales=None,
        selection=None,
        stratify=False,
        constant=0.0,
    ):
        self.descriptor = descriptor
        self.kernel = kernel
        self.n_inducing = n_inducing
        self.length_scales = length_scales
        self.selection = selection
        self.stratify = stratify
        self.constant = constant

    def check(self) -> None:
        """Raise an error unless all parameters make sense.

        Raises
        ------
        InputError
            That names the first that does not.
        """
        check_instance(
            "The descriptor of a term",
            self.descriptor,
            LocalDescriptor,
            "TwoBody(...), ThreeBody(...), SOAP(...) or another local descriptor",
        )
        check_instance(
            "The kernel of a term",
            self.kernel,
            Kernel | None,
            "None or a kernel such as Polynomial(zeta=4) or RBF()",
        )
        n = self.n_inducing
        if n is not None and (not isinstance(n, Integral) or n < 1):
            raise InputError(f"n_inducing must be a whole number above 0, found {n!r}.")
        if self.kernel is not None:
            _check_kernel(self.kernel)
        if self.selection is not None and self.selection not in list(METHODS):
            raise InputError(
                f"selection must be one of {', '.join(map(repr, METHODS))}, found "
                f"{self.selection!r}."
            )
        if self.length_scales is not None and not _are_lengths(self.length_scales):
            raise InputError(
                f"length_scales must be positive numbers, found {self.length_scales!r}."
            )
        if not isinstance(self.constant, Real) or not 0.0 <= self.constant < np.inf:
            raise InputError(f"constant must not be negative, found {self.constant!r}.")


def _check_kernel(kernel):
    """Raise an error unless its parameters are valid, or to be learned."""
    if kernel.needs_length_scale:
        kernel = kernel.with_length_scale(1.0)
    kernel.profile(np.ones(1), orders=(0,))


def _are_lengths(values):
    try:
        lengths = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        return False
    return lengths.size > 0 and bool((np.isfinite(lengths) & (lengths > 0)).all())
