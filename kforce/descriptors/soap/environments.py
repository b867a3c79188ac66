"""Environments that SOAP describes, and the way back to positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from kforce.descriptors._environments import pull_members
from kforce.descriptors.local import Environments, Jacobian
from kforce.descriptors.soap._gradients import soap_jacobian, soap_pull
from kforce.neighbours.search import Neighbours
from kforce.parallel import n_threads, run_parallel

#: With fewer environments another thread takes longer to start than to compute.
_ENVIRONMENTS_PER_THREAD = 32

#: Bytes of a block of dense derivatives.
_BLOCK_BYTES = 4_000_000


class SoapTables(NamedTuple):
    """What compiled functions need of a descriptor, in the order of their arguments.

    `alpha` is 1/2σ² in 1/Å²; `points` and `begins` (n_points,) are the radial points in
    Å, and where recursions of Bessel functions start for them; `matrices` (1 or
    l_max + 1, n_points, n_max) turn values at points into radial functions. `mixing`
    (n_densities, n_channels) is the weight of each channel, the neighbours of one
    element, in each density: the identity where there are as many densities. `pairs`
    (n_pairs, 2) of coefficients are multiplied, with the `factor` (2, l_max + 1) for
    equal and for different ones; `normalise` gives their products length 1.
    """

    alpha: float
    points: np.ndarray
    begins: np.ndarray
    matrices: np.ndarray
    mixing: np.ndarray
    pairs: np.ndarray
    factor: np.ndarray
    normalise: bool


@dataclass(frozen=True)
class SoapEnvironments(Environments):
    """SOAP vectors, and what their derivatives need.

    `neighbours` are the members, sorted by environment and channel, of which those of
    each channel of each environment begin at `starts` (n_env · n_channels + 1,);
    `members` (n_members, 6) are unit vectors, distance, weight and its derivative. `c`
    (n_env, n_densities · n_max, (l_max + 1)²) are the expansion coefficients and
    `length` (n_env,) is what the power spectrum was divided by.
    """

    neighbours: Neighbours
    starts: np.ndarray
    members: np.ndarray
    tables: SoapTables
    c: np.ndarray
    length: np.ndarray

    def jacobians(self) -> Iterator[Jacobian]:  # noqa: D102
        offsets, owners = self.neighbours.offsets, self.neighbours.owners
        most = max(1, _BLOCK_BYTES // (24 * self.x.shape[1]))
        first = 0
        while first < len(self.central_atoms):
            end = np.searchsorted(offsets, offsets[first] + most, side="right") - 1
            last = max(int(end), first + 1)
            block = slice(offsets[first], offsets[last])
            yield Jacobian(
                owners[block],
                self.central_atoms[owners[block]],
                self.neighbours.atoms[block],
                self.neighbours.vec[block],
                self._dense(first, last),
                np.zeros((offsets[last] - offsets[first], 3)),
            )
            first = last

    def _dense(self, first, last):
        offsets = self.neighbours.offsets
        begin = offsets[first]
        dx = np.empty((offsets[last] - begin, 3, self.x.shape[1]))

        def fill(a, b):
            soap_jacobian(
                a, b, self.starts, self.members, *self.tables,
                self.x, self.c, self.length, dx[offsets[a] - begin :],
            )  # fmt: skip

        in_spans(fill, first, last)
        return dx

    def pull(self, by_x, by_f_cut, gradient, strain):  # noqa: D102
        # F is 1 everywhere: by_f_cut does not matter.
        by_x = np.ascontiguousarray(by_x, dtype=float)
        along = np.empty((len(self.members), 3))

        def fill(first, last):
            soap_pull(
                first, last, self.starts, self.members, *self.tables,
                self.x, self.c, self.length, by_x, along,
            )  # fmt: skip

        in_spans(fill, 0, len(self.central_atoms))
        neighbours = self.neighbours
        central_atoms = self.central_atoms[neighbours.owners]
        pull_members(
            central_atoms, neighbours.atoms, neighbours.vec, along, gradient, strain
        )


def in_spans(function: Callable, first: int, last: int) -> None:
    """Call function(a, b) for spans that make up first to last, on our threads."""
    most = (last - first) // _ENVIRONMENTS_PER_THREAD
    if most < 2 or n_threads() == 1:
        function(first, last)
        return
    cuts = np.linspace(first, last, min(most, 4 * n_threads()) + 1).astype(int)
    run_parallel(lambda span: function(*span), pairwise(cuts.tolist()))
