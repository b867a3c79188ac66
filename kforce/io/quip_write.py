"""Model files of the program GAP, which QUIP and gap_fit read and write: writing."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import ExitStack
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kforce.descriptors.projected import Projected
from kforce.errors import InputError
from kforce.gap.regressor import GAPRegressor
from kforce.gap.sparse_term import PermutedTerm
from kforce.io.quip_descriptors import version_of, write_descriptor
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import RBF, PiecewisePolynomial
from kforce.storage.npz import replaced_file

#: Version stamp of the files: later ones follow the same rules, older programs refuse
#: later ones.
_VERSION = 1527075646

#: Numbers of kernels.
_KINDS = {RBF: 1, Polynomial: 2, PiecewisePolynomial: 4}

#: Numbers in a line: QUIP reads lines in pieces, and fails where it cuts a number.
_PER_LINE = 8


def write_quip_xml(model: GAPRegressor, path: str | os.PathLike) -> None:
    """Write a model to files that QUIP predicts with, all or nothing.

    Parameters
    ----------
    model : GAPRegressor
        A fitted model without baseline, with the kernels `RBF`, `Polynomial` and
        `PiecewisePolynomial`, scaled or not.
    path : path-like
        The XML file. Sparse points go to files beside it, one for each term, with a
        label in their names that depends on the contents: models that are written to
        one folder do not touch each other's files.

    Raises
    ------
    InputError
        If QUIP has no such model, or a file cannot be written.
    sklearn.exceptions.NotFittedError
        If the model has not been fitted.

    Notes
    -----
    The files hold all that predictions need, with all digits. They do not hold the
    training set, noises, and what standard deviations are computed with: use
    `model.save` as well.

    Examples
    --------
    >>> import kforce
    >>> from tempfile import TemporaryDirectory
    >>> frames = kforce.datasets.load_methanol_ccsdt()
    >>> pairs = kforce.Term(kforce.TwoBody(cutoff=4.0), n_inducing=10)
    >>> model = kforce.GAPRegressor([pairs], optimize=False).fit(frames[:10])
    >>> with TemporaryDirectory() as folder:
    ...     write_quip_xml(model, f"{folder}/gap.xml")
    ...     print(len(os.listdir(folder)), "files")
    5 files
    """
    if not isinstance(model, GAPRegressor):
        raise InputError(
            "A file of QUIP holds models of GAPRegressor, found "
            f"{type(model).__name__}: save it with model.save."
        )
    check_is_fitted(model, "terms_")
    model._refuse_splines("form that QUIP reads")
    if model.baseline_ is not None:
        raise InputError(
            "A file of QUIP holds no baseline, and this model corrects one: save it "
            "with model.save."
        )
    path = Path(path)
    terms = [_whole(t) for t in model.terms_ if not t.descriptor.is_composition]
    heads = [_describe(term) for term in terms]
    version = version_of([term.descriptor for term in terms], _VERSION)
    label = f"kforce_{_fingerprint(terms, heads)}"
    stem = path.name if re.fullmatch(r"[A-Za-z0-9_.+-]+", path.name) else "gap.xml"
    files = [
        path.with_name(f"{stem}.sparseX.{label}{i}") for i in range(1, len(terms) + 1)
    ]
    fresh = [file for file in files if not file.exists()]
    try:
        # Files are put in their places from the last to the first: the XML comes when
        # all that it names is there.
        with ExitStack() as stack:
            xml = stack.enter_context(replaced_file(path))
            spare = [stack.enter_context(replaced_file(file)) for file in files]
            sums = [_write_numbers(*pair) for pair in zip(spare, terms, strict=True)]
            parts = zip(terms, heads, files, sums, strict=True)
            bodies = [
                _coordinates(f"{label}{i}", *part) for i, part in enumerate(parts, 1)
            ]
            xml.write_text(_document(model, label, version, bodies), encoding="utf-8")
    except BaseException:
        for file in fresh:
            file.unlink(missing_ok=True)
        raise


def _whole(term):
    """Return a term with all features, where products of some are those of all."""
    if not isinstance(term.descriptor, Projected):
        return term
    if not term.kernel.is_product:
        raise InputError(
            "A file of QUIP holds projected features with kernels of products only, "
            f"found {term.kernel!r}: save the model with model.save."
        )
    # Lengths divide both factors.
    matrix, lengths = term.descriptor.matrix, term.length_scales**2
    return replace(
        term,
        descriptor=term.descriptor.descriptor,
        inducing_points=(term.inducing_points / lengths) @ matrix.T,
        length_scales=np.ones(len(matrix)),
    )


def _energies_of_atoms(model):
    """Return energies by atomic number, with those that a term has learned."""
    energies = dict(model.reference_energies_)
    for term in model.terms_:
        if term.descriptor.is_composition:
            species = term.descriptor.species
            learned = term.compare(np.eye(len(species)), orders=(0,))[0] @ term.weights
            for z, energy in zip(species, learned, strict=True):
                energies[z] += energy
    return energies


def _describe(term):
    """Return what QUIP calls the descriptor, the kernel and their parameters."""
    kernel, amplitude = term.kernel.unscaled, term.kernel.prior_std
    kind, d = _KINDS.get(type(kernel)), term.inducing_points.shape[1]
    if kind is None or (kind == 4 and kernel.n_features // 2 != d // 2):
        raise InputError(
            "A file of QUIP holds the kernels RBF, Polynomial and PiecewisePolynomial "
            f"(of as many features as there are), found {kernel!r}: save the model "
            "with model.save, or fit with one of them."
        )
    if kind == 2 and (term.constant or (term.length_scales != 1.0).any()):
        raise InputError(
            "QUIP adds no constant to kernels of products and knows no length scales "
            "of their features: save the model with model.save, or fit terms with "
            "Polynomial without them."
        )
    return {
        "descriptor": write_descriptor(term.descriptor),
        "covariance_type": kind,
        "signal_variance": amplitude,
        "signal_mean": term.constant,
        "zeta": kernel.zeta if kind == 2 else None,
        "theta": None if kind == 2 else term.length_scales * kernel.length_scale,
    }


def _fingerprint(terms, heads):
    """Return a name for the sparse points and weights of a model."""
    digest = hashlib.sha256()
    for term, head in zip(terms, heads, strict=True):
        digest.update(head["descriptor"].encode())
        for array in (term.inducing_points, term.weights, term.f_cut):
            digest.update(np.ascontiguousarray(array, dtype=float).tobytes())
    return digest.hexdigest()[:12]


def _write_numbers(path, term):
    """Write the features of sparse points one by one; return the checksum."""
    digest = hashlib.md5(usedforsecurity=False)
    form = "%.16e\n" * term.inducing_points.shape[1]
    with open(path, "wb") as stream:
        for point in term.inducing_points:
            text = (form % tuple(point.tolist())).encode()
            digest.update(text)
            stream.write(text)
    return digest.hexdigest()


def _document(model, label, version, bodies):
    """Return the text of the XML file: QUIP wants no declaration before the label."""
    energies = _energies_of_atoms(model)
    lines = [
        f"<{label}>",
        f'<Potential label="{label}" init_args="IP GAP label={label}"/>',
        f'<GAP_params label="{label}" gap_version="{version}">',
        '<GAP_data do_core="F">',
        *(f'<e0 Z="{z}" value="{_number(energies[z])}"/>' for z in model.species_),
        "</GAP_data>",
        f'<gpSparse label="{label}" n_coordinate="{len(bodies)}" fitted="T">',
        *bodies,
        "</gpSparse>",
        f"<command_line>kforce {metadata.version('kforce')}</command_line>",
        "</GAP_params>",
        f"</{label}>",
    ]
    return "\n".join(lines) + "\n"


def _coordinates(label, term, head, file, checksum):
    """Return the stanza of a term."""
    n, d = term.inducing_points.shape
    kind = head["covariance_type"]
    permutations = np.arange(d)[None]
    if isinstance(term, PermutedTerm):
        permutations = term.permutations
    attributes = {
        "label": label,
        "dimensions": d,
        "signal_variance": _number(head["signal_variance"]),
        "signal_mean": _number(head["signal_mean"]),
        "sparsified": "T",
        "n_permutations": len(permutations),
        "covariance_type": kind,
        **({"zeta": _number(head["zeta"])} if kind == 2 else {}),
        "n_sparseX": n,
        "sparseX_filename": file.name,
        "sparseX_md5sum": checksum,
    }
    head_line = " ".join(
        f"{key}={quoteattr(str(attributes[key]))}" for key in attributes
    )
    lines = [f"<gpCoordinates {head_line}>"]
    if kind != 2:
        lines += ["<theta>", *_lines(map(_number, head["theta"])), "</theta>"]
    lines.append(f"<descriptor>{escape(head['descriptor'])}</descriptor>")
    for i, row in enumerate(permutations, 1) if kind != 2 else ():
        numbers = "\n".join(_lines(str(q + 1) for q in row))
        lines.append(f'<permutation i="{i}">{numbers}</permutation>')
    for i, (weight, f_cut) in enumerate(zip(term.weights, term.f_cut, strict=True), 1):
        numbers = f'alpha="{_number(weight)}" sparseCutoff="{_number(f_cut)}"'
        lines.append(f'<sparseX i="{i}" {numbers}/>')
    return "\n".join([*lines, "</gpCoordinates>"])


def _number(value):
    """Return a number with all its digits."""
    return f"{value:.17g}"


def _lines(words):
    """Return words in short lines."""
    words = list(words)
    return [" ".join(words[k : k + _PER_LINE]) for k in range(0, len(words), _PER_LINE)]
