import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from kforce.evaluation.metrics import mae, r2, rmse


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(mae, mean_absolute_error), (rmse, root_mean_squared_error), (r2, r2_score)],
)
def test_against_scikit_learn(ours, theirs):
    rng = np.random.default_rng(0)
    predicted, reference = rng.normal(size=40), rng.normal(size=40)
    np.testing.assert_allclose(
        ours(predicted, reference), theirs(reference, predicted), rtol=1e-13
    )
    # Entries without a reference do not count.
    gaps = np.where(np.arange(40) % 3 == 0, np.nan, reference)
    there = np.isfinite(gaps)
    np.testing.assert_allclose(
        ours(predicted, gaps), theirs(reference[there], predicted[there]), rtol=1e-13
    )


def test_r2_of_references_that_do_not_vary():
    constant = np.full(4, 2.0)
    assert r2(constant, constant) == 1.0
    assert r2(constant + 1.0, constant) == 0.0
