import logging
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from toys import shuffle

import kforce
from kforce.errors import InputError
from kforce.gdml.regressor import GDMLRegressor
from kforce.kernels.stationary import Matern52

DATA = Path(__file__).parents[1] / "data"


def shuffled(frames, seed=0):
    """The frames with like atoms numbered at random, and the orders of their atoms."""
    rng = np.random.default_rng(seed)
    found, orders = [], []
    for frame in frames:
        order = shuffle(frame.numbers, rng)
        copy = Atoms(frame.numbers, frame.positions[order])
        copy.calc = SinglePointCalculator(
            copy,
            energy=frame.get_potential_energy(),
            forces=frame.get_forces()[order],
        )
        found.append(copy)
        orders.append(order)
    return found, orders


def plain(**kwargs):
    """A model that learns nothing but its symmetry: quick."""
    return GDMLRegressor(kernel=Matern52(length_scale=3.0), optimize=False, **kwargs)


@pytest.fixture(scope="module")
def malonaldehyde():
    return read(DATA / "malonaldehyde_300-900K.xyz", ":")


@pytest.fixture(scope="module")
def model(malonaldehyde):
    """A model of frames whose like atoms are numbered at random."""
    return plain(noise_forces=1e-3).fit(shuffled(malonaldehyde[:30])[0])


def mean_error(model, frames):
    forces = model.evaluate(frames).forces
    pairs = zip(forces, frames, strict=True)
    return np.mean([np.abs(own - frame.get_forces()).mean() for own, frame in pairs])


def test_exchanges_beside_bonds_that_break_are_added_where_they_pay(caplog):
    frames = read(DATA / "hydroxide_water_300-900K.xyz", ":")
    recovered = kforce.find_permutations(frames[:30])
    with caplog.at_level(logging.INFO, "kforce.choice"):
        model = plain().fit(frames[:30])
    assert (len(recovered), len(model.permutations_)) == (2, 12)
    assert model.numbering_ is None
    (line,) = (r.getMessage() for r in caplog.records if "exchange" in r.getMessage())
    assert "atoms 2 3 added: 12 permutations" in line
    before = mean_error(plain(permutations=recovered).fit(frames[:30]), frames[30:])
    assert mean_error(model, frames[30:]) < before


def test_no_larger_group_than_allowed_is_taken():
    frames = read(DATA / "hydroxide_water_300-900K.xyz", ":30")
    assert len(plain(max_permutations=11).fit(frames).permutations_) == 2


def test_a_recovered_group_is_kept_whatever_it_costs(monkeypatch):
    frames = kforce.datasets.load_methanol_ccsdt()[:30]
    monkeypatch.setattr("kforce.gdml.symmetry_selection._MAX_WORK", 1.0)
    assert len(plain().fit(frames).permutations_) == len(
        kforce.find_permutations(frames)
    )


def test_few_structures_say_nothing_about_exchanges():
    frames = read(DATA / "hydroxide_water_300-900K.xyz", ":60:7")
    assert len(plain().fit(frames).permutations_) == len(
        kforce.find_permutations(frames)
    )


def test_nothing_changes_where_bonds_last():
    frames = kforce.datasets.load_methanol_ccsdt()[:30]
    model = plain().fit(frames)
    np.testing.assert_array_equal(model.permutations_, kforce.find_permutations(frames))
    assert model.numbering_ is None


def test_frames_with_like_atoms_in_any_order_train_as_well(malonaldehyde, model):
    ordered = plain(noise_forces=1e-3).fit(malonaldehyde[:30])
    assert ordered.numbering_ is None
    assert len(model.permutations_) == len(ordered.permutations_) == 2
    renumbered = mean_error(model, shuffled(malonaldehyde[30:], seed=5)[0])
    np.testing.assert_allclose(
        renumbered, mean_error(ordered, malonaldehyde[30:]), rtol=0.02
    )


def test_predictions_follow_the_order_of_the_atoms(malonaldehyde, model):
    frames = malonaldehyde[30:]
    renumbered, orders = shuffled(frames, seed=3)
    one = model.evaluate(frames, return_std=True)
    other = model.evaluate(renumbered, return_std=True)
    np.testing.assert_allclose(other.energy, one.energy, rtol=0, atol=1e-8)
    np.testing.assert_allclose(other.energy_std, one.energy_std, rtol=1e-6)
    covariances = model.forces_covariance(frames), model.forces_covariance(renumbered)
    for s, order in enumerate(orders):
        np.testing.assert_allclose(other.forces[s], one.forces[s][order], atol=1e-7)
        np.testing.assert_allclose(
            other.forces_std[s], one.forces_std[s][order], rtol=1e-6
        )
        np.testing.assert_allclose(
            np.diag(covariances[1][s]).reshape(-1, 3),
            np.diag(covariances[0][s]).reshape(-1, 3)[order],
            rtol=1e-6,
        )
        of_one, _ = model.evaluate_structure(renumbered[s], ("energy", "forces"))
        np.testing.assert_allclose(of_one.forces[0], other.forces[s], atol=1e-9)
    assert model.is_training_frame(shuffled(malonaldehyde, seed=9)[0]).sum() == 30


def transfer(frame, n):
    """A path on which the hydrogen goes to the other oxygen, by the mirror image."""
    mirror = frame.positions[[0, 2, 1, 4, 3, 5, 6, 8, 7]] * [-1.0, 1.0, 1.0]
    for t in np.linspace(0.0, 1.0, n):
        yield Atoms(frame.numbers, (1.0 - t) * frame.positions + t * mirror)


def planar():
    """Malonaldehyde with a mirror plane that a transfer of the hydrogen restores."""
    x = [
        [0.0, 0.0], [1.2, -0.7], [-1.2, -0.7], [1.27, -1.97], [-1.27, -1.97],
        [0.3, -2.1], [0.0, 1.09], [2.15, -0.2], [-2.15, -0.2],
    ]  # fmt: skip
    return Atoms("C3O2H4", np.column_stack([x, np.zeros(9)]))


def test_energies_are_continuous_along_a_transfer_in_any_order(model):
    coarse, fine = (
        [shuffled_positions(a, 4) for a in transfer(planar(), n)] for n in (51, 201)
    )
    jumps = [np.abs(np.diff(model.predict(path))).max() for path in (coarse, fine)]
    assert jumps[1] < 0.3 * jumps[0]
    energy = model.predict(fine)
    np.testing.assert_allclose(energy, energy[::-1], atol=1e-7)  # the mirror image
    np.testing.assert_allclose(
        energy, model.predict(list(transfer(planar(), 201))), atol=1e-7
    )


def shuffled_positions(atoms, seed):
    order = shuffle(atoms.numbers, np.random.default_rng(seed))
    return Atoms(atoms.numbers, atoms.positions[order])


def test_forces_are_the_gradient_in_any_order(malonaldehyde, model):
    atoms = shuffled(malonaldehyde[35:36], seed=11)[0][0]
    atoms = Atoms(atoms.numbers, atoms.positions)
    atoms.calc = model.calculator()
    forces, h = atoms.get_forces(), 1e-4
    for i, c in [(1, 0), (5, 1), (8, 2)]:
        energy = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[i, c] += sign * h
            moved.calc = atoms.calc
            energy.append(moved.get_potential_energy())
        slope = (energy[1] - energy[0]) / (2 * h)
        np.testing.assert_allclose(forces[i, c], slope, atol=1e-5)


def test_files_hold_the_numbering(malonaldehyde, model, tmp_path):
    model.save(tmp_path / "model.npz")
    loaded = kforce.load(tmp_path / "model.npz")
    frames = shuffled(malonaldehyde[30:], seed=2)[0]
    np.testing.assert_allclose(
        loaded.predict(frames), model.predict(frames), rtol=0, atol=1e-9
    )
    np.testing.assert_array_equal(loaded.numbering_.skeleton, model.numbering_.skeleton)


def test_an_sgdml_file_is_for_one_order(model, tmp_path):
    with pytest.raises(InputError, match="is for one atom order"):
        kforce.io.write_sgdml(model, tmp_path / "model.npz")


def test_groups_given_by_hand_are_for_the_atoms_as_they_are(malonaldehyde):
    frames = shuffled(malonaldehyde[:12])[0]
    assert plain(permutations=None).fit(frames).numbering_ is None
