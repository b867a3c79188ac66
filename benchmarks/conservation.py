"""Energy conservation in long molecular dynamics with the embedded methanol model.

A model whose forces are the exact gradient of its energy conserves the total energy up
to the integrator's own fluctuation, however long the run.
"""

import argparse
import time

import numpy as np
from ase import units
from ase.md.verlet import VelocityVerlet

import kforce


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--timestep", type=float, default=0.5, help="fs")
    args = parser.parse_args()
    model = kforce.GDMLRegressor().fit(kforce.datasets.load_methanol_ccsdt()[:144])
    atoms = start(model, args.temperature)
    dynamics = VelocityVerlet(atoms, timestep=args.timestep * units.fs)
    energies, temperatures = [], []

    def record():
        energies.append(atoms.get_total_energy())
        temperatures.append(atoms.get_temperature())

    dynamics.attach(record, interval=10)
    begin = time.perf_counter()
    dynamics.run(args.steps)
    seconds = time.perf_counter() - begin
    energies = np.array(energies) / len(atoms)
    picoseconds = np.arange(len(energies)) * 10 * args.timestep * 1e-3
    drift = np.polyfit(picoseconds, energies, 1)[0]
    cost = 1e3 * seconds / args.steps
    print(f"{args.steps} steps of {args.timestep} fs, {cost:.3f} ms each")
    print(f"temperature  {np.mean(temperatures):.0f} K on average")
    print(f"drift        {drift:+.2e} eV per atom and ps")
    print(f"fluctuation  {energies.std():.2e} eV per atom (standard deviation)")
    print(f"range        {np.ptp(energies):.2e} eV per atom")


def start(model, temperature):
    """Relax, and give random velocities that put half of them into the potential."""
    from ase.optimize import BFGS

    atoms = kforce.datasets.load_methanol_ccsdt()[0].copy()
    atoms.calc = model.calculator()
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=200)
    rng = np.random.default_rng(0)
    scale = np.sqrt(2.0 * temperature * units.kB * atoms.get_masses())
    momenta = rng.normal(size=(len(atoms), 3)) * scale[:, None]
    atoms.set_momenta(momenta - momenta.mean(axis=0))
    return atoms


if __name__ == "__main__":
    main()
