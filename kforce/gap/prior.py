"""From terms as the user describes them to terms with inducing environments."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from sklearn.base import clone

from kforce.descriptors.composition import Composition
from kforce.errors import InputError
from kforce.gap.inducing import choose_inducing
from kforce.gap.sparse_term import SparseTerm
from kforce.gap.term import Term
from kforce.kernels.base import Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

_log = logging.getLogger("kforce.gap")

#: Environments that inducing ones are chosen from, at most, for each inducing one, and
#: at least: a random sample of more would look the same.
_POOL, _LEAST_POOL = 30, 20_000

#: Standard deviation of energies of atoms where none is given, in eV: pairs alone may
#: bind this much.
_SHIFT = 30.0

#: Length scales that are not given start at this share of the spread of a feature.
_SHARE = 0.3


def build_terms(
    terms: Sequence[Term],
    frames: Sequence[Atoms],
    species: tuple[int, ...],
    rng: np.random.Generator,
) -> tuple[list[SparseTerm], list[Term]]:
    """Choose inducing environments for each term.

    Parameters
    ----------
    terms : sequence of Term
        As the user describes them.
    frames : sequence of ase.Atoms
        Training set.
    species : tuple of int
        Its elements, in order of first appearance.
    rng : numpy.random.Generator
        Source of random numbers.

    Returns
    -------
    built : list of SparseTerm
        Without weights; those without environments in the training set are left out.
    origins : list of Term
        The description that each comes from.

    Raises
    ------
    InputError
        If no term has environments in the training set.
    """
    built, origins = [], []
    for term in terms:
        descriptors = term.descriptor.for_species(species)
        if not descriptors:
            _log.warning("no atoms of its elements, left out: %r", term.descriptor)
        for descriptor in descriptors:
            found = _build(term, descriptor, frames, rng)
            if found is None:
                # What was asked for by name is missed, one of all pairs is not.
                level = (
                    logging.WARNING if descriptor is term.descriptor else logging.INFO
                )
                _log.log(level, "no environments, left out: %r", descriptor)
                continue
            built.append(found)
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
    kernel = Scaled(Polynomial(zeta=1), amplitude=_SHIFT)
    return SparseTerm(
        Composition(species=species), kernel, np.ones(n), 0.0, np.eye(n), np.ones(n)
    )


def _build(term, descriptor, frames, rng):
    n = term.n_inducing or descriptor.defaults.n_inducing
    x, f_cut, types = _environments(
        descriptor, frames, max(_POOL * n, _LEAST_POOL), rng
    )
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


def _environments(descriptor, frames, most, rng):
    """Return features, fading factors and config_types of at most `most` of them."""
    x, f_cut, types, seen = [], [], [], 0
    for s in rng.permutation(len(frames)):
        batch = Batch.from_frames([frames[s]])
        neighbours = find_neighbours(batch, descriptor.cutoff, int(s))
        found = descriptor(batch.numbers, neighbours)
        n = len(found.x)
        x.append(found.x)
        f_cut.append(found.f_cut)
        types.append(np.full(n, str(frames[s].info.get("config_type", "")), object))
        seen += n
        if seen >= most:
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
        lengths, length = _spread(x), _SHARE
    kernel = kernel.for_features(x.shape[1]).with_length_scale(1.0)
    return kernel, length * lengths


def _spread(x):
    """Return the spread of each of few features, or one length for many of them."""
    if x.shape[1] > 3:
        return np.full(x.shape[1], np.sqrt(np.var(x, axis=0).sum()) or 1.0)
    spread = np.ptp(x, axis=0)
    return np.where(spread > 1e-8, spread, 1.0)
