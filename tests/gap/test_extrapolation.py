"""Extrapolation grades and what they do, and the extrapolation variance of GAP."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from sklearn.exceptions import NotFittedError
from sparse_toys import (
    DENSITY,
    PAIRS,
    cluster,
    crystal,
    environments,
    lone,
    mixed_frames,
    slow_kernel,
    terms_named,
)

from kforce.descriptors.soap.soap import SOAP
from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError
from kforce.gap.extrapolation import LONELY_GRADE, Grade, neighbourhood_means
from kforce.gap.prediction import novelty
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import Term
from kforce.kernels.base import Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.ranges import LEAST_VARIANCE, TermRange, tail_quantile
from kforce.kernels.stationary import RBF
from kforce.neighbours.search import find_neighbours
from kforce.prediction import describe_grades
from kforce.structures import Batch


@pytest.mark.parametrize("names", [("pairs",), ("triplets",), ("densities",)])
@pytest.mark.parametrize("rho", [1e-1, 1e-3])
def test_novelty(names, rho):
    """Term by term and environment by environment."""
    (term,) = terms = terms_named(names)
    atoms = cluster(43)
    expected = np.zeros(len(atoms))
    shift = term.constant**2
    k = np.array(
        [
            [slow_kernel(term, a, b) for b in term.inducing_points]
            for a in term.inducing_points
        ]
    )
    M = (k - shift) * np.outer(term.f_cut, term.f_cut) + shift
    M += rho**2 * np.eye(len(M))
    env = environments(term.descriptor, [atoms])
    for x, f_cut, centre in zip(env.x, env.f_cut, env.central_atoms, strict=True):
        row = (
            np.array([slow_kernel(term, x, c) for c in term.inducing_points])
            * term.f_cut
        )
        left = slow_kernel(term, x, x) + rho**2 - row @ np.linalg.solve(M, row)
        expected[centre] += env.multiplicity * f_cut**2 * left
    found = novelty(terms, atoms, rho)
    # k(x, x) less nearly as much, over the least eigenvalue.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_novelty_that_is_refused():
    pairs = Term(TwoBody(cutoff=3.9), Scaled(RBF(length_scale=0.8), 1.0), 8)
    model = GAPRegressor([pairs], optimize=False).fit(mixed_frames(4))
    with pytest.raises(InputError, match="regularisation must be a positive"):
        model.novelty([crystal(80)], regularisation=0.0)
    with pytest.raises(InputError, match="A tabulated model has no novelty"):
        model.tabulated(1e-6, start=1.5).novelty([crystal(80)])


def test_pairs_without_a_term_are_strange_if_all_others_have_one(methanol):
    soap = SOAP(cutoff=3.0, n_max=3, l_max=2, atom_sigma=0.5)
    some = [TwoBody(cutoff=4.0, species=(6, 1)), soap]
    sentences = []
    for descriptors in (some, [TwoBody(cutoff=4.0)]):
        terms = [Term(descriptor, n_inducing=8) for descriptor in descriptors]
        model = GAPRegressor(terms, optimize=False).fit(methanol[:8])
        assert model.describe_extrapolation(methanol[0]) is None
        peroxide = Atoms("OO", [(0, 0, 0), (0, 0, 1.4)])
        sentences.append(model.describe_extrapolation(peroxide))
    assert "O–O" not in sentences[0]
    assert "O–O pairs at 1.40 Å, and the training set none" in sentences[1]


def test_training_frames_hold_no_strange_pairs(methanol):
    """In copies that are rotated, rigid bonds are as long as before but rounding."""
    copies = [methanol[0].copy() for _ in range(6)]
    for k, copied in enumerate(copies):
        copied.rotate(40 * k, (1, 2, 3))
        copied.calc = SinglePointCalculator(copied, forces=np.zeros((6, 3)))
    for copied in copies:
        model = GAPRegressor([Term(TwoBody(cutoff=4.0), n_inducing=8)], optimize=False)
        model.fit([copied])
        assert [model.describe_extrapolation(other) for other in copies] == [None] * 6


def test_splines_hold_no_training_set(methanol):
    model = GAPRegressor([Term(TwoBody(cutoff=4.0), n_inducing=8)], optimize=False)
    with pytest.raises(InputError, match="has no record of its training set"):
        model.fit(methanol[:8]).tabulated(error=1e-3).describe_extrapolation(
            methanol[0]
        )


def smooth(n, seed, width=6):
    """Features that vary much along some axes and hardly along others."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(np.random.default_rng(99).normal(size=(width, width)))[0]
    return 3.0 + (rng.normal(size=(n, width)) * 10.0 ** -np.arange(width)) @ axes


def test_distances_are_those_of_mahalanobis():
    x, new = smooth(200, 0), smooth(20, 1) + 0.1
    covariance = np.cov(x.T, bias=True)
    floor = LEAST_VARIANCE * np.trace(covariance)
    away = new - x.mean(axis=0)
    variances, axes = np.linalg.eigh(covariance)
    scales = np.where(variances > floor, variances + floor, floor)
    expected = np.sqrt(np.square(away @ axes / np.sqrt(scales)).sum(axis=1))
    learned = TermRange.of(x)
    assert learned.axes.shape[1] < 6  # some directions vary too little
    np.testing.assert_allclose(learned.grades(new), expected, rtol=1e-8)
    # From few environments of many features, by another decomposition.
    few = TermRange.of(x[:4])
    variances, axes = np.linalg.eigh(np.cov(x[:4].T, bias=True))
    floor = LEAST_VARIANCE * variances.sum()
    scales = np.where(variances > floor, variances + floor, floor)
    away = (new - x[:4].mean(axis=0)) @ axes
    expected = np.sqrt(np.square(away / np.sqrt(scales)).sum(axis=1))
    np.testing.assert_allclose(few.grades(new), expected, rtol=1e-6)


def test_what_is_no_feature_counts_like_what_does_not_vary():
    learned = TermRange.of(smooth(50, 0))
    x = learned.centre[None]
    assert learned.grades(x)[0] < 1e-7
    lost = learned.grades(x, np.array([4.0 * learned.rest**2]))
    np.testing.assert_allclose(lost, 2.0, rtol=1e-6)


def test_new_frames_of_the_same_kind_are_within_and_others_are_not():
    frames = [smooth(8, seed) for seed in range(40)]
    learned = TermRange.learned(frames)
    highest = [learned.grades(smooth(8, seed)).max() for seed in range(100, 600)]
    assert np.mean(np.array(highest) < 1.0) > 0.99
    assert max(highest) > 0.5  # and the margin is not wide
    steps = np.array([1.0, 10.0, 1e3])
    far = learned.grades(3.0 + 10.0 * steps[:, None] * np.ones(6))
    np.testing.assert_allclose(far[1:] / far[:-1], steps[1:] / steps[:-1], rtol=0.2)


@pytest.mark.parametrize("n", [1, 2, 3, 12, 4000])
def test_tails(n):
    values = np.random.default_rng(n).exponential(size=n)
    found = tail_quantile(values)
    assert found > (values.max() if n < 100 else 0.9 * np.log(1000.0))
    assert n < 100 or found < 1.1 * np.log(1000.0)


def test_environments_that_are_all_the_same():
    learned = TermRange.learned([np.ones((3, 4))] * 5)
    assert learned.grades(np.ones((1, 4)))[0] == 0.0
    assert learned.grades(np.full((1, 4), 1.5))[0] > 1.0


@pytest.mark.parametrize("n_frames", [1, 2, 5])
def test_rounding_is_no_variance(n_frames):
    """As of copies that are rotated."""
    noise = np.random.default_rng(0).normal(scale=1e-15, size=(n_frames + 1, 3, 4))
    *frames, same = list(1.0 + noise)
    learned = TermRange.learned(frames)
    assert max(learned.grades(x).max() for x in (*frames, same)) < 1e-6
    assert learned.grades(np.full((1, 4), 1.0001))[0] < 1.0
    assert learned.grades(np.full((1, 4), 1.5))[0] > 1.0


@pytest.mark.parametrize("apart", [1e-5, 1e-3, 0.01])
def test_frames_that_are_uniform_within_are_inside(apart):
    one, other = np.ones((3, 4)), np.full((3, 4), 1.0 + apart)
    for frames in ([one, other], [one] * 4 + [other]):
        learned = TermRange.learned(frames)
        assert max(learned.grades(x).max() for x in frames) < 1.0
        assert learned.grades(one[:1] - 1.0)[0] > 1.0


def test_a_frame_that_comes_often_is_inside():
    frame = smooth(8, 0)
    learned = TermRange.learned([frame] * 6)
    assert learned.grades(frame + 1e-14).max() < 1.0
    assert learned.grades(frame).max() > 0.99


@pytest.fixture(scope="module")
def metal():
    """A model of rattled cells."""
    return GAPRegressor(LOCAL, optimize=False).fit(mixed_frames(12))


LOCAL = [Term(PAIRS, n_inducing=20), Term(DENSITY, n_inducing=40)]


def test_grades_depend_on_neither_labels_nor_amplitudes(metal):
    louder = [
        Term(term.descriptor, Scaled(kernel, amplitude=7.0), term.n_inducing)
        for term, kernel in zip(LOCAL, (RBF(), Polynomial(zeta=4)), strict=True)
    ]
    frames = mixed_frames(12)
    for frame in frames:
        frame.calc.results["forces"] = 3.0 * frame.calc.results["forces"]
    other = GAPRegressor(louder, optimize=False).fit(frames)
    new = [crystal(80), cluster(81)]
    for a, b in zip(metal.extrapolation(new), other.extrapolation(new), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_grades_of_structures(metal):
    known, packed = crystal(80), crystal(80)
    packed.set_cell(0.75 * packed.cell, scale_atoms=True)
    grades = metal.extrapolation([known, packed])
    assert [g.shape for g in grades] == [(len(known),), (len(packed),)]
    assert grades[1].min() > 1.0
    assert grades[1].min() > grades[0].max()
    # Invariances, one term and one chunk at a time as well.
    turned = cluster(81)
    order = np.random.default_rng(0).permutation(len(turned))
    before = metal.extrapolation([turned])[0]
    turned.rotate(33.0, (1, 2, 3))
    after = metal.extrapolation([turned[order]])[0]
    np.testing.assert_allclose(after, before[order], rtol=1e-6)
    found = metal.evaluate([known], ("energy",)).extrapolation[0]
    np.testing.assert_array_equal(found, grades[0])


def test_of_the_terms_the_highest_counts(metal):
    atoms = cluster(81)
    alone = []
    for t, term in enumerate(metal.terms_):
        env = environments(term.descriptor, [atoms])
        marked = np.full(len(atoms), np.nan)
        metal.grade_.mark(t, env, marked)
        alone.append(marked)
        if metal.grade_.means[t] is not None:
            near = find_neighbours(Batch.from_frames([atoms]), term.descriptor.cutoff)
            marked = np.full(len(atoms), np.nan)
            metal.grade_.mark_means(t, env, near, marked)
            alone.append(marked)
    assert len(alone) > len(metal.terms_)
    highest = np.nanmax(alone, axis=0)
    np.testing.assert_allclose(metal.extrapolation([atoms])[0], highest, rtol=1e-6)


def test_isolated_atoms_take_nothing_from_the_range():
    """They are inside, and what is between them and crystals is as far as before."""
    terms = [Term(DENSITY, Scaled(Polynomial(zeta=4), 1.0), 10)]
    frames = mixed_frames(24)[::2]  # crystals
    alone = [lone(29), lone(79)]
    for atoms in alone:
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((1, 3)))
    known, unknown = (
        GAPRegressor(terms, reference_energies={"Cu": 0.0, "Au": 0.0}, optimize=False)
        .fit(frames + more)
        .extrapolation([crystal(80), cluster(81, (29, 79)), *alone])
        for more in (alone, [])
    )
    for with_alone, without in zip(known[:2], unknown[:2], strict=True):
        # Frames are left out in other parts.
        np.testing.assert_allclose(with_alone, without, rtol=0.5)
    assert max(known[2:]) < 1e-6
    assert min(unknown[2:]) > 1.0


def test_atoms_that_no_term_tells_of():
    """Their energy is known if that of isolated atoms is, and not if it was fitted."""
    terms, alone = [Term(PAIRS, n_inducing=5)], Atoms("Cu")
    frames = [f for f in mixed_frames(12) if len(f) > 1]
    for references, expected in ((None, LONELY_GRADE), ({"Cu": 0.0, "Au": 0.0}, 0.0)):
        model = GAPRegressor(terms, reference_energies=references, optimize=False)
        assert model.fit(frames).extrapolation([alone])[0].tolist() == [expected]


def test_points_stand_for_environments_where_no_others_are_known(metal):
    grade = Grade.of_points(metal.terms_)
    assert [r is None for r in grade.ranges] == [r is None for r in metal.grade_.ranges]
    other = copy.copy(metal)._restore(grade_=grade)
    packed = crystal(80)
    packed.set_cell(0.7 * packed.cell, scale_atoms=True)
    assert other.extrapolation([packed])[0].min() > 1.0


def test_grades_in_words():
    atoms, grades = Atoms("CuAu3"), np.array([0.2, 3.0, 1.5, 7.25])
    assert describe_grades(atoms, np.full(4, 0.9)) is None
    text = describe_grades(atoms, grades, n_named=2)
    assert "3 atoms (Au 3, Au 1, 1 more)" in text
    assert "up to 7.25" in text


def test_grades_of_splines_are_refused():
    pairs = Term(TwoBody(cutoff=3.9), Scaled(RBF(length_scale=0.8), 1.0), 8)
    model = GAPRegressor([pairs], optimize=False).fit(mixed_frames(4))
    splines = model.tabulated(1e-6, start=1.5)
    assert splines.evaluate([crystal(80)]).extrapolation is None
    with pytest.raises(InputError, match="tabulated model has no environments"):
        splines.extrapolation([crystal(80)])


@pytest.mark.parametrize(
    "call",
    [
        lambda model, atoms: model.extrapolation([atoms]),
        lambda model, atoms: model.describe_extrapolation(atoms),
    ],
)
def test_without_a_fit_there_are_no_grades(call):
    with pytest.raises(NotFittedError):
        call(GAPRegressor(), crystal(80))


def test_predictions_warn_of_structures_outside(metal):
    packed = crystal(80)
    packed.set_cell(0.75 * packed.cell, scale_atoms=True)
    with pytest.warns(UserWarning, match=r"1 of 2 structures leave .*\(frame 1: "):
        metal.predict([mixed_frames(1)[0], packed])


def test_one_energy_of_many_equal_cells_is_not_rounding():
    """Its deviation is that of one cell, as often as there are cells."""
    amplitude = Scaled(RBF(), amplitude=400.0)
    terms = [Term(TwoBody(cutoff=3.9), amplitude, 20, length_scales=4.0)]
    model = GAPRegressor(terms, optimize=False).fit(mixed_frames(8))
    cell = crystal(80)
    many = cell * (2, 2, 2)
    one, eight = model.evaluate([cell, many], return_std=True).energy_epistemic
    np.testing.assert_allclose(eight, 8.0 * one, rtol=1e-3)


def test_means_over_atoms_and_their_neighbours():
    """One by one, also where only some of the atoms have an environment."""
    for centre in (None, 29):
        atoms = crystal(80)
        soap = SOAP(cutoff=3.5, n_max=3, l_max=2, atom_sigma=0.5, centre=centre)
        batch = Batch.from_frames([atoms])
        near = find_neighbours(batch, soap.cutoff)
        env = soap(batch.numbers, near)
        place = {atom: e for e, atom in enumerate(env.central_atoms)}
        expected = []
        for atom in env.central_atoms:
            members = near.atoms[near.offsets[atom] : near.offsets[atom + 1]]
            rows = [place[atom], *(place[b] for b in members if b in place)]
            expected.append(env.x[rows].mean(axis=0))
        found = neighbourhood_means(env, near)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_strained_cell_is_told_from_a_hot_one():
    """Where single environments are within the range of a hot crystal."""
    cells = [bulk("Cu", cubic=True) * (2, 2, 2) for _ in range(24)]
    for s, cell in enumerate(cells):
        cell.rattle(0.2, seed=s)
        cell.calc = EMT()
    soap = Term(SOAP(cutoff=4.5, n_max=4, l_max=3, atom_sigma=0.5), n_inducing=50)
    model = GAPRegressor([soap], optimize=False).fit(cells)
    strained = bulk("Cu", a=1.03 * 3.61, cubic=True) * (2, 2, 2)
    hot = bulk("Cu", cubic=True) * (2, 2, 2)
    hot.rattle(0.2, seed=99)
    without = replace(model.grade_, means=[None] * len(model.terms_))
    alone = copy.copy(model)._restore(grade_=without)
    assert max(g.max() for g in alone.extrapolation([strained, hot])) < 1.0
    of_strained, of_hot = model.extrapolation([strained, hot])
    assert of_hot.max() < 1.0 < of_strained.min()
