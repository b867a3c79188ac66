"""The tiled Cholesky factorisation beside LAPACK's full and packed ones.

The floor is n³/3 operations at the machine's rate of matrix products.
"""

import argparse
import time

import numpy as np
from scipy.linalg.lapack import dpftrf, dpotrf, dtrttf

from kforce.solvers.resources import dgemm_rate
from kforce.solvers.tiles import TiledMatrix


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[4000, 8000, 12000])
    args = parser.parse_args()
    print(f"matrix products: {dgemm_rate() / 1e9:.0f} GFLOP/s")
    print(f"{'rows':>6}{'tiles':>9}{'dpotrf':>9}{'dpftrf':>9}   GFLOP/s")
    for n in args.rows:
        rates = [n**3 / 3e9 / seconds(factor, n) for factor in (tiles, full, packed)]
        print(f"{n:>6}" + "".join(f"{rate:>9.0f}" for rate in rates), flush=True)


def seconds(factor, n):
    matrix = np.full((n, n), 0.5, order="F")
    np.fill_diagonal(matrix, n)
    return factor(matrix)


def tiles(matrix):
    tiled = TiledMatrix.from_dense(matrix)
    start = time.perf_counter()
    tiled.factor()
    return time.perf_counter() - start


def full(matrix):
    start = time.perf_counter()
    dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
    return time.perf_counter() - start


def packed(matrix):
    values, _ = dtrttf(matrix, uplo="L")
    start = time.perf_counter()
    dpftrf(len(matrix), values, uplo="L", overwrite_a=1)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
