"""Local models as files: what comes back."""

import numpy as np
import pytest
from local_frames import cells, clusters, isolated, local_model, terms

import kforce
from kforce import (
    SOAP,
    GAPRegressor,
    GDMLRegressor,
    InputError,
    Polynomial,
    Scaled,
    Term,
    ThreeBody,
    TwoBody,
)
from kforce.descriptors.composition import Composition
from kforce.gap.extrapolation import Grade
from kforce.gap.sparse_term import PermutedTerm
from kforce.kernels.stationary import RBF, Matern52, PiecewisePolynomial
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

FRAMES = cells(6) + clusters(3) + isolated()


@pytest.fixture(scope="module")
def model():
    references = {"Cu": 3.51, 79: 3.8}
    noises = {"default": (0.002, 0.05, 0.05)}
    return local_model(reference_energies=references, config_noises=noises).fit(FRAMES)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("gap") / "intact.npz"
    model.save(path)
    return path


def assert_same(again, model, frames=FRAMES):
    ours, theirs = model.evaluate(frames), again.evaluate(frames)
    np.testing.assert_array_equal(theirs.energy, ours.energy)
    for name in ("forces", "extrapolation"):
        pairs = zip(getattr(theirs, name), getattr(ours, name), strict=True)
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)


def test_predictions_and_deviations_come_back(saved, model):
    again = kforce.load(saved)
    assert isinstance(again, GAPRegressor)
    assert_same(again, model)
    ours = model.evaluate(FRAMES[:3], ("energy", "forces", "stress"), True)
    theirs = again.evaluate(FRAMES[:3], ("energy", "forces", "stress"), True)
    np.testing.assert_array_equal(theirs.stress, ours.stress)
    np.testing.assert_allclose(theirs.energy_std, ours.energy_std, rtol=1e-6)
    for a, b in zip(theirs.forces_std, ours.forces_std, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_everything_survives(saved, model):
    again = kforce.load(saved)
    assert repr(again) == repr(model)
    fitted = {name for name in vars(model) if name.endswith("_")}
    assert {name for name in vars(again) if name.endswith("_")} == fitted
    for name in fitted - {"terms_", "solution_", "grade_"}:
        assert getattr(again, name) == getattr(model, name), name
    for name, value in vars(model.solution_).items():
        np.testing.assert_array_equal(getattr(again.solution_, name), value)
    assert list(again.reference_energies_) == list(model.reference_energies_)


def test_tuples_and_lists_stay_what_they_are(saved):
    again = kforce.load(saved)
    assert again.config_noises == {"default": (0.002, 0.05, 0.05)}
    assert again.reference_energies == {"Cu": 3.51, 79: 3.8}
    assert isinstance(again.terms, list)
    assert {term.descriptor.species for term in again.terms_[:3]} == {
        (29, 29),
        (29, 79),
        (79, 79),
    }
    assert again.terms_[-1].descriptor.species == (29, 79)


def test_it_can_be_saved_and_fitted_again(saved, tmp_path, model):
    again = kforce.load(saved)
    again.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == saved.read_bytes()
    assert_same(again.fit(FRAMES), model)


def test_no_pickle(saved):
    with np.load(saved, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind != "O" for name in arrays)


def test_without_factor_there_are_no_deviations(saved, tmp_path, model):
    model.save(tmp_path / "model.npz", with_factor=False)
    again = kforce.load(tmp_path / "model.npz")
    assert_same(again, model)
    assert (tmp_path / "model.npz").stat().st_size < saved.stat().st_size
    with pytest.raises(InputError, match=r"holds no posterior .*without factor"):
        again.predict(FRAMES[:1], return_std=True)
    with pytest.raises(InputError, match="holds no posterior"):
        again.calculator(std=True)


@pytest.mark.parametrize(
    "kernel",
    [
        Polynomial(zeta=2.5),
        Scaled(Matern52(length_scale=0.7), amplitude=2.0),
        PiecewisePolynomial(length_scale=2.0),
    ],
    ids=lambda kernel: type(kernel).__name__,
)
def test_kernels(tmp_path, kernel):
    pairs = TwoBody(cutoff=4.0, species=(29, None), exponents=(-1, -2), tail=(2, 0.5))
    described = Term(pairs, kernel, n_inducing=5, constant=0.3)
    model = local_model(terms=[described]).fit(FRAMES)
    model.save(tmp_path / "model.npz")
    again = kforce.load(tmp_path / "model.npz")
    assert_same(again, model)
    assert repr(again.terms_[0].kernel) == repr(model.terms_[0].kernel)
    assert repr(again.terms[0]) == repr(described)


def test_learned_values(tmp_path):
    pairs = [Term(TwoBody(cutoff=4.0), n_inducing=3)]
    frames = clusters(3)  # with a term for energies of atoms, as there are none alone
    model = GAPRegressor(pairs).fit(frames)
    model.save(tmp_path / "model.npz")
    again = kforce.load(tmp_path / "model.npz")
    assert_same(again, model, frames)
    assert again.noise_forces_ == model.noise_forces_
    assert again.noise_forces is None


def test_models_of_other_programs(tmp_path, model):
    """They know neither their training nor noises, and may have permuted terms."""
    pair = TwoBody(cutoff=4.0, species=(29, 29), exponents=(1, 2))
    term = PermutedTerm(
        pair,
        Scaled(RBF(length_scale=1.0), amplitude=2.0),
        length_scales=np.array([2.0, 2.0]),
        constant=0.1,
        inducing_points=np.array([[2.5, 6.0], [3.0, 8.0]]),
        f_cut=np.array([1.0, 0.5]),
        weights=np.array([0.1, -0.2]),
        permutations=np.array([[0, 1], [1, 0]]),
    )
    unknown = ("noise_energy_", "noise_forces_", "noise_virial_", "training_")
    unknown += ("log_marginal_likelihood_", "solution_", "baseline_")
    other = GAPRegressor(optimize=False)._restore(
        terms_=[term],
        species_=(29, 79),
        reference_energies_={79: 1.0, 29: 2.0},
        grade_=Grade.of_points([term]),
        **dict.fromkeys(unknown),
    )
    other.save(tmp_path / "model.npz")
    again = kforce.load(tmp_path / "model.npz")
    assert_same(again, other)
    assert isinstance(again.terms_[0], PermutedTerm)
    assert again.training_ is None


def test_baselines(tmp_path, model, methanol):
    cheap = local_model(terms=terms()[:1]).fit(FRAMES)
    corrected = local_model(terms=terms()[2:], baseline=cheap).fit(FRAMES)
    corrected.save(tmp_path / "model.npz")
    again = kforce.load(tmp_path / "model.npz")
    assert_same(again, corrected)
    assert type(again.baseline) is type(again.baseline_)
    pairs = [Term(TwoBody(cutoff=4.0), n_inducing=8)]
    low = local_model(terms=pairs).fit(methanol[:8])
    noises = {"noise_energy": 1e-3, "noise_forces": 1e-3}
    kernel = Matern52(length_scale=10.0)
    high = GDMLRegressor(kernel=kernel, permutations=None, baseline=low, **noises)
    high.fit(methanol[8:16]).save(tmp_path / "high.npz")
    assert_same(kforce.load(tmp_path / "high.npz"), high, methanol[-3:])


SHAPE = {"cutoff": 3.0, "n_max": 3, "l_max": 2, "atom_sigma": 0.5}


@pytest.mark.parametrize(
    "descriptor",
    [
        SOAP(**SHAPE),
        SOAP(**SHAPE, species=(29, 79)),
        SOAP(**SHAPE, species=(29, 79), diagonal_radial=True),
        SOAP(**SHAPE, species=(29, 79), compression=1),
        TwoBody(cutoff=3.0, exponents=(1, 2)),
        ThreeBody(cutoff=3.0),
        Composition(species=(29, 79)),
    ],
    ids=repr,
)
def test_the_number_of_features_is_known_without_atoms(descriptor):
    batch = Batch.from_frames(FRAMES[:1])
    found = descriptor(batch.numbers, find_neighbours(batch, 3.0))
    descriptor.check()
    assert descriptor.n_features == found.x.shape[1]


class Own(TwoBody):
    pass


def test_what_cannot_be_saved(tmp_path):
    described = Term(TwoBody(cutoff=4.0), n_inducing=3)
    model = local_model(terms=[described]).fit(FRAMES)
    model.terms = [Term(Own(cutoff=4.0))]
    with pytest.raises(InputError, match="with Own, which is not part of kforce"):
        model.save(tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())


def test_tabulated_models_cannot_be_saved(tmp_path):
    pairs = local_model(terms=terms()[:1]).fit(FRAMES)
    fast = pairs.tabulated(error=1e-2, start=1.0)
    with pytest.raises(InputError, match="tabulated model cannot be saved: save the"):
        fast.save(tmp_path / "model.npz")
