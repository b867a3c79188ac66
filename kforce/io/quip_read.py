"""Model files of the program GAP, which QUIP and gap_fit read and write: reading.

A file stands for E = Σ_i E0(Z_i) + Σ_t Σ_e F_e Σ_m α_m F_m k_t(x_e, x_m), a sum of
terms t as in `SparseTerm`.
"""

from __future__ import annotations

import logging
import os
import re

import numpy as np

from kforce.data.findings import plural
from kforce.descriptors.local import LocalDescriptor
from kforce.errors import InputError
from kforce.gap.extrapolation import Grade
from kforce.gap.regressor import GAPRegressor
from kforce.gap.sparse_term import PermutedTerm, SparseTerm
from kforce.io.quip_descriptors import read_descriptor
from kforce.io.quip_xml import read_numbers, read_xml
from kforce.kernels.base import Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import RBF, PiecewisePolynomial

_log = logging.getLogger("kforce.io")

#: The latest version stamp whose rules are known.
_NEWEST_VERSION = 1769700636

#: Elements that have a name.
_ELEMENTS = range(1, 119)

#: gap_fit lists 116 or 118 energies, 0 for elements that it has not seen; a list of
#: less than so many holds elements of the model only.
_MIN_ENERGIES_OF_FULL_LIST = 100

_IP_GAP = re.compile(r"\s*IP\s+GAP(\s+(xml_)?label\s*=\s*\S+)?\s*", re.IGNORECASE)


def read_quip_xml(path: str | os.PathLike) -> GAPRegressor:
    """Read a GAP model, as gap_fit writes it and quippy reads it.

    Parameters
    ----------
    path : path-like
        The XML file. Files of sparse points that it names are read from its folder.

    Returns
    -------
    GAPRegressor
        A fitted model that predicts; it knows no standard deviations. It applies to
        the elements that the file has energies of, or names in descriptors.

    Raises
    ------
    InputError
        If the file is not a GAP model, is damaged, or holds what kforce does not know:
        core potentials, other descriptors than ``distance_2b``, ``angle_3b`` and
        ``soap``, or compressed SOAP vectors.

    References
    ----------
    Bartók and Csányi, Int. J. Quantum Chem. 115, 1051 (2015).

    Examples
    --------
    >>> import kforce
    >>> from tempfile import TemporaryDirectory
    >>> from kforce.io.quip_write import write_quip_xml
    >>> frames = kforce.datasets.load_methanol_ccsdt()
    >>> pairs = kforce.Term(kforce.TwoBody(cutoff=4.0), n_inducing=10)
    >>> model = kforce.GAPRegressor([pairs], optimize=False).fit(frames[:10])
    >>> with TemporaryDirectory() as folder:
    ...     write_quip_xml(model, f"{folder}/gap.xml")
    ...     again = read_quip_xml(f"{folder}/gap.xml")
    >>> bool(abs(again.predict(frames[:1]) - model.predict(frames[:1])) < 1e-8)
    True
    """
    root = read_xml(path)
    models = root.anywhere("GAP_params")
    if len(models) != 1:
        raise InputError(
            f"Expected one GAP model, with an element GAP_params, but {path} holds "
            f"{len(models)}, and <{root.tag}> around all."
        )
    gap = models[0]
    version = gap.whole("gap_version", 0)
    if version > _NEWEST_VERSION:
        raise InputError(
            f"{path} is of version {version}, and kforce knows files up to "
            f"{_NEWEST_VERSION} only: update kforce, or fit with an older gap_fit."
        )
    _check_alone(root, gap)
    sparse = gap.one("gpSparse")
    if not sparse.flag("fitted", "T"):
        raise sparse.damaged("it has not been fitted")
    parts = sparse.all("gpCoordinates")
    if len(parts) != sparse.whole("n_coordinate", least=1):
        raise sparse.damaged(
            f"it holds {len(parts)} × gpCoordinates, and claims to hold "
            f"{sparse.get('n_coordinate')}"
        )
    terms = [_read_term(part, version) for part in parts]
    references = _reference_energies(gap, [term.descriptor for term in terms])
    count = plural(len(terms), "term")
    _log.info("%s: a GAP model of version %d, %s", path, version, count)
    return GAPRegressor(optimize=False)._restore(
        terms_=terms,
        species_=tuple(references),
        reference_energies_=references,
        noise_energy_=None,
        noise_forces_=None,
        noise_virial_=None,
        solution_=None,
        grade_=Grade.of_points(terms),
        log_marginal_likelihood_=None,
        training_=None,
        baseline_=None,
    )


def _check_alone(root, gap):
    """Raise an error if the energy is more than that of the GAP model."""
    potentials = root.anywhere("Potential")
    are_gap = all(_IP_GAP.fullmatch(p.get("init_args")) for p in potentials)
    if not are_gap or any(d.flag("do_core", "F") for d in gap.all("GAP_data")):
        raise InputError(
            f"{root.path} adds a core potential to the GAP model, or scales it, which "
            "kforce does not know: fit without core potential, or to the difference "
            "from it."
        )


def _reference_energies(gap, descriptors):
    """Return the energies of atoms by atomic number, of all elements of the model."""
    energies, usual = {}, 0.0
    for data in gap.all("GAP_data"):
        usual = data.number("e0") if "e0" in data.element.attrib else usual
        for entry in data.all("e0"):
            z = entry.whole("Z")
            if z not in _ELEMENTS:
                raise entry.damaged(f"e0 of Z={z}, which is no element")
            energies[z] = entry.number("value")
    known = [
        z
        for z, energy in energies.items()
        if energy or len(energies) < _MIN_ENERGIES_OF_FULL_LIST
    ]
    named = [_elements_of(descriptor) for descriptor in descriptors]
    if not known and any(to_all for _, to_all in named):
        known = list(_ELEMENTS)
    known += sorted(set().union(*(elements for elements, _ in named)) - {*known})
    return {z: energies.get(z, usual) for z in known}


def _elements_of(descriptor):
    """Return the elements that a descriptor names, and whether it applies to all."""
    centre = getattr(descriptor, "centre", ())
    named = {*(descriptor.species or (None,))}
    named |= {*centre} if isinstance(centre, tuple) else {centre}
    return named - {None}, None in named


def _read_term(part, version):
    n, d = part.whole("n_sparseX", least=1), part.whole("dimensions", least=1)
    if not part.flag("sparsified", "T"):
        raise part.damaged(f"{part.tag} is not sparse")
    descriptor = _read_descriptor(part, version, d)
    points = part.all("sparseX")
    if len(points) != n or {p.whole("i") for p in points} != {*range(1, n + 1)}:
        raise part.damaged(
            f"{part.tag} holds {len(points)} × sparseX, expected {n}, numbered from 1"
        )
    points.sort(key=lambda point: point.whole("i"))
    kernel, lengths, constant = _read_kernel(part, d)
    if "sparseX_filename" in part.element.attrib:
        name, md5 = part.get("sparseX_filename"), part.get("sparseX_md5sum", "")
        inducing_points = read_numbers(part, name, n * d, md5.strip()).reshape(n, d)
    else:
        inducing_points = np.array([_read_point(point, d) for point in points])
    fields = dict(
        descriptor=descriptor,
        kernel=Scaled(kernel, amplitude=part.positive("signal_variance")),
        length_scales=lengths,
        constant=constant,
        inducing_points=inducing_points,
        f_cut=np.array([point.number("sparseCutoff") for point in points]),
        weights=np.array([point.number("alpha") for point in points]),
    )
    permutations = _read_permutations(part, d)
    if len(permutations) == 1 or kernel.is_product:
        return SparseTerm(**fields)
    try:
        return PermutedTerm(**fields, permutations=permutations)
    except InputError as error:
        raise part.damaged(f"{part.tag} has wrong permutations. {error}") from None


def _read_descriptor(part, version, d) -> LocalDescriptor:
    text = part.one("descriptor").text
    try:
        descriptor = read_descriptor(text, version)
    except InputError as error:
        raise InputError(f"{part.path}: {error}.") from None
    if descriptor.n_features != d:
        raise part.damaged(
            f"{part.tag} has {d} dimensions, but its descriptor {text.strip()[:200]!r} "
            f"has {descriptor.n_features}"
        )
    try:
        descriptor.check()
    except InputError as error:
        raise part.damaged(f"{part.tag} has a wrong descriptor. {error}") from None
    return descriptor


def _read_kernel(part, d):
    """Return the kernel without amplitude, length scales, and the constant."""
    kind = part.whole("covariance_type")
    constant = part.number("signal_mean")
    if kind == 2:
        if "zeta" in part.element.attrib:
            zeta = part.number("zeta")
        else:  # old files hold it in place of the length scales
            zeta = float(part.one("theta").numbers(1)[0])
        if not 1.0 <= zeta < 1000.0:
            raise part.damaged(f"{part.tag} has zeta={zeta:g}, expected 1 or more")
        # The program does not add the constant to products.
        kernel = Polynomial(zeta=int(zeta) if zeta == int(zeta) else zeta)
        return kernel, np.ones(d), 0.0
    if kind not in (1, 4):
        raise InputError(
            f"{part.path}: kforce knows the covariance types 1 (ard_se), 2 "
            f"(dot_product) and 4 (pp), but {part.tag} is of type {kind}."
        )
    lengths = part.one("theta").numbers(d)
    if not (lengths > 0.0).all():
        raise part.damaged(f"{part.tag} has a theta that is not positive")
    kernel = RBF(length_scale=1.0) if kind == 1 else PiecewisePolynomial(n_features=d)
    return kernel, lengths, abs(constant)


def _read_permutations(part, d):
    """Return the permutations (n, d) of features, counted from 0."""
    n, stanzas = part.whole("n_permutations", 1, least=1), part.all("permutation")
    if part.whole("covariance_type") == 2:
        if n > 1:
            raise part.damaged(f"{part.tag} permutes the features of a product")
        return np.arange(d)[None]
    if n == 1 and not stanzas:
        return np.arange(d)[None]
    if len(stanzas) != n:
        raise part.damaged(
            f"{part.tag} holds {len(stanzas)} × permutation, expected {n}"
        )
    rows = np.array([one.numbers(d) for one in stanzas])
    if (np.sort(rows, axis=1) != np.arange(1, d + 1)).any():
        raise part.damaged(f"{part.tag} has a permutation that is none of 1 to {d}")
    if n == 1 and (np.diff(rows[0]) < 0.0).any():
        raise part.damaged(f"{part.tag} has one permutation that is not the identity")
    return rows.astype(int) - 1


def _read_point(point, d):
    """Return the features of a sparse point within the XML, whole or in slices."""
    slices = point.all("sparseX_slice")
    if not slices:
        return point.numbers(d)
    features = []
    for part in sorted(slices, key=lambda part: part.whole("start")):
        start, end = part.whole("start", least=1), part.whole("end", least=1)
        if start != len(features) + 1 or not start <= end <= d:
            break
        features.extend(part.numbers(end - start + 1))
    if len(features) != d:
        raise point.damaged(f"the slices of {point.tag} are not 1 to {d}")
    return np.array(features)
