"""Make CCSD(T) training data for a molecule of your own.

kforce learns the gradient of a potential energy surface, so it needs forces that
are exactly the gradient of the energies. This script computes RHF-CCSD(T) energies
and analytic forces with PySCF for every geometry in a file. In two steps::

    pip install pyscf tblite ase tqdm
    python examples/generate_reference.py start.xyz --sample 200 -o geometries.xyz
    python examples/generate_reference.py geometries.xyz -o labelled.xyz
    kforce train labelled.xyz

The first step is for those who have one structure only: it draws 200 geometries from
a GFN2-xTB Langevin trajectory at 500 K (0.5 fs steps, friction 0.02/fs, 2 ps of
equilibration, then one frame every 150 fs). The second step takes geometries from any
file that ASE reads.

*Output*: extended XYZ with ``energy`` and ``forces`` (eV, eV/Å) as well as
``ccsd_energy``, ``rhf_energy`` and ``method``. Every frame is on disk as soon as it is
computed; after an interruption the same command continues where it stopped.

*Check*: the gradient of CCSD(T) needs Λ equations with the triples in them. With those
of CCSD, the forces are wrong by tens of meV/Å and look fine otherwise. So one force
component is compared with the finite difference of CCSD(T) energies before anything is
written.

*Cost*: 21 s for a geometry of methanol in cc-pVDZ on one core, and 2 GB; the time
grows with the seventh power of the size of the molecule (ethanol: 16 times as long).
OMP_NUM_THREADS sets the number of cores.

*Limits*: isolated closed-shell molecules, elements up to krypton (no effective core
potentials). The singlet is computed whether or not it is the ground state. CCSD(T) is
good for molecules near equilibrium, not for broken bonds: look twice at frames with a
T1 diagnostic above 0.02.
"""

import argparse
import os
import sys
import time
from io import StringIO
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from tqdm import tqdm

HARTREE, BOHR = 27.211386245988, 0.529177210903  # CODATA 2018, fixed for restarts
STEP, TOLERANCE = 5e-3, 2e-4  # of the finite difference check, in Å and eV/Å


class UserError(Exception):
    """Something the user can put right; the message says how."""


class FailedError(Exception):
    """The calculation of one geometry failed, for example to converge."""


def read_geometries(path, charge=0):
    """Read geometries of one isolated closed-shell molecule, or say what is wrong."""
    try:
        frames = read(path, index=":")
    except OSError as err:
        raise UserError(f"Cannot read {path}: {err.strerror or err}.") from None
    except Exception as err:  # ASE's readers raise whatever they meet
        raise UserError(f"{path} is not a file of geometries: {err}") from None
    if not frames or len(frames[0]) < 2:
        raise UserError(f"{path}: expected geometries of two atoms or more.")
    numbers = frames[0].numbers
    for i, frame in enumerate(frames):
        where = f"{path}, frame {i}"
        if not np.array_equal(frame.numbers, numbers):
            raise UserError(f"{where}: other atoms, or another order, than in frame 0.")
        if frame.pbc.any():
            raise UserError(f"{where} is periodic; expected isolated molecules.")
        if not np.isfinite(frame.positions).all():
            raise UserError(f"{where}: positions that are not finite numbers.")
        d = frame.get_all_distances()[np.triu_indices(len(frame), 1)].min()
        if d < 0.3:
            raise UserError(f"{where}: two atoms are {d:.2f} Å apart (unit not Å?).")
    if not 1 <= numbers.min() <= numbers.max() <= 36:
        raise UserError(f"{path}: expected elements from H to Kr.")
    electrons = int(numbers.sum()) - charge
    if electrons < 2 or electrons % 2:
        raise UserError(
            f"{frames[0].symbols} with charge {charge} has {electrons} electrons: only "
            "closed shells, with an even number of them, can be computed (--charge)."
        )
    return frames


def build(atoms, args):
    """Return the PySCF molecule."""
    import warnings

    from pyscf import gto

    warnings.filterwarnings("ignore", "Basis may be available")
    mol = gto.Mole(verbose=0, unit="Bohr", basis=args.basis, charge=args.charge)
    mol.atom = list(zip(atoms.symbols, atoms.positions / BOHR, strict=True))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    mol.max_memory = 0.6 * memory  # in MB; PySCF works in blocks beyond that
    try:
        return mol.build(dump_input=False, parse_arg=False)
    except (RuntimeError, KeyError, ValueError, OSError):
        raise UserError(
            f"PySCF has no basis set {args.basis!r} for {atoms.symbols}; "
            "for example cc-pVDZ, cc-pVTZ or def2-TZVP."
        ) from None


def compute(atoms, args, gradient=True):
    """Return `single_point`; whatever PySCF raises becomes a `FailedError`."""
    try:
        return single_point(atoms, args, gradient)
    except (FailedError, UserError, ImportError):
        raise
    except Exception as err:  # at geometries far off, for example in its DIIS
        raise FailedError(f"PySCF failed ({type(err).__name__}: {err})") from None


def single_point(atoms, args, gradient=True):
    """Compute the CCSD(T) energy and forces (eV, eV/Å) of one geometry."""
    from pyscf import cc, scf
    from pyscf.data.elements import chemcore
    from pyscf.grad.ccsd_t import Gradients

    try:  # the same equations, in blocks; not in older versions of PySCF
        from pyscf.cc import ccsd_t_lambda
    except ImportError:
        from pyscf.cc import ccsd_t_lambda_slow as ccsd_t_lambda

    def require(converged, what):
        if not converged:
            raise FailedError(f"{what} did not converge")

    mol = build(atoms, args)
    hf = scf.RHF(mol).set(conv_tol=1e-11, max_cycle=200).run()
    require(hf.converged, "SCF")
    ccsd = cc.CCSD(hf, frozen=chemcore(mol) if args.frozen_core else None)
    ccsd.set(conv_tol=1e-9, conv_tol_normt=1e-7, max_cycle=200)
    eris = ccsd.ao2mo()
    ccsd.kernel(eris=eris)
    require(ccsd.converged, "CCSD")
    result = {
        "energy": (ccsd.e_tot + ccsd.ccsd_t(eris=eris)) * HARTREE,
        "ccsd_energy": ccsd.e_tot * HARTREE,
        "rhf_energy": hf.e_tot * HARTREE,
        "t1_diagnostic": float(ccsd.get_t1_diagnostic()),
    }
    if gradient:
        # Without l1 and l2, Gradients would solve the Λ equations of CCSD: wrong here.
        t1, t2 = ccsd.t1, ccsd.t2
        converged, l1, l2 = ccsd_t_lambda.kernel(
            ccsd, eris, t1, t2, max_cycle=200, tol=1e-7, verbose=0
        )
        require(converged, "CCSD(T) Λ")
        de = Gradients(ccsd).kernel(t1, t2, l1, l2, eris=eris)
        result["forces"] = -de * HARTREE / BOHR
    return result


def check_forces(atoms, forces, energy):
    """Compare one force component with the finite difference of the energies.

    The force along the shortest bond, on its outer atom: an incomplete gradient is
    wrong there at a symmetric minimum too, where on central atoms all errors cancel.
    `energy` is a function of `ase.Atoms`.
    """
    d = atoms.get_all_distances() + 1e3 * np.eye(len(atoms))
    centre = atoms.positions.mean(axis=0)
    i, j = sorted(
        np.unravel_index(d.argmin(), d.shape),
        key=lambda k: -np.linalg.norm(atoms.positions[k] - centre),
    )
    bond = (atoms.positions[j] - atoms.positions[i]) / d[i, j]
    slope = 0.0
    for shift, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):  # fourth order
        moved = atoms.copy()
        moved.positions[i] += shift * STEP * bond
        slope += weight * energy(moved) / (12 * STEP)
    analytic = float(forces[i] @ bond)
    text = (
        f"force on atom {i} along its bond to atom {j}: analytic {analytic:.6f}, "
        f"finite difference {-slope:.6f} eV/Å (tolerance {TOLERANCE:g})"
    )
    if not abs(analytic + slope) <= TOLERANCE:
        raise UserError(
            f"The forces are not the gradient of the energies; {text}. Nothing was "
            "written. Either the closed shell is not stable at this geometry (begin "
            "with another one), or this version of PySCF is wrong (try another)."
        )
    return text


def residuals(atoms, forces):
    """Return the net force (eV/Å) and net torque (eV), which should be zero."""
    torque = np.cross(atoms.positions - atoms.positions.mean(axis=0), forces).sum(0)
    return np.linalg.norm(forces.sum(axis=0)), np.linalg.norm(torque)


def resume(output, geometries, method):
    """Return the index of the geometry that follows the last one in `output`."""
    if not output.exists() or not output.stat().st_size:
        return 0
    hint = f"Choose another name than {output}, or move that file away."
    try:
        done = read(output, index=":", format="extxyz")
    except Exception as err:
        raise UserError(f"{output} cannot be continued: {err}. {hint}") from None
    i = 0
    for n, frame in enumerate(done):
        if frame.info.get("method") != method:
            found = frame.info.get("method", "something else")
            raise UserError(f"{output} holds {found}, not {method}. {hint}")
        while i < len(geometries) and not (  # frames may have been left out
            np.array_equal(geometries[i].numbers, frame.numbers)
            and np.allclose(geometries[i].positions, frame.positions, 0, 1e-6)
        ):
            i += 1
        if i == len(geometries):
            raise UserError(f"Frame {n} of {output} is not in the input. {hint}")
        i += 1
    return i


def save(frames, output, append=False):
    """Write extended XYZ by way of a temporary file: no half-written frame, ever."""
    text = StringIO()
    if append and output.exists():
        text.write(output.read_text())
    write(text, frames, format="extxyz")
    temporary = output.with_name(output.name + ".tmp")
    try:
        temporary.write_text(text.getvalue())
        temporary.replace(output)
    except OSError as err:
        temporary.unlink(missing_ok=True)
        raise UserError(f"Cannot write {output}: {err.strerror}.") from None


def label(geometries, args):
    """Compute and save the labels of all geometries that are not in the output yet."""
    core = "frozen-core" if args.frozen_core else "all-electron"
    method = f"{core} RHF-CCSD(T)/{args.basis}, charge {args.charge}"
    start = 0 if args.check_only else resume(args.output, geometries, method)
    if start == len(geometries):
        return print(f"{args.output} is complete: {start} geometries.")
    print(f"{geometries[0].symbols}, {method}, geometries: {len(geometries)}")
    if start:
        print(f"continuing {args.output} at geometry {start}")
    skipped, results, clock = [], {}, time.monotonic()
    try:
        first = results[start] = compute(geometries[start], args)
        seconds = time.monotonic() - clock
        text = check_forces(
            geometries[start],
            first["forces"],
            lambda atoms: compute(atoms, args, gradient=False)["energy"],
        )
    except FailedError as err:
        raise UserError(
            f"Geometry {start}: {err}, so the forces cannot be checked. Begin with a "
            "geometry closer to equilibrium."
        ) from None
    print(f"passed, geometry {start}: {text}; {seconds:.0f} s per geometry")
    if args.check_only:
        return None
    todo = range(start, len(geometries))
    for i in tqdm(todo, initial=start, total=len(geometries), unit="frame"):
        try:
            result = results.pop(i, None) or compute(geometries[i], args)
        except FailedError as err:
            skipped.append(i)
            tqdm.write(f"geometry {i}: {err}; left out")
            continue
        atoms = geometries[i].copy()  # keeps baselines such as gfn2_energy
        energy, forces = result.pop("energy"), result.pop("forces")
        for key in ("energy", "forces", "momenta"):
            atoms.info.pop(key, None), atoms.arrays.pop(key, None)
        atoms.set_constraint()
        atoms.info |= {**result, "method": method}
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        save(atoms, args.output, append=True)
        force, torque = residuals(atoms, forces)
        tqdm.write(
            f"geometry {i}: {energy:.6f} eV, T1 {result['t1_diagnostic']:.3f}, "
            f"net force {force:.0e} eV/Å, net torque {torque:.0e} eV"
        )
    print(f"{args.output} is complete; left out: {skipped or 'none'}.")
    return print(f"Next: kforce train {args.output}")


def sample(atoms, args):
    """Draw geometries from a GFN2-xTB Langevin trajectory and save them."""
    from ase.md.langevin import Langevin
    from tblite.ase import TBLite

    if args.output.exists():
        raise UserError(f"{args.output} exists: choose another name with -o.")
    rng, frames = np.random.default_rng(args.seed), []
    atoms = Atoms(atoms.symbols, atoms.positions)
    atoms.calc = TBLite(method="GFN2-xTB", charge=args.charge, verbosity=0)
    spread = np.sqrt(atoms.get_masses() * 500 * units.kB)[:, None]
    atoms.set_momenta(spread * rng.standard_normal(atoms.positions.shape))
    dynamics = Langevin(
        atoms,
        0.5 * units.fs,
        temperature_K=500,
        friction=0.02 / units.fs,
        fixcm=False,
        rng=rng,
    )
    try:
        for n in tqdm([4000] + [300] * args.sample, unit="frame"):
            dynamics.run(n)
            frame = Atoms(atoms.symbols, atoms.positions)
            frame.positions -= frame.get_center_of_mass()
            frame.info["gfn2_energy"] = atoms.get_potential_energy()
            frame.arrays["gfn2_forces"] = atoms.get_forces()
            frames.append(frame)
    except Exception as err:
        raise UserError(f"GFN2-xTB failed on {atoms.symbols}: {err}") from None
    save(frames[1:], args.output)
    print(f"{args.sample} geometries in {args.output}. Look at them before you label.")


def main(argv=None):
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("geometries", type=Path, help="any file that ASE reads, in Å")
    parser.add_argument("-o", "--output", type=Path, default=Path("labelled.xyz"))
    parser.add_argument("--basis", default="cc-pVDZ", help="default: %(default)s")
    parser.add_argument("--charge", type=int, default=0, help="default: 0")
    parser.add_argument("--frozen-core", action="store_true", help="1s etc. frozen")
    parser.add_argument("--check-only", action="store_true", help="only check forces")
    parser.add_argument("--sample", type=int, metavar="N", help="draw N geometries")
    parser.add_argument("--seed", type=int, default=0, help="of --sample; default: 0")
    args = parser.parse_args(argv)
    try:
        if args.output.suffix not in (".xyz", ".extxyz"):
            raise UserError(f"{args.output}: the output's name must end in .xyz.")
        if args.output.absolute() == args.geometries.absolute():
            raise UserError("The output must be another file than the input: use -o.")
        if not args.output.parent.is_dir():
            raise UserError(f"There is no folder {args.output.parent}.")
        geometries = read_geometries(args.geometries, args.charge)
        if args.sample is None:
            label(geometries, args)
        elif args.sample < 1:
            raise UserError("--sample must be 1 or more.")
        else:
            sample(geometries[0], args)
    except UserError as err:
        print(f"generate_reference: {err}", file=sys.stderr)
        return 1
    except ImportError as err:
        name = err.name.split(".")[0] if err.name else str(err)
        print(f"{name} is missing: pip install {name}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted: run the same command again.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
