"""A term of a sum of local energies, from its description to inducing environments."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, clone

from kforce.descriptors.composition import Composition
from kforce.descriptors.local import LocalDescriptor
from kforce.descriptors.projected import Projected
from kforce.errors import InputError
from kforce.gap.directions import leading_directions
from kforce.gap.inducing import METHODS, choose_inducing
from kforce.gap.sparse_term import SparseTerm
from kforce.gap.training_set import TrainingSet
from kforce.kernels.base import Kernel, Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.registry import check_instance, register

_log = logging.getLogger("kforce.gap")

#: Environments that inducing ones are chosen from, at most, for each inducing one, and
#: at least: a random sample of more would look the same.
POOL_PER_INDUCING, MIN_POOL = 30, 20_000

#: Standard deviation of energies of atoms where none is given, in eV: pairs alone may
#: bind this much.
ATOM_ENERGY_SHIFT = 30.0

#: Length scales that are not given start at this share of the spread of a feature.
FIRST_LENGTH_SCALE = 0.3

#: Kernels of products of more features see their leading directions only.
MANY_FEATURES = 200

#: Features that each have a spread of their own, rather than one for all.
FEW_FEATURES = 3


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
        20 for two-body, 100 for three-body and 1000 for SOAP terms. Time grows with
        them, and errors shrink: with 100, 300 and 1000 in both default SOAP terms,
        forces on held-out frames of silicon (Zuo et al. 2020) were 0.084, 0.068 and
        0.061 eV/Å off, energies 2.7, 2.8 and 2.4 meV per atom, and the same noises and
        amplitudes were conditioned on 171 frames in times of 1, 1.3 and 2.3.
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
        kernel = self.kernel
        if kernel is not None:
            # Parameters are valid, or to be learned.
            if kernel.needs_length_scale:
                kernel = kernel.with_length_scale(1.0)
            kernel.profile(np.ones(1), orders=(0,))
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


def _are_lengths(values):
    try:
        lengths = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        return False
    return lengths.size > 0 and bool((np.isfinite(lengths) & (lengths > 0)).all())


def build_terms(
    terms: Sequence[Term],
    training: TrainingSet,
    species: tuple[int, ...],
    rng: np.random.Generator,
) -> tuple[list[SparseTerm], list[Term]]:
    """Choose inducing environments for each term.

    `species` are the elements of the training set. Return the terms, without weights,
    and the description that each comes from; those without environments in the training
    set are left out. Raises `InputError` if there are none in any.
    """
    built, origins = [], []
    for term in terms:
        descriptors = term.descriptor.for_species(species)
        if not descriptors:
            _log.warning("no atoms of its elements, left out: %r", term.descriptor)
        for descriptor in descriptors:
            sparse_term = _build(term, descriptor, training, rng)
            if sparse_term is not None:
                built.append(sparse_term)
                origins.append(term)
                continue
            # What was asked for by name is missed, one of all pairs is not.
            is_named = descriptor is term.descriptor
            log = _log.warning if is_named else _log.info
            log("no environments, left out: %r", descriptor)
    if not built:
        raise InputError(
            "No term has any environment in the training set: expected neighbours "
            "within the cutoffs, found none."
        )
    return built, origins


def composition_term(species: tuple[int, ...]) -> SparseTerm:
    """Return a term that shifts the energies of atoms, which are known within 30 eV."""
    n = len(species)
    kernel = Scaled(Polynomial(zeta=1), amplitude=ATOM_ENERGY_SHIFT)
    return SparseTerm(
        Composition(species=species), kernel, np.ones(n), 0.0, np.eye(n), np.ones(n)
    )


def _build(term, descriptor, training, rng):
    n = term.n_inducing or descriptor.defaults.n_inducing
    x, f_cut, types = sample_environments(
        descriptor, training, POOL_PER_INDUCING * n, rng
    )
    if len(x) == 0:
        return None
    kernel, lengths = _kernel(term, descriptor, x)

    def covariance(a, b):
        ones, unit = np.ones(len(b)), np.ones(a.shape[1])
        prior = SparseTerm(descriptor, kernel, unit, 0.0, b, ones)
        return prior.compare(a, orders=(0,))[0]

    groups = types if term.stratify else None
    method = term.selection or descriptor.defaults.selection
    chosen = choose_inducing(x / lengths, n, method, rng, groups, covariance)
    points = x[chosen]
    if kernel.is_product and x.shape[1] > MANY_FEATURES:
        matrix = leading_directions(descriptor, training, x, rng.spawn(1)[0])
        descriptor, points = Projected(descriptor, matrix), points @ matrix
        lengths = np.ones(matrix.shape[1])
    if term.n_inducing and len(chosen) < term.n_inducing:
        _log.warning(
            "%d inducing environments were asked for, but only %d different ones are "
            "in the training set: all are used (%r)",
            term.n_inducing,
            len(chosen),
            descriptor,
        )
    return SparseTerm(
        descriptor, kernel, lengths, float(term.constant), points, f_cut[chosen]
    )


def sample_environments(
    descriptor: LocalDescriptor,
    training: TrainingSet,
    n_env: int,
    rng: np.random.Generator,
    min_pool: int = MIN_POOL,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, factors F and config_types of environments of random frames.

    There are `n_env`, but at least `min_pool`, and more by the rest of the last frame;
    all of the training set where it has no more.
    """
    x, f_cut, types = [], [], []
    n_env = max(n_env, min_pool)
    for s, environments in training.random_environments(descriptor, rng, n_env):
        name = str(training.frames[s].info.get("config_type", ""))
        x.append(environments.x)
        f_cut.append(environments.f_cut)
        types.append(np.full(len(environments.x), name, object))
    return np.concatenate(x), np.concatenate(f_cut), np.concatenate(types).astype(str)


def _kernel(term, descriptor, x):
    """Return the kernel for features divided by length scales, and these."""
    kernel = clone(term.kernel or descriptor.defaults.kernel)
    if not kernel.is_scaled:
        kernel = Scaled(kernel, amplitude=1.0)
    if kernel.is_product:
        return kernel, np.ones(x.shape[1])
    length = getattr(kernel.unscaled, "length_scale", 1.0)
    if term.length_scales is not None:
        lengths = np.asarray(term.length_scales, float)
        if lengths.shape not in ((), x.shape[1:]):
            raise InputError(
                f"length_scales must be one number or {x.shape[1]}, one for each "
                f"feature of {type(descriptor).__name__}, found {len(lengths)}."
            )
        lengths = np.broadcast_to(lengths, x.shape[1:])
        length = 1.0 if length is None else length
    elif length is not None:
        lengths = np.ones(x.shape[1])
    else:
        lengths, length = _spread(x), FIRST_LENGTH_SCALE
    kernel = kernel.for_features(x.shape[1]).with_length_scale(1.0)
    return kernel, length * lengths


def _spread(x):
    """Return the spread of each of few features, or one length for many of them."""
    if x.shape[1] > FEW_FEATURES:
        return np.full(x.shape[1], np.sqrt(np.var(x, axis=0).sum()) or 1.0)
    spread = np.ptp(x, axis=0)
    return np.where(spread > 1e-8, spread, 1.0)
