import os
import subprocess
import sys
import threading

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from kforce.parallel import blas_info, n_threads, run_parallel


def blas_threads():
    return [
        lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"
    ]


@pytest.mark.parametrize("wanted", ["1", "2", "3"])
def test_results_come_in_the_order_of_the_items(monkeypatch, wanted):
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert run_parallel(lambda i: i * i, range(20)) == [i * i for i in range(20)]
    assert run_parallel(abs, []) == []


def test_the_number_of_threads_follows_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert n_threads() == 7
    for nonsense in ("", "0", "-2", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        assert n_threads() >= 1


def test_work_is_spread_over_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    # All three must be inside at once to pass the barrier.
    barrier = threading.Barrier(3, timeout=20)
    seen = run_parallel(
        lambda _: barrier.wait() >= 0 and threading.get_ident(), range(3)
    )
    assert len(set(seen)) == 3


def test_a_thread_spreads_its_work_no_further(monkeypatch):
    """n threads each with n of their own would wait for one another."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")

    def nested(_):
        own = threading.get_ident()
        return set(run_parallel(lambda _: threading.get_ident(), range(6))) == {own}

    assert all(run_parallel(nested, range(6)))


@pytest.mark.parametrize("wanted", ["1", "2"])
def test_blas_has_one_thread_inside_and_gets_its_own_back(monkeypatch, wanted):
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        assert max(before) == 2
        inside = run_parallel(lambda _: blas_threads(), range(2))
        assert all(set(counts) == {1} for counts in inside)
        assert blas_threads() == before


def test_blas_gets_its_threads_back_after_an_error(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")

    def fail(item):
        raise KeyError(item)

    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with pytest.raises(KeyError):
            run_parallel(fail, range(4))
        assert blas_threads() == before


#: Two threads of the caller predict at once: the region that begins first also ends
#: first. This has a process of its own, where nothing else limits BLAS.
OVERLAP = """
import threading
from kforce.parallel import blas_info, run_parallel

def blas_threads():
    return {library["num_threads"] for library in blas_info()}

begun, overlapping, over = threading.Event(), threading.Event(), threading.Event()

def first(_):
    begun.set()
    overlapping.wait(20)

def second(_):
    overlapping.set()
    over.wait(20)

before = blas_threads()
a = threading.Thread(target=run_parallel, args=(first, [0]))
b = threading.Thread(target=run_parallel, args=(second, [0]))
a.start()
begun.wait(20)
b.start()
a.join(20)
over.set()
b.join(20)
print(before, blas_threads())
"""


def test_blas_gets_its_threads_back_when_regions_overlap():
    env = dict(os.environ, OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2")
    run = subprocess.run(
        [sys.executable, "-c", OVERLAP], env=env, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    before, after = run.stdout.split()
    if before == "{1}":
        pytest.skip("BLAS has one thread on this machine")
    assert after == before


def test_blas_libraries_are_found():
    assert len(blas_info()) >= 1
    assert all(library["num_threads"] >= 1 for library in blas_info())
