"""Measurements of quippy, gap_fit, featomic and dscribe, in the peers' Python.

Programs are imported by the tasks that use them: gap_fit starts from a small process.
"""

import resource
import subprocess
import sys
import time
from importlib import import_module, metadata
from pathlib import Path

from _gap_common import SOAP, TIMING, answer, nudged, per_atom, timed

#: The descriptor of the timings, as QUIP writes it.
STRING = (
    "soap n_max={n_max} l_max={l_max} cutoff={cutoff} cutoff_transition_width="
    "{transition_width} atom_sigma={atom_sigma} central_weight=1.0"
).format(**SOAP)

_CHANGES = ["positions", "numbers", "cell", "pbc"]


def versions():
    """Return versions of the peers; None where one cannot be imported."""
    found = {}
    for name, package in (
        ("quippy", "quippy-ase"),
        ("featomic", "featomic"),
        ("dscribe", "dscribe"),
    ):
        try:
            import_module(name)
            found[name] = metadata.version(package)
        except Exception:  # a broken library fails in its own way
            found[name] = None
    return found


def potential(xml):
    from quippy.potential import Potential

    return Potential("", param_filename=str(xml))


def evaluate(calculator, atoms, properties):
    calculator.calculate(atoms, properties=properties, system_changes=_CHANGES)
    return calculator.results


def read(path):
    """Return frames without calculators."""
    from ase.io import read as read_ase

    frames = read_ase(path, ":")
    for frame in frames:
        frame.calc = None
    return frames


def predict(xml, out, calls, frames=TIMING / "test.xyz"):
    """Time the first frame, if there are calls, and write predictions of all."""
    import numpy as np
    from quippy.convert import ase_to_quip

    calculator, frames = potential(xml), read(frames)
    atoms, n = frames[0].copy(), len(frames[0])

    def energy_alone():
        # The calculator computes forces in any case.
        inner, image = calculator._quip_potential, ase_to_quip(atoms)
        image.set_cutoff(inner.cutoff())
        image.calc_connect()
        inner.calc(image, args_str="energy=energy")

    def with_forces():
        return evaluate(calculator, atoms, ["energy", "forces"])

    found = {}
    if calls:
        both, energy = (nudged(atoms, call) for call in (with_forces, energy_alone))
        found = per_atom("E + F", both, calls, n) | per_atom("E", energy, calls, n)
    energy, forces = [], []
    for frame in frames:
        results = evaluate(calculator, frame, ["energy", "forces"])
        energy.append(results["energy"])
        forces.append(results["forces"].copy())
    np.savez(out, energy=energy, forces=np.concatenate(forces))
    return found


def quippy(calls):
    """Time SOAP vectors of quippy."""
    from quippy.descriptors import Descriptor

    soap, atoms = Descriptor(STRING), read(TIMING / "test.xyz")[0]
    values = nudged(atoms, lambda: soap.calc(atoms))
    gradients = nudged(atoms, lambda: soap.calc(atoms, grad=True))
    n = len(atoms)
    return per_atom("x", values, calls, n) | with_gradients(gradients, calls, n)


def featomic(calls):
    """Time SOAP vectors of featomic: all ordered pairs of radial functions."""
    from featomic import SoapPowerSpectrum

    smoothing = {"type": "ShiftedCosine", "width": SOAP["transition_width"]}
    soap = SoapPowerSpectrum(
        cutoff={"radius": SOAP["cutoff"], "smoothing": smoothing},
        density={"type": "Gaussian", "width": SOAP["atom_sigma"]},
        basis={
            "type": "TensorProduct",
            "max_angular": SOAP["l_max"],
            "radial": {"type": "Gto", "max_radial": SOAP["n_max"] - 1},
        },
    )
    atoms = read(TIMING / "test.xyz")[0]
    n = len(atoms)
    return per_atom("x", lambda: soap.compute(atoms), calls, n) | with_gradients(
        lambda: soap.compute(atoms, gradients=["positions"]), calls, n
    )


def dscribe(calls, periodic):
    """Time SOAP vectors of dscribe, which has gradients of molecules only."""
    from dscribe import descriptors

    soap = descriptors.SOAP(
        species=["Si"],
        periodic=periodic,
        r_cut=SOAP["cutoff"],
        n_max=SOAP["n_max"],
        l_max=SOAP["l_max"],
        sigma=SOAP["atom_sigma"],
    )
    atoms = read(TIMING / "test.xyz")[0]
    atoms.pbc = periodic
    n = len(atoms)
    found = per_atom("x", lambda: soap.create(atoms), calls, n)
    if periodic:
        return found

    def gradients():
        soap.derivatives(atoms, method="analytical", return_descriptor=True)

    return found | with_gradients(gradients, calls, n)


def with_gradients(function, calls, n):
    """Return the times twice: beside both ways that kforce has to derivatives."""
    found = per_atom("x + gradients", function, calls, n)
    dense = {k.replace("gradients", "dense Jacobian"): v for k, v in found.items()}
    return found | dense


def dynamics(xml, steps):
    """Time steps of molecular dynamics."""
    from ase import units
    from ase.build import bulk
    from ase.md.verlet import VelocityVerlet

    atoms = bulk("Si", cubic=True).repeat(2)
    atoms.rattle(0.1, seed=0)
    atoms.calc = potential(xml)
    engine = VelocityVerlet(atoms, timestep=1.0 * units.fs)
    engine.run(3)
    cpu, wall = timed(lambda: engine.run(steps), 1)
    return {"step, CPU ms": 1e3 * cpu / steps, "step, wall ms": 1e3 * wall / steps}


def gap_fit(folder, arguments):
    """Run gap_fit in a folder, and return what it took."""
    program = str(Path(sys.executable).with_name("gap_fit"))
    start = time.perf_counter()
    done = subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True
    )
    wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if arguments and (done.returncode or not Path(folder, "gap.xml").exists()):
        sys.exit(f"gap_fit failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return {
        "fit, CPU s": used.ru_utime + used.ru_stime,
        "fit, wall s": wall,
        "peak, MB": used.ru_maxrss / 1024,
    }


if __name__ == "__main__":
    tasks = (versions, predict, quippy, featomic, dscribe, dynamics, gap_fit)
    answer({task.__name__: task for task in tasks})
