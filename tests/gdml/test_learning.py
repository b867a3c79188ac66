"""What is learned must not depend on how the same information is given."""

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from kforce import GDMLRegressor, InputError, Matern52, Scaled
from kforce.labels import Labels


def error(model, frames):
    reference = [frame.get_forces() for frame in frames]
    return np.abs(np.subtract(model.evaluate(frames).forces, reference)).mean()


def relabelled(frame, forces, **box):
    frame = frame.copy()
    if box:
        frame.set_cell(box["cell"])
        frame.pbc = True
    frame.calc = SinglePointCalculator(frame, forces=forces)
    return frame


@pytest.fixture(scope="module")
def free(methanol):
    model = GDMLRegressor(kernel=Matern52()).fit(methanol[:40])
    return error(model, methanol[-60:])


def test_a_molecule_in_a_box_is_learned_as_well(methanol, free):
    # Its rotations stay in the system, where they have no prior variance.
    boxed = [relabelled(f, f.get_forces(), cell=[7.0] * 3) for f in methanol]
    model = GDMLRegressor(kernel=Matern52()).fit(boxed[:40])
    assert model.molecule_.pbc.all()  # there is too little vacuum to leave it out
    assert error(model, boxed[-60:]) == pytest.approx(free, rel=0.02)


def test_missing_forces_on_an_atom_do_not_spoil_the_length_scale(methanol, free):
    partial = []
    for s, frame in enumerate(methanol[:40]):
        forces = frame.get_forces()
        forces[s % 6] = np.nan
        partial.append(relabelled(frame, forces))
    model = GDMLRegressor(kernel=Matern52()).fit(partial)
    assert error(model, methanol[-60:]) == pytest.approx(free, rel=0.05)


# About the regularisation that stands in for a noise that is not given.
@pytest.mark.parametrize("noise", [1e-3, 3e-3])
def test_a_small_noise_that_is_given_changes_little(methanol, free, noise):
    model = GDMLRegressor(kernel=Matern52(), noise_forces=noise).fit(methanol[:40])
    assert model.noise_forces_ == noise
    assert isinstance(model.kernel_, Scaled)
    assert error(model, methanol[-60:]) == pytest.approx(free, rel=0.05)


def test_the_amplitude_of_a_scaled_kernel_counts_in_the_search(methanol):
    lengths = []
    for amplitude in (1.0, 1000.0):
        kernel = Scaled(Matern52(), amplitude=amplitude)
        model = GDMLRegressor(kernel=kernel, noise_forces=0.01).fit(methanol[:20])
        assert model.kernel_.amplitude == amplitude
        lengths.append(model.kernel_.kernel.length_scale)
    assert lengths[1] > 2.0 * lengths[0]


def test_an_amplitude_is_learned_with_a_noise_and_a_length_scale(methanol):
    model = GDMLRegressor(kernel=Matern52(length_scale=5.0), noise_forces=1e-3)
    model.fit(methanol[:30])
    likely = [
        GDMLRegressor(
            kernel=Scaled(Matern52(length_scale=5.0), model.kernel_.amplitude * factor),
            noise_forces=1e-3,
        )
        .fit(methanol[:30])
        .log_marginal_likelihood_
        for factor in (0.8, 1.0, 1.25)
    ]
    assert np.argmax(likely) == 1


def test_a_failed_refit_leaves_the_model_as_it_was(methanol):
    model = GDMLRegressor(kernel=Matern52()).fit(methanol[:10])
    before = model.predict(methanol[-3:])
    water = molecule("H2O")
    water.calc = SinglePointCalculator(water, forces=np.ones((3, 3)))
    with pytest.raises(InputError, match="two different structures"):
        model.fit([water])
    np.testing.assert_array_equal(model.predict(methanol[-3:]), before)
    with pytest.raises(InputError, match="structures of CH4O, found H2O"):
        model.predict([water])


def test_constraints_do_not_change_labels(methanol):
    frame = relabelled(methanol[0], methanol[0].get_forces())
    frame.set_constraint(FixAtoms([0, 1]))
    forces = Labels.from_frames([frame]).forces[0]
    np.testing.assert_array_equal(forces, methanol[0].get_forces())


@pytest.mark.parametrize("change", ["center", "pbc"])
def test_labels_of_a_frame_that_was_changed_are_refused(methanol, change):
    frame = relabelled(methanol[0], methanol[0].get_forces())
    if change == "pbc":
        frame.pbc = True
    else:
        frame.center(vacuum=5.0)
    with pytest.raises(InputError, match="Frame 1 was changed after its forces"):
        GDMLRegressor().fit([methanol[1], frame])


def test_frames_may_come_from_a_generator(methanol):
    model = GDMLRegressor(kernel=Matern52()).fit(f for f in methanol[:10])
    assert model.score(f for f in methanol[-5:]) > 0.5
