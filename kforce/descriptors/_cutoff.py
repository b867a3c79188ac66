"""The cutoff function: how a neighbour fades before it leaves."""

import math

from numba import njit


@njit(cache=True, nogil=True)
def cutoff_function(r, cutoff, width):
    """Return f(r): 1 up to cutoff − width, half a cosine wave down to 0 at cutoff."""
    if r <= cutoff - width:
        return 1.0
    if r > cutoff:
        return 0.0
    return 0.5 * (1.0 + math.cos(math.pi * (r - cutoff + width) / width))


@njit(cache=True, nogil=True)
def cutoff_function_derivative(r, cutoff, width):
    """Return f'(r), which has no jumps."""
    if r <= cutoff - width or r > cutoff:
        return 0.0
    phase = math.pi * (r - cutoff + width) / width
    return -0.5 * math.pi / width * math.sin(phase)
