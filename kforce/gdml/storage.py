"""What a fitted `GDMLRegressor` is made of, as JSON and plain arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kforce.gdml import uncertainty_storage as storage
from kforce.gdml.molecule import Molecule
from kforce.gdml.regressor import GDMLRegressor
from kforce.kernels.expansion import Expansion
from kforce.storage.fields import (
    check_evaluates,
    read_array,
    read_noise,
    read_number,
    read_training,
)
from kforce.storage.parts import from_json, is_simple, to_json
from kforce.symmetry.groups import validate_permutations

#: No global model has so many atoms: a file that claims them is damaged, and the pairs
#: of them would fill the memory.
_MAX_ATOMS = 3000


def to_arrays(
    model: GDMLRegressor, with_factor: bool | None = None
) -> tuple[dict, dict[str, np.ndarray]]:
    """Return what a fitted model is made of, but its baseline.

    Parameters
    ----------
    model : GDMLRegressor
        The model.
    with_factor : bool, default=None
        Include what standard deviations are computed with: 4 n² bytes for n equations.
        None is False: without it the first takes the time of a fit.

    Returns
    -------
    header : dict
        For JSON.
    arrays : dict of str to ndarray
        The rest.
    """
    parameters = model.get_params(deep=False)
    permutations = parameters.pop("permutations")
    parameters.pop("baseline")
    header = {
        "parameters": {name: to_json(value) for name, value in parameters.items()},
        "kernel": to_json(model.kernel_),
        "descriptor": to_json(model.descriptor_),
        "noise_forces": to_json(model.noise_forces_),
        "noise_energy": to_json(model.noise_energy_),
        "weights": model.expansion_.weights is not None,
        "constant": to_json(model.constant_),
        "log_marginal_likelihood": to_json(model.log_marginal_likelihood_),
        "training": vars(model.training_),
        "permutations": permutations if is_simple(permutations) else "given",
        "variance": model.uncertainty_ is not None,
    }
    arrays = {
        **vars(model.molecule_),
        "permutations": model.permutations_,
        "centers": model.expansion_.x_train,
        "directions": model.expansion_.directions,
    }
    if model.expansion_.weights is not None:
        arrays["weights"] = model.expansion_.weights
    if model.uncertainty_ is not None:
        arrays |= storage.to_arrays(model.uncertainty_, bool(with_factor))
    return header, arrays


def from_arrays(header: Mapping, arrays: Mapping[str, np.ndarray]) -> GDMLRegressor:
    """Return the model of which `to_arrays` wrote this, without baseline.

    Raises
    ------
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
        If there is no such model.
    """
    molecule = _molecule(arrays)
    permutations = validate_permutations(
        read_array(arrays, "permutations", (None, len(molecule.numbers)), "iu"),
        molecule.numbers,
    )
    parameters = {k: from_json(v) for k, v in header["parameters"].items()}
    simple = header["permutations"] != "given"
    parameters["permutations"] = header["permutations"] if simple else permutations
    descriptor = from_json(header["descriptor"])
    coordinates = descriptor.coordinates(len(molecule.numbers))
    expansion = _expansion(arrays, header, coordinates, permutations)
    noise_forces, uncertainty = read_noise(header["noise_forces"]), None
    # What a file of an older version does not know of, it does not have.
    if header.get("variance"):
        if noise_forces is None:
            raise ValueError("noise_forces is not there")
        positions = read_array(arrays, "train_positions", (None, None, 3), "f")
        batch = molecule.batch(positions)
        uncertainty = storage.from_arrays(
            arrays, batch, descriptor(batch), expansion, permutations
        )
    return GDMLRegressor(**parameters).restore(
        molecule_=molecule,
        permutations_=permutations,
        descriptor_=descriptor,
        kernel_=expansion.kernel,
        noise_forces_=noise_forces,
        noise_energy_=read_noise(header["noise_energy"]),
        constant_=float(read_number(header["constant"])),
        log_marginal_likelihood_=read_number(header["log_marginal_likelihood"]),
        training_=read_training(dict(header["training"])),
        expansion_=expansion,
        uncertainty_=uncertainty,
        leave_one_out_=None,
        baseline_=None,
    )


def _molecule(arrays):
    numbers = read_array(arrays, "numbers", (None,), "iu").astype(int)
    if len(numbers) > _MAX_ATOMS or not ((numbers >= 0) & (numbers <= 118)).all():
        raise ValueError("numbers are not the atomic numbers of a molecule")
    pbc = read_array(arrays, "pbc", (3,), "b")
    return Molecule(numbers, pbc, read_array(arrays, "cell", (3, 3), "f"))


def _expansion(arrays, header, coordinates, permutations):
    n_features = int(coordinates.first[-1])
    x_train = read_array(arrays, "centers", (None, n_features), "f")
    weights = None
    # A lost optional field must not turn into another model.
    if header["weights"]:
        weights = read_array(arrays, "weights", (len(x_train),), "f")
    kernel = from_json(header["kernel"])
    profile, _, _ = kernel.components(n_features)
    profile(np.zeros(1))  # raises where it makes no sense
    expansion = Expansion(
        kernel=kernel,
        x_train=x_train,
        directions=read_array(arrays, "directions", x_train.shape, "f"),
        weights=weights,
        feature_perms=coordinates.images(permutations)[0],
    )
    with np.errstate(all="ignore"):
        check_evaluates(*expansion.jet(0.5 * x_train[:1]))
    return expansion
