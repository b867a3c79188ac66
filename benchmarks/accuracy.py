"""Force errors on rMD17 with defaults, beside the published ones of sGDML.

Official split 1: the first N training structures, all 1000 test structures.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np

import kforce
from kforce import metrics

SHARED = Path(
    os.environ.get("KFORCE_SHARED", Path(__file__).parent.parent.parent / "shared")
)

#: Mean absolute errors of sGDML at 1000 training structures: energy in meV, forces in
#: meV/Å. Christensen and von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020),
#: as tabulated with later methods.
PUBLISHED = {
    "aspirin": (7.2, 31.8),
    "benzene": (0.06, 0.8),
    "ethanol": (2.4, 16.0),
    "malonaldehyde": (3.1, 18.8),
    "toluene": (1.0, 6.3),
    "uracil": (1.4, 10.4),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-train", type=int, nargs="+", default=[1000])
    parser.add_argument("--molecules", nargs="+", default=list(PUBLISHED))
    args = parser.parse_args()
    titles = f"{'molecule':<14}{'N':>6}{'perms':>6}{'rows':>8}{'fit s':>8}"
    print(f"{titles}{'E meV':>9}{'F meV/Å':>10}   sGDML published (N = 1000): E, F")
    for molecule in args.molecules:
        folder = SHARED / "data" / "rmd17"
        train, test = (
            kforce.read_frames(folder / f"rmd17_{molecule}_{part}_01.npz")
            for part in ("train", "test")
        )
        energy = np.array([f.get_potential_energy() for f in test])
        forces = np.concatenate([f.get_forces() for f in test])
        for n in args.n_train:
            start = time.perf_counter()
            model = kforce.GDMLRegressor().fit(train[:n])
            seconds = time.perf_counter() - start
            prediction = model.evaluate(test)
            e = 1e3 * metrics.mae(prediction.energy, energy)
            f = 1e3 * metrics.mae(np.concatenate(prediction.forces), forces)
            rows = n * (3 * len(test[0]) - 6)
            published = "{:.2f}, {:.1f}".format(*PUBLISHED[molecule])
            line = f"{molecule:<14}{n:>6}{len(model.permutations_):>6}{rows:>8}"
            print(f"{line}{seconds:>8.1f}{e:>9.2f}{f:>10.2f}   {published}", flush=True)


if __name__ == "__main__":
    main()
