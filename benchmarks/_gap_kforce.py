"""Measurements of kforce for gap_speed.py and gap_std.py, in processes of their own."""

import numpy as np
from _gap_common import SOAP, TIMING, answer, nudged, per_atom, status, timed
from _gap_data import copper
from ase import units
from ase.build import bulk
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet

import kforce
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

_IMPORTED = status("VmHWM")


def read(name):
    """Return frames of the timings."""
    return kforce.read_frames(TIMING / name, "ref_energy", "ref_forces")


def model(zeta, n_inducing, xml):
    """Fit to the 20 frames and write the model for both programs."""
    term = kforce.Term(
        kforce.SOAP(**SOAP),
        kforce.Scaled(kforce.Polynomial(zeta=zeta), amplitude=1.0),
        n_inducing,
    )
    noises = {"noise_energy": 0.001, "noise_forces": 0.05}
    fitted = kforce.GAPRegressor([term], **noises, optimize=False).fit(
        read("train.xyz")
    )
    kforce.io.write_quip_xml(fitted, xml)
    return {"n_inducing": fitted.terms_[0].n_inducing}


def predict(xml, out, calls):
    """Time the first test frame, and write predictions of all of them."""
    fitted, frames = kforce.io.read_quip_xml(xml), read("test.xyz")
    atoms, n = frames[0].copy(), len(frames[0])
    both = nudged(atoms, lambda: fitted.evaluate_one(atoms))
    energy = nudged(atoms, lambda: fitted.predict([atoms]))
    found = per_atom("E + F", both, calls, n) | per_atom("E", energy, calls, n)
    pairs = [fitted.evaluate_one(frame)[:2] for frame in frames]
    np.savez(out, energy=[e for e, _ in pairs], forces=[f for _, f in pairs])
    return found


def descriptor(calls, periodic):
    """Time SOAP vectors of one frame, and two ways to their derivatives."""
    soap, atoms = kforce.SOAP(**SOAP), read("test.xyz")[0]
    atoms.pbc = periodic
    batch = Batch.from_frames([atoms])

    def values():
        return soap(batch.numbers, find_neighbours(batch, soap.cutoff))

    by_x = np.random.default_rng(0).normal(size=values().x.shape)
    gradient, strain = np.zeros((len(atoms), 3)), np.zeros((len(atoms), 3, 3))

    def pull():
        values().pull(by_x, np.zeros(len(by_x)), gradient, strain)

    def dense():
        for block in values().jacobians():
            assert block.dx.shape[1] == 3

    n = len(atoms)
    # What a force field needs, and what peers return: both stand beside their times.
    pulled = per_atom("x + gradients", pull, calls, n)
    jacobian = per_atom("x + dense Jacobian", dense, calls, n)
    found = per_atom("x", values, calls, n) | pulled | jacobian
    return found | {"neighbours per atom": len(values().members) / n}


def size(xml, cells, calls):
    """Time energy and forces of a crystal, neighbour list included."""
    fitted = kforce.io.read_quip_xml(xml)
    small = bulk("Si", cubic=True)
    fitted.evaluate_one(small)
    atoms = bulk("Si", cubic=True).repeat(cells)
    atoms.rattle(0.1, seed=0)
    cpu, wall = timed(lambda: fitted.evaluate_one(atoms), calls)
    return {
        "atoms": len(atoms),
        "cpu": cpu,
        "wall": wall,
        "memory": status("VmHWM") - _IMPORTED,
    }


def dynamics(xml, steps):
    """Run molecular dynamics of 64 atoms at constant energy."""
    atoms = bulk("Si", cubic=True).repeat(2)
    atoms.calc = kforce.io.read_quip_xml(xml).calculator()
    return run_dynamics(atoms, steps)


def run_dynamics(atoms, steps):
    """Return times of a step and how the total energy moves, after 100 steps."""
    rng = np.random.default_rng(0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=rng)
    Stationary(atoms)
    engine = VelocityVerlet(atoms, timestep=1.0 * units.fs)
    engine.run(100)
    energies = []
    engine.attach(lambda: energies.append(atoms.get_total_energy() / len(atoms)))
    cpu, wall = timed(lambda: engine.run(steps), 1)
    time = 1e-3 * np.arange(len(energies))
    drift = np.polyfit(time, energies, 1)[0]
    return {
        "step, CPU ms": 1e3 * cpu / steps,
        "step, wall ms": 1e3 * wall / steps,
        "drift, µeV/atom/ps": 1e6 * drift,
        "rms, µeV/atom": 1e6 * np.std(energies),
        "temperature, K": atoms.get_temperature(),
    }


def default_model(data, file):
    """Fit with defaults to silicon of the timings, or to copper, and save the model."""
    frames = read("train.xyz") if data == "silicon" else copper(48, seed=0, cells=2)
    fitted = kforce.GAPRegressor().fit(frames)
    fitted.save(file)
    return {"n_inducing": [term.n_inducing for term in fitted.terms_]}


def default_predict(file, calls):
    """Time energy and forces of 64 atoms of silicon."""
    fitted, atoms = kforce.load(file), read("test.xyz")[0].copy()
    both = nudged(atoms, lambda: fitted.evaluate_one(atoms))
    return per_atom("E + F", both, calls, len(atoms))


def std_dynamics(file, std, steps):
    """Time steps of molecular dynamics of 500 atoms of copper."""
    atoms = bulk("Cu", a=3.59, cubic=True) * 5
    atoms.calc = kforce.load(file).calculator(std=std)
    rng = np.random.default_rng(0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=rng)
    engine = VelocityVerlet(atoms, timestep=1.0 * units.fs)
    engine.run(2)  # loads compiled code, sets up tables
    cpu, wall = timed(lambda: engine.run(steps), 1)
    return {"step, CPU ms": 1e3 * cpu / steps, "step, wall ms": 1e3 * wall / steps}


if __name__ == "__main__":
    tasks = (
        model,
        predict,
        descriptor,
        size,
        dynamics,
        default_model,
        default_predict,
        std_dynamics,
    )
    answer({task.__name__: task for task in tasks})
