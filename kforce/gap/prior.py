"""From terms as the user describes them to terms with inducing environments."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from sklearn.base import clone

from kforce.descriptors.composition import Composition
from kforce.descriptors.local import LocalDescriptor
from kforce.errors import InputError
from kforce.gap.inducing import choose_inducing
from kforce.gap.sparse_term import SparseTerm
from kforce.gap.term import Term
from kforce.gap.training_set import TrainingSet
from kforce.kernels.base import Scaled
from kforce.kernels.dot_product import Polynomial

_log = logging.getLogger("kforce.gap")

#: Environments that inducing ones are chosen from, at most, for each inducing one, and
#: at least: a random sample of more would look the same.
POOL_PER_INDUCING, MIN_POOL = 30, 20_000

#: Standard deviation of energies of atoms where none is given, in eV: pairs alone may
#: bind this much.
ATOM_ENERGY_SHIFT = 30.0

#: Length scales that are not given start at this share of the spread of a feature.
FIRST_LENGTH_SCALE = 0.3

#: Features that each have a spread of their own, rather than one for all.
FEW_FEATURES = 3


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
            if sparse_term is None:
                # What was asked for by name is missed, one of all pairs is not.
                level = (
                    logging.WARNING if descriptor is term.descriptor else logging.INFO
                )
                _log.log(level, "no environments, left out: %r", descriptor)
                continue
            built.append(sparse_term)
            origins.append(term)
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
    pool = sample_environments(descriptor, training, POOL_PER_INDUCING * n, rng)
    x, f_cut, types = pool
    if len(x) == 0:
        return None
    kernel, lengths = _kernel(term, descriptor, x)
    chosen = choose_inducing(
        x / lengths,
        n,
        term.selection or descriptor.defaults.selection,
        rng,
        types if term.stratify else None,
        lambda a, b: SparseTerm(
            descriptor, kernel, np.ones(a.shape[1]), 0.0, b, np.ones(len(b))
        ).compare(a, orders=(0,))[0],
    )
    if term.n_inducing and len(chosen) < term.n_inducing:
        _log.warning(
            "%d inducing environments were asked for, but only %d different ones are "
            "in the training set: all are used (%r)",
            term.n_inducing,
            len(chosen),
            descriptor,
        )
    return SparseTerm(
        descriptor, kernel, lengths, float(term.constant), x[chosen], f_cut[chosen]
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
    x, f_cut, types, n_seen = [], [], [], 0
    for s in rng.permutation(len(training.frames)):
        batch, neighbours = training.neighbours.of(s, descriptor.cutoff)
        environments = descriptor(batch.numbers, neighbours)
        name = str(training.frames[s].info.get("config_type", ""))
        x.append(environments.x)
        f_cut.append(environments.f_cut)
        types.append(np.full(len(environments.x), name, object))
        n_seen += len(environments.x)
        if n_seen >= max(n_env, min_pool):
            break
    return np.concatenate(x), np.concatenate(f_cut), np.concatenate(types).astype(str)


def _kernel(term, descriptor, x):
    """Return the kernel for features divided by length scales, and these."""
    kernel = term.kernel
    if kernel is None:
        kernel = descriptor.defaults.kernel
    kernel = clone(kernel)
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
