"""Checks of a data set before a fit, with findings in plain sentences."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from ase.neighborlist import neighbor_list
from scipy.spatial.distance import pdist

from kforce.data.bond_lengths import LONGEST, typical_stretch
from kforce.data.consistency import energy_force_slope
from kforce.data.duplicates import contradiction, find_duplicates
from kforce.data.findings import Finding, LabelledSet, Report, plural
from kforce.data.reorder import atom_classes, bond_graph

log = logging.getLogger("kforce.data")

_MIN_DISTANCE = 0.3  # Å; the shortest bond there is, in H2, measures 0.74

# Net force against the RMS force, net torque against RMS force times radius of
# gyration, over all frames. Converged calculations leave 5e-9 to 2e-4 of force, and
# 5e-7 to 2e-3 of torque (which integration grids do not conserve); the original MD17,
# known to be noisy, has 3e-3 and 2e-3.
_NET_FORCE = 1e-3
_NET_TORQUE = 5e-3
# A single frame may be worse than the rest: up to 4e-3 and 1e-2 were seen.
_NET_OF_ONE_FRAME = 2e-2

#: Forces of molecules outside of these bounds (in eV/Å, root mean square) are hardly in
#: eV/Å.
_LEAST_RMS_FORCE, _LARGEST_RMS_FORCE = 0.08, 20.0


def check_frames(
    train: Sequence[Atoms],
    test: Sequence[Atoms] | None = None,
    numbers: tuple[Sequence[int], Sequence[int]] | None = None,
) -> Report:
    """Look for mistakes in a data set.

    Looked for are duplicates within and across the sets, with the same or with
    contradictory labels, missing and constant labels,
    values that are not finite, atoms closer than 0.3 Å, changing composition or atom
    order, net forces and torques on isolated molecules, and energies that contradict
    the forces in sign or unit. Findings number the frames as `numbers` do, those
    of the file that both sets were split from, or by their positions in the lists.
    Nothing is raised for what is found, see `Report.raise_errors`; `InputError` says
    that a set is no list of frames.

    >>> from kforce.datasets import load_methanol_ccsdt
    >>> frames = load_methanol_ccsdt()
    >>> print(check_frames(frames[:144], frames[144:]))
    no findings
    >>> print(check_frames(frames[:100], frames[99:]))
    warning: 1 test frame shows the geometry of a training frame (test 0 = train 99...
    """
    of_train, of_test = numbers or (None, None)
    sets = [LabelledSet("train", train, of_train)]
    if test is not None:
        sets.append(LabelledSet("test", test, of_test))
    findings = [f for data in sets for check in _CHECKS for f in check(data)]
    findings += [*_compare_atoms(sets), *_compare_geometries(sets)]
    levels = ("error", "warning", "note")
    return Report(sorted(findings, key=lambda finding: levels.index(finding.level)))


def _check_finite(data: LabelledSet):
    bad = [s for s, f in enumerate(data.frames) if not np.isfinite(f.positions).all()]
    if bad:
        yield Finding(
            "error",
            "positions-not-finite",
            f"{plural(len(bad), 'frame')} with positions that are NaN or infinite "
            f"{data.where(bad)}: remove them.",
        )
    if data.bad_labels:
        yield Finding(
            "error",
            "labels-not-finite",
            f"{plural(len(data.bad_labels), 'frame')} with labels that are infinite, "
            "of a wrong shape or computed for other positions "
            f"{data.where(data.bad_labels)}: remove them, or set the values "
            "to NaN to leave them out of the fit.",
        )


def _check_missing(data: LabelledSet):
    n = len(data.frames)
    no_energy = np.flatnonzero(np.isnan(data.energy))
    if len(no_energy):
        yield Finding(
            "note",
            "missing-energies",
            f"{len(no_energy)} of {plural(n, data.name + ' frame')} without energy "
            f"{data.where(no_energy)}.",
        )
    atoms = np.array([np.isnan(f).any(axis=1).sum() for f in data.forces])
    lacking = np.flatnonzero(atoms)
    if not len(lacking):
        return
    if atoms.sum() == sum(map(len, data.frames)):
        yield Finding(
            "warning",
            "missing-forces",
            f"None of the {data.name} frames has forces: if their file does, name the "
            "field with forces_key (--forces-key).",
        )
    else:
        yield Finding(
            "note",
            "missing-forces",
            f"{len(lacking)} of {plural(n, data.name + ' frame')} without the forces "
            f"on some or all atoms, {plural(atoms.sum(), 'atom')} in all "
            f"{data.where(lacking)}; these are left out of the force rows.",
        )


def _check_constant(data: LabelledSet):
    energy = data.energy[np.isfinite(data.energy)]
    if len(energy) > 2 and np.ptp(energy) == 0:
        yield Finding(
            "warning",
            "constant-energies",
            f"All {len(energy)} energies of the {data.name} frames are "
            f"{energy[0]:g} eV: check that they are energies.",
        )
    labelled = [f for f in data.forces if len(f) > 1 and np.isfinite(f).any()]
    if labelled and all(np.nanmax(np.abs(f)) == 0 for f in labelled):
        yield Finding(
            "warning",
            "zero-forces",
            f"All forces of the {data.name} frames are zero: check that they are the "
            "forces, or remove them.",
        )


def _check_distances(data: LabelledSet):
    shortest = np.array([_shortest_distance(frame) for frame in data.frames])
    close = np.flatnonzero(shortest < _MIN_DISTANCE)
    if len(close):
        yield Finding(
            "error",
            "atoms-too-close",
            f"{plural(len(close), 'frame')} with atoms closer than {_MIN_DISTANCE} Å, "
            f"down to {shortest[close].min():.3g} Å {data.where(close)}: remove them, "
            "or check the unit of length.",
        )


def _check_magnitudes(data: LabelledSet):
    """Look for units that are wrong throughout, which leave labels consistent."""
    ratio = typical_stretch(data.frames)
    if ratio > LONGEST:
        yield Finding(
            "warning",
            "lengths-too-long",
            f"Neighbouring atoms are {ratio:.2g} times as far apart as bonds are long: "
            "if the lengths are in Bohr, say so with the units.",
        )
    isolated = [s for s in range(len(data.frames)) if data.is_isolated(s)]
    typical = _rms([data.forces[s] for s in isolated])
    if typical and not _LEAST_RMS_FORCE < typical < _LARGEST_RMS_FORCE:
        yield Finding(
            "warning",
            "unusual-forces",
            f"The forces are {typical:.2g} eV/Å (root mean square), where molecules at "
            "some hundred kelvin have about 0.1 to 10: check the units.",
        )


def _shortest_distance(frame: Atoms) -> float:
    """Return the shortest distance in Å; inf if it is not of interest."""
    if not np.isfinite(frame.positions).all():
        return np.inf
    if frame.pbc.any() and frame.cell.rank == 3:
        if np.linalg.matrix_rank(frame.cell.array) == 3:  # or else it is flat
            frame = frame.copy()
            frame.set_cell(minkowski_reduce(frame.cell, frame.pbc)[0])
        heights = 1 / np.linalg.norm(frame.cell.reciprocal(), axis=1)
        if heights[frame.pbc].min() < _MIN_DISTANCE:  # countless images, all too close
            return heights[frame.pbc].min()
        return neighbor_list("d", frame, _MIN_DISTANCE).min(initial=np.inf)
    return pdist(frame.positions).min(initial=np.inf)


def _check_net_force(data: LabelledSet):
    members = np.array([s for s in range(len(data.frames)) if data.is_isolated(s)])
    forces = [data.forces[s] for s in members]
    arms = [data.frames[s].positions for s in members]
    arms = [r - r.mean(axis=0) for r in arms]
    typical = _rms(forces)
    radius = _rms(arms) * np.sqrt(3)
    if not typical or not radius:
        return
    force = np.array([f.sum(axis=0) for f in forces])
    torque = np.array(
        [np.cross(r, f).sum(axis=0) for r, f in zip(arms, forces, strict=True)]
    )
    for name, unit, net, scale, limit in (
        ("force", "eV/Å", force, typical, _NET_FORCE),
        ("torque", "eV", torque, typical * radius, _NET_TORQUE),
    ):
        size, rms = np.linalg.norm(net, axis=1), _rms([net])
        if rms > limit * scale or size.max() > _NET_OF_ONE_FRAME * scale:
            yield Finding(
                "warning",
                f"net-{name}",
                f"The {name}s on an isolated molecule should add up to zero, but the "
                f"net {name} is {rms:.2g} {unit} (RMS), {rms / scale:.1g} of the "
                f"typical {name}, and {size.max():.2g} {unit} at worst "
                f"{data.where(members[np.argsort(-size)][:5])}: the calculations are "
                "not converged, or the molecules are not isolated.",
            )


def _rms(arrays) -> float:
    return float(np.sqrt(np.mean(np.concatenate(arrays) ** 2))) if len(arrays) else 0.0


def _check_consistency(data: LabelledSet):
    relation = energy_force_slope(data.frames, data.energy, data.forces)
    if relation is None:
        return
    log.debug("energies against the work of the forces (%s): %s", data.name, relation)
    if relation.contradicts:
        cause = f", as if {relation.cause}" if relation.cause else ""
        yield Finding(
            "error" if relation.cause else "warning",
            "energies-contradict-forces",
            f"Energies and forces of the {data.name} frames contradict each other: "
            f"between {relation.n_pairs} pairs of similar frames the energies change "
            f"{relation.slope:.3g} times as much as the forces say{cause}; convert the "
            "labels to eV and eV/Å, or name the units of their file (units, --units).",
        )
        return
    for s, misfit in sorted(relation.misfits.items(), key=lambda item: -item[1]):
        yield Finding(
            "warning",
            "energy-contradicts-forces",
            f"Energies of {data.name} frame {data.numbers[s]} and of similar frames "
            f"differ by {misfit:.3g} eV more or less than their forces say: check this "
            "calculation.",
        )


def _compare_atoms(sets: Sequence[LabelledSet]):
    """Compare composition and atom order with those of the first training frame.

    The sets are the training set, and the test set if there is one.
    """
    first, its_number = sets[0].frames[0], sets[0].numbers[0]
    for data in sets:
        other, order = [], []
        for s, frame in enumerate(data.frames):
            if not np.array_equal(np.sort(frame.numbers), np.sort(first.numbers)):
                other.append(s)
            elif not np.array_equal(frame.numbers, first.numbers):
                order.append(s)
        rest = sorted(set(range(len(data.frames))) - set(other) - set(order))
        renumbered = _rebonded(first, data.frames, rest)
        if other:
            yield Finding(
                "warning",
                "composition",
                f"{plural(len(other), 'frame')} with other atoms than train frame "
                f"{its_number}, {first.get_chemical_formula()}, such as "
                f"{data.frames[other[0]].get_chemical_formula()} "
                f"{data.where(other)}: a model of one molecule cannot use them.",
            )
        if order:
            yield Finding(
                "warning",
                "atom-order",
                f"{plural(len(order), 'frame')} with the atoms of train frame "
                f"{its_number} in another order {data.where(order)}: "
                "bring all frames into one with kforce.data.reorder_atoms, or "
                "--reorder on the command line.",
            )
        if renumbered:
            yield Finding(
                "note",
                "like-atom-order",
                f"{plural(len(renumbered), 'frame')} with like atoms of train frame "
                f"{its_number} in another order {data.where(renumbered)}: a "
                "GDMLRegressor brings them into one, unless permutations are given; "
                "kforce.data.reorder_atoms, or --reorder on the command line, do so "
                "for other uses.",
            )


def _rebonded(first, frames, candidates) -> list[int]:
    """Return frames with the bond graph of the first, but between other atoms."""
    if first.pbc.any() or not np.isfinite(first.positions).all():
        return []
    bonds = bond_graph(first)
    classes = sorted(atom_classes(first.numbers, bonds))
    rebonded = []
    for s in candidates:
        if frames[s].pbc.any() or not np.isfinite(frames[s].positions).all():
            continue
        graph = bond_graph(frames[s])
        # One bond made and one broken is a proton transfer, not another order.
        if np.count_nonzero(graph != bonds) > 4 and classes == sorted(
            atom_classes(first.numbers, graph)
        ):
            rebonded.append(s)
    return rebonded


def _compare_geometries(sets: Sequence[LabelledSet]):
    """Find repeated geometries, in each set and across both."""
    places = [(data, s) for data in sets for s in range(len(data.frames))]
    contradictory = []
    repeats = defaultdict(list)
    for i, j in find_duplicates([data.frames[s] for data, s in places]):
        (first, s), (second, t) = places[i], places[j]
        pair = f"{second.name} {second.numbers[t]} = {first.name} {first.numbers[s]}"
        difference = contradiction(
            (first.energy[s], second.energy[t]), (first.forces[s], second.forces[t])
        )
        if difference:
            contradictory.append(f"{pair}: {difference}")
        else:
            repeats[first.name, second.name].append(pair)
    if contradictory:
        more = ", ..." if len(contradictory) > 5 else ""
        verb = "has" if len(contradictory) == 1 else "have"
        yield Finding(
            "warning",
            "contradictory-duplicates",
            f"{plural(len(contradictory), 'frame')} {verb} other labels than an "
            f"earlier one of the same geometry ({', '.join(contradictory[:5])}{more}): "
            "one of each pair is wrong, or of another level of theory; check these "
            "calculations.",
        )
    for (first, second), pairs in sorted(repeats.items(), reverse=True):
        across = first != second
        verb = "shows" if len(pairs) == 1 else "show"
        earlier = "a training frame" if across else "an earlier one"
        advice = "the test is not honest" if across else "remove the repeats"
        yield Finding(
            "warning",
            "duplicates-across" if across else "duplicates",
            f"{plural(len(pairs), second + ' frame')} {verb} the geometry of {earlier} "
            f"({', '.join(pairs[:5])}{', ...' if len(pairs) > 5 else ''}): {advice}.",
        )


_CHECKS = (
    _check_finite,
    _check_missing,
    _check_constant,
    _check_distances,
    _check_magnitudes,
    _check_net_force,
    _check_consistency,
)
