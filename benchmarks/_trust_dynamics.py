"""Dynamics that leaves the training data, and whether an alarm comes before a hole.

A run is Langevin dynamics on a model. Its alarm is the first extrapolation grade above
1, and a hole is a true error above `HOLE`, or a structure that cannot be labelled. True
energies are computed every so many steps, and at the alarm.
"""

import time
from dataclasses import dataclass

import numpy as np
from ase import units
from ase.md.langevin import Langevin

#: True error of the energy that is a hole, in eV.
HOLE = 1.0

#: How long a run goes on after its alarm, in fs.
AFTER_ALARM = 1000.0

#: Time step in fs, and friction of the thermostat in 1/fs.
TIMESTEP, FRICTION = 0.5, 0.02


@dataclass(frozen=True)
class Run:
    """A run: times in fs of its end, alarm and hole (inf where there is none).

    `error` is the largest true error in eV that was seen up to the alarm, and `grade`
    the largest grade of all steps.
    """

    temperature: float
    end: float
    alarm: float
    hole: float
    error: float
    grade: float

    @property
    def is_silent(self):
        """Whether there was a hole without an alarm before it."""
        return self.hole < np.inf and not self.alarm < self.hole


def true_error(atoms, label):
    """Return |E − E_true| in eV, inf where the label cannot be computed."""
    copy = atoms.copy()
    copy.calc = label
    try:
        return abs(atoms.get_potential_energy() - copy.get_potential_energy())
    except Exception:  # whatever the other program says of such a structure
        return np.inf


def run(model, start, temperature, length, label, seed, spacing=40):
    """Run dynamics of `length` fs at a temperature in K from a structure.

    It ends `AFTER_ALARM` after the alarm, and at a hole. `label` is the calculator of
    true energies, which are computed every `spacing` steps.
    """
    rng = np.random.default_rng(seed)
    atoms = start.copy()
    atoms.calc = calculator = model.calculator(on_extrapolation="ignore")
    scale = np.sqrt(units.kB * temperature * atoms.get_masses())[:, None]
    atoms.set_momenta(scale * rng.normal(size=(len(atoms), 3)))
    dynamics = Langevin(
        atoms, TIMESTEP * units.fs, temperature_K=temperature,
        friction=FRICTION / units.fs, fixcm=False, rng=rng,
    )  # fmt: skip
    alarm = hole = np.inf
    largest, now, end = 0.0, 0.0, length
    for step in range(1, int(length / TIMESTEP) + 1):
        dynamics.run(1)
        now = step * TIMESTEP
        is_alarm = alarm == np.inf and calculator.n_extrapolating > 0
        if is_alarm:
            alarm, end = now, min(length, now + AFTER_ALARM)
        if is_alarm or step % spacing == 0:
            error = true_error(atoms, label)
            if now <= alarm:
                largest = max(largest, error)
            if error > HOLE:
                hole = now
        if hole < np.inf or now >= end:
            break
    return Run(temperature, now, alarm, hole, largest, calculator.largest_grade)


def runs(model, frames, temperature, label, factors, n_runs, length, spacing=40):
    """Return `n_runs` runs from random frames at each multiple of the temperature."""
    found = []
    for factor in factors:
        for seed in range(n_runs):
            rng = np.random.default_rng([seed, int(100 * factor)])
            start = frames[rng.integers(len(frames))]
            hot = factor * temperature
            found.append(run(model, start, hot, length, label, seed, spacing))
    return found


def report(name, found):
    """Print a line for each temperature."""
    print(
        f"{name:<20}{'T, K':>7}{'runs':>6}{'ps':>8}{'alarms':>8}{'holes':>7}"
        f"{'silent':>8}{'grade':>8}{'error to alarm, eV':>20}"
    )
    for temperature in sorted({one.temperature for one in found}):
        some = [one for one in found if one.temperature == temperature]
        alarms = sum(one.alarm < np.inf for one in some)
        holes = sum(one.hole < np.inf for one in some)
        silent = sum(one.is_silent for one in some)
        length = sum(one.end for one in some) / 1000.0
        grade, error = max(o.grade for o in some), max(o.error for o in some)
        print(
            f"{'':<20}{temperature:>7.0f}{len(some):>6}{length:>8.1f}{alarms:>8}"
            f"{holes:>7}{silent:>8}{grade:>8.2f}{error:>20.3f}"
        )


def step_times(model, frame, n_steps=2000, seed=0):
    """Return median times of a step without and with `std="energy"`, in ms.

    Both are timed in turn, on structures that are a little different each time.
    """
    rng = np.random.default_rng(seed)
    calculators = [model.calculator(), model.calculator(std="energy")]
    atoms = frame.copy()
    taken = np.empty((n_steps, 2))
    for calculator in calculators:
        calculator.calculate(atoms)  # makes what is made once
    for step in range(n_steps):
        atoms.positions = frame.positions + rng.normal(scale=1e-3, size=(len(frame), 3))
        for k, calculator in enumerate(calculators):
            start = time.perf_counter()
            calculator.calculate(atoms)
            taken[step, k] = time.perf_counter() - start
    return tuple(1000.0 * np.median(taken, axis=0))


def trust_dynamics(
    systems, label, n_train=200, n_runs=5, hot_ps=2.0, cold_ps=5.0,
    factors=(1.5, 2.0, 3.0, 4.0, 5.0), fit=None,
):  # fmt: skip
    """Fit and run all systems, {name: (frames, temperature in K)}, and print tables.

    There are `n_runs` runs of `hot_ps` at each of the factors times the temperature,
    and as many of `cold_ps` at the temperature itself, whose alarms are false. `fit`
    returns the model of some frames: the default one unless it is given.
    """
    if fit is None:
        from kforce import GDMLRegressor

        fit = GDMLRegressor().fit
    for name, (frames, temperature) in systems.items():
        model = fit(frames[:n_train])
        rest = frames[n_train:]
        cold = runs(model, rest, temperature, label, (1.0,), n_runs, 1000.0 * cold_ps)
        hot = runs(model, rest, temperature, label, factors, n_runs, 1000.0 * hot_ps)
        report(name, cold + hot)
        without, with_std = step_times(model, rest[0])
        print(
            f"{'':<20}a step takes {without:.2f} ms, with the standard deviation of "
            f"the energy {with_std:.2f} ms: × {with_std / without:.2f}",
            flush=True,
        )
