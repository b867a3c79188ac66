"""Molecules in periodic boxes are learned and predicted as without them."""

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.spatial.transform import Rotation
from toys import shaken

import kforce
from kforce import RBF, GAPRegressor, GDMLRegressor, InputError, Matern52, Term
from kforce.data import check_frames, dataset_hash
from kforce.descriptors import InternalCoordinates, TwoBody

#: With a noise, rounding stays what it is.
FIXED = {"kernel": Matern52(length_scale=10.0), "noise_forces": 1e-3}


def boxed(frames, cell=(20.0, 21.0, 22.0), seed=0, turn=False, pbc=True):
    """Frames in a box, at random places, cut by its boundaries."""
    rng = np.random.default_rng(seed)
    out = []
    for s, frame in enumerate(frames):
        atoms = frame.copy()
        rotation = Rotation.random(random_state=s) if turn else Rotation.identity()
        atoms.positions = rotation.apply(atoms.positions) + rng.uniform(0, 20, 3)
        atoms.set_cell(cell)
        atoms.pbc = pbc
        atoms.wrap()
        if frame.calc is not None:
            atoms.calc = SinglePointCalculator(
                atoms,
                energy=frame.get_potential_energy(),
                forces=rotation.apply(frame.get_forces()),
            )
        out.append(atoms)
    return out


@pytest.fixture(scope="module")
def free(methanol):
    return GDMLRegressor(**FIXED).fit(methanol[:15])


def assert_predicts(model, frames, reference):
    found = model.evaluate(frames, return_std=True)
    np.testing.assert_allclose(found.energy, reference.energy, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.forces, reference.forces, atol=1e-9)
    # Variances are small differences of large numbers.
    for name in ("energy_std", "forces_std"):
        wanted = getattr(reference, name)
        np.testing.assert_allclose(getattr(found, name), wanted, rtol=1e-4)


def test_a_fit_in_a_box_is_that_without_it(methanol, free):
    model = GDMLRegressor(**FIXED).fit(boxed(methanol[:15]))
    assert not model.molecule_.pbc.any()
    assert not model.molecule_.cell.any()
    np.testing.assert_array_equal(model.permutations_, free.permutations_)
    reference = free.evaluate(methanol[-9:], return_std=True)
    assert_predicts(model, methanol[-9:], reference)
    assert_predicts(model, boxed(methanol[-9:], seed=1), reference)


def test_boxes_of_training_frames_may_differ(methanol, free):
    frames = [
        *methanol[:5],
        *boxed(methanol[5:9], [12.0, 13.0, 14.0], seed=2),
        *boxed(methanol[9:15], [[15.0, 0, 0], [5.0, 14.0, 0], [0, 0, 12.0]], seed=3),
    ]
    model = GDMLRegressor(**FIXED).fit(frames)
    assert_predicts(model, methanol[-9:], free.evaluate(methanol[-9:], return_std=True))


def test_predictions_of_frames_with_and_without_boxes(methanol, free):
    frames = [*methanol[-4:], *boxed(methanol[-4:], pbc=[True, False, True])]
    before = [frame.copy() for frame in frames]
    found = free.evaluate(frames)
    np.testing.assert_allclose(found.energy[:4], found.energy[4:], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.forces[:4], found.forces[4:], atol=1e-9)
    assert frames == before


def test_forces_are_in_the_frame_of_the_input(methanol, free):
    turned = boxed(methanol[-4:], turn=True)
    wanted = [
        Rotation.random(random_state=s).apply(forces)
        for s, forces in enumerate(free.evaluate(methanol[-4:]).forces)
    ]
    np.testing.assert_allclose(free.evaluate(turned).forces, wanted, atol=1e-9)


def test_all_that_takes_frames_takes_boxes(methanol, free):
    test, in_boxes = methanol[-4:], boxed(methanol[-4:])
    assert free.score(in_boxes) == pytest.approx(free.score(test), abs=1e-9)
    for method in ("energy_covariance", "forces_covariance", "predict"):
        wanted = getattr(free, method)(test)
        np.testing.assert_allclose(getattr(free, method)(in_boxes), wanted, atol=1e-9)
    known = free.is_training_frame([*boxed(methanol[12:15]), *in_boxes])
    assert known.tolist() == 3 * [True] + 4 * [False]
    stretched = boxed([molecule("CH3OH")])[0]
    stretched.positions[0] += [0.0, 0.0, 0.8]
    assert "training" in free.describe_extrapolation(stretched)
    assert free.describe_extrapolation(boxed(methanol[:1])[0]) is None


def test_the_learned_kernel_is_in_use_and_said_once(caplog):
    frames = shaken("H2O", 12)
    with caplog.at_level("INFO", logger="kforce.choice"):
        model = GDMLRegressor(permutations=None).fit(boxed(frames))
    assert isinstance(model.descriptor_, InternalCoordinates)
    said = [r for r in caplog.records if "box" in r.getMessage()]
    assert [(r.levelname, r.getMessage()) for r in said] == [
        (
            "INFO",
            "the frames show one molecule with vacuum around it: boxes are left out",
        )
    ]
    reference = GDMLRegressor(permutations=None).fit(frames)
    test = shaken("H2O", 5, seed=1)  # the search for scales has a tolerance
    np.testing.assert_allclose(
        model.evaluate(test).forces, reference.evaluate(test).forces, atol=1e-4
    )


def test_two_molecules_in_a_box_stay_periodic_with_a_warning(caplog):
    frames = shaken("H2O", 6)
    pairs = []
    for a, b in zip(frames[::2], frames[1::2], strict=True):
        pair = a.copy() + b.copy()
        pair.positions[3:] += [0.0, 0.0, 7.0]
        pair.set_cell([14.0] * 3)
        pair.pbc = True
        forces = np.concatenate([a.get_forces(), b.get_forces()])
        pair.calc = SinglePointCalculator(pair, forces=forces)
        pairs.append(pair)
    with caplog.at_level("INFO", logger="kforce.choice"):
        model = GDMLRegressor(kernel=Matern52(length_scale=2.0)).fit(pairs)
    assert model.molecule_.pbc.all()
    (said,) = [r for r in caplog.records if r.name == "kforce.choice"]
    assert said.levelname == "WARNING"
    assert "taken as periodic: periodic images in frame 0 are" in said.getMessage()
    assert "open which of them belong together" in said.getMessage()


def test_too_little_vacuum_is_refused_where_there_was_no_box(methanol, free):
    near = boxed(methanol[-2:], [7.0, 7.0, 7.0])
    match = "one molecule with vacuum .* images in frame 1 are .* enlarge the box"
    with pytest.raises(InputError, match=match):
        free.evaluate([methanol[0], near[0]])
    with pytest.raises(InputError, match=match):
        GDMLRegressor(**FIXED).fit([methanol[0], near[0]])
    near[0].calc = free.calculator()
    with pytest.raises(InputError, match=r"images in this structure are .* 5 Å"):
        near[0].get_forces()


def test_a_calculator_in_a_box(methanol, free):
    atoms = boxed(methanol[7:8])[0]
    atoms.calc = free.calculator(std="forces")
    wanted = free.evaluate(methanol[7:8], return_std=True)
    np.testing.assert_allclose(atoms.get_forces(), wanted.forces[0], atol=1e-9)
    np.testing.assert_allclose(
        atoms.calc.results["forces_std"], wanted.forces_std[0], rtol=1e-4
    )
    np.testing.assert_array_equal(atoms.calc.results["stress"], np.zeros(6))
    np.testing.assert_array_equal(atoms.get_stress(), np.zeros(6))


def test_a_stress_is_zero_in_three_periodic_directions(methanol, free):
    frames = [methanol[0], *boxed(methanol[1:3]), *boxed(methanol[3:4], pbc=[1, 1, 0])]
    stress = free.evaluate(frames, "stress").stress
    nan = np.full(6, np.nan)
    np.testing.assert_array_equal(stress, [nan, np.zeros(6), np.zeros(6), nan])
    both = free.evaluate(frames, ("forces", "stress"))
    np.testing.assert_array_equal(both.stress, stress)
    assert len(both.forces) == 4
    assert free.evaluate(frames).stress is None
    for atoms in (frames[0].copy(), frames[3].copy()):
        atoms.calc = free.calculator()
        atoms.get_forces()
        with pytest.raises(NotImplementedError):
            atoms.get_stress()


class Isolated(Calculator):
    """Pushes atoms apart; knows neither boxes nor stresses, as many a program."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        assert not self.atoms.pbc.any()
        vec = self.atoms.positions[:, None] - self.atoms.positions
        self.results = {"energy": -1e-3 * np.sum(vec**2), "forces": 4e-3 * vec.sum(1)}


def test_a_baseline_sees_the_molecule(methanol, tmp_path, monkeypatch):
    monkeypatch.setenv("KFORCE_CACHE", str(tmp_path))
    free = GDMLRegressor(**FIXED, baseline=Isolated()).fit(methanol[:8])
    model = GDMLRegressor(**FIXED, baseline=Isolated()).fit(boxed(methanol[:8]))
    wanted = free.evaluate(methanol[4:12])
    found = model.evaluate(boxed(methanol[4:12]), ("energy", "forces", "stress"))
    np.testing.assert_allclose(found.energy, wanted.energy, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.forces, wanted.forces, atol=1e-9)
    np.testing.assert_array_equal(found.stress, np.zeros((8, 6)))
    atoms = boxed(methanol[4:5])[0]
    atoms.calc = model.calculator()
    np.testing.assert_allclose(atoms.get_forces(), wanted.forces[0], atol=1e-9)
    np.testing.assert_array_equal(atoms.get_stress(), np.zeros(6))


def test_it_is_a_baseline_in_boxes(methanol, free):
    frames = boxed(methanol[:6])
    terms = [Term(TwoBody(cutoff=3.0), RBF(), n_inducing=5)]
    model = GAPRegressor(terms, baseline=free, noise_energy=1e-3, noise_forces=1e-2)
    model.fit(frames)
    found = model.evaluate(frames)
    own = GAPRegressor(terms, noise_energy=1e-3, noise_forces=1e-2).fit(frames)
    assert own.has_stress
    assert not model.has_stress  # the zero of the molecule is no derivative
    atoms = frames[0].copy()
    atoms.calc = model.calculator()
    np.testing.assert_allclose(atoms.get_forces(), found.forces[0], atol=1e-9)
    assert "stress" not in atoms.calc.results


def test_storage(methanol, tmp_path):
    frames = boxed(methanol[:8])
    model = GDMLRegressor(**FIXED).fit(frames)
    assert model.training_.hash == dataset_hash(frames)
    model.save(tmp_path / "model.npz")
    again = kforce.load(tmp_path / "model.npz")
    mixed = [*methanol[8:10], *boxed(methanol[8:10])]
    wanted = model.evaluate(mixed, ("energy", "forces", "stress"))
    found = again.evaluate(mixed, ("energy", "forces", "stress"))
    np.testing.assert_array_equal(found.energy, wanted.energy)
    np.testing.assert_array_equal(found.forces, wanted.forces)
    np.testing.assert_array_equal(found.stress, wanted.stress)


def test_permutations_without_a_fit(methanol):
    frames = boxed(methanol[:30], [9.0, 10.0, 11.0])
    frames[3:] = boxed(methanol[3:30], [12.0, 10.0, 13.0])
    np.testing.assert_array_equal(
        kforce.find_permutations(frames), kforce.find_permutations(methanol[:30])
    )


def test_data_checks_see_the_molecule(methanol):
    frames = boxed(methanol[:30])
    assert not check_frames(frames).findings
    wrong = boxed(methanol[:30])
    for frame in wrong:
        frame.calc.results["energy"] *= 27.2
    found = {finding.code for finding in check_frames(wrong).findings}
    assert "energies-contradict-forces" in found
    pushed = boxed(methanol[:30])
    pushed[4].calc.results["forces"] += 0.5
    pushed.append(boxed(methanol[7:8], [13.0] * 3, seed=5)[0])
    found = {finding.code for finding in check_frames(pushed).findings}
    assert found == {"net-force", "duplicates"}
