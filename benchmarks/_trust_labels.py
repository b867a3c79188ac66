"""Wrong labels: are they named, and what do they cost? Used by trust.py.

Frames of acetic acid (see _molecules_data.py) get energies or forces that are wrong by
multiples of σ, the leave-one-out error of a model of the right ones.
"""

import numpy as np
from _molecules_data import CACHE, read
from ase.calculators.singlepoint import SinglePointCalculator

import kforce

#: Frames to train and to test on.
N_TRAIN, N_TEST = 120, 500

SIZES, COUNTS = (3, 6, 30, 1000), (1, 3, 10)

#: Seeds of the sets without wrong labels; the first is that of the other rows, too.
CLEAN_SEEDS = range(20)


def frames_of(seed, molecule="acetic acid", folder=CACHE):
    """Return training and test frames of a seed."""
    frames = read(molecule, folder)
    chosen = np.random.default_rng(seed).permutation(len(frames))
    train, test = chosen[:N_TRAIN], chosen[N_TRAIN:][:N_TEST]
    return [frames[s] for s in train], [frames[s] for s in test]


def with_wrong_labels(frames, kind, count, energy_error, forces_error, seed):
    """Return frames of which `count` have wrong energies or forces, and which.

    Errors are ± energy_error in eV, or forces without a net force whose components are
    `forces_error` in eV/Å (root mean square).
    """
    rng = np.random.default_rng(seed)
    wrong = np.sort(rng.choice(len(frames), count, replace=False))
    copies = [frame.copy() for frame in frames]
    for s, (copy, frame) in enumerate(zip(copies, frames, strict=True)):
        energy, forces = frame.get_potential_energy(), frame.get_forces().copy()
        if s in wrong and kind == "energy":
            energy += rng.choice([-1.0, 1.0]) * energy_error
        elif s in wrong:
            shift = rng.normal(size=forces.shape)
            shift -= shift.mean(axis=0)
            forces += forces_error * shift / np.sqrt(np.mean(shift**2))
        copy.calc = SinglePointCalculator(copy, energy=energy, forces=forces)
    return copies, wrong


def errors(model, test):
    """Return the MAE of energies in meV and of forces in meV/Å."""
    found = model.evaluate(test)
    energy = found.energy - [frame.get_potential_energy() for frame in test]
    forces = np.subtract(found.forces, [frame.get_forces() for frame in test])
    return 1e3 * np.mean(np.abs(energy)), 1e3 * np.mean(np.abs(forces))


def deviations(model):
    """Return the leave-one-out error of energies in eV, and of forces in eV/Å."""
    left_out = model.leave_one_out_
    energies = left_out.residual[~left_out.is_force]
    return float(np.sqrt(np.mean(energies**2))), left_out.forces_rmse


def named(model, wrong):
    """Return how many of the wrong frames are beyond 6 σ, and how many others."""
    suspects = model.worst_frames_.suspects.frame
    right = int(np.isin(wrong, suspects).sum())
    return right, len(suspects) - right


def wrong_labels(sizes=SIZES, counts=COUNTS, seed=0, **data):
    """Yield a row for each kind, count and size of wrong labels.

    Named and not wrong are those of the fit to all frames, and of the robust one; the
    errors of forces, in meV/Å, those of the fits to right labels, to all, and robust.
    """
    train, test = frames_of(seed, **data)
    clean = kforce.GDMLRegressor().fit(train)
    sigma = deviations(clean)
    right = errors(clean, test)[1]
    for kind in ("energy", "forces"):
        for count in counts:
            for size in sizes:
                off = (size * one for one in sigma)
                frames, wrong = with_wrong_labels(train, kind, count, *off, seed)
                spoilt = kforce.GDMLRegressor().fit(frames)
                robust = kforce.GDMLRegressor(robust=True).fit(frames)
                yield (
                    kind,
                    count,
                    size,
                    *named(spoilt, wrong),
                    *named(robust, wrong),
                    right,
                    errors(spoilt, test)[1],
                    errors(robust, test)[1],
                )


def right_labels(seeds=CLEAN_SEEDS, **data):
    """Yield the seed, the frames named, and the largest z of sets of right labels."""
    for seed in seeds:
        train, _ = frames_of(seed, **data)
        worst = kforce.GDMLRegressor().fit(train).worst_frames_
        yield seed, len(worst.suspects), float(worst.z[0])


def main(**data):
    """Print both tables."""
    print(
        "wrong            named  false   robust: named  false   MAE right  all  robust"
    )
    for row in wrong_labels(**data):
        kind, count, size, *counts = row[:7]
        print(
            f"{count:2d} {kind:<6} {size:4d} σ  {counts[0]:5d} {counts[1]:6d}"
            f"   {counts[2]:12d} {counts[3]:6d}   "
            + "".join(f"{error:9.2f}" for error in row[7:]),
            flush=True,
        )
    for seed, count, largest in right_labels(**data):
        print(f"right labels, seed {seed}: {count} named, z up to {largest:.1f}")


if __name__ == "__main__":
    main()
