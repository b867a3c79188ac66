"""The parameters of GAPRegressor: whether they make sense, and what they leave open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sklearn.base import BaseEstimator

from kforce.errors import InputError, check_noise, check_seed
from kforce.gap.hyperparameters import Freedom
from kforce.gap.sparse_term import SparseTerm
from kforce.gap.term import Term


def check_parameters(model: BaseEstimator) -> None:
    """Raise an error unless all parameters of a `GAPRegressor` make sense.

    Raises
    ------
    InputError
        That names the first that does not.
    """
    for name in ("noise_energy", "noise_forces", "noise_virial", "jitter"):
        check_noise(name, getattr(model, name))
    check_seed(model.seed)
    for name, known in (
        ("solver", ("qr", "normal")),
        ("approximation", ("dtc", "fitc")),
    ):
        if getattr(model, name) not in known:
            raise InputError(
                f"{name} must be {' or '.join(map(repr, known))}, found "
                f"{getattr(model, name)!r}."
            )
    if model.jitter is None:
        raise InputError("jitter must be a positive number in eV², found None.")
    if not isinstance(model.config_noises, Mapping | None):
        raise InputError(
            "config_noises must be None or a dict of config_types to three noises, "
            f"found {model.config_noises!r}."
        )
    terms = [] if model.terms is None else model.terms
    if not isinstance(terms, Sequence) or isinstance(terms, str):
        raise InputError(
            "terms must be None or a list of Term(descriptor, kernel, n_inducing), "
            f"found {terms!r}."
        )
    if model.terms is not None and not terms:
        raise InputError("terms must be None or a list of Term, found none.")
    for term in terms:
        if not isinstance(term, Term):
            raise InputError(
                "terms must be None or a list of Term(descriptor, kernel, "
                f"n_inducing), found {term!r} in it."
            )
        term.check()


def freedom_of(
    model: BaseEstimator, terms: Sequence[SparseTerm], origins: Sequence[Term]
) -> Freedom:
    """Return what is not given to a `GAPRegressor`, and so may be learned.

    Parameters
    ----------
    model : GAPRegressor
        With its parameters.
    terms : sequence of SparseTerm
        Those of `origins`, and further ones of which nothing is learned.
    origins : sequence of Term
        The description that each comes from.
    """
    given = (model.noise_energy, model.noise_forces, model.noise_virial)
    amplitudes = [term.kernel is None or not term.kernel.is_scaled for term in origins]
    length_scales = [
        not found.kernel.is_product
        and term.length_scales is None
        and (term.kernel is None or term.kernel.needs_length_scale)
        for found, term in zip(terms, origins, strict=False)
    ]
    fixed = [False] * (len(terms) - len(origins))
    return Freedom(
        amplitudes + fixed,
        length_scales + fixed,
        tuple(noise is None for noise in given),
    )
