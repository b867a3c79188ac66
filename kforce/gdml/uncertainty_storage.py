"""The uncertainty of a model as plain arrays, for its file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kforce.descriptors.base import Features
from kforce.gdml.energy_differences import mean_energy
from kforce.gdml.observations import Observations, elimination, rigid_motions
from kforce.gdml.posterior import Posterior
from kforce.gdml.prior import Prior
from kforce.kernels.expansion import Expansion
from kforce.solvers.tiles import TiledMatrix
from kforce.structures import Batch


def to_arrays(
    uncertainty: Posterior, with_factor: bool = False
) -> dict[str, np.ndarray]:
    """Return what an uncertainty is made of, beside the kernel and the symmetries.

    Parameters
    ----------
    uncertainty : Posterior
        Of a model.
    with_factor : bool, default=False
        Whether the Cholesky factor is included: about 4 n² bytes for n rows (1.9 GB for
        21,000, 1,000 structures of ethanol). Without it, the first standard deviation
        of the restored model takes the time of a fit.

    Returns
    -------
    dict of str to ndarray
        See `from_arrays`.
    """
    observations = uncertainty.observations
    reference = uncertainty.reference
    arrays = {
        "train_positions": observations.positions,
        "observed": observations.rows >= 0,
        "n_rigid": observations.n_rigid,
        "noise_variance": uncertainty.prior.noise.variance(observations),
        "calibration": np.array(uncertainty.calibration),
        "reference": np.zeros(0) if reference is None else reference.weights,
    }
    if with_factor:
        uncertainty.prepare()
        factor = uncertainty.factor
        arrays["factor_offsets"] = factor.offsets
        for i in range(factor.n_tiles):
            for j in range(i):
                arrays[f"factor_{i}_{j}"] = factor.tile(i, j)
            # Above the diagonal there is whatever was in the memory before.
            arrays[f"factor_{i}_{i}"] = np.tril(factor.tile(i, i))
    return arrays


def from_arrays(
    arrays: Mapping[str, np.ndarray],
    batch: Batch,
    features: Features,
    expansion: Expansion,
    permutations: np.ndarray,
) -> Posterior:
    """Restore the uncertainty of a model from the arrays of `to_arrays`.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        train_positions (n_structures, n_atoms, 3) in Å; observed, which entries of
        `Observations.rows` there are, (n_structures, 3 n_atoms + 1); n_rigid
        (n_structures,); noise_variance (n_observations,); calibration, a number;
        reference (n_train,), weights of the mean energy, or of length 0; optionally
        factor_offsets and the tiles factor_i_j.
    batch, features : Batch, Features
        The structures at train_positions, and their descriptors in the model.
    expansion : Expansion
        Of the model: its kernel, centers and feature permutations.
    permutations : ndarray of int, shape (n_perms, n_atoms)
        Symmetries of the kernel.

    Raises
    ------
    KeyError, ValueError
        If arrays are missing, of another shape or not finite.
    """
    observations = _observations(arrays, batch)
    calibration = _checked(arrays["calibration"], (), "f")
    if not calibration > 0.0:
        raise ValueError(f"the calibration is {calibration}, not a positive number")
    reference = arrays["reference"]
    if reference.size:
        weights = _checked(reference, (len(expansion.x_train),), "f")
        reference = mean_energy(expansion, weights)
    else:
        reference = None
    return Posterior(
        Prior(expansion.kernel, permutations),
        features,
        observations,
        factor=_factor(arrays, observations.n_rows)
        if "factor_offsets" in arrays
        else None,
        reference=reference,
        calibration=float(calibration),
    )


def _observations(arrays, batch):
    """Return the observations, all but their values."""
    positions = batch.positions.reshape(batch.n_structures, -1, 3)
    n, n_cart = len(positions), positions[0].size
    observed = _checked(arrays["observed"], (n, n_cart + 1), "b")
    n_rigid = _checked(arrays["n_rigid"], (n,), "i").astype(np.intp)
    basis, most = rigid_motions(positions, bool(batch.pbc.any()))
    eliminated = np.arange(n_cart + 1) < n_rigid[:, None]
    fits = (n_rigid == 0) | (n_rigid == most)
    if not fits.all() or (observed & eliminated).any():
        raise ValueError("n_rigid does not fit the structures and what was observed")
    rows = np.full(observed.shape, -1, dtype=np.intp)
    rows[observed] = np.arange(observed.sum())
    variance = _checked(arrays["noise_variance"], (observed.sum(),), "f")
    if not (variance >= 0.0).all():
        raise ValueError("noise variances are negative")
    return Observations(
        rows,
        y=np.zeros(len(variance)),
        label_variance=variance,
        positions=positions,
        rigid=elimination(basis, n_rigid),
        n_rigid=n_rigid,
    )


def _factor(arrays, n_rows):
    offsets = arrays["factor_offsets"]
    ascending = offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) > 1
    if not ascending or not (np.diff(offsets.astype(float)) > 0).all():
        raise ValueError("factor_offsets are no ascending numbers")
    if offsets[0] != 0 or offsets[-1] != n_rows:
        raise ValueError(f"the factor has {offsets[-1]} rows, expected {n_rows}")
    sizes = np.diff(offsets)
    factor = TiledMatrix.from_tiles(
        offsets,
        [
            [
                _checked(arrays[f"factor_{i}_{j}"], (sizes[i], sizes[j]), "f")
                for j in range(i + 1)
            ]
            for i in range(len(sizes))
        ],
    )
    if not (factor.diagonal() > 0.0).all():
        raise ValueError("the factor is not one of a positive definite matrix")
    return factor


def _checked(array, shape, kind):
    if array.shape != shape or array.dtype.kind != kind:
        raise ValueError(
            f"found an array of {array.dtype} {array.shape}, expected {shape}"
        )
    if kind == "f" and not np.isfinite(array).all():
        raise ValueError("found values that are not finite")
    return array
