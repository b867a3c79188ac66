"""Neighbours as SOAP needs them: unit vectors, distances and weights, in lanes."""

import numpy as np
from numba import njit

from kforce.core.fading import fade, fade_slope

#: Neighbours of a channel fill whole vectors; those that are missing have no weight.
LANES = 8


@njit(cache=True, nogil=True)
def most_lanes(starts, first, last):
    """Return the room that the largest of the groups first to last of members needs."""
    most = LANES
    for g in range(first, last):
        most = max(most, starts[g + 1] - starts[g])
    return (most + LANES - 1) // LANES * LANES


@njit(cache=True, nogil=True)
def gather(members, start, stop, lanes):
    """Copy members (n_members, 6) start to stop to lanes (6, room), and fill these up.

    A member is the unit vector, distance, weight f and its derivative.
    """
    n = stop - start
    full = (n + LANES - 1) // LANES * LANES
    for i in range(6):
        for k in range(n):
            lanes[i, k] = members[start + k, i]
        for k in range(n, full):
            lanes[i, k] = 1.0 if i == 3 else 0.0
    return full


@njit(cache=True, nogil=True)
def weigh_members(vec, dist, cutoff, width, exponent, scale, rate):
    """Return the unit vector, distance, weight and its derivative of all members.

    vec (n_members, 3), dist (n_members,); the result is (n_members, 6). The weight is
    the cutoff function and, for an exponent > 0, the damping c/(c + (r/scale)^exponent)
    with the rate c, which is without its numerator for c = 0.
    """
    members = np.empty((dist.size, 6))
    for k in range(dist.size):
        r = dist[k]
        weight, slope = fade(r, cutoff, width), fade_slope(r, cutoff, width)
        if exponent > 0.0:
            power = (r / scale) ** exponent
            damping = (rate if rate > 0.0 else 1.0) / (rate + power)
            log_slope = -exponent * power / (r * (rate + power))
            slope = damping * (slope + weight * log_slope)
            weight = damping * weight
        for i in range(3):
            members[k, i] = vec[k, i] / r
        members[k, 3] = r
        members[k, 4] = weight
        members[k, 5] = slope
    return members
