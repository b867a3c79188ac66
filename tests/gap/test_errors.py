"""Input that sparse models refuse, each with one clear sentence.

What is marked as failing raises something else than InputError, or nothing.
"""

import logging

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from sklearn.exceptions import NotFittedError
from sparse_toys import PAIRS, cluster, crystal, labelled, lone, mixed_frames, slab

from kforce.descriptors.soap.soap import SOAP
from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError
from kforce.gap.regressor import GAPRegressor
from kforce.gap.term import Term
from kforce.io import write_quip_xml
from kforce.kernels.base import Scaled
from kforce.kernels.dot_product import Polynomial
from kforce.kernels.stationary import RBF

KERNEL = Scaled(RBF(length_scale=1.0), amplitude=1.0)


def pairs(**kwargs):
    defaults = {"kernel": KERNEL, "n_inducing": 3, "descriptor": TwoBody(cutoff=3.9)}
    return Term(**defaults | kwargs)


def regressor(terms=None, **kwargs):
    terms = [pairs()] if terms is None else terms
    return GAPRegressor(terms, **{"optimize": False} | kwargs)


def labels(atoms, **results):
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def bad(make=cluster, first=None, **changes):
    atoms = make(0)
    for name, value in changes.items():
        setattr(atoms, name, value)
    if first is not None:
        atoms.positions[1] = atoms.positions[0] if first == "double" else first
    return atoms


@pytest.fixture(scope="module")
def frames():
    return mixed_frames(4)


@pytest.fixture(scope="module")
def model(frames):
    return regressor().fit(frames)


def of_type(frames, name, **info):
    out = []
    for frame in frames:
        atoms = labels(frame, **frame.calc.results)
        atoms.info |= {"config_type": name} | info
        out.append(atoms)
    return out


FRAMES = [
    (lambda f: [], "at least one structure, found an empty list"),
    (lambda f: f[0], r"found a single Atoms: write \[atoms\]"),
    (lambda f: 3, "Expected a list of ase.Atoms, found int"),
    (lambda f: [f[0], "x"], "found str at position 1"),
    (lambda f: [f[0], Atoms()], "Frame 1 holds no atoms"),
    (lambda f: [f[0], bad(first=np.nan)], "finite numbers; frame 1 holds NaN"),
]

ONE_BY_ONE = [
    (lambda f: [f[0], bad(first="double")], "Atoms 0 and 1 of frame 1 are at the same"),
    (lambda f: [f[0], bad(pbc=True)], "Frame 1 is periodic along 3 directions, but"),
    (lambda f: [f[0], bad(crystal, cell=np.ones((3, 3)))], "Frame 1 is periodic along"),
]


@pytest.mark.parametrize(("change", "match"), FRAMES + ONE_BY_ONE)
def test_frames_that_predictions_refuse(model, frames, change, match):
    with pytest.raises(InputError, match=match):
        model.evaluate(change(frames))


def with_energy(frames):
    """The same, with an energy on those that have none."""
    if not isinstance(frames, list):
        return frames
    return [
        labels(f, energy=1.0)
        if isinstance(f, Atoms) and len(f) and f.calc is None
        else f
        for f in frames
    ]


@pytest.mark.parametrize(("change", "match"), FRAMES + ONE_BY_ONE)
def test_frames_that_fits_refuse(frames, change, match):
    with pytest.raises(InputError, match=match):
        regressor().fit(with_energy(change(frames)))


ONES = np.ones(6)
LABELS = [
    (lambda: [crystal(0), cluster(1)], "Expected energies, forces or stresses on the"),
    (
        lambda: [labels(cluster(0), energy=1.0, stress=ONES)],
        r"Frame 0 has a stress, but is not periodic in three directions \(pbc=\[False",
    ),
    (
        lambda: [labels(slab(0), energy=1.0, stress=ONES)],
        r"Frame 0 has a stress, but .*pbc=\[True, True, False\]",
    ),
    (lambda: [labels(crystal(0), energy=np.inf)], "frame 0 holds infinity"),
    (
        lambda: [labels(crystal(0), forces=np.full((4, 3), np.inf))],
        "frame 0 holds infinity",
    ),
    (
        lambda: [labels(crystal(0), energy=1.0, stress=np.inf * ONES)],
        "must be finite; frame 0",
    ),
    (lambda: [labels(bad(pbc=True), energy=1.0, stress=ONES)], "Frame 0 .* cell"),
    (lambda: [labels(lone(), energy=1.0)], "No term has any environment"),
]


@pytest.mark.parametrize(("make", "match"), LABELS)
def test_labels_that_fits_refuse(make, match):
    with pytest.raises(InputError, match=match):
        regressor().fit(make())


def test_frames_too_far_apart_for_default_terms():
    with pytest.raises(InputError, match=r"no two atoms .* within 6 Å. Give terms"):
        GAPRegressor().fit([labels(lone(), energy=1.0)])


NOISES = [
    ({"bulk": (1, 1, 1)}, "Frame 0 has the config_type 'gas', for which config_noises"),
    ({"gas": (1, 1)}, r"config_noises\['gas'\] must be three positive numbers"),
    ({"gas": 5}, "must be three positive numbers, .* found 5"),
    ({"gas": (1, -1, 1)}, "must be three positive numbers"),
    ({"gas": (1, 0, 1)}, "must be three positive numbers"),
    ({"gas": ("a", 1, 1)}, "must be three positive numbers"),
    ({"gas": None}, "must be three positive numbers"),
    ({"gas": (1, 1, np.nan)}, "must be three positive numbers"),
    ({"default": (1, 1)}, "must be three positive numbers"),
    ({"gas": (1, 1, np.inf)}, "must be three positive numbers"),
    (5, "config_noises must"),
    ("gas", "config_noises must"),
]


@pytest.mark.parametrize(("noises", "match"), NOISES)
def test_noises_by_type_that_are_refused(frames, noises, match):
    with pytest.raises(InputError, match=match):
        regressor(config_noises=noises).fit(of_type(frames, "gas"))


@pytest.mark.parametrize("name", ["noise_energy", "noise_forces", "noise_virial"])
@pytest.mark.parametrize("value", [-1.0, 0.0, "a", np.inf, [1.0, 2.0]])
def test_noises_of_frames_that_are_refused(frames, name, value):
    own = of_type(frames, "gas")
    own[2].info[name] = value
    with pytest.raises(InputError, match=f"{name} of frame 2 must be"):
        regressor().fit(own)


TERMS = [
    ([], "terms must be None or a list of Term, found none"),
    ([TwoBody(cutoff=4.0)], r"must be a Term\(.*found TwoBody\(cutoff=4.0\)"),
    ([pairs(), "soap"], "Each of the terms must be.*found 'soap'"),
    ("soap", "found 'soap'"),
    (pairs(), "terms must be"),
    (TwoBody(cutoff=4.0), "terms must be"),
    (3, "terms must be"),
    ([Term(TwoBody)], "The descriptor of a term must be TwoBody"),
    ([pairs(descriptor="soap")], "The descriptor of a term must be"),
    ([pairs(descriptor=TwoBody(cutoff=-1))], "cutoff must be a positive length"),
    ([Term(SOAP(cutoff=3.0, n_max=2, l_max=1, atom_sigma=0))], "atom_sigma must be"),
    ([pairs(kernel="rbf")], "The kernel of a term must be .* found 'rbf'"),
    ([pairs(kernel=RBF)], "The kernel of a term must be"),
    ([pairs(kernel=Scaled(RBF(1.0), -1.0))], "The amplitude must be a positive"),
    ([pairs(kernel=Scaled(RBF(1.0), None))], "amplitude must be"),
    ([pairs(kernel=RBF(length_scale=-1.0))], "length scale must be"),
    ([pairs(kernel=RBF(length_scale="a"))], "length scale must be"),
    ([Term(PAIRS, Polynomial(0.5), 3)], "zeta must be a number from 1 on"),
    ([pairs(n_inducing=0)], "n_inducing must be a whole number above 0, found 0"),
    ([pairs(n_inducing=2.5)], "n_inducing must be"),
    ([pairs(n_inducing="5")], "n_inducing must be"),
    ([pairs(selection="best")], "selection must be one of 'random', .* found 'best'"),
    ([pairs(selection=3)], "selection must be one of"),
    ([pairs(selection=["cur"])], "selection must be"),
    ([pairs(length_scales=-1.0)], "length_scales must be positive numbers, found -1.0"),
    ([pairs(length_scales=[0.0])], "length_scales must be positive"),
    ([pairs(length_scales=np.nan)], "length_scales must be positive"),
    ([pairs(length_scales="a")], "length_scales must be"),
    ([pairs(length_scales=[])], "length_scales must"),
    ([pairs(length_scales=[1.0, 2.0])], "length_scales must"),
    ([pairs(length_scales=np.inf)], "length_scales must be"),
    ([pairs(constant=-1.0)], "constant must not be negative, found -1.0"),
    ([pairs(constant=np.nan)], "constant must not be negative"),
    ([pairs(constant=np.inf)], "constant must not be negative"),
    ([pairs(constant=None)], "constant must"),
    ([pairs(constant="a")], "constant must"),
]


@pytest.mark.parametrize(("terms", "match"), TERMS)
def test_terms_that_are_refused(frames, terms, match):
    with pytest.raises(InputError, match=match):
        GAPRegressor(terms, optimize=False).fit(frames)


REFERENCES = [
    ({"Cu": 0.0}, "reference_energies lack Au: give an energy for each"),
    ({}, "lack Cu, Au"),
    ({"Cu": 0.0, "Au": np.nan}, "The reference energy of Au must be a number"),
    ({"Cu": 0.0, "Xy": 1.0}, "given by symbols or atomic numbers, found 'Xy'"),
    ({"Cu": 0.0, 200: 1.0}, "given by symbols or atomic numbers, found 200"),
    ({"Cu": 0.0, "Au": "a"}, "energy of Au must be"),
    ({"Cu": 0.0, "Au": None}, "energy of Au must be"),
    ({None: 0.0}, "symbols or atomic numbers"),
    (-1.0, "reference_energies must be"),
    ([1.0, 2.0], "reference_energies must be"),
]


@pytest.mark.parametrize(("given", "match"), REFERENCES)
def test_reference_energies_that_are_refused(frames, given, match):
    with pytest.raises(InputError, match=match):
        regressor(reference_energies=given).fit(frames)


PARAMETERS = [
    ({"noise_energy": 0.0}, "noise_energy must be a positive standard deviation"),
    ({"noise_forces": -1.0}, "noise_forces must be"),
    ({"noise_virial": "a"}, "noise_virial must be"),
    ({"noise_energy": np.inf}, "noise_energy must be"),
    ({"jitter": 0.0}, "jitter must be"),
    ({"jitter": None}, "jitter must be"),
    ({"seed": -1}, "seed must be a whole number"),
    ({"seed": None}, "seed must be a whole number"),
    ({"solver": "lu"}, "solver must be 'qr' or 'normal', found 'lu'"),
    ({"approximation": "vfe"}, "approximation must be 'dtc' or 'fitc', found 'vfe'"),
    ({"baseline": 3}, "baseline must be a calculator of ASE"),
]


@pytest.mark.parametrize(("parameters", "match"), PARAMETERS)
def test_parameters_that_are_refused(frames, parameters, match):
    with pytest.raises(InputError, match=match):
        regressor(**parameters).fit(frames)


def test_predictions_that_are_refused(model, frames):
    with pytest.raises(InputError, match=r"Frame 1 holds Si, .* it knows Cu, Au"):
        model.predict([frames[0], Atoms("Si")])
    with pytest.raises(InputError, match=r"frame 0 has pbc=\[True, True, False\]"):
        model.evaluate([slab(0)], "stress")
    with pytest.raises(InputError, match="'stress', 'energies', not 'dipole'"):
        model.evaluate(frames, ["energy", "dipole"])
    with pytest.raises(InputError, match="none of these frames has any"):
        model.score([crystal(0)])
    with pytest.raises(InputError, match=r"force components .* not their covariance"):
        model.forces_covariance(frames)


@pytest.mark.parametrize(
    "use",
    [
        lambda m, f: m.predict(f),
        lambda m, f: m.evaluate(f),
        lambda m, f: m.score(f),
        lambda m, f: m.calculator(),
        lambda m, f: m.novelty(f),
        lambda m, f: m.energies_std(f),
        lambda m, f: m.energy_covariance(f),
        lambda m, f: m.tabulated(),
    ],
)
def test_a_model_must_be_fitted_first(frames, use):
    with pytest.raises(NotFittedError):
        use(regressor(), frames)


@pytest.mark.parametrize(
    "use",
    [
        lambda m, f: m.predict(f, return_std=True),
        lambda m, f: m.evaluate(f, return_std=True),
        lambda m, f: m.calculator(std=True),
        lambda m, f: m.energies_std(f),
        lambda m, f: m.energy_covariance(f),
    ],
)
def test_a_model_without_posterior_knows_no_deviations(model, frames, use):
    names = ("terms_", "species_", "reference_energies_", "baseline_", "grade_")
    fitted = {name: getattr(model, name) for name in names}
    bare = regressor()._restore(**fitted, solution_=None)
    np.testing.assert_array_equal(bare.predict(frames), model.predict(frames))
    with pytest.raises(InputError, match="This model holds no posterior"):
        use(bare, frames)


def test_more_inducing_environments_than_there_are(frames, caplog):
    """All are used, and a warning says so; the default is silent."""
    two = [labels(cluster(k, (29, 79)), energy=float(k)) for k in range(3)]
    with caplog.at_level(logging.WARNING, "kforce.gap"):
        model = regressor([pairs(n_inducing=50)]).fit(two)
    assert model.terms_[0].n_inducing == 3
    (message,) = [m for m in caplog.messages if "asked for" in m]
    assert message.startswith("50 inducing environments were asked for, but only 3")
    caplog.clear()
    with caplog.at_level(logging.WARNING, "kforce.gap"):
        regressor([pairs(n_inducing=None)]).fit(two)
    assert not any("asked for" in m for m in caplog.messages)


def test_copies_of_frames(frames):
    """Environments that are the same count once, and fits go through."""
    model = regressor([pairs(n_inducing=30)]).fit([frames[1]] * 5)
    for term in model.terms_:
        assert len(np.unique(term.inducing_points.round(9), axis=0)) == term.n_inducing
    assert np.isfinite(model.predict([frames[1]])).all()


@pytest.mark.parametrize("extra", ["H", "U"])
def test_reference_energies_of_elements_that_are_not_there(frames, extra):
    """A table of all elements is one that users have."""
    known = {"Cu": 0.3, "Au": 0.1}
    model = regressor(reference_energies=known | {extra: 5.0}).fit(frames)
    expected = regressor(reference_energies=known).fit(frames).predict(frames)
    np.testing.assert_allclose(model.predict(frames), expected, rtol=1e-12)


def test_a_term_of_an_absent_element_is_missed(caplog):
    """By name: the other terms are used."""
    soap = SOAP(cutoff=3.5, n_max=3, l_max=2, atom_sigma=0.5, centre=28)
    pairs = Term(TwoBody(cutoff=3.9), n_inducing=5)
    GAPRegressor([pairs, Term(soap)], optimize=False).fit(mixed_frames(3))
    assert "no atoms of its elements, left out: SOAP(" in caplog.text


def test_isolated_atoms_of_some_elements_only(caplog):
    atom = labelled(Atoms("Cu"), forces=False, stress=False)
    regressor().fit([*mixed_frames(8), atom])
    assert "there are isolated atoms of Cu, but none of Au" in caplog.text


@pytest.mark.parametrize(
    ("energy", "message"),
    [
        ("abc", "energy of frame 0 must be numbers, found 'abc'"),
        ([1, 2], "must be one"),
    ],
)
def test_energies_that_are_no_numbers(energy, message):
    frames = mixed_frames(2)
    frames[0].calc.results["energy"] = energy
    with pytest.raises(InputError, match=message):
        GAPRegressor().fit(frames)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"error": 0.0}, "error must be a positive number, found 0.0"),
        ({"error": "a"}, "error must be a positive number"),
        ({"start": np.nan}, "start must be a positive number"),
        ({"start": 4.0}, "start must be below the cutoff, 3.9 Å, found 4.0"),
    ],
)
def test_splines_that_are_refused(arguments, message):
    pairs = Term(TwoBody(cutoff=3.9), Scaled(RBF(length_scale=0.8), 1.0), 5)
    model = GAPRegressor([pairs], optimize=False).fit(mixed_frames(3))
    with pytest.raises(InputError, match=message):
        model.tabulated(**arguments)


def test_what_a_tabulated_model_lacks(tmp_path):
    pairs = Term(TwoBody(cutoff=3.9), Scaled(RBF(length_scale=0.8), 1.0), 5)
    model = GAPRegressor([pairs], optimize=False).fit(mixed_frames(3))
    fast = model.tabulated(1e-4, start=1.5)
    for call, what in (
        (lambda: fast.calculator(std=True), "standard deviations"),
        (lambda: fast.tabulated(), "terms to tabulate"),
        (lambda: write_quip_xml(fast, tmp_path / "a.xml"), "form that QUIP reads"),
    ):
        with pytest.raises(InputError, match=f"A tabulated model has no {what}: use"):
            call()
