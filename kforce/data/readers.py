"""Frames from files: what ASE reads, and the `.npz` data sets of the field."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from traceback import extract_tb

import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import filetype, ioformats, open_with_compression

from kforce.data.bond_lengths import check_conversion
from kforce.data.findings import plural
from kforce.data.npz_datasets import NPZ_UNITS, read_npz_frames, set_labels
from kforce.data.promises import check_promises
from kforce.data.slices import FileSlice
from kforce.errors import InputError, one_line
from kforce.labels import stress_of
from kforce.neighbours.search import check_cell
from kforce.progress import progress_bar
from kforce.storage.npz import replaced_file, require_readable
from kforce.structures import as_frames
from kforce.units import Units, parse_units

log = logging.getLogger("kforce.data")

#: How output of VASP begins, which ASE knows by the name alone.
_VASP_XML, _BYTES_OF_START = re.compile(rb"\s*(<\?xml[^>]*>\s*)?<modeling>"), 1000

_NAME_FORMAT = "name its format, as in format='aims-output' (--format aims-output)"


def read_frames(
    path: str | os.PathLike,
    energy_key: str | None = None,
    forces_key: str | None = None,
    units: str | None = None,
    format: str | None = None,
) -> list[Atoms]:
    """Read structures with their energies and forces.

    Parameters
    ----------
    path : path-like
        Extended XYZ or another format that ASE reads, or an `.npz` data set with the
        fields of sGDML and MD17 (``z, R, E, F``) or rMD17 (``nuclear_charges, coords,
        energies, forces``). Some of its frames are named as in ``"file.xyz@:50"``,
        ``"file.xyz@::10"`` or ``"file.xyz@3"``, unless a file has that very name.
    energy_key, forces_key : str, optional
        Take the energies from this key of `info` and the forces from this one of
        `arrays` instead of ASE's own. A frame without the key has no such label. For
        an `.npz` file, the names of the fields.
    units : str, optional
        Units of energies, lengths and forces of the file, as in ``"kcal/mol,Ang"`` or
        ``"Hartree,Ang,Hartree/Bohr"``. Forces are in the first over the second where
        no third one is named, lengths in Å (of an `.npz` file, in its ``r_unit``) where
        energies alone are, and ``"au"`` stands for Hartree and Bohr. By default eV and
        Å as in ASE; for an `.npz` file its fields ``e_unit`` and ``r_unit``, or else
        kcal/mol and Å.
    format : str, optional
        Name that ASE has for the format, such as ``"vasp-xml"``, where it does not see
        it from name and content.

    Returns
    -------
    list of ase.Atoms
        In eV, Å and eV/Å. A frame without energy or forces simply has no such label.
        A ``virial`` (−∂E/∂ε) in `info` of a periodic frame is read as its stress.

    Raises
    ------
    InputError
        If the file cannot be read, has no such frames, a key is not there, a unit or a
        format is not known, or lengths that were converted are none of bonds.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from ase.build import molecule
    >>> with TemporaryDirectory() as folder:
    ...     write_frames(f"{folder}/w.xyz", [molecule("H2O")] * 3)
    ...     len(read_frames(f"{folder}/w.xyz")), len(read_frames(f"{folder}/w.xyz@:2"))
    (3, 2)
    """
    return read_numbered(path, energy_key, forces_key, units, format)[1]


def read_numbered(
    path: str | os.PathLike,
    energy_key: str | None = None,
    forces_key: str | None = None,
    units: str | None = None,
    format: str | None = None,
) -> tuple[list[int], list[Atoms]]:
    """Return the numbers of frames in their file, and what `read_frames` does."""
    name = FileSlice.parse(path)
    path = name.path
    if units is not None:
        parse_units(units)
    if format is not None:
        check_format(format)
    if path.suffix.lower() == ".npz" and format is None:
        frames, stored = read_npz_frames(path, energy_key, forces_key)
        numbers, frames = name.choose(frames)
        if units is None and stored is None:
            log.info("%s names no units: taken as kcal/mol and Å", path)
        source = _units_of_npz(path, units, stored)
    else:
        numbers, frames = _read_with_ase(name, format)
        _use_keys(frames, numbers, path, energy_key, forces_key)
        _use_virials(frames, numbers, path)
        source = parse_units(units or "eV")
    _convert_all(frames, source, path)
    _suggest_keys(frames, path)
    return numbers, frames


def _units_of_npz(path, given, stored) -> Units:
    """Return the units that are given, or else those that the file names."""
    energy, length = stored or NPZ_UNITS
    try:
        named = parse_units(f"{energy},{length}")
    except InputError as error:
        if given is None:
            raise InputError(
                f"{path}: {error} Say which units it has, as in units='kcal/mol,Ang' "
                "(--units kcal/mol,Ang)."
            ) from None
        return parse_units(given)
    if given is None:
        return named
    units = parse_units(given, length)
    if stored and units.factors() != named.factors():
        log.warning(
            "%s says that it is in %s and %s, and is read in %s, %s and %s as asked",
            path, energy, length, *units,
        )  # fmt: skip
    return units


def _read_with_ase(name: FileSlice, format: str | None):
    """Return the numbers of the frames of a file, and the frames."""
    path = name.path
    require_readable(path, "a file with structures")
    known = format or format_of(path)
    with progress_bar(None, f"reading {path.name}") as advance:
        numbers, frames = name.choose(_frames_of(path, known, advance))
    if not frames:
        raise InputError(
            f"Expected structures, but {path} holds none where it is read as "
            f"{known!r}: check the file, or {_NAME_FORMAT}."
        )
    return numbers, frames


def _frames_of(path, format, advance):
    """Yield the frames that ASE reads, one by one where it does so."""
    count = 0
    try:
        check_promises(path, format)
        for frame in ase.io.iread(
            path, ":", format=format, do_not_split_by_at_sign=True
        ):
            yield frame
            count += 1
            advance(1)
    except InputError:
        raise
    # Each of ASE's parsers fails in its own way.
    except Exception as error:
        where = f" from frame {count} on" if count else ""
        raise InputError(
            f"Expected structures in a format that ASE reads, but {path} could not be "
            f"read as {format!r}{where} ({cause(error)}): check the file, or "
            f"{_NAME_FORMAT}."
        ) from error


def format_of(path: Path) -> str:
    """Return the name that ASE has for the format of a file; `InputError` if none."""
    try:
        format = filetype(str(path))
        if format in ioformats:
            return format
        with open_with_compression(str(path), "rb") as stream:
            if _VASP_XML.match(stream.read(_BYTES_OF_START)):
                return "vasp-xml"
        reason = f"{format!r} is none"
    except Exception as error:  # looks into the file, which may be damaged
        reason = cause(error)
    raise InputError(
        f"Expected structures in a format that ASE reads, but {path} could not be "
        f"read: its format is not known from its name and content ({reason}); "
        f"{_NAME_FORMAT}."
    )


def check_format(name: str) -> None:
    """Raise an error unless ASE reads files of a format."""
    if name in ioformats and ioformats[name].can_read:
        return
    readable = [known for known, about in ioformats.items() if about.can_read]
    text = str(name).lower()
    alike = [known for known in readable if text and text in known]
    alike += get_close_matches(text, readable, cutoff=0.5)
    near = list(dict.fromkeys(alike))[:6] or ["extxyz", "traj", "vasp-xml", "aims"]
    raise InputError(
        f"Expected a format that ASE reads, such as {', '.join(near)}, found {name!r}: "
        "'ase info --formats' lists all."
    )


def cause(error: Exception) -> str:
    """Return what an error of another program says, and what caused it, in short.

    Of one that says nothing, the line of the program where it was raised.
    """
    texts = []
    while error is not None and len(texts) < 3:
        text = str(error)
        if not text.strip("'\""):
            steps = extract_tb(error.__traceback__)
            text = f"at {steps[-1].line!r}" if steps else "no reason given"
        texts.append(f"{type(error).__name__}: {one_line(text, 150)}")
        error = error.__cause__
    return "; because of ".join(texts)


def _use_keys(frames, numbers, path, energy_key, forces_key) -> None:
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
        for s, frame, value in zip(numbers, frames, values, strict=True):
            _check_label(name, key, value, frame, f"frame {s} of {path}")
            set_labels(frame, _results(frame) | {name: value})


def _use_virials(frames, numbers, path) -> None:
    """Turn the virials −∂E/∂ε of files of GAP into stresses, of periodic frames."""
    count = 0
    for s, frame in zip(numbers, frames, strict=True):
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


def _convert_all(frames, units: Units, path) -> None:
    """Convert frames in place, from the units of their file, and say so."""
    energy, length, forces = units.factors()
    if (energy, length, forces) == (1.0, 1.0, 1.0):
        return
    for frame in frames:
        _convert(frame, energy, length, forces)
    changes = [
        f"{what} from {name} to {ours} (× {factor:.10g})"
        for what, name, ours, factor in zip(
            ("energies", "lengths", "forces"),
            units,
            ("eV", "Å", "eV/Å"),
            (energy, length, forces),
            strict=True,
        )
        if factor != 1.0
    ]
    log.info("%s: converted %s", path, ", ".join(changes))
    if length != 1.0:
        check_conversion(frames, units, path)


def _convert(frame: Atoms, energy: float, length: float, forces: float) -> None:
    results = dict(_results(frame))
    factors = {
        "energy": energy,
        "free_energy": energy,
        "forces": forces,
        "stress": energy / length**3,
    }
    with np.errstate(over="ignore"):  # what is infinite then is found by the checks
        for name, factor in factors.items():
            if results.get(name) is not None:
                results[name] = np.asarray(results[name], dtype=float) * factor
        noises = {"noise_energy": energy, "noise_forces": forces}
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
