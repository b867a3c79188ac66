import tracemalloc

import numpy as np
import pytest

from kforce.solvers.cholesky import left_out_blocks, workspace
from kforce.solvers.tiles import TiledMatrix


@pytest.mark.parametrize("n", [1800, 3000])
def test_the_workspace_is_what_leaving_out_takes(n):
    matrix = TiledMatrix.from_dense(np.eye(n))
    matrix.factor()
    blocks = [slice(start, start + 18) for start in range(0, n - 17, 18)]
    tracemalloc.start()
    left_out_blocks(matrix, np.ones(n), blocks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.8 * workspace(n) < peak < 1.15 * workspace(n) + 1e5
