"""Limits of the number of threads that others set."""

import os
import subprocess
import sys

import pytest

from kforce.parallel import n_threads

LIMIT = """
from threadpoolctl import threadpool_limits
from kforce.parallel import n_threads, run_parallel

with threadpool_limits(1):
    print(n_threads(), run_parallel(lambda _: n_threads(), range(2)))
with threadpool_limits(2, user_api="openmp"):
    print(n_threads())
with threadpool_limits(1, user_api="blas"):
    print(n_threads())
print(n_threads())
"""


@pytest.mark.parametrize("wanted", ["²", "٣٣x", "9" * 5000, "4,2", "1.5"])
def test_what_is_no_number_is_ignored(monkeypatch, wanted):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    expected = n_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert n_threads() == expected


def test_limits_of_threadpoolctl_hold_for_our_threads():
    found = subprocess.run(
        [sys.executable, "-c", LIMIT],
        env=os.environ
        | {"OMP_NUM_THREADS": "3", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert found.stdout.splitlines() == ["1 [1, 1]", "2", "3", "3"], found.stderr


def test_an_environment_that_changes_later_is_no_limit(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert n_threads() == 7
