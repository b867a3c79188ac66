"""Measurements of kforce for gap_fit.py, each in a process of its own."""

from dataclasses import replace

import numpy as np
from _gap_common import SOAP, TIMING, answer, forget_peak, status, timed
from ase.calculators.singlepoint import SinglePointCalculator

import kforce
from kforce.evaluation.metrics import mae
from kforce.gap.covariance import sparse_rows
from kforce.gap.posterior import gather
from kforce.gap.term import build_terms
from kforce.gap.training_set import TrainingSet
from kforce.labels import Labels, read_stresses
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

_IMPORTED = status("VmHWM")

#: Settings of the timings, and those that Zuo et al. published.
_NOISES = {
    "silicon": {"noise_energy": 0.001, "noise_forces": 0.05},
    "mlearn": {"noise_energy": 0.01, "noise_forces": 0.05, "noise_virial": 0.01},
}


def read(path):
    """Return frames of the timings, or other ones."""
    return kforce.read_frames(path, "ref_energy", "ref_forces")


def estimator(soap, n_inducing, noises):
    """Return a force field of SOAP alone, with everything given."""
    kernel = kforce.Scaled(kforce.Polynomial(zeta=4), amplitude=1.0)
    term = kforce.Term(kforce.SOAP(**soap), kernel, n_inducing, selection="cur")
    return kforce.GAPRegressor([term], **_NOISES[noises], optimize=False)


def fit(data, train, test, soap, n_inducing):
    """Time a fit with given settings."""
    keys = ("ref_energy", "ref_forces") if data == "silicon" else ()
    train, test = (kforce.read_frames(path, *keys) for path in (train, test))
    first, model = (estimator(soap, n, data) for n in (5, n_inducing))
    return measured(first, model, train, test)


def fit_defaults(train, test):
    """Time a fit with defaults, in which all there is to learn is learned."""
    train, test = (kforce.read_frames(path) for path in (train, test))
    return measured(kforce.GAPRegressor(), kforce.GAPRegressor(), train, test)


def measured(first, model, train, test):
    """Time a fit; tell the peak of memory and errors of a test set.

    The first model loads compiled code from the cache.
    """
    few = sorted(train, key=len)[:3]
    first.fit(few).evaluate(few)
    cpu, wall = timed(lambda: model.fit(train), 1)
    peak = status("VmHWM")
    return {
        "fit, CPU s": cpu,
        "fit, wall s": wall,
        "peak, MB": peak,
        "peak above start, MB": peak - _IMPORTED,
    } | errors(model.evaluate(test), test)


def errors(prediction, frames):
    """Return mean absolute errors of energies per atom and force components."""
    labels, n_atoms = Labels.from_frames(frames), np.array([len(f) for f in frames])
    forces = (np.concatenate(f) for f in (prediction.forces, labels.forces))
    return {
        "E MAE, meV/atom": 1e3
        * mae(prediction.energy / n_atoms, labels.energy / n_atoms),
        "F MAE, eV/Å": mae(*forces),
    }


def same_points(xml, out):
    """Fit with the sparse points and settings of gap_fit, and predict."""
    model = kforce.io.read_quip_xml(xml)
    frames, test = read(TIMING / "train.xyz"), read(TIMING / "test.xyz")
    labels = replace(Labels.from_frames(frames), stress=read_stresses(frames))
    (z,) = model.species_
    alone = model.reference_energies_[z] * np.array([len(f) for f in frames])
    labels = replace(labels, energy=labels.energy - alone)
    training = TrainingSet.build(frames, labels, (0.001, 0.05, 0.1))
    posterior = gather(model.terms_, training, jitter=1e-8).condition()
    model._restore(terms_=posterior.terms)
    found = model.evaluate(test)
    np.savez(out, energy=found.energy, forces=np.concatenate(found.forces))
    return {"jitter": posterior.solution.jitter}


def rows(n_rows, n_inducing):
    """Tell the peak of memory of a linear system above its two triangular factors."""
    rng = np.random.default_rng(0)
    known = read(TIMING / "train.xyz")
    per_frame = 3 * len(known[0]) + 1
    frames = []
    for s in range(-(-n_rows // per_frame)):
        # Any labels do.
        labelled = known[s % len(known)]
        atoms = labelled.copy()
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = SinglePointCalculator(atoms, **labelled.calc.results)
        frames.append(atoms)
    # Cheap vectors: only the number of rows and columns matters here.
    soap = kforce.SOAP(**SOAP | {"n_max": 6, "l_max": 6})
    kernel = kforce.Scaled(kforce.Polynomial(zeta=4), amplitude=1.0)
    wanted = kforce.Term(soap, kernel, n_inducing, selection="random")
    labels = replace(Labels.from_frames(frames), stress=read_stresses(frames))
    training = TrainingSet.build(frames, labels, (0.01, 0.1, 0.1))
    terms, _ = build_terms([wanted], training, (14,), rng)
    # Loads compiled code from the cache.
    batch = Batch.from_frames(frames[:1])
    sparse_rows(terms, batch, find_neighbours(batch, soap.cutoff))
    forget_peak()
    before = status("VmRSS")
    cpu, wall = timed(lambda: gather(terms, training, jitter=1e-8).condition(), 1)
    above = status("VmHWM") - before
    return {
        "rows": per_frame * len(frames),
        "columns": terms[0].n_inducing,
        "solve, CPU s": cpu,
        "solve, wall s": wall,
        "peak above start, MB": above,
        "above the two factors, MB": above - 16 * terms[0].n_inducing ** 2 / 2**20,
    }


if __name__ == "__main__":
    tasks = (fit, fit_defaults, same_points, rows)
    answer({task.__name__: task for task in tasks})
