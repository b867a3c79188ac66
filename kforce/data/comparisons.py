"""What the frames of a data set, or of two, have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from kforce.data.duplicates import find_duplicates
from kforce.data.findings import Finding, LabelledSet, plural
from kforce.data.reorder import atom_classes, bond_graph


def compare_atoms(sets: Sequence[LabelledSet]) -> Iterator[Finding]:
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
        order += _rebonded(first, data.frames, rest)
        if other:
            yield Finding(
                "warning",
                "composition",
                f"{plural(len(other), 'frame')} with other atoms than train frame "
                f"{its_number}, "
                f"{first.get_chemical_formula()}, such as "
                f"{data.frames[other[0]].get_chemical_formula()} "
                f"{data.where(other)}: a model of one molecule cannot use them.",
            )
        if order:
            yield Finding(
                "warning",
                "atom-order",
                f"{plural(len(order), 'frame')} with the atoms of train frame "
                f"{its_number} in another order {data.where(sorted(order))}: "
                "bring all frames into one with kforce.data.reorder_atoms, or "
                "--reorder on the command line.",
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


def compare_geometries(sets: Sequence[LabelledSet]) -> Iterator[Finding]:
    """Find repeated geometries, in each set and across both."""
    n_train = len(sets[0].frames)
    numbers = {data.name: data.numbers for data in sets}
    pairs = find_duplicates([frame for data in sets for frame in data.frames])
    kinds = {
        "train": [(i, j) for i, j in pairs if j < n_train],
        "across": [(i, j - n_train) for i, j in pairs if i < n_train <= j],
        "test": [(i - n_train, j - n_train) for i, j in pairs if i >= n_train],
    }
    for kind, found in kinds.items():
        if not found:
            continue
        a, b = ("train", "test") if kind == "across" else (kind, kind)
        first, second = numbers[a], numbers[b]
        verb = "shows" if len(found) == 1 else "show"
        earlier = "a training frame" if kind == "across" else "an earlier one"
        advice = "the test is not honest" if kind == "across" else "remove the repeats"
        examples = ", ".join(f"{b} {second[j]} = {a} {first[i]}" for i, j in found[:5])
        yield Finding(
            "warning",
            "duplicates-across" if kind == "across" else "duplicates",
            f"{plural(len(found), b + ' frame')} {verb} the geometry of {earlier} "
            f"({examples}{', ...' if len(found) > 5 else ''}): {advice}.",
        )
