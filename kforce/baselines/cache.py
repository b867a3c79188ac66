"""Results of a baseline on disk, so that each training frame is computed once.

One file a baseline, replaced as a whole: what is read is always complete, and of two
processes that write at once the later one keeps what it has found in the file. A file
can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from pathlib import Path
from threading import Lock

import numpy as np
from ase import Atoms

from kforce.errors import InputError
from kforce.storage.npz import read_arrays, write_arrays

log = logging.getLogger("kforce.baseline")

_FORMAT = "kforce baseline results 2"

#: Seconds of computing that a crash may lose.
_SAVE_EVERY = 30.0

# Threads of one process take turns in read, merge and write.
_lock = Lock()


def cache_folder() -> Path:
    """Return where results are kept: ``KFORCE_CACHE``, or the user's cache folder."""
    folder = os.environ.get("KFORCE_CACHE")
    if not folder:
        folder = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "kforce")
    return Path(os.path.expanduser(folder))


class ResultCache:
    """Energies and forces of one baseline, by structure.

    What ASE says that results can depend on tells structures apart: numbers, positions,
    cell, periodic directions, initial charges and magnetic moments.

    A file that is damaged is started anew, and one that cannot be written is done
    without; the log says so. `identity` stands for the baseline (name, settings,
    version), None keeps nothing; `path` is that of the file, or None.
    """

    def __init__(self, identity: str | None):
        self.path = None
        self._identity = identity
        self._results = {}
        self._new = {}
        self._saved = time.monotonic()
        if identity is not None:
            digest = hashlib.sha256(identity.encode()).hexdigest()
            self.path = cache_folder() / f"baseline-{digest[:16]}.npz"
            self._results = _read(self.path)

    def get(self, atoms: Atoms) -> tuple[float, np.ndarray] | None:
        """Return energy in eV and forces in eV/Å (n_atoms, 3), None if not known."""
        return self._results.get(self._key(atoms)) if self._results else None

    def put(self, atoms: Atoms, energy: float, forces: np.ndarray) -> None:
        """Keep a result; every now and then this writes the file."""
        if self.path is not None:
            self._new[self._key(atoms)] = energy, forces
            if time.monotonic() - self._saved > _SAVE_EVERY:
                self.save()

    def save(self) -> None:
        """Add the new results to the file."""
        if not self._new or self.path is None:
            return
        try:
            with _lock:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._results |= _read(self.path) | self._new
                _write(self.path, self._identity, self._results)
        except (InputError, OSError) as error:
            log.warning("results of the baseline are not kept: %s", error)
            self.path = None
        self._new = {}
        self._saved = time.monotonic()

    def _key(self, atoms):
        digest = hashlib.sha256(self._identity.encode())
        for array, dtype in (
            (atoms.numbers, "<i8"),
            (atoms.positions, "<f8"),
            (atoms.cell.array, "<f8"),
            (atoms.pbc, "?"),
            (atoms.get_initial_charges(), "<f8"),
            (atoms.get_initial_magnetic_moments(), "<f8"),
        ):
            digest.update(str(array.shape).encode())
            digest.update(array.astype(dtype).tobytes())
        # The number of atoms tells whether the forces in a file are cut as they were.
        return f"{digest.hexdigest()}-{len(atoms)}"


def _write(path, identity, results):
    energy, forces = zip(*results.values(), strict=True)
    arrays = {
        "format": np.array(_FORMAT),
        "baseline": np.array(identity),  # for those who look into the folder
        "keys": np.array(list(results)),
        "energy": np.array(energy),
        "n_atoms": np.array([len(f) for f in forces]),
        "forces": np.concatenate(forces),
    }
    write_arrays(path, arrays)


def _read(path):
    try:
        if not path.exists():
            return {}
        return _results(read_arrays(path))
    except (InputError, OSError, KeyError, ValueError) as error:
        log.warning("%s is not used and will be replaced: %s", path, error)
        return {}


def _results(arrays):
    if str(arrays["format"]) != _FORMAT:
        raise ValueError(f"expected {_FORMAT!r}, found {str(arrays['format'])!r}")
    values = [arrays[name] for name in ("keys", "energy", "n_atoms", "forces")]
    keys, energy, n_atoms, forces = values
    fits = (
        [array.dtype.kind for array in values] == ["U", "f", "i", "f"]
        and keys.ndim == 1
        and energy.shape == n_atoms.shape == keys.shape
        and n_atoms.min(initial=1) > 0
        and forces.shape == (n_atoms.sum(), 3)
    )
    if not (fits and np.isfinite(energy).all() and np.isfinite(forces).all()):
        raise ValueError("its arrays do not fit together")
    if [int(key.rpartition("-")[2]) for key in keys.tolist()] != n_atoms.tolist():
        raise ValueError("its numbers of atoms are not those of its keys")
    parts = np.split(forces, np.cumsum(n_atoms)[:-1])
    results = zip(energy.tolist(), parts, strict=True)
    return dict(zip(keys.tolist(), results, strict=True))
