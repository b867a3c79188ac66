"""Memory and time of a fit, before it starts."""

import logging
import tracemalloc

import numpy as np
import pytest
from sparse_toys import TERMS, mixed_frames

from kforce import SOAP, GAPRegressor, InputError, Term
from kforce.gap import forecast
from kforce.gap.forecast import SparseForecast

FRAMES = mixed_frames(120)


def fitted(n_inducing):
    soap = SOAP(cutoff=3.5, n_max=4, l_max=3, atom_sigma=0.5)
    return GAPRegressor([Term(soap, n_inducing=n_inducing)], optimize=False).fit(FRAMES)


def forecast_of(caplog):
    (line,) = [r for r in caplog.records if r.name == "kforce.forecast"]
    return line.args[0]


def test_one_line_says_what_to_expect(caplog):
    with caplog.at_level(logging.INFO, "kforce.forecast"):
        model = GAPRegressor(TERMS, optimize=False).fit(FRAMES[:6])
    found = forecast_of(caplog)
    assert found.n_inducing == sum(term.n_inducing for term in model.terms_)
    # Only crystals have stresses.
    assert found.n_rows == sum(1 + 3 * len(f) + 6 * f.pbc.all() for f in FRAMES[:6])
    assert str(found).startswith(f"{found.n_rows} labels, {found.n_inducing} inducing")
    assert "GB on" in str(found)


def test_memory_is_that_of_a_fit(caplog):
    fitted(50)  # compiles, and fills caches
    caplog.clear()  # it may have been heard, where a test before turned the log up
    tracemalloc.start()
    with caplog.at_level(logging.INFO, "kforce.forecast"):
        model = fitted(400)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    found = forecast_of(caplog)
    assert found.n_inducing == len(model.solution_.coef)
    assert 0.4 * found.memory < used < found.memory


def test_too_little_memory_is_an_error_with_the_numbers(monkeypatch):
    monkeypatch.setattr(forecast, "available_memory", lambda: 1e9)
    found = SparseForecast(
        n_rows=10**5, n_inducing=8000, memory=4e9, seconds=9.0, threads=2
    )
    with pytest.raises(
        InputError,
        match=r"needs 4\.0 GB for 8000 inducing environments, and 1\.0 GB are "
        r"available: lower n_inducing of the terms to about 50 %",
    ):
        found.require_memory()
    monkeypatch.setattr(forecast, "available_memory", lambda: np.inf)
    found.require_memory()


def test_a_forecast_reads_as_a_sentence():
    found = SparseForecast(40_000, 2021, 3.4e8, 25.2, 2)
    assert str(found) == (
        "40000 labels, 2021 inducing environments: expect at least 25 s and 0.34 GB "
        "on 2 threads"
    )
