"""Arrays in `.npz` files, read without ever unpickling and written atomically.

Files come from strangers, so nothing that a file says about itself is believed
before it has been compared with the bytes that are there.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import platform
import re
import secrets
import stat
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from kforce.errors import InputError, one_line

try:
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None

log = logging.getLogger("kforce.storage.npz")

# Numbers, booleans, fixed-width bytes and text: what needs no unpickling.
_PLAIN_KINDS = "biufcSU"
_HEADER_READERS = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}
_MAX_HEADER = 10_000
# A file may unfold to 64 MB, or to 100 times its own size: real numbers compress
# far less, and beyond it a small file could ask for all of the memory.
_MAX_UNFOLDED = 64 * 2**20
_MAX_RATIO = 100
_CHUNK = 2**22
# The zip format's first day: the same arrays give the same bytes at any time.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


def read_arrays(
    path: str | os.PathLike,
    names: Iterable[str] | None = None,
    known: Iterable[str] = (),
) -> dict[str, np.ndarray]:
    """Read the numeric and text arrays of an `.npz` file, in its order.

    Of `names`, those are read that the file holds. Object arrays, which would have to
    be unpickled, are skipped, and refused if they are among the `known` fields that
    mean something to the caller. So is a file that is not there, is not an `.npz` file
    or is damaged.
    """
    path = Path(path)
    require_readable(path, "an .npz file")
    wanted = None if names is None else set(names)
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("ignore")  # numpy warns about odd headers
            members = _members(archive, wanted, path.stat().st_size)
            arrays = {n: _read_member(archive, info) for n, info in members.items()}
    # A damaged archive can raise nearly anything from zipfile, zlib and numpy.
    except Exception as error:
        raise InputError(
            f"Expected an intact .npz file, but {path} is damaged or of another kind "
            f"({one_line(str(error) or type(error).__name__, 150)}): get a fresh copy "
            "or choose another file."
        ) from error
    skipped = [name for name, array in arrays.items() if array is None]
    lost = sorted({*known}.intersection(skipped))
    if lost:
        raise InputError(
            f"Expected numbers or text in the field {lost[0]} of {path}, found Python "
            "objects, which are not unpickled: save it as a plain array."
        )
    if skipped:
        log.debug("%s: skipped object arrays %s", path, ", ".join(skipped))
    return {name: array for name, array in arrays.items() if array is not None}


def require_readable(path: Path, what: str) -> None:
    """Raise an error unless a path names a regular file that may be read."""
    try:
        if not path.exists():
            raise InputError(f"Expected {what}, but there is no {path}.")
        if not path.is_file():
            raise InputError(f"Expected {what}, but {path} is not a regular file.")
        with open(path, "rb"):
            pass
    except OSError as error:
        raise InputError(
            f"Could not read {path}: {error.strerror or error}; check the permissions "
            "of the file and of its folders."
        ) from error


def _members(archive, wanted, file_size) -> dict[str, zipfile.ZipInfo]:
    members = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name != info.filename and (wanted is None or name in wanted):
            members[name] = info
    unfolded = sum(info.file_size for info in members.values())
    if unfolded > max(_MAX_UNFOLDED, _MAX_RATIO * file_size):
        raise ValueError(f"{file_size} bytes claim to hold {unfolded}")
    return members


def _read_member(archive, info) -> np.ndarray | None:
    """Return one array, or None if it holds objects."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"unknown compression of {info.filename!r}")
    with archive.open(info) as stream:
        version = npy.read_magic(stream)
        if version not in _HEADER_READERS:
            raise ValueError(f"unknown version {version} of {info.filename!r}")
        shape, fortran, dtype = _HEADER_READERS[version](
            stream, max_header_size=_MAX_HEADER
        )
        if dtype.kind == "O":
            return None
        if dtype.kind not in _PLAIN_KINDS or dtype.itemsize == 0:
            raise ValueError(f"{info.filename!r} is of type {str(dtype)[:40]}")
        n_bytes = math.prod(shape) * dtype.itemsize
        # Compared before anything is allocated.
        if min(shape, default=0) < 0 or n_bytes != info.file_size - stream.tell():
            raise ValueError(f"{info.filename!r} does not hold an array of {shape}")
        data = _read_exactly(stream, n_bytes)
    array = data.view(dtype).reshape(shape, order="F" if fortran else "C")
    if dtype.kind == "U":
        "".join(array.ravel().tolist()).encode()  # raises on what is not text
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_exactly(stream, n_bytes) -> np.ndarray:
    data = np.empty(n_bytes, dtype=np.uint8)
    start = 0
    while start < n_bytes:
        block = stream.read(min(_CHUNK, n_bytes - start))
        if not block:
            raise EOFError("it ends too early")
        data[start : start + len(block)] = np.frombuffer(block, dtype=np.uint8)
        start += len(block)
    stream.read(1)  # reaching the end is what makes zipfile compare the checksum
    return data


def as_text(value) -> str:
    """Return a field of text or bytes as text; '' for anything else."""
    value = np.asarray("" if value is None else value)
    if value.size != 1 or value.dtype.kind not in "SU":
        return ""
    value = value.item()
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to an uncompressed `.npz` file, all or nothing.

    The bytes depend on the arrays, numbers, booleans or text, alone: equal arrays give
    equal file hashes. No suffix is added to the path. If an array holds objects or the
    file cannot be written (a full disk, say), one that stood there before is untouched.
    """
    arrays = {name: np.asanyarray(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in _PLAIN_KINDS:
            raise InputError(
                f"Expected numbers or text to save, found {array.dtype} in {name!r}: "
                "convert or remove it."
            )
    with replaced_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", date_time=_TIMESTAMP)
            info.create_system = 3  # otherwise it depends on the platform
            with archive.open(info, "w", force_zip64=True) as stream:
                npy.write_array(stream, array, allow_pickle=False)


@contextmanager
def replaced_file(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path that replaces `path` when the block ends well.

    The new file has the mode of the one that it replaces. What processes that were
    killed have left behind of the same file is removed first. If the operating system
    cannot write, or `path` is a folder or may not be written to, it stays as it was.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = _mode_of(target, path)
        _remove_leftovers(target)
        with _temporary_file(target, mode) as temporary:
            yield temporary
            with open(temporary, "ab") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise InputError(
            f"Could not write {path}: {error.strerror or error}; free some space or "
            "choose another place."
        ) from error


def require_writable(path: str | os.PathLike) -> None:
    """Raise an error now if `replaced_file` could not replace a file later.

    For the start of a long computation. A disk may still be full at its end.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = _mode_of(target, path)
        with _temporary_file(target, mode):
            pass
    except OSError as error:
        raise InputError(
            f"Could not write {path}: {error.strerror or error}; choose another place."
        ) from error


def _mode_of(target, path) -> int | None:
    """Return the permissions of a file that may be replaced; None if there is none."""
    try:
        found = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"Could not write {path}: it is a folder: name a file.")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(
            f"Could not write {path}: it is not a regular file: name another one."
        )
    if not found.st_mode & 0o222 or not os.access(target, os.W_OK):
        raise InputError(
            f"Could not write {path}: it is protected from writing: change its "
            "permissions or name another file."
        )
    if _is_held(target, found):
        raise InputError(
            f"Could not write {path}: it belongs to another user, and its folder lets "
            "nobody else replace it: name another file."
        )
    return stat.S_IMODE(found.st_mode)


def _is_held(target, found) -> bool:
    """Whether the sticky bit of the folder keeps a file from being replaced."""
    folder = os.stat(target.parent)
    if not folder.st_mode & stat.S_ISVTX:
        return False
    return os.geteuid() not in (0, found.st_uid, folder.st_uid)


def _sync_folder(folder) -> None:
    """Make a new name last through a power failure, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _temporary_file(target, mode) -> Iterator[Path]:
    """Make an empty file beside the target, locked while this process is alive."""
    path, stream = _locked_file(target, 0o600 if mode else 0o666)
    try:
        if fcntl is None:  # an open file cannot be renamed
            stream.close()
        if mode:
            os.chmod(path, mode)
        yield path
    finally:
        path.unlink(missing_ok=True)
        stream.close()


def _locked_file(target, mode):
    """Return the path and the stream of a new file beside the target."""
    while True:
        path = target.with_name(f"{_prefix(target)}{secrets.token_hex(4)}.tmp")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        stream = os.fdopen(os.open(path, flags, mode), "rb+")
        if fcntl is not None:
            with suppress(OSError):  # some file systems have no locks
                fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink:
            return path, stream
        stream.close()  # another process took it for a leftover before it was locked


def _prefix(target) -> str:
    """Return how the names of temporary files of a target begin on this machine.

    The name of the target is cut so that there is room for the longest.
    """
    machine = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
    name = os.fsencode(target.name)[:200].decode(errors="ignore")
    return f".{name}.{machine}-"


def _remove_leftovers(target) -> None:
    """Remove temporary files of a target that no living process holds a lock on.

    Locks may not reach further than one machine, so those of others are left alone.
    """
    if fcntl is None:
        return
    pattern = re.compile(re.escape(_prefix(target)) + r"[0-9a-f]{8}\.tmp")
    with suppress(OSError):
        for name in filter(pattern.fullmatch, os.listdir(target.parent)):
            path = target.with_name(name)
            with suppress(OSError), open(path, "rb+") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                log.warning("removed %s, left by a process that was killed", path)
