"""Errors on two crystals and a molecule, beside published ones, and calibration.

Si, Li: Zuo et al., J. Phys. Chem. A 124, 731 (2020), mean absolute errors. acac:
acetylacetone at 300 K and, learned at 300 K, at 600 K, root mean square errors.
Settings are chosen by cross-validation on the training set; the test set is for one
last run.
"""

import argparse
import os
import time

import numpy as np
from _gap_common import SHARED, forget_peak, print_machine, status
from _gap_data import STRESSES, read_zuo
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

import kforce
from kforce.evaluation import calibration, metrics
from kforce.labels import Labels

#: Errors of published models on the test sets: energies and forces in the units of
#: `UNITS`. acac: Batatia et al., NeurIPS 2022.
PUBLISHED = {
    "Si": {"test": "GAP 2.91, 0.07; MTP 2.21, 0.06"},
    "Li": {"test": "GAP 0.49, 0.01; MTP 0.49, 0.01"},
    "acac": {"300 K": "MACE 0.9, 5.1", "600 K": "MACE 4.6, 22.4"},
}
UNITS = {
    "Si": "MAE: meV/atom, eV/Å",
    "Li": "MAE: meV/atom, eV/Å",
    "acac": "RMSE: meV, meV/Å",
}

#: Test structures with standard deviations, at most.
_MOST_STDS = 50


def soap_alone(cutoff, n_max, l_max, noises, n_inducing=1000, **more):
    """Return a model with one SOAP term and nothing to learn."""
    soap = kforce.SOAP(
        cutoff=cutoff, n_max=n_max, l_max=l_max, **{"atom_sigma": 0.5} | more
    )
    kernel = kforce.Scaled(kforce.Polynomial(zeta=4), amplitude=1.0)
    energy, forces, virial = noises
    return kforce.GAPRegressor(
        [kforce.Term(soap, kernel, n_inducing)],
        noise_energy=energy,
        noise_forces=forces,
        noise_virial=virial,
        optimize=False,
    )


def of_atoms(energies):
    """Return defaults, with the energies of isolated atoms."""
    return kforce.GAPRegressor(reference_energies=energies)


#: Models by data set and name: functions of the energies of isolated atoms, if known.
SETTINGS = {
    "Si": {
        "defaults": lambda e0: kforce.GAPRegressor(),
        "Zuo et al.": lambda e0: soap_alone(5.4, 8, 8, (0.01, 0.05, 0.01)),
    },
    "Li": {"defaults": lambda e0: kforce.GAPRegressor()},
    "acac": {
        "defaults": lambda e0: kforce.GAPRegressor(),
        "isolated atoms": of_atoms,
        # All frames are of one molecule: the global model is made for that.
        "GDMLRegressor": lambda e0: kforce.GDMLRegressor(),
    },
}


def read(name, stress):
    """Return training frames, test sets by name, and energies of isolated atoms."""
    if name != "acac":
        return (
            read_zuo(name, "train", stress),
            {"test": read_zuo(name, "test", stress)},
            None,
        )
    folder = SHARED / "data" / "botnet" / "dataset_acac"
    tests = {
        f"{t} K": kforce.read_frames(folder / f"test_MD_{t}K.xyz") for t in (300, 600)
    }
    alone = kforce.read_frames(folder / "isolated_atoms.xyz")
    energies = {f.get_chemical_symbols()[0]: f.get_potential_energy() for f in alone}
    return kforce.read_frames(folder / "train_300K.xyz"), tests, energies


def cross_validate(name, args):
    """Print errors of held-out parts of the training set for all settings."""
    train, _, energies = read(name, args.stress)
    folds = list(KFold(args.folds, shuffle=True, random_state=args.seed).split(train))
    print(f"\n{name}: {args.folds}-fold cross-validation, {len(train)} frames")
    print(f"{'':<24}{'E':>8}{'±':>7}{'F':>9}{'±':>8}{'CPU s':>8}   {UNITS[name]}")
    for label, make in chosen(name, args):
        found = []
        start = time.process_time()
        for own, held in folds[: args.only_folds]:
            model = make(energies).set_params(seed=args.seed)
            model.fit([train[s] for s in own])
            frames = [train[s] for s in held]
            found.append(
                errors(name, model.evaluate(frames), Labels.from_frames(frames))
            )
        seconds = (time.process_time() - start) / len(found)
        (e, f), (e_std, f_std) = np.mean(found, axis=0), np.std(found, axis=0)
        print(
            f"{label:<24}{e:>8.3f}{e_std:>7.3f}{f:>9.4f}{f_std:>8.4f}{seconds:>8.0f}",
            flush=True,
        )


def test(name, args):
    """Fit to the whole training set, and print errors of the test sets."""
    train, tests, energies = read(name, args.stress)
    print(f"\n{name}: {len(train)} frames, {UNITS[name]}")
    print(
        f"{'':<24}{'set':<7}{'E':>8}{'F':>9}{'95 %':>7}{'rank':>6}"
        f"{'CPU s':>8}{'wall s':>8}{'MB':>7}   published"
    )
    for label, make in chosen(name, args):
        model = make(energies).set_params(seed=args.seed)
        forget_peak()
        before = status("VmRSS")
        start = time.process_time(), time.perf_counter()
        model.fit(train)
        cpu, wall = time.process_time() - start[0], time.perf_counter() - start[1]
        peak = status("VmHWM") - before
        for part, frames in tests.items():
            prediction = model.evaluate(frames)
            e, f = errors(name, prediction, Labels.from_frames(frames))
            most, rank = calibrated(model, frames)
            print(
                f"{label:<24}{part:<7}{e:>8.3f}{f:>9.4f}{most:>7.1f}{rank:>6.2f}"
                f"{cpu:>8.0f}{wall:>8.0f}{peak:>7.0f}   {PUBLISHED[name][part]}",
                flush=True,
            )
        print_model(model)


def chosen(name, args):
    """Return names and functions of the settings that are wanted."""
    settings = SETTINGS[name]
    wanted = args.settings or list(settings)
    return [(label, settings[label]) for label in wanted if label in settings]


def errors(name, prediction, labels):
    """Return errors of energies and force components, in `UNITS`."""
    forces = [np.concatenate(f) for f in (prediction.forces, labels.forces)]
    if name == "acac":
        e = metrics.rmse(prediction.energy, labels.energy)
        return 1e3 * e, 1e3 * metrics.rmse(*forces)
    n_atoms = np.array([len(f) for f in labels.forces])
    e = metrics.mae(prediction.energy / n_atoms, labels.energy / n_atoms)
    return 1e3 * e, metrics.mae(*forces)


def calibrated(model, frames):
    """Return coverage of force components, and how well stds order structures."""
    frames = frames[:: -(-len(frames) // _MOST_STDS)]
    prediction, labels = (
        model.evaluate(frames, return_std=True),
        Labels.from_frames(frames),
    )
    residuals = [a - b for a, b in zip(labels.forces, prediction.forces, strict=True)]
    residual, std = (np.concatenate(a) for a in (residuals, prediction.forces_std))
    each = (
        calibration.rms_per_structure(a) for a in (residuals, prediction.forces_std)
    )
    most = 100 * calibration.coverage(residual, std, 0.95)
    return most, calibration.rank_correlation(*each)


def print_model(model):
    """Print what was learned."""
    if isinstance(model, kforce.GDMLRegressor):
        print(f"    {len(model.permutations_)} permutations")
        return
    for term in model.terms_:
        kind = type(term.descriptor).__name__
        print(f"    {kind}: {term.n_inducing} points, {term.kernel!r}")
    virial = model.noise_virial_
    print(
        f"    noises {1e3 * model.noise_energy_:.3g} meV/atom, "
        f"{model.noise_forces_:.3g} eV/Å, virial {1e3 * virial:.3g} meV/atom; "
        f"calibration {model.calibration_[0]:.3g}, {model.calibration_[1]:.3g}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cross-validate", action="store_true")
    parser.add_argument("--test", action="store_true", help="use the test sets")
    parser.add_argument("--data", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--settings", nargs="+", help="names in SETTINGS; default all")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only-folds", type=int, help="stop after so many folds")
    parser.add_argument(
        "--stress", choices=STRESSES, default="mended", help="of Si: see _gap_data.py"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not args.cross_validate and not args.test:
        parser.error("nothing to do: give --cross-validate, --test or both")
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    with threadpool_limits(args.threads):
        print_machine({})
        print(f"threads: {args.threads}")
        for name in args.data:
            if args.cross_validate:
                cross_validate(name, args)
            if args.test:
                test(name, args)


if __name__ == "__main__":
    main()
