"""Rows by the sparse map against those that are computed at once."""

from dataclasses import replace

import numpy as np
import pytest
from sparse_toys import PAIRS, TRIPLETS, make_term, mixed_frames, training_set

from kforce.gap.linear_rows import LinearRows
from kforce.kernels.base import Scaled
from kforce.kernels.stationary import Matern52


@pytest.mark.parametrize("descriptor", [PAIRS, TRIPLETS])
def test_rows_of_stretched_terms(descriptor):
    lengths = np.full(descriptor.n_features, 0.9)
    kernel = Scaled(Matern52(length_scale=1.0), 0.7)
    term = make_term(descriptor, kernel, lengths, 0.3)
    training = training_set(mixed_frames(3), (0.02, 0.3, 0.1))
    for s, observed in enumerate(training.observations):
        structure = training.neighbours.of(s, descriptor.cutoff)
        linear = LinearRows(term, *structure, observed.rows, training.noise(s))
        for factor in (1.0, 0.6):
            stretched = replace(term, length_scales=factor * lengths)
            expected, _, _ = training.whitened([stretched], s)
            scale = np.abs(expected).max()
            found = linear.of(stretched)
            np.testing.assert_allclose(found, expected, atol=1e-12 * scale)
