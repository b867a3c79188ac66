"""Baselines: what is accepted, what comes out, and what is said of bad ones."""

import copy
import pickle
import threading

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from baseline_calculators import Bad, Spring
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from stored import through_file
from toys import AMMONIA, WATER, regressor, toy_frames

from kforce.baselines.baseline import METHODS, as_baseline
from kforce.errors import InputError
from kforce.gdml.regressor import GDMLRegressor
from kforce.prediction import Prediction
from kforce.storage.codec import encode


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KFORCE_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def frames():
    return toy_frames(WATER, 5)


@pytest.fixture(scope="module")
def fitted(frames):
    return regressor().fit(frames)


def close(found, wanted):
    np.testing.assert_allclose(found.energy, wanted.energy, atol=1e-12)
    np.testing.assert_allclose(found.forces, wanted.forces, atol=1e-12)


def only(prediction, s):
    """The prediction of one structure."""
    return Prediction(prediction.energy[s : s + 1], prediction.forces[s : s + 1])


def spring(frames, k=1.0):
    r = [f.positions for f in frames]
    return Prediction(
        np.array([0.5 * k * np.sum(x**2) for x in r]), [-k * x for x in r]
    )


def test_nothing_is_no_baseline():
    assert as_baseline(None) is None


def test_a_baseline_is_one():
    baseline = as_baseline(EMT())
    assert as_baseline(baseline) is baseline
    assert repr(baseline) == "Baseline(EMT)"


def test_a_calculator_in_eV_and_angstrom(frames):
    baseline = as_baseline(Spring(k=2.0))
    close(baseline.evaluate(frames), spring(frames, 2.0))
    close(baseline.evaluate_training(frames), spring(frames, 2.0))
    close(baseline.evaluate_one(frames[1]), spring(frames[1:2], 2.0))
    alone = baseline.evaluate(frames, ("energy",))
    assert alone.forces is alone.stress is alone.energy_epistemic is None
    assert baseline.models == []


def test_frames_and_calculator_stay_as_they_are(frames):
    calculator = Spring(k=2.0)
    labels = [f.calc for f in frames]
    as_baseline(calculator).evaluate_training(frames)
    assert calculator.results == {}
    assert calculator.atoms is None
    assert all(f.calc is calc for f, calc in zip(frames, labels, strict=True))


def test_predictions_leave_the_disk_alone(frames, tmp_path):
    as_baseline(Spring()).evaluate(frames)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "as_given",
    [lambda m: m, FrozenEstimator, lambda m: m.calculator()],
    ids=["model", "frozen", "calculator"],
)
def test_a_fitted_model(frames, fitted, as_given, tmp_path):
    baseline = as_baseline(as_given(fitted))
    assert baseline.models == [fitted]
    expected = fitted.evaluate(frames)
    for found in (baseline.evaluate(frames), baseline.evaluate_training(frames)):
        close(found, expected)
    close(baseline.evaluate_one(frames[2]), only(expected, 2))
    assert list(tmp_path.iterdir()) == []


def test_a_chain_is_the_sum(frames, fitted):
    parts = [Spring(), fitted, Spring(k=0.5)]
    chain = as_baseline([parts[0], (parts[1], as_baseline(parts[2]))])
    assert repr(chain) == "Baseline(Spring, GDMLRegressor, Spring)"
    assert chain.models == [fitted]
    single = [as_baseline(part).evaluate(frames) for part in parts]
    expected = Prediction(
        sum(p.energy for p in single), list(np.sum([p.forces for p in single], axis=0))
    )
    close(chain.evaluate(frames), expected)
    close(chain.evaluate_training(frames), expected)
    close(chain.evaluate_one(frames[3]), only(expected, 3))
    alone = chain.evaluate(frames, ("energy",))
    np.testing.assert_allclose(alone.energy, expected.energy)
    assert alone.forces is None


def test_a_chain_is_restored(frames, fitted):
    chain = as_baseline([fitted, LennardJones(sigma=1.5, epsilon=0.1), fitted])
    again = through_file(chain)
    assert len(again.models) == 2
    close(again.evaluate(frames), chain.evaluate(frames))


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))]
)
def test_copies(frames, used, copied):
    baseline = as_baseline(Spring(k=3.0))
    if used:
        baseline.evaluate(frames)
    close(copied(baseline).evaluate(frames), spring(frames, 3.0))


def test_each_thread_has_its_own_calculator(frames):
    baseline = as_baseline(Spring())
    found = {}

    def work(s):
        for _ in range(20):
            found[s] = baseline.evaluate_one(frames[s])

    threads = [threading.Thread(target=work, args=(s,)) for s in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for s in range(4):
        close(found[s], spring(frames[s : s + 1]))


no_baselines = [
    (3, "must be a calculator of ASE, a fitted model .*, or a list of them, found 3"),
    (EMT, r"found the class EMT: write EMT\(...\)"),
    ([], r"or a list of them, found \[\]"),
    ([EMT(), None], "found None"),
    ("PM7", "Expected one of 'GFN2-xTB', .* found 'PM7': .* a calculator of ASE"),
    (GDMLRegressor(), "a fitted GDMLRegressor .* not: fit it; .*FrozenEstimator"),
    ([Spring(), GDMLRegressor()], "Expected a fitted GDMLRegressor"),
]


@pytest.mark.parametrize(("value", "match"), no_baselines)
def test_what_is_no_baseline(value, match):
    with pytest.raises(InputError, match=match):
        as_baseline(value)


def fail(results):
    raise RuntimeError("no\nconvergence " + 300 * "x")


bad_results = [
    (
        "raises",
        fail,
        r"Bad failed at frame 2 \(RuntimeError: no convergence x+\.\.\.\)",
    ),
    ("NaN", lambda r: r.update(energy=np.nan), "Bad at frame 2 .* found NaN or inf"),
    ("infinite", lambda r: r["forces"].fill(np.inf), "at frame 2 .* NaN or infinity"),
    ("shape", lambda r: r.update(forces=np.ones(9)), r"\(3, 3\), found .* \(9,\)"),
    ("energies", lambda r: r.update(energy=np.ones(3)), "an energy of shape"),
    (
        "text",
        lambda r: r.update(energy="low"),
        "at frame 2 .ValueError: could not convert",
    ),
    ("no forces", lambda r: r.pop("forces"), "it lacks one of them .*choose another"),
    ("no energy", lambda r: r.pop("energy"), "Expected energy and forces from"),
]


@pytest.mark.parametrize(
    ("change", "match"), [r[1:] for r in bad_results], ids=[r[0] for r in bad_results]
)
def test_bad_results(frames, change, match):
    with pytest.raises(InputError, match=match):
        as_baseline(Bad(change, after=2)).evaluate(frames)
    with pytest.raises(InputError, match=match):
        as_baseline(Bad(change, after=3)).evaluate_training(frames)
    with pytest.raises(InputError, match=match.replace("frame 2", "this structure")):
        as_baseline(Bad(change, after=0)).evaluate_one(frames[0])


def test_labels_are_no_baseline(frames):
    with pytest.raises(InputError, match="lacks one of them"):
        as_baseline(SinglePointCalculator(frames[0])).evaluate(frames)


def test_a_model_of_another_molecule(fitted):
    with pytest.raises(InputError, match=r"baseline GDMLRegressor refuses: .* of H2O"):
        as_baseline(fitted).evaluate(toy_frames(AMMONIA, 1))


@pytest.mark.parametrize("change", [fail, lambda r: r.update(energy=np.nan)])
def test_a_failure_is_not_carried_on(frames, change):
    baseline = as_baseline(Bad(change))
    for _ in range(2):
        baseline.evaluate_one(frames[0])
        with pytest.raises(InputError):
            baseline.evaluate_one(frames[1])


irreproducible = [
    ("energy", lambda r: r.update(energy=r["energy"] + 1e-4)),
    ("forces", lambda r: r.update(forces=r["forces"] + 0.01)),
]


@pytest.mark.parametrize(
    "change", [row[1] for row in irreproducible], ids=[row[0] for row in irreproducible]
)
def test_results_that_change(frames, change):
    with pytest.raises(
        InputError, match=r"computes frame 0, found .* not reproducible"
    ):
        as_baseline(Bad(change)).evaluate_training(frames)
    # A single frame, which ASE would not compute twice.
    with pytest.raises(InputError, match=r"not reproducible. Converge it tighter"):
        as_baseline(Bad(change)).evaluate_training(frames[:1])


def test_noise_of_a_self_consistent_field_passes(frames):
    noise = Bad(lambda r: r.update(forces=r["forces"] + 3e-4))
    as_baseline(noise).evaluate_training(frames)


@pytest.fixture(scope="module")
def tblite():
    return pytest.importorskip("tblite.ase")


def test_gfn2_gives_what_came_with_the_data(methanol, tblite):
    prediction = as_baseline("GFN2-xTB").evaluate(methanol[:40])
    expected = [f.info["gfn2_energy"] for f in methanol[:40]]
    np.testing.assert_allclose(prediction.energy, expected, rtol=0, atol=1e-6)
    # The data were made with the default accuracy, which leaves noise of 3e-4 eV/Å.
    expected = [f.arrays["gfn2_forces"] for f in methanol[:40]]
    np.testing.assert_allclose(prediction.forces, expected, rtol=0, atol=5e-4)


def test_tblite_is_silent_and_described(methanol, tblite, capfd):
    baseline = as_baseline("gfn1-xtb")
    found = baseline.evaluate_training(methanol[:5])
    assert capfd.readouterr().out == ""
    (description,) = encode(baseline)[0]["members"]
    assert ["method", "GFN1-xTB"] in description["settings"]["items"]
    assert description["version"]
    again = through_file(baseline)
    once_more = again.evaluate(methanol[:5])
    np.testing.assert_allclose(once_more.energy, found.energy, rtol=0, atol=1e-8)
    np.testing.assert_allclose(once_more.forces, found.forces, rtol=0, atol=1e-4)
    # From the same start, they are the same.
    fresh = as_baseline("GFN1-xTB"), through_file(baseline)
    assert len({b.evaluate_one(methanol[7]).energy.item() for b in fresh}) == 1


def test_tblite_default_settings_are_reproducible(methanol, tblite):
    for _ in range(2):  # compared with itself, then with the disk
        as_baseline(tblite.TBLite(verbosity=0)).evaluate_training(methanol[:10])


@pytest.mark.parametrize("used", [False, True])
def test_a_calculator_of_tblite_before_and_after_use(methanol, tblite, used):
    calculator = tblite.TBLite(method="GFN2-xTB", verbosity=0)
    if used:
        calculator.get_property("energy", methanol[0])
    baseline = as_baseline(calculator)
    energy = baseline.evaluate(methanol[:2]).energy
    for again in (copy.deepcopy(baseline), pickle.loads(pickle.dumps(baseline))):
        found = again.evaluate(methanol[:2]).energy
        np.testing.assert_allclose(found, energy, atol=1e-6)


def test_a_regressor_with_a_baseline_can_be_cloned(methanol, methanol_model, tblite):
    calculator = tblite.TBLite(method="GFN2-xTB", verbosity=0)
    for value in (calculator, "GFN2-xTB", [FrozenEstimator(methanol_model), Spring()]):
        model = GDMLRegressor(baseline=value)
        wanted = as_baseline(model.baseline).evaluate_one(methanol[0])
        found = as_baseline(clone(model).baseline).evaluate_one(methanol[0])
        close(found, wanted)


def test_methods_that_can_be_named(methanol, tblite):
    energies = [as_baseline(m).evaluate_one(methanol[0]).energy[0] for m in METHODS]
    assert len(set(energies)) == len(METHODS)


def test_a_structure_that_tblite_refuses(methanol, tblite):
    broken = methanol[1].copy()
    broken.positions[1] = broken.positions[0]
    with pytest.raises(InputError, match=r"TBLite failed at frame 1 .* remove that"):
        as_baseline("GFN2-xTB").evaluate([methanol[0], broken])
