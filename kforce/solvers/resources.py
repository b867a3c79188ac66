"""How much memory and time an exact fit will take, before it starts."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from kforce.errors import InputError
from kforce.solvers.tiles import TILE_ROWS


@cache
def dgemm_rate() -> float:
    """Measure the rate of matrix products on this machine, in flop/s."""
    a = np.ones((1024, 1024))
    a @ a
    start = time.perf_counter()
    for _ in range(2):
        a @ a
    return 4.0 * 1024**3 / (time.perf_counter() - start)


def available_memory() -> float:
    """Return the memory in bytes that a new process could use; inf if unknown.

    The smallest of what the system has available, what the control groups of this
    process (a container or a batch job) still allow, and what is left of its address
    space (``ulimit -v``). Pages of files that can be given back count as available.
    """
    limits = [np.inf, _left_of_address_space()]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                limits.append(1024.0 * int(line.split()[1]))
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            pages = os.sysconf("SC_PHYS_PAGES")
            limits.append(float(pages) * os.sysconf("SC_PAGE_SIZE"))
    limits += [_left_of_group(folder) for folder in _control_groups()]
    return max(min(limits), 0.0)


def _left_of_address_space() -> float:
    """Return what RLIMIT_AS leaves in bytes; inf without a limit."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return np.inf
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return float(limit - pages * resource.getpagesize())
    except (ImportError, OSError):  # not a POSIX system, or one without /proc
        return np.inf


def _control_groups() -> set[Path]:
    """Return the folders of the groups that this process is in, and of their parents.

    In a container the path may be that of the host, so that only the root is there.
    """
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    folders = {v1, v2}
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        roots = [v2, v2 / "unified"] if controllers == "" else []
        if "memory" in controllers.split(","):
            roots = [v1]
        for root in roots:
            group = root / path.lstrip("/")
            folders |= {group, *(p for p in group.parents if root in (p, *p.parents))}
    return folders


def _left_of_group(folder) -> float:
    """Return what a control group of either version still allows; inf if unknown."""
    v1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
    v2 = "memory.max", "memory.current", "inactive_file"
    for name_of_limit, name_of_use, name_of_cache in (v2, v1):
        try:
            limit = (folder / name_of_limit).read_text().strip()
            used = float((folder / name_of_use).read_text())
        except OSError:
            continue
        if limit != "max":
            return float(limit) - used + _statistic(folder, name_of_cache)
    return np.inf


def _statistic(folder, name) -> float:
    """Return one entry of a control group's memory.stat; 0 if there is none."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0.0
    pairs = (line.split() for line in lines)
    return next((float(value) for key, value in pairs if key == name), 0.0)


@dataclass(frozen=True)
class Forecast:
    """Memory and time of an exact fit.

    `n_rows` are those of the linear system, `memory` the bytes of the matrix and of all
    else that grows with the data, and `seconds` what the factorisation takes at the
    measured rate of matrix products.
    """

    n_rows: int
    memory: float
    seconds: float

    @classmethod
    def of(cls, n_rows: int, feature_bytes: float = 0.0) -> Forecast:
        """Forecast the fit of `n_rows` rows.

        Examples
        --------
        >>> round(Forecast.of(20_000).memory / 1e9, 1)
        1.8
        """
        matrix = 4.0 * n_rows * (n_rows + min(TILE_ROWS, n_rows))
        # Small systems are over before the machine's rate is measured.
        seconds = n_rows**3 / 3.0 / dgemm_rate() if n_rows > 2_000 else 0.0
        return cls(n_rows, matrix + feature_bytes, seconds)

    def __str__(self) -> str:
        took = "less than a second"
        if self.seconds >= 1:
            took = f"about {self.seconds:.0f} s"
        memory = max(self.memory / 1e9, 0.01)
        return f"{self.n_rows} equations, {memory:.2f} GB, {took} to solve"

    def require_memory(self, task: str = "fit", remedy: str = "train on") -> None:
        """Raise an `InputError` when there is too little memory.

        It says which `task` needs it, and what to do with fewer structures, the
        `remedy`.
        """
        available = available_memory()
        if self.memory > available:
            share = (available / self.memory) ** 0.5
            raise InputError(
                f"The {task} needs {readable(self.memory)} for {self.n_rows} rows, "
                f"and {readable(available)} are available: {remedy} fewer structures "
                f"(about {100 * share:.0f} % of them), or use a larger machine."
            )


def readable(size: float) -> str:
    """Write a number of bytes in GB, small ones with more digits."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e9:.3f} GB"
