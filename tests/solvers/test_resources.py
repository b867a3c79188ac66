import tracemalloc

import numpy as np
import pytest

from kforce.errors import InputError
from kforce.solvers import resources as forecast
from kforce.solvers.resources import Forecast, available_memory, dgemm_rate
from kforce.solvers.tiles import TILE_ROWS, TiledMatrix


@pytest.mark.parametrize("n", [1, 100, TILE_ROWS, TILE_ROWS + 1, 5000])
def test_memory_is_that_of_the_tiles(n):
    tracemalloc.start()
    matrix = TiledMatrix(np.unique(np.append(np.arange(0, n, TILE_ROWS), n)))
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert matrix.n_rows == n
    # A last tile that is not full saves some; a few Python objects come on top.
    assert used < Forecast.of(n).memory + 2e4
    assert used > 0.75 * Forecast.of(n).memory


def test_what_grows_with_the_data_is_added():
    assert Forecast.of(100, 1e6).memory == Forecast.of(100).memory + 1e6


def test_time_is_that_of_the_factorisation(monkeypatch):
    monkeypatch.setattr(forecast, "dgemm_rate", lambda: 1e9)
    assert Forecast.of(30_000).seconds == pytest.approx(9000.0)
    assert Forecast.of(100).seconds == 0.0


def test_a_forecast_reads_as_a_sentence(monkeypatch):
    monkeypatch.setattr(forecast, "dgemm_rate", lambda: 1e10)
    assert str(Forecast.of(30_000)) == (
        "30000 equations, 3.85 GB, about 900 s to solve"
    )
    assert str(Forecast.of(10)).endswith("less than a second to solve")


def test_too_little_memory_is_an_error_with_the_numbers(monkeypatch):
    monkeypatch.setattr(forecast, "available_memory", lambda: 1e9)
    with pytest.raises(
        InputError,
        match=r"needs 3\.8 GB for 30000 rows, and 1\.0 GB are available: train on "
        r"fewer structures \(about 51 % of them\)",
    ):
        Forecast(30_000, 3.845e9, 900.0).require_memory()


def test_enough_memory_is_no_error(monkeypatch):
    monkeypatch.setattr(forecast, "available_memory", lambda: 4e9)
    Forecast(30_000, 3.845e9, 900.0).require_memory()
    monkeypatch.setattr(forecast, "available_memory", lambda: np.inf)
    Forecast(10**6, 4e12, 1e6).require_memory()


def test_this_machine():
    # Some memory is free, and products run between 0.1 and 100,000 Gflop/s.
    assert available_memory() > 1e7
    assert 1e8 < dgemm_rate() < 1e14


@pytest.mark.parametrize(
    ("maximum", "expected"), [("3000000000", 2e9), ("max", 8e9), (None, 8e9)]
)
def test_a_control_group_lowers_what_is_available(monkeypatch, maximum, expected):
    files = {
        "/proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 7812500 kB\n",
        "/sys/fs/cgroup/memory.max": maximum,
        "/sys/fs/cgroup/memory.current": "1000000000\n",
    }

    def read_text(path, *args):
        if files.get(str(path)) is None:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(forecast.Path, "read_text", read_text)
    assert available_memory() == expected


def test_the_error_names_what_needs_the_memory(monkeypatch):
    monkeypatch.setattr(forecast, "available_memory", lambda: 1e9)
    with pytest.raises(InputError, match=r"The task needs .*: use a subset of fewer"):
        Forecast(30_000, 3.845e9, 900.0).require_memory("task", "use a subset of")
