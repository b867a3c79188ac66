"""Input that fit and predictions refuse: one table for each entry point."""

import numpy as np
import pytest
from ase import Atoms
from toys import (
    AMMONIA,
    WATER,
    labelled,
    regressor,
    toy_frames,
)

from kforce.errors import InputError
from kforce.kernels.base import Scaled
from kforce.kernels.stationary import Matern52
from kforce.solvers import resources as forecast


def periodic(frames):
    """Images touch: no molecules in boxes."""
    return [
        labelled(f.numbers, f.positions, 0.0, f.get_forces(), cell=[4.0] * 3, pbc=True)
        for f in frames
    ]


def reordered(frames):
    order = [1, 0, 2]
    return [
        labelled(f.numbers[order], f.positions[order], 0.0, f.get_forces()[order])
        for f in frames
    ]


def other_cell(frames):
    frames = [f.copy() for f in periodic(frames)]
    for frame in frames:
        frame.set_cell([5.0] * 3)
    return frames


def constant(value):
    return lambda frames: value


FRAMES = [
    ("empty list", constant([]), "at least one structure, found an empty list"),
    ("single Atoms", lambda f: f[0], r"single Atoms: write \[atoms\]"),
    ("a number", constant(3), "Expected a list of ase.Atoms, found int"),
    ("not Atoms", lambda f: [f[0], "x"], "found str at position 1"),
    ("no atoms", lambda f: [f[0], Atoms()], "Frame 1 holds no atoms"),
    (
        "coincident atoms",
        lambda f: [f[0], labelled(WATER, np.zeros((3, 3)), 0.0, np.zeros((3, 3)))],
        "of structure 1 are at the same place. Remove",
    ),
    (
        "two molecules",
        lambda f: [*f, *toy_frames(AMMONIA, 1)],
        "Expected structures of H2O, found H3N in frame 6: .* one molecule only",
    ),
    (
        "two orders",
        lambda f: [*f, *reordered(f)],
        "in the order O H H, found H O H in frame 6: re-order them",
    ),
    (
        "some periodic",
        lambda f: [*f, *periodic(f)],
        "one molecule with vacuum around it, found that periodic images in frame 6 are "
        "2.* Å apart, less than the 5 Å of vacuum around a molecule: enlarge the box",
    ),
]
in_fit = [
    *FRAMES,
    (
        "no forces",
        lambda f: [labelled(WATER, g.positions, 0.0) for g in f],
        "Expected forces on the training frames, found none: .*forces_key",
    ),
    ("no labels", lambda f: [Atoms(WATER, g.positions) for g in f], "found none"),
    (
        "infinite force",
        lambda f: [labelled(WATER, f[0].positions, 0.0, np.full((3, 3), np.inf))],
        "frame 0 holds infinity",
    ),
    (
        "one atom",
        constant([labelled([2], np.zeros((1, 3)), 0.0, np.zeros((1, 3)))]),
        "at least two atoms",
    ),
    (
        "two cells",
        lambda f: [
            *periodic(f),
            labelled(
                WATER, f[0].positions, forces=np.ones((3, 3)), cell=[5] * 3, pbc=1
            ),
        ],
        "the cell .* in frame 6",
    ),
]


@pytest.mark.parametrize(
    ("bad", "match"), [row[1:] for row in in_fit], ids=[row[0] for row in in_fit]
)
@pytest.mark.parametrize("permutations", ["auto", None], ids=str)
def test_frames_that_fit_refuses(bad, match, permutations):
    with pytest.raises(InputError, match=match):
        regressor(permutations=permutations).fit(bad(toy_frames(WATER, 6)))


in_predictions = [
    *FRAMES,
    (
        "not a number",
        lambda f: [f[0], labelled(WATER, np.full((3, 3), np.nan), 0, np.zeros((3, 3)))],
        "frame 1 holds NaN or infinity",
    ),
]


@pytest.mark.parametrize("method", ["predict", "evaluate", "score"])
@pytest.mark.parametrize(
    ("bad", "match"),
    [row[1:] for row in in_predictions],
    ids=[row[0] for row in in_predictions],
)
def test_frames_that_predictions_refuse(bad, match, method):
    frames = toy_frames(WATER, 6)
    with pytest.raises(InputError, match=match):
        getattr(regressor().fit(frames), method)(bad(frames))


@pytest.mark.parametrize(
    ("trained_on", "asked", "match"),
    [
        (list, periodic, "Expected one molecule with vacuum .* images in frame 0 are"),
        (periodic, list, "and the cell .*, found no periodic boundaries"),
        (periodic, other_cell, "Expected pbc=.* and the cell"),
    ],
    ids=["periodic", "not periodic", "another cell"],
)
def test_boundary_conditions_must_be_those_of_the_training(trained_on, asked, match):
    frames = toy_frames(WATER, 4)
    model = regressor(Matern52(length_scale=1.3)).fit(
        [
            labelled(
                g.numbers, g.positions, None, g.get_forces(), cell=g.cell, pbc=g.pbc
            )
            for g in trained_on(frames)
        ]
    )
    with pytest.raises(InputError, match=match):
        model.predict(asked(frames))


@pytest.mark.parametrize(
    ("params", "match"),
    [
        (
            {"permutations": [[0, 1], [1, 0]]},
            r"shape \(n_perms, 3\), .* found \(2, 2\)",
        ),
        ({"permutations": [0, 1, 2]}, r"shape \(n_perms, 3\), .* found \(3,\)"),
        ({"permutations": [[0, 1, 2], [0, 1]]}, "equal length"),
        ({"permutations": [[0.0, 1.0, 2.0]]}, "must be integers"),
        ({"permutations": [[0, 1, 1]]}, "each of 0...2 once"),
        ({"permutations": [[1, 2, 3]]}, "each of 0...2 once"),
        ({"permutations": [[0, 1, 2], [1, 0, 2]]}, "only equal elements"),
        ({"permutations": [[0, 2, 1]]}, "must hold the identity"),
        ({"permutations": "all"}, "permutations must be 'auto', None or an array"),
        ({"noise_forces": -0.1}, "noise_forces must be a positive"),
        ({"noise_forces": 0.0}, "noise_forces must be a positive"),
        ({"noise_forces": np.nan}, "noise_forces must be a positive"),
        ({"noise_energy": -0.1}, "noise_energy must be a positive"),
        ({"noise_energy": np.inf}, "noise_energy must be a positive"),
        ({"solver": "magic"}, "solver must be 'auto' or 'cholesky', found 'magic'"),
        ({"baseline": "GFN3"}, "GFN2-xTB"),
        ({"variance": "some"}, "'exact', 'subset' or None, found 'some'"),
        ({"kernel": Matern52(length_scale=-1.0)}, "must be a positive number"),
        ({"kernel": Scaled(Matern52(1.0), -1.0)}, "amplitude must be a positive"),
    ],
    ids=str,
)
def test_parameters_that_fit_refuses(params, match):
    with pytest.raises(InputError, match=match):
        regressor(**params).fit(toy_frames(WATER, 4))


def test_permutations_that_are_no_group():
    cyclic = np.array([[0, 1, 2, 3], [0, 2, 3, 1]])
    with pytest.raises(InputError, match="must be a group"):
        regressor(permutations=cyclic).fit(toy_frames(AMMONIA, 4))


@pytest.mark.parametrize("copies", [1, 3])
def test_a_length_scale_is_not_learned_from_one_structure(copies):
    with pytest.raises(InputError, match="at least two different structures: add"):
        regressor(Matern52()).fit(copies * toy_frames(WATER, 1))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda m, f: m.evaluate(f, ("energy", "stress")), "three periodic directions"),
        (lambda m, f: m.evaluate(f, ("dipole", "charge")), "not 'charge', 'dipole'"),
        (
            lambda m, f: m.score([Atoms(WATER, g.positions) for g in f]),
            "none of these frames has any",
        ),
    ],
)
def test_what_cannot_be_predicted(call, match):
    frames = toy_frames(WATER, 3)
    with pytest.raises(InputError, match=match):
        call(regressor().fit(frames), frames)


def test_too_little_memory_is_found_before_the_fit(monkeypatch):
    monkeypatch.setattr(forecast, "available_memory", lambda: 1e3)
    with pytest.raises(InputError, match="GB are available: train on fewer"):
        regressor().fit(toy_frames(WATER, 20))
