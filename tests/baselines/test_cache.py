"""Results of baselines on disk: found again, never wrong, never in the way."""

import logging
import threading

import numpy as np
import pytest
from baseline_calculators import Bad, Spring
from toys import AMMONIA, WATER, toy_frames

from kforce.baselines import cache as baseline_cache
from kforce.baselines.baseline import as_baseline
from kforce.baselines.cache import ResultCache, cache_folder
from kforce.errors import InputError
from kforce.storage.npz import read_arrays, write_arrays


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("KFORCE_CACHE", str(tmp_path / "cache"))
    Spring.computed = 0
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def frames():
    return toy_frames(WATER, 4) + toy_frames(AMMONIA, 2)


def train(frames, k=1.0):
    """How many structures are computed for a training set."""
    before = Spring.computed
    found = as_baseline(Spring(k=k)).evaluate_training(frames)
    for s, frame in enumerate(frames):
        assert found.energy[s] == pytest.approx(0.5 * k * np.sum(frame.positions**2))
        np.testing.assert_allclose(found.forces[s], -k * frame.positions)
    return Spring.computed - before


def the_file(folder):
    (path,) = folder.iterdir()
    return path


def test_each_frame_is_computed_once(frames, folder):
    assert train(frames[:3]) == 4  # and one to compare
    assert train(frames[:3]) == 1
    assert train(frames) == 1 + 3
    assert train(frames[::-1]) == 1
    assert sorted(read_arrays(the_file(folder))["n_atoms"]) == [3, 3, 3, 3, 4, 4]


def test_results_are_bitwise_the_same(frames):
    first, second = (as_baseline(Spring(k=0.1)).evaluate_training(frames) for _ in "12")
    np.testing.assert_array_equal(first.energy, second.energy)
    for a, b in zip(first.forces, second.forces, strict=True):
        np.testing.assert_array_equal(a, b)


changes = [
    ("positions", lambda a: a.rattle(1e-9)),
    ("numbers", lambda a: a.numbers.put(0, 9)),
    ("cell", lambda a: a.set_cell([9.0] * 3)),
    ("pbc", lambda a: a.set_pbc(True)),
    ("charges", lambda a: a.set_initial_charges([1.0, 0.0, 0.0])),
    ("magmoms", lambda a: a.set_initial_magnetic_moments([1.0, 0.0, 0.0])),
]


@pytest.mark.parametrize("change", [c[1] for c in changes], ids=[c[0] for c in changes])
def test_what_makes_another_structure(frames, change):
    cache = ResultCache("x")
    cache.put(frames[0], 1.0, np.ones((3, 3)))
    cache.save()
    cache = ResultCache("x")
    other = frames[0].copy()
    assert cache.get(other)[0] == 1.0
    change(other)
    assert cache.get(other) is None


def test_settings_and_versions_have_files_of_their_own(frames, folder, monkeypatch):
    assert train(frames[:2], k=1.0) == 3
    assert train(frames[:2], k=2.0) == 3
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setattr("kforce.baselines.calculators.version_of", lambda name: "2")
    assert train(frames[:2], k=1.0) == 3
    assert len(list(folder.iterdir())) == 3


def test_what_settings_do_not_describe_is_not_kept(frames, folder):
    as_baseline(Bad(lambda results: None)).evaluate_training(frames)

    class Local(Spring):
        pass

    as_baseline(Local()).evaluate_training(frames)
    assert not folder.exists()


def test_where_it_is(monkeypatch):
    monkeypatch.setenv("KFORCE_CACHE", "~/results")
    monkeypatch.setenv("HOME", "/home/me")
    assert str(cache_folder()) == "/home/me/results"
    monkeypatch.delenv("KFORCE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(cache_folder()) == "/xdg/kforce"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert str(cache_folder()) == "/home/me/.cache/kforce"


def spoil(**arrays):
    """Replace arrays of the file, a None takes one away."""

    def change(path):
        all_arrays = read_arrays(path) | arrays
        write_arrays(path, {k: v for k, v in all_arrays.items() if v is not None})

    return change


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


damages = [
    ("no npz", lambda path: path.write_bytes(b"PK\x03\x04 what is this?")),
    ("empty", lambda path: path.write_bytes(b"")),
    ("cut", lambda path: path.write_bytes(path.read_bytes()[:-100])),
    ("a flipped byte", flip),
    ("other format", spoil(format=np.array("kforce baseline results 0"))),
    ("no forces", spoil(forces=None)),
    ("too few forces", spoil(forces=np.ones((3, 3)))),
    ("not finite", spoil(energy=np.full(4, np.nan))),
    ("other types", spoil(energy=np.array(list("abcd")))),
    ("no atoms", spoil(n_atoms=np.array([0, 6, 3, 3]))),
]


@pytest.mark.parametrize("damage", [d[1] for d in damages], ids=[d[0] for d in damages])
def test_a_damaged_file_is_replaced(frames, folder, damage, caplog):
    train(frames[:4])
    damage(the_file(folder))
    with caplog.at_level(logging.WARNING, "kforce.baseline"):
        assert train(frames[:4]) == 5
    assert "is not used and will be replaced" in caplog.text
    assert train(frames[:4]) == 1


def test_a_folder_that_cannot_be_written(frames, folder, caplog):
    folder.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "kforce.baseline"):
        assert train(frames) == len(frames) + 1
    assert "results of the baseline are not kept" in caplog.text


def test_a_file_that_cannot_be_read(frames, folder, caplog):
    train(frames)
    path = the_file(folder)
    path.unlink()
    path.mkdir()
    with caplog.at_level(logging.WARNING, "kforce.baseline"):
        assert train(frames) == len(frames) + 1
    assert "is not used" in caplog.text


def test_what_came_before_a_failure_is_kept(frames, monkeypatch):
    calculate = Spring.calculate

    def failing(self, *args, **kwargs):
        if Spring.computed == 4:
            raise KeyboardInterrupt
        calculate(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Spring, "calculate", failing)
        with pytest.raises(KeyboardInterrupt):
            as_baseline(Spring()).evaluate_training(frames)
    assert train(frames) == 1 + 3


def test_long_runs_are_saved_on_the_way(frames, monkeypatch):
    monkeypatch.setattr(baseline_cache, "_SAVE_EVERY", 0.0)
    cache = ResultCache("x")
    cache.put(frames[0], 1.0, np.ones((3, 3)))
    assert ResultCache("x").get(frames[0])[0] == 1.0


def test_results_of_other_code_are_noticed(frames, folder, monkeypatch):
    train(frames)
    calculate = Spring.calculate

    def changed(self, *args, **kwargs):
        calculate(self, *args, **kwargs)
        self.results["forces"] = 1.1 * self.results["forces"]

    monkeypatch.setattr(Spring, "calculate", changed)
    with pytest.raises(
        InputError, match=r"the results kept in .*npz come from another"
    ):
        as_baseline(Spring()).evaluate_training(frames)
    the_file(folder).unlink()
    as_baseline(Spring()).evaluate_training(frames)


def test_without_an_identity_nothing_is_kept(frames, folder):
    cache = ResultCache(None)
    cache.put(frames[0], 1.0, np.ones((3, 3)))
    cache.save()
    assert cache.path is None
    assert cache.get(frames[0]) is None
    assert not folder.exists()


def test_two_threads_lose_nothing(frames, folder):
    def work(k):
        for s in range(k, 40, 2):
            atoms = frames[0].copy()
            atoms.positions += s
            cache = ResultCache("x")
            cache.put(atoms, float(s), np.full((3, 3), float(s)))
            cache.save()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    arrays = read_arrays(the_file(folder))
    assert sorted(arrays["energy"]) == list(range(40))
    np.testing.assert_array_equal(arrays["forces"][::3, 0], arrays["energy"])
