"""Threads: ours run compiled code without the interpreter lock, BLAS has its own.

The two never run at the same time: a region that spreads work over our threads limits
BLAS to one thread each, and the factorisation, which is all BLAS, uses none of ours.
Plain threads, unlike an OpenMP pool, also survive a fork: a trained model can be used
in worker processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock, local

from threadpoolctl import ThreadpoolController


def n_threads() -> int:
    """Return the number of threads: OMP_NUM_THREADS, or the processors we may use.

    A limit that `threadpoolctl.threadpool_limits` sets is one of ours, too.
    """
    return min(_wanted_threads(), _openmp_limit())


def _wanted_threads() -> int:
    try:
        wanted = int(os.environ.get("OMP_NUM_THREADS", ""))
    except ValueError:
        wanted = 0
    if wanted > 0:
        return wanted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


#: What an OpenMP library starts with.
_THREADS_AT_START = _wanted_threads()


def _openmp_limit() -> float:
    """Return what OpenMP is limited to, as our threads should be; inf if it is not."""
    pools = [
        library.num_threads
        for library in _controller().lib_controllers
        if library.user_api == "openmp"
    ]
    limit = max(pools, default=_THREADS_AT_START)
    return limit if limit < _THREADS_AT_START else float("inf")


@cache
def _controller():
    import scipy.linalg  # noqa: F401  SciPy's own BLAS must be loaded to be found

    return ThreadpoolController()


def blas_info() -> list[dict]:
    """Return what is known of the BLAS libraries that are loaded."""
    return [lib for lib in _controller().info() if lib["user_api"] == "blas"]


class _SharedLimit:
    """One limit for all regions at a time: the first one sets it, the last lifts it."""

    def __init__(self):
        self._lock = Lock()
        self._inside = 0
        self._limit = None

    def __enter__(self):
        with self._lock:
            if self._inside == 0:
                self._limit = _controller().limit(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *exception):
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limit.restore_original_limits()


#: A context in which BLAS does not wait for threads of its own.
single_threaded_blas = _SharedLimit()


def slices(n: int, size: int) -> Iterator[slice]:
    """Cut range(n) into slices of a size, the last one shorter.

    As `sklearn.utils.gen_batches`, whose check of its parameters takes longer than the
    prediction of a small molecule.

    >>> list(slices(5, 3)), list(slices(0, 3))
    ([slice(0, 3, None), slice(3, 5, None)], [])
    """
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def run_parallel(function: Callable, items: Iterable) -> list:
    """Return ``[function(item) for item in items]``, computed by `n_threads` threads.

    `function` must spend its time in code that releases the interpreter lock. What it
    calls itself in this way runs in its own thread.

    >>> run_parallel(abs, [-1, 2])
    [1, 2]
    """
    items = list(items)
    workers = 1 if hasattr(_worker, "is_one") else min(n_threads(), len(items))
    with single_threaded_blas:
        if workers <= 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(workers, initializer=_mark_worker) as pool:
            return list(pool.map(function, items))


_worker = local()


def _mark_worker():
    _worker.is_one = True
