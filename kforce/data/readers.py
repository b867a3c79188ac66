"""Frames from files: what ASE reads, and the `.npz` data sets of the field."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from kforce.data.findings import plural
from kforce.data.npz_datasets import NPZ_UNITS, read_npz_frames, set_labels
from kforce.data.promises import check_promises
from kforce.errors import InputError
from kforce.labels import stress_of
from kforce.neighbours.search import check_cell
from kforce.progress import progress_bar
from kforce.storage.npz import replaced_file, require_readable
from kforce.structures import as_frames
from kforce.units import energy_unit, length_unit, parse_units

log = logging.getLogger("kforce.data")

_ASE_UNITS = ("eV", "Ang")


def read_frames(
    path: str | os.PathLike,
    energy_key: str | None = None,
    forces_key: str | None = None,
    units: str | None = None,
) -> list[Atoms]:
    """Read structures with their energies and forces.

    Parameters
    ----------
    path : path-like
        Extended XYZ or another format that ASE reads, or an `.npz` data set with the
        fields of sGDML and MD17 (``z, R, E, F``) or rMD17 (``nuclear_charges, coords,
        energies, forces``).
    energy_key, forces_key : str, optional
        Take the energies from this key of `info` and the forces from this one of
        `arrays` instead of ASE's own. A frame without the key has no such label. For
        an `.npz` file, the names of the fields.
    units : str, optional
        Unit of energy and unit of length of the file, as in ``"kcal/mol,Ang"``,
        ``"Hartree,Bohr"`` or ``"eV"`` (then in Å). By default eV and Å as in ASE; for
        an `.npz` file its fields ``e_unit`` and ``r_unit``, or else kcal/mol and Å.

    Returns
    -------
    list of ase.Atoms
        In eV, Å and eV/Å. A frame without energy or forces simply has no such label.
        A ``virial`` (−∂E/∂ε) in `info` of a periodic frame is read as its stress.

    Raises
    ------
    InputError
        If the file cannot be read, a key is not there or a unit is not known.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from ase.build import molecule
    >>> with TemporaryDirectory() as folder:
    ...     write_frames(f"{folder}/w.xyz", [molecule("H2O")] * 3)
    ...     len(read_frames(f"{folder}/w.xyz"))
    3
    """
    path = Path(path)
    given = None if units is None else parse_units(units)
    if path.suffix.lower() == ".npz":
        frames, stored = read_npz_frames(path, energy_key, forces_key)
        if given is None and stored is None:
            log.info("%s names no units: taken as kcal/mol and Å", path)
        source = given or stored or NPZ_UNITS
    else:
        frames = _read_with_ase(path)
        _use_keys(frames, path, energy_key, forces_key)
        _use_virials(frames, path)
        source = given or _ASE_UNITS
    energy, length = energy_unit(source[0]), length_unit(source[1])
    if (energy, length) != (1.0, 1.0):
        for frame in frames:
            _convert(frame, energy, length)
        log.info(
            "%s: converted energies from %s to eV (× %.10g) and lengths from %s to Å "
            "(× %.10g)", path, source[0], energy, source[1], length,
        )  # fmt: skip
    _suggest_keys(frames, path)
    return frames


def _read_with_ase(path: Path) -> list[Atoms]:
    require_readable(path, "a file with structures")
    try:
        check_promises(path)
        frames = []
        with progress_bar(None, f"reading {path.name}") as advance:
            for frame in ase.io.iread(path, index=":", do_not_split_by_at_sign=True):
                frames.append(frame)
                advance(1)
    except InputError:
        raise
    # Each of ASE's parsers fails in its own way.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"Expected structures in a format that ASE reads, but {path} could not be "
            f"read ({type(error).__name__}: {reason[:150]}): check the file's format."
        ) from error
    if not frames:
        raise InputError(f"Expected structures, but {path} holds none.")
    return frames


def _use_keys(frames, path, energy_key, forces_key) -> None:
    wanted = (("energy", energy_key, "info"), ("forces", forces_key, "arrays"))
    for name, key, place in wanted:
        if key is None:
            continue
        # ASE moves keys that it knows from info and arrays to the calculator.
        values = [getattr(f, place).get(key, _results(f).get(key)) for f in frames]
        missing = sum(value is None for value in values)
        if missing == len(frames):
            there = {k for f in frames for k in (*getattr(f, place), *_results(f))}
            raise InputError(
                f"Expected the {name} under the key {key!r} in {path}, found the keys "
                f"{', '.join(sorted(there)) or 'none'}."
            )
        if missing:
            log.warning("%s: %s without %r", path, plural(missing, "frame"), key)
        for s, (frame, value) in enumerate(zip(frames, values, strict=True)):
            _check_label(name, key, value, frame, f"frame {s} of {path}")
            set_labels(frame, _results(frame) | {name: value})


def _use_virials(frames, path) -> None:
    """Turn the virials −∂E/∂ε of files of GAP into stresses, of periodic frames."""
    count = 0
    for s, frame in enumerate(frames):
        virial = frame.info.get("virial")  # ASE takes nine numbers only
        if virial is None or "stress" in _results(frame) or not frame.pbc.all():
            continue
        check_cell(frame.cell.array, frame.pbc, s)
        stress = stress_of(virial, frame.get_volume())
        set_labels(frame, _results(frame) | {"stress": stress})
        count += 1
    if count:
        log.info(
            "%s: the virials of %s are read as stresses", path, plural(count, "frame")
        )


def _results(frame: Atoms) -> dict:
    return {} if frame.calc is None else frame.calc.results


def _check_label(name, key, value, frame, where) -> None:
    expected = () if name == "energy" else (len(frame), 3)
    array = np.zeros(expected) if value is None else np.asarray(value)
    if array.shape != expected or array.dtype.kind not in "iuf":
        raise InputError(
            f"Expected the {name} under the key {key!r} as numbers of shape "
            f"{expected}, found {array.dtype} of shape {array.shape} in {where}."
        )


def _convert(frame: Atoms, energy: float, length: float) -> None:
    results = dict(_results(frame))
    factors = {
        "energy": energy,
        "free_energy": energy,
        "forces": energy / length,
        "stress": energy / length**3,
    }
    with np.errstate(over="ignore"):  # what is infinite then is found by the checks
        for name, factor in factors.items():
            if results.get(name) is not None:
                results[name] = np.asarray(results[name], dtype=float) * factor
        noises = {"noise_energy": energy, "noise_forces": energy / length}
        for name, factor in noises.items():
            for place in (frame.info, frame.arrays):
                if np.asarray(place.get(name, "")).dtype.kind in "iuf":
                    place[name] = np.asarray(place[name], dtype=float) * factor
        frame.set_cell(frame.cell.array * length)
        frame.positions *= length
    set_labels(frame, results)


def _suggest_keys(frames, path) -> None:
    """Point at fields that look like labels when there are no such labels."""
    places = (("energy", "info", r"energ|^e$"), ("forces", "arrays", r"forc|grad"))
    for name, place, pattern in places:
        if any(name in _results(frame) for frame in frames):
            continue
        keys = {k for f in frames for k in getattr(f, place) if _matches(pattern, k)}
        if keys:
            log.warning(
                "%s holds no %s where ASE looks for it, but there is %s: "
                "name the right one with %s_key (--%s-key)", path, name,
                ", ".join(map(repr, sorted(keys))), name, name,
            )  # fmt: skip
    if not any("stress" in _results(frame) for frame in frames):
        keys = {k for f in frames for k in f.info if _matches(r"stress|virial", k)}
        if keys - {"virial"}:
            log.warning(
                "%s holds no stresses where ASE looks for them, but there is %s: name "
                "it 'stress' (eV/Å³, sign of ASE) or 'virial' (eV, −∂E/∂ε) to use it",
                path, ", ".join(map(repr, sorted(keys))),
            )  # fmt: skip


def _matches(pattern: str, key) -> bool:
    return re.search(pattern, str(key), re.IGNORECASE) is not None


def write_frames(path: str | os.PathLike, frames: Sequence[Atoms]) -> None:
    """Write frames as extended XYZ, all or nothing.

    Labels on the calculators are written as ASE does, in eV, Å and eV/Å. `InputError`
    says that the file cannot be written.
    """
    frames = as_frames(frames)
    with replaced_file(path) as temporary:
        ase.io.write(temporary, frames, format="extxyz")
