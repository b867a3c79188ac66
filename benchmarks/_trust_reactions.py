"""Paths along which bonds break: errors of energies, and whether error bars hold them.

Acetylacetone (proton transfer between its oxygens) and ethanol (its hydroxyl loses the
hydrogen, other atoms fixed) of Batatia et al., NeurIPS 2022: labels of DFT, models of
molecular dynamics. Only energies of the path are labelled.
"""

import ase.io
import numpy as np
from _gap_common import SHARED

import kforce
from kforce.evaluation import calibration

#: Folder, training frames and path of each reaction.
REACTIONS = {
    "acetylacetone, H transfer": (
        "dataset_acac",
        "train_300K.xyz",
        "test_H_transfer.xyz",
    ),
    "ethanol, O-H removal": (
        "dataset_ethanol",
        "train.xyz",
        "test_H_removal.xyz",
    ),
}

#: Variances of differences below this share of those of the energies are rounding.
ROUNDING = 1e-9


def path_of(name, n_frames):
    """Return the first training frames of a reaction, and its path."""
    folder, train, path = REACTIONS[name]
    folder = SHARED / "data" / "botnet" / folder
    train = ase.io.read(folder / train, f":{n_frames}")
    return train, ase.io.read(folder / path, ":")


def judge_path(model, path):
    """Return errors of energies along a path and their standard deviations, in eV.

    Those of the energies, and of the differences from the lowest structure.
    """
    label = np.array([frame.get_potential_energy() for frame in path])
    prediction = model.evaluate(path, ("energy",), return_std=True)
    error, std = prediction.energy - label, prediction.energy_std
    lowest = int(np.argmin(label))
    C = model.energy_covariance(path)
    both = C.diagonal() + C[lowest, lowest]
    variance = both - 2.0 * C[lowest]
    others = variance > ROUNDING * both  # not the lowest one, nor those like it
    differences = (error - error[lowest])[others]
    return error, std, differences, np.sqrt(variance[others])


def print_reactions(n_frames=(100, 200), **parameters):
    """Print a row for each reaction and number of frames.

    `parameters` are those of `GDMLRegressor`.
    """
    print(
        f"{'':<26}{'frames':>7}{'points':>7} |{'E meV':>8}{'95 %':>7}{'std':>8} |"
        f"{'ΔE meV':>8}{'95 %':>7}{'std':>8}"
    )
    for name in REACTIONS:
        for n in n_frames:
            train, path = path_of(name, n)
            model = kforce.GDMLRegressor(**parameters).fit(train)
            error, std, difference, its_std = judge_path(model, path)
            row = f"{name:<26}{len(train):>7}{len(path):>7}"
            for e, s in ((error, std), (difference, its_std)):
                share = calibration.coverage(e, s, 0.95)
                mean, typical = 1e3 * np.abs(e).mean(), 1e3 * np.median(s)
                row += f" |{mean:>8.1f}{100 * share:>7.0f}{typical:>8.1f}"
            print(row, flush=True)


if __name__ == "__main__":
    print_reactions()
