"""Models of molecules as files: what comes back, and what is no file of a model."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from toys import KERNELS, labelled, name_of, symmetric_group, toy_frames

import kforce
from kforce import GDMLRegressor, InputError, Matern52, RationalQuadratic, Scaled
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.storage import npz as npz_module
from kforce.storage.npz import read_arrays, write_arrays

NUMBERS = np.array([8, 6, 1, 1])
FRAMES = toy_frames(NUMBERS, 8)
SWAP = symmetric_group(4, 2)


def fit(frames=FRAMES, **parameters):
    defaults = {"kernel": Matern52(length_scale=1.3), "permutations": SWAP}
    return GDMLRegressor(**defaults | parameters).fit(frames)


@pytest.fixture(scope="module")
def model():
    """With energies, a scaled kernel and permutations: every field is in its file."""
    kernel = Scaled(RationalQuadratic(length_scale=1.3, alpha=0.7), amplitude=2.0)
    return fit(kernel=kernel, noise_forces=1e-3, noise_energy=1e-3)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("gdml") / "intact.npz"
    model.save(path)
    return path


def assert_same(again, model, frames=FRAMES):
    ours, theirs = model.evaluate(frames), again.evaluate(frames)
    np.testing.assert_array_equal(theirs.energy, ours.energy)
    np.testing.assert_array_equal(theirs.forces, ours.forces)


@pytest.mark.parametrize("kernel", KERNELS, ids=name_of)
@pytest.mark.parametrize("noise_energy", [None, 1e-3], ids=["forces", "energies"])
def test_round_trip(tmp_path, kernel, noise_energy):
    model = fit(kernel=kernel, noise_forces=1e-3, noise_energy=noise_energy)
    model.save(tmp_path / "model.npz")
    again = kforce.load(tmp_path / "model.npz")
    assert_same(again, model)
    assert str(again.kernel_) == str(model.kernel_)
    assert (again.expansion_.weights is None) == (noise_energy is None)


@pytest.mark.parametrize(
    "permutations", [SWAP, None, "auto"], ids=["given", None, "auto"]
)
def test_permutations(tmp_path, permutations):
    model = fit(permutations=permutations)
    model.save(tmp_path / "model.npz")
    again = kforce.load(tmp_path / "model.npz")
    assert_same(again, model)
    np.testing.assert_array_equal(again.permutations_, model.permutations_)
    np.testing.assert_array_equal(again.permutations, permutations)


def test_everything_survives(saved, model):
    again = kforce.load(saved)
    ours, theirs = model.get_params(), again.get_params()
    assert theirs.keys() == ours.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(str(theirs[name]), str(value), err_msg=name)
    fitted = {name for name in vars(model) if name.endswith("_")}
    assert {name for name in vars(again) if name.endswith("_")} == fitted
    assert again.training_ == model.training_
    assert again.noise_forces_ == model.noise_forces_
    assert again.noise_energy_ == model.noise_energy_
    assert again.constant_ == model.constant_
    assert again.log_marginal_likelihood_ == model.log_marginal_likelihood_


def test_learned_values_survive(tmp_path):
    model = GDMLRegressor().fit(kforce.datasets.load_methanol_ccsdt()[:10])
    model.save(tmp_path / "model.npz")
    again = kforce.load(tmp_path / "model.npz")
    assert_same(again, model, kforce.datasets.load_methanol_ccsdt()[-5:])
    assert again.kernel is None
    np.testing.assert_array_equal(
        again.kernel_.kernel.scales, model.kernel_.kernel.scales
    )


def test_periodic(tmp_path):
    box = {"cell": [6.0, 6.5, 7.0], "pbc": [True, False, True]}
    frames = [
        labelled(f.numbers, f.positions, forces=f.get_forces(), **box) for f in FRAMES
    ]
    model = fit(frames)
    assert model.molecule_.pbc.any()
    model.save(tmp_path / "model.npz")
    assert_same(kforce.load(tmp_path / "model.npz"), model, frames)


def test_loaded_model_can_be_saved_and_fitted(saved, tmp_path, model):
    again = kforce.load(saved)
    again.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == saved.read_bytes()
    assert_same(again.fit(FRAMES), model)


def test_numpy_scalars_are_saved(tmp_path):
    model = fit(kernel=Matern52(length_scale=np.float32(1.5)), seed=np.int64(3))
    model.save(tmp_path / "model.npz")
    assert kforce.load(tmp_path / "model.npz").seed == 3


def test_no_pickle(saved):
    with np.load(saved, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind != "O" for name in arrays)


class OwnKernel(Matern52):
    pass


class OwnDescriptor(InverseDistances):
    pass


class RBF(Matern52):
    """A namesake of a kernel of kforce."""


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"kernel": OwnKernel(length_scale=1.3)}, "with OwnKernel, which is not part"),
        ({"kernel": Scaled(OwnKernel(length_scale=1.3))}, "with OwnKernel"),
        ({"kernel": RBF(length_scale=1.3)}, "with RBF, which is not part of kforce"),
        ({"descriptor": OwnDescriptor()}, "with OwnDescriptor"),
    ],
)
def test_what_cannot_be_saved(tmp_path, parameters, match):
    model = fit(**parameters)
    with pytest.raises(InputError, match=match):
        model.save(tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())


def test_not_fitted(tmp_path):
    with pytest.raises(NotFittedError):
        GDMLRegressor().save(tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("when", ["writing", "closing"])
def test_full_disk_leaves_the_old_file(tmp_path, model, monkeypatch, when):
    path = tmp_path / "model.npz"
    path.write_text("old")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    if when == "writing":
        monkeypatch.setattr(npz_module.npy, "write_array", full)
    else:
        monkeypatch.setattr(npz_module.os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        model.save(path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def text(path):
    path.write_text("3\n\nO 0 0 0\n")


def data_set(path):
    write_arrays(path, {"z": NUMBERS, "R": np.zeros((2, 4, 3))})


def sgdml(path):
    write_arrays(path, {"R_desc": np.ones((3, 2)), "perms": np.arange(3)[None]})


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: None, "there is no"),
        (lambda p: p.mkdir(), "not a regular file"),
        (lambda p: p.write_bytes(b""), "damaged or of another kind"),
        (text, "damaged or of another kind"),
        (lambda p: write_arrays(p, {"x": np.ones(2)}), "is not a model of kforce.$"),
        (lambda p: write_arrays(p, {}), "is not a model of kforce.$"),
        (data_set, "looks like a data set: use kforce.read_frames"),
        (sgdml, "looks like a model of sGDML: use kforce.io.read_sgdml"),
    ],
    ids=[
        "missing",
        "directory",
        "empty",
        "text",
        "arrays",
        "nothing",
        "dataset",
        "sgdml",
    ],
)
def test_what_is_no_model(tmp_path, make, match):
    make(tmp_path / "a.npz")
    with pytest.raises(InputError, match=match) as error:
        kforce.load(tmp_path / "a.npz")
    assert str(tmp_path / "a.npz") in str(error.value)


def test_truncated(tmp_path, saved):
    raw = saved.read_bytes()
    (tmp_path / "a.npz").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(InputError, match="damaged"):
        kforce.load(tmp_path / "a.npz")


def test_newer_format(tmp_path, saved):
    fields = {"format_version": np.array(99), "header": np.array("{}")}
    write_arrays(tmp_path / "a.npz", read_arrays(saved) | fields)
    with pytest.raises(
        InputError, match=r"version 99 and .* reads up to 2: install a newer kforce"
    ):
        kforce.load(tmp_path / "a.npz")
