"""Model files of the sGDML program: read in both of its layouts, and written.

With δ = P_s x − x_m, u = √5 |δ|/ℓ and the Matérn-5/2 kernel k, a file stands for

    E = c + std Σ_s Σ_m [ 5/(3ℓ²) (1 + u) e^−u δ · v_m + a_m k(P_s x, x_m) ],

an `Expansion` with the directions std v_m and the weights std a_m.
"""

from __future__ import annotations

import logging
import os
from importlib import metadata

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kforce.data.bond_lengths import check_model_conversion
from kforce.data.training import Training
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.errors import InputError
from kforce.gdml.molecule import Molecule
from kforce.gdml.regressor import GDMLRegressor
from kforce.io.sgdml_fields import NEEDED, modern_fields
from kforce.kernels.expansion import Expansion
from kforce.kernels.stationary import Matern52
from kforce.registry import check_instance
from kforce.storage.npz import read_arrays, replaced_file
from kforce.units import energy_unit, length_unit, parse_model_units

_log = logging.getLogger("kforce.io")

# Before the hash of a training set in a file of ours, so that sGDML, which compares
# hashes to tell which frames were trained on, takes it for none of its data sets.
_FINGERPRINT = "kforce "


def read_sgdml(path: str | os.PathLike, unit: str | None = None) -> GDMLRegressor:
    """Read a model of the sGDML program, in today's layout or that of 2018.

    Parameters
    ----------
    path : path-like
        The .npz file. Objects in it, which would have to be unpickled, are skipped; in
        a field that a prediction depends on they are an error.
    unit : str, optional
        Unit of energy of the file, such as ``"kcal/mol"``, or of energy and length, as
        in ``"Hartree,Bohr"``. By default what its fields ``e_unit`` and ``r_unit`` say,
        or else kcal/mol and Å.

    Returns
    -------
    GDMLRegressor
        A fitted model in eV and Å, without a marginal likelihood. Its parameters are
        such that `fit` solves the linear system of the file for new data.

    Raises
    ------
    InputError
        If the file is not a model of sGDML, is damaged, or has unknown units.

    Notes
    -----
    In a periodic cell kforce takes the nearest image of each pair and sGDML the one
    that rounding fractional coordinates gives. In a cell that is not orthogonal the two
    can differ for atoms that are far apart.

    References
    ----------
    Chmiela et al., Comput. Phys. Commun. 240, 38 (2019).

    Examples
    --------
    >>> import kforce
    >>> from tempfile import TemporaryDirectory
    >>> frames = kforce.datasets.load_methanol_ccsdt()
    >>> model = kforce.GDMLRegressor(kernel=kforce.Matern52()).fit(frames[:10])
    >>> with TemporaryDirectory() as folder:
    ...     write_sgdml(model, f"{folder}/model.npz")
    ...     again = read_sgdml(f"{folder}/model.npz")
    >>> bool(abs(again.predict(frames[:1]) - model.predict(frames[:1])) < 1e-6)
    True
    """
    fields = modern_fields(path, read_arrays(path, known=NEEDED))
    names = fields.units(unit)
    energy, length = energy_unit(names[0]), length_unit(names[1])
    _log.info(
        "%s: taken as %s and %s, converted to eV (× %.10g) and Å (× %.10g)",
        path, *names, energy, length,
    )  # fmt: skip
    numbers = fields.numbers()
    permutations = fields.permutations(numbers)
    version = fields.text("code_version")
    expansion = _read_expansion(fields, len(numbers), permutations, energy, length)
    if length != 1.0:
        check_model_conversion(numbers, expansion.x_train, names, path)
    noise = None  # not known
    if "lam" in fields.arrays and fields.number("lam") != 0:
        noise = fields.positive("lam") ** 0.5 / length  # at a prior amplitude of 1 eV
    cell = fields.cell()
    return _restored(
        expansion,
        noise,
        permutations_=permutations,
        molecule_=Molecule(numbers, cell.any(axis=1), cell * length),
        constant_=fields.number("c") * energy,
        training_=Training(
            n_frames=len(expansion.x_train),
            hash=fields.text("md5_train").removeprefix(_FINGERPRINT),
            versions={"sgdml": version} if version else {},
        ),
    )


def _read_expansion(fields, n_atoms, permutations, energy, length):
    n_features = n_atoms * (n_atoms - 1) // 2
    x_train = fields.array("R_desc", (n_features, None)).T
    feature_perms = InverseDistances().coordinates(n_atoms).images(permutations)[0]
    fields.compare_images(feature_perms)
    scale = energy * fields.number("std")
    directions = fields.array("R_d_desc_alpha", x_train.shape)
    weights = None
    if "alphas_E" in fields.arrays:
        weights = scale * fields.array("alphas_E", (len(x_train),))
    return Expansion(
        kernel=Matern52(length_scale=fields.positive("sig") / length),
        x_train=np.ascontiguousarray(x_train) / length,
        directions=directions * (scale / length),
        weights=weights,
        feature_perms=feature_perms,
    )


def _restored(expansion, noise, *, permutations_, molecule_, **fitted):
    """Return a model whose `fit` would solve the system of the file."""
    noise_energy = None
    if noise is not None and expansion.weights is not None:
        noise_energy = noise / len(molecule_.numbers) ** 0.5
    model = GDMLRegressor(
        kernel=expansion.kernel,
        noise_forces=noise,
        noise_energy=noise_energy,
        permutations=permutations_,
        optimize=False,
    )
    return model._restore(
        baseline_=None,
        uncertainty_=None,
        leave_one_out_=None,
        worst_frames_=None,
        expansion_=expansion,
        permutations_=permutations_,
        molecule_=molecule_,
        descriptor_=InverseDistances(),
        kernel_=expansion.kernel,
        noise_forces_=noise,
        noise_energy_=noise_energy,
        log_marginal_likelihood_=None,
        **fitted,
    )


def write_sgdml(
    model: GDMLRegressor, path: str | os.PathLike, unit: str = "eV"
) -> None:
    """Write a model to a file that the sGDML program predicts with, all or nothing.

    Parameters
    ----------
    model : GDMLRegressor
        A fitted model with the kernel `Matern52`, scaled or not, on inverse distances.
    path : path-like
        The .npz file.
    unit : str, default="eV"
        Unit of energy of the file, or of energy and length, as in ``"kcal/mol,Ang"``.
        sGDML's own ASE calculator takes a file to be in kcal/mol and Å unless it is
        told otherwise.

    Raises
    ------
    InputError
        If sGDML has no such model, or the file cannot be written.
    sklearn.exceptions.NotFittedError
        If the model has not been fitted.

    Notes
    -----
    The training set is not part of a model, so the file cannot tell sGDML which frames
    of a data set were trained on: ``sgdml test`` must be given others. Its ``--cpu``
    backend predicts from every file; its PyTorch backend knows neither length scales
    that are not whole numbers nor fits of energies.
    """
    check_instance("model", model, GDMLRegressor, "a GDMLRegressor")
    check_is_fitted(model, "expansion_")
    kernel, amplitude = _matern52_of(model)
    names = parse_model_units(unit)
    energy, length = energy_unit(names[0]), length_unit(names[1])
    expansion = model.expansion_
    scale = amplitude**2 / energy
    arrays = {
        **_identity(model),
        "R_desc": expansion.x_train.T * length,
        "R_d_desc_alpha": expansion.directions * (scale * length),
        "c": model.constant_ / energy,
        "std": 1.0,
        "sig": _whole(kernel.length_scale * length),
        "perms": model.permutations_,
        "tril_perms_lin": _flat_images(expansion.feature_perms),
        "e_unit": names[0],
        "r_unit": names[1],
    }
    if expansion.weights is not None:
        arrays["alphas_E"] = expansion.weights * scale
    if model.noise_forces_ is not None:
        arrays["lam"] = (model.noise_forces_ / amplitude * length) ** 2
    if model.molecule_.pbc.any():
        arrays["lattice"] = model.molecule_.cell.T / length
    with replaced_file(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)


def _matern52_of(model):
    """Return the unscaled kernel and the amplitude of a model that sGDML knows."""
    kernel, pbc = model.kernel_.unscaled, model.molecule_.pbc
    for part, known in ((kernel, Matern52), (model.descriptor_, InverseDistances)):
        if type(part) is not known:
            raise InputError(
                f"An sGDML file holds models with {known.__name__}, found one with "
                f"{type(part).__name__}: fit again with kernel=Matern52(), or "
                "--kernel matern52 on the command line."
            )
    if model.numbering_ is not None:
        raise InputError(
            "An sGDML file is for one atom order, and this model numbers the atoms of "
            "each frame anew: bring the training frames into one order "
            "(kforce.data.reorder_atoms, --reorder), and fit again."
        )
    if model.baseline is not None:
        raise InputError(
            "An sGDML file holds no baseline, and this model corrects one: save it "
            "with model.save."
        )
    if pbc.any() and not pbc.all():
        raise InputError(
            f"An sGDML model is periodic in all directions or in none, found "
            f"pbc={pbc.tolist()}: save it with model.save."
        )
    return kernel, model.kernel_.prior_std


def _identity(model):
    """Say what the file is, in the fields that sGDML needs to show and test it.

    The errors have to be dictionaries, NaN where nothing was measured.
    """
    molecule, training = model.molecule_, model.training_
    unknown = {"mae": np.nan, "rmse": np.nan}
    return {
        "type": "m",
        "code_version": f"kforce {metadata.version('kforce')}",
        "dataset_name": molecule.formula,
        "dataset_theory": "unknown",
        "solver_name": "analytic",
        "z": molecule.numbers,
        "idxs_train": np.arange(training.n_frames),
        "md5_train": np.bytes_(f"{_FINGERPRINT}{training.hash}".encode()),
        "idxs_valid": np.arange(0),
        "md5_valid": np.bytes_(b"none"),
        "n_test": 0,
        "md5_test": np.bytes_(b"none"),
        "use_E": True,
        "e_err": unknown,
        "f_err": unknown,
    }


def _whole(length_scale):
    """Return a whole number as int: sGDML prints it as one, and PyTorch takes one."""
    if length_scale == round(length_scale):
        return round(length_scale)
    _log.warning(
        "The length scale %g is not a whole number: sGDML's PyTorch backend, its "
        "default on the command line, would cut it off, so use --cpu there; or fit "
        "with a whole one, as in kernel=Matern52(length_scale=%d) (--length-scale %d)",
        length_scale, max(1, round(length_scale)), max(1, round(length_scale)),
    )  # fmt: skip
    return length_scale


def _flat_images(feature_perms):
    """Permuted pairs of all permutations as one index into as many copies of x."""
    n_perms, n_features = feature_perms.shape
    offsets = n_features * np.arange(n_perms)
    return (feature_perms + offsets[:, None]).ravel(order="F")
