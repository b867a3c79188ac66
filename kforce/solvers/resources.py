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

    The smaller of what the system has available and what a control group (a container
    or a batch job) still allows.
    """
    limits = [np.inf]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                limits.append(1024.0 * int(line.split()[1]))
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            pages = os.sysconf("SC_PHYS_PAGES")
            limits.append(float(pages) * os.sysconf("SC_PAGE_SIZE"))
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        used = (group / "memory.current").read_text().strip()
        if limit != "max":
            limits.append(float(limit) - float(used))
    except OSError:
        pass
    return min(limits)


@dataclass(frozen=True)
class Forecast:
    """Memory and time of an exact fit.

    Attributes
    ----------
    n_rows : int
        Rows of the linear system.
    memory : float
        Bytes of the matrix and of all else that grows with the data.
    seconds : float
        Factorisation at the measured rate of matrix products.
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
        """Raise an error when there is too little memory.

        Parameters
        ----------
        task : str
            What needs the memory, in the words of the error.
        remedy : str
            What to do with fewer structures.

        Raises
        ------
        InputError
            With the memory that is needed and that is there.
        """
        there = available_memory()
        if self.memory > there:
            share = (there / self.memory) ** 0.5
            raise InputError(
                f"The {task} needs {self.memory / 1e9:.1f} GB for {self.n_rows} rows, "
                f"and {there / 1e9:.1f} GB are available: {remedy} fewer structures "
                f"(about {100 * share:.0f} % of them), or use a larger machine."
            )
