"""The length scale that predicts structures best that are left out."""

import numpy as np
import pytest
from toys import toy_frames

from kforce.descriptors.inverse_distances import InverseDistances
from kforce.gdml import leave_one_out
from kforce.gdml.covariance import covariance
from kforce.gdml.model_selection import learn_length_scale
from kforce.gdml.observations import Observations
from kforce.gdml.prior import Noise, Prior
from kforce.kernels.stationary import RBF, Matern52
from kforce.labels import Labels
from kforce.solvers.cholesky import Cholesky, blocks_of, left_out_blocks
from kforce.solvers.tiles import TiledMatrix
from kforce.structures import Batch


@pytest.mark.parametrize("noise", [None, 0.05], ids=["relative noise", "noise"])
@pytest.mark.parametrize("kernel", [Matern52(), RBF()], ids=repr)
def test_it_is_the_best_of_a_fine_grid(kernel, noise, monkeypatch):
    # A larger one: the density then changes slowly with the length scale.
    monkeypatch.setattr(leave_one_out, "RELATIVE_NOISE", 1e-2)
    frames = toy_frames([8, 1, 1], 25)
    batch = Batch.from_frames(frames)
    features = InverseDistances()(batch)
    observations = Observations.build(batch, Labels.from_frames(frames))
    group = np.array([[0, 1, 2], [0, 2, 1]])

    def density(length_scale):
        candidate = Prior(type(kernel)(length_scale), group)
        K = covariance(candidate, features, observations).to_dense()
        variance = 1e-4 * np.trace(K) / len(K)
        if noise is not None:
            variance = noise**2
        variances = np.full(len(K), variance)
        solution = Cholesky().solve(
            TiledMatrix.from_dense(K), observations.y, variances
        )
        blocks = blocks_of(observations.sizes)
        left_out = left_out_blocks(solution.factor, solution.coef, blocks)
        return left_out.log_density(free_amplitude=noise is None)

    prior = Prior(kernel, group, Noise(noise))
    score = learn_length_scale(prior, features, observations, free_amplitude=False)
    learned = score.kernel
    np.testing.assert_allclose(score.density, density(learned.length_scale), rtol=1e-9)
    assert type(learned) is type(kernel)
    assert kernel.length_scale is None
    best = max(density(length) for length in np.geomspace(0.1, 10, 60))
    # The search stops when log ℓ is known to 0.05: that costs far less than one unit of
    # log density, which is what data can tell apart.
    assert density(learned.length_scale) > best - 0.5
