"""Force and energy errors with defaults, beside published ones, and their calibration.

rMD17: official split 1, the first N training structures, all 1000 test structures.
Methanol: the CCSD(T) frames that come with kforce, the first N, the last 60 as test.
"""

import argparse
import os
import resource
import time
from pathlib import Path

import numpy as np

import kforce
from kforce.evaluation import calibration, metrics
from kforce.labels import Labels

SHARED = Path(
    os.environ.get("KFORCE_SHARED", Path(__file__).parent.parent.parent / "shared")
)

#: Mean absolute force errors in meV/Å on rMD17, by training structures, in the order of
#: `MOLECULES`: as tabulated by Batatia et al., NeurIPS 2022; sGDML by Christensen and
#: von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020).
PUBLISHED = {
    "sGDML": {1000: (31.8, 0.8, 16.0, 18.8, 6.3, 10.4)},
    "NequIP": {
        50: (52.0, 2.9, 40.2, 52.5, 15.1, 40.1),
        1000: (8.2, 0.3, 2.8, 5.1, 1.6, 3.1),
    },
    "MACE": {
        50: (43.9, 2.7, 32.6, 43.3, 12.1, 25.9),
        1000: (6.6, 0.3, 2.1, 4.1, 1.5, 2.1),
    },
}
MOLECULES = ("aspirin", "benzene", "ethanol", "malonaldehyde", "toluene", "uracil")

#: Above so many equations, standard deviations are computed for fewer test structures.
_MANY_EQUATIONS, _FEW_STRUCTURES = 10_000, 100

TITLES = (
    f"{'molecule':<14}{'N':>5}{'fit s':>7}{'GB':>6}{'E meV':>8}{'F meV/Å':>9}"
    f"{'50 %':>7}{'95 %':>7}{'rank':>6}{'NLPD':>7}{'CRPS':>7}{'ENCE':>6}  "
)


def frames_of(molecule):
    """Return training and test frames."""
    if molecule == "methanol":
        frames = kforce.datasets.load_methanol_ccsdt()
        return frames[:-60], frames[-60:]
    folder = SHARED / "data" / "rmd17"
    names = (f"rmd17_{molecule}_{part}_01.npz" for part in ("train", "test"))
    return tuple(kforce.read_frames(folder / name) for name in names)


def run(molecule, n_train, baseline, seed):
    """Fit, predict and print one line; return the force error in meV/Å."""
    train, test = frames_of(molecule)
    start = time.perf_counter()
    model = kforce.GDMLRegressor(baseline=baseline, seed=seed).fit(train[:n_train])
    seconds = time.perf_counter() - start
    labels = Labels.from_frames(test)
    prediction = model.evaluate(test)
    e = 1e3 * metrics.mae(prediction.energy, labels.energy)
    f = 1e3 * metrics.mae(
        np.concatenate(prediction.forces), np.concatenate(labels.forces)
    )
    n_rows = len(model.uncertainty_.observations.y)
    few = len(test) if n_rows < _MANY_EQUATIONS else _FEW_STRUCTURES
    found = calibrated(model, test[:few])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    line = f"{molecule:<14}{n_train:>5}{seconds:>7.0f}{peak:>6.1f}{e:>8.2f}{f:>9.2f}"
    published = [
        f"{name} {values[n_train][MOLECULES.index(molecule)]}"
        for name, values in PUBLISHED.items()
        if molecule in MOLECULES and n_train in values
    ]
    print(f"{line}{found}  {', '.join(published)}", flush=True)
    return f


def calibrated(model, test):
    """Return coverage, rank correlation and scores of the force components."""
    prediction = model.evaluate(test, return_std=True)
    labels = Labels.from_frames(test)
    error = np.concatenate(prediction.forces) - np.concatenate(labels.forces)
    std = np.concatenate(prediction.forces_std)
    half, most = (100 * calibration.coverage(error, std, p) for p in (0.5, 0.95))
    pairs = zip(prediction.forces, labels.forces, strict=True)
    errors = calibration.rms_per_structure([a - b for a, b in pairs])
    stds = calibration.rms_per_structure(prediction.forces_std)
    rank = calibration.rank_correlation(errors, stds)
    nlpd = calibration.nlpd(error, std)
    crps = 1e3 * calibration.crps(error, std)
    ence = calibration.ence(error, std)
    coverage = f"{half:>7.1f}{most:>7.1f}"
    return f"{coverage}{rank:>6.2f}{nlpd:>7.2f}{crps:>7.2f}{ence:>6.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-train", type=int, nargs="+", default=[50])
    parser.add_argument("--molecules", nargs="+", default=list(MOLECULES))
    parser.add_argument("--baseline", help="such as GFN2-xTB")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"baseline: {args.baseline or 'none'}; CRPS in meV/Å; published beside it\n")
    print(TITLES)
    for n in args.n_train:
        errors = [run(m, n, args.baseline, args.seed) for m in args.molecules]
        print(f"{'mean':<14}{n:>5}{np.mean(errors):>30.2f}\n")


if __name__ == "__main__":
    main()
