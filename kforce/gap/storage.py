"""What a fitted `GAPRegressor` is made of, as JSON and plain arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kforce.descriptors.local import Environments, LocalDescriptor
from kforce.errors import InputError
from kforce.gap.permuted_term import PermutedTerm
from kforce.gap.regressor import GAPRegressor
from kforce.gap.sparse_term import SparseTerm
from kforce.kernels.base import Kernel
from kforce.registry import check_instance
from kforce.solvers.least_squares import SparseSolution
from kforce.storage.fields import (
    check_evaluates,
    read_array,
    read_noise,
    read_number,
    read_training,
)
from kforce.storage.parts import from_json, to_json

#: Atomic numbers are at most this.
_HEAVIEST = 118

#: Names of arrays in files, where they are not those of a term.
_ATTRIBUTES = {"centers": "inducing_points", "fade": "f_cut"}

_NOISES = ("noise_energy", "noise_forces", "noise_virial")
_NUMBERS = (*_NOISES, "log_marginal_likelihood")


def to_arrays(
    model: GAPRegressor, with_factor: bool | None = None
) -> tuple[dict, dict[str, np.ndarray]]:
    """Return what a fitted model is made of, but its baseline.

    Parameters
    ----------
    model : GAPRegressor
        The model.
    with_factor : bool, default=None
        Include what standard deviations are computed with: 8 m² bytes for m inducing
        environments. None is True, as nothing else in the file would bring it back.

    Returns
    -------
    header : dict
        For JSON.
    arrays : dict of str to ndarray
        The rest.

    Raises
    ------
    InputError
        If the model is tabulated.
    """
    if not all(isinstance(term, SparseTerm) for term in model.terms_):
        raise InputError(
            "A tabulated model cannot be saved: save the one that it was made of, and "
            "tabulate that again."
        )
    parameters = model.get_params(deep=False)
    parameters.pop("baseline")
    training = model.training_
    solution = None if with_factor is False else model.solution_
    header = {
        "parameters": {name: to_json(value) for name, value in parameters.items()},
        "terms": [_describe(term) for term in model.terms_],
        **{name: to_json(getattr(model, f"{name}_")) for name in _NUMBERS},
        "training": None if training is None else vars(training),
        "solution": None,
    }
    references = model.reference_energies_
    arrays = {
        "species": np.array(model.species_),
        "reference_species": np.array(list(references)),
        "reference_energies": np.array(list(references.values()), dtype=float),
    }
    for t, term in enumerate(model.terms_):
        for name in _fields(isinstance(term, PermutedTerm)):
            arrays[f"term_{t}.{name}"] = getattr(term, _ATTRIBUTES.get(name, name))
    if solution is not None:
        header["solution"] = {
            "jitter": to_json(solution.jitter),
            "misfit": to_json(solution.misfit),
            "calibration": [to_json(factor) for factor in model.calibration_],
        }
        arrays["prior"] = _packed(solution.prior)
        arrays["factor"] = _packed(solution.factor)
    return header, arrays


def from_arrays(header: Mapping, arrays: Mapping[str, np.ndarray]) -> GAPRegressor:
    """Return the model of which `to_arrays` wrote this, without baseline.

    Raises
    ------
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
        If there is no such model.
    """
    parameters = {k: from_json(v) for k, v in header["parameters"].items()}
    species = _elements(arrays, "species")
    known = _elements(arrays, "reference_species")
    energies = read_array(arrays, "reference_energies", (len(known),), "f").tolist()
    if not set(species) <= set(known):
        raise ValueError("there are elements without reference energy")
    described = header["terms"]
    if not isinstance(described, list) or not described:
        raise ValueError("there are no terms")
    terms = [_term(facts, arrays, f"term_{t}.") for t, facts in enumerate(described)]
    noises = {f"{name}_": read_noise(header[name]) for name in _NOISES}
    solution, calibration = None, None
    # A lost optional field must not turn into another model.
    if header["solution"] is not None:
        if None in noises.values():
            raise ValueError("a noise is not there")
        solution = _solution(header["solution"], arrays, terms)
        energy, forces = header["solution"]["calibration"]
        calibration = _positive(energy), _positive(forces)
    return GAPRegressor(**parameters).restore(
        terms_=terms,
        species_=species,
        reference_energies_=dict(zip(known, energies, strict=True)),
        **noises,
        log_marginal_likelihood_=read_number(header["log_marginal_likelihood"]),
        solution_=solution,
        calibration_=calibration,
        training_=read_training(header["training"]),
        baseline_=None,
    )


def _fields(is_permuted):
    """Name the arrays of a term."""
    plain = ("length_scales", "centers", "fade", "weights")
    return (*plain, "permutations") if is_permuted else plain


def _describe(term):
    return {
        "descriptor": to_json(term.descriptor),
        "kernel": to_json(term.kernel),
        "constant": to_json(term.constant),
        "permuted": isinstance(term, PermutedTerm),
    }


def _term(facts, arrays, start):
    """Return a term that evaluates to numbers."""
    descriptor, kernel = from_json(facts["descriptor"]), from_json(facts["kernel"])
    check_instance("descriptor", descriptor, LocalDescriptor, "a local descriptor")
    check_instance("kernel", kernel, Kernel, "a kernel")
    descriptor.check()
    width = descriptor.n_features
    inducing_points = read_array(arrays, f"{start}centers", (None, width), "f")
    n = len(inducing_points)
    if not np.isfinite(kernel(np.zeros(1))).all():
        raise ValueError("a kernel is not finite")
    lengths = read_array(arrays, f"{start}length_scales", (width,), "f")
    constant = float(read_number(facts["constant"]))
    if not (lengths > 0.0).all() or constant < 0.0:
        raise ValueError("length scales or constants are not positive")
    fields = dict(
        descriptor=descriptor,
        kernel=kernel,
        length_scales=lengths,
        constant=constant,
        inducing_points=inducing_points,
        f_cut=read_array(arrays, f"{start}fade", (n,), "f"),
        weights=read_array(arrays, f"{start}weights", (n,), "f"),
    )
    if facts["permuted"]:
        permutations = read_array(arrays, f"{start}permutations", (None, width), "iu")
        term = PermutedTerm(**fields, permutations=permutations.astype(int))
    else:
        term = SparseTerm(**fields)
    with np.errstate(all="ignore"):
        one = Environments(
            0.5 * inducing_points[:1], np.ones(1), np.zeros(1, dtype=int), 1
        )
        check_evaluates(*term.jet(one))
    return term


def _solution(facts, arrays, terms):
    coef = np.concatenate([term.weights for term in terms])
    size = len(coef) * (len(coef) + 1) // 2
    prior, factor = (
        _unpacked(read_array(arrays, name, (size,), "f"), len(coef))
        for name in ("prior", "factor")
    )
    if not (np.diag(prior).all() and np.diag(factor).all()):
        raise ValueError("a factor is singular")
    return SparseSolution(
        coef=coef,
        prior=prior,
        factor=factor,
        jitter=float(read_number(facts["jitter"])),
        misfit=float(read_number(facts["misfit"])),
    )


def _packed(triangle):
    """Return the upper triangle row after row, (m (m + 1) / 2,)."""
    return np.concatenate([row[i:] for i, row in enumerate(triangle)])


def _unpacked(packed, n):
    # In Fortran order, like what a fit leaves behind: the same sums in the same order.
    triangle = np.zeros((n, n), order="F")
    triangle[np.triu_indices(n)] = packed
    return triangle


def _elements(arrays, name):
    numbers = read_array(arrays, name, (None,), "iu").tolist()
    if not all(0 < z <= _HEAVIEST for z in numbers) or len({*numbers}) < len(numbers):
        raise ValueError(f"{name} are no elements")
    return tuple(numbers)


def _positive(value):
    number = float(read_number(value))
    if not number > 0.0:
        raise ValueError(f"{number} is not positive")
    return number
