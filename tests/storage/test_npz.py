import errno
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kforce.errors import InputError
from kforce.storage.npz import as_text, read_arrays, replaced_file, write_arrays

ARRAYS = {
    "x": np.arange(12.0).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "flag": np.array(True),
    "text": np.array(["Å", "eV"]),
    "raw": np.array(b"abc"),
    "empty": np.zeros((0, 3)),
    "z": np.array([1, 6], dtype=np.uint8),
    "complex": np.array([1j]),
}


def header(dtype="'<f8'", shape="(2,)", order="False", version=1):
    text = f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}\n"
    raw = text.encode("utf-8")
    size = struct.pack("<H" if version == 1 else "<I", len(raw))
    return b"\x93NUMPY" + bytes([version, 0]) + size + raw


def archive(path, member, name="x.npy", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as f:
        f.writestr(name, member)
    return path


@pytest.mark.parametrize("save", [write_arrays, lambda p, a: np.savez(p, **a)])
def test_round_trip(tmp_path, save):
    save(tmp_path / "a.npz", ARRAYS)
    found = read_arrays(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert found[name].flags.writeable


def test_compressed_and_big_endian(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(1000.0).astype(">f8"))
    x = read_arrays(tmp_path / "a.npz")["x"]
    assert x.dtype.isnative
    np.testing.assert_array_equal(x, np.arange(1000))


def test_numpy_reads_what_is_written(tmp_path):
    write_arrays(tmp_path / "a.npz", ARRAYS)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["x"], ARRAYS["x"])


def test_names_select(tmp_path):
    write_arrays(tmp_path / "a.npz", ARRAYS)
    assert list(read_arrays(tmp_path / "a.npz", ["z", "absent"])) == ["z"]


class Bomb:
    def __reduce__(self):
        return os.abort, ()


def test_objects_are_never_unpickled(tmp_path, caplog):
    np.savez(tmp_path / "a.npz", x=np.ones(2), bad=np.array([Bomb()], dtype=object))
    with caplog.at_level("DEBUG", "kforce.storage.npz"):
        assert list(read_arrays(tmp_path / "a.npz")) == ["x"]
    assert "bad" in caplog.text


def test_same_arrays_same_bytes(tmp_path):
    write_arrays(tmp_path / "a.npz", ARRAYS)
    write_arrays(tmp_path / "b.npz", ARRAYS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


DOUBLES = np.ones(2).tobytes()
BAD_MEMBERS = {
    "huge shape": header(shape="(10**9, 10**9)".replace("10**9", "1000000000")),
    "too small shape": header(shape="(1,)") + DOUBLES,
    "truncated data": header() + DOUBLES[:-1],
    "negative shape": header(shape="(-2, -1)") + DOUBLES,
    "float shape": header(shape="(2.0,)") + DOUBLES,
    "bad dtype": header(dtype="'<q99'") + DOUBLES,
    "unicode garbage dtype": header(dtype="'é\u202e☃'", version=2) + DOUBLES,
    "structured": header(dtype="[('a', '<f8'), ('b', '<f8')]", shape="(1,)") + DOUBLES,
    "structured objects": header(dtype="[('a', '|O')]") + DOUBLES,
    "dates": header(dtype="'<M8[s]'") + DOUBLES,
    "empty items": header(dtype="'<U0'", shape="(99999999999999999,)"),
    "not text": header(dtype="'<U1'", shape="(1,)") + b"\xff\xff\xff\xff",
    "surrogates": header(dtype="'<U1'", shape="(1,)") + b"\x00\xd8\x00\x00",
    "code as header": header(shape="__import__('os').abort()"),
    "unknown version": header(version=3) + DOUBLES,
    "long header": header(shape="(2," + " " * 20_000 + ")") + DOUBLES,
    "deep header": header(shape="(" * 3000),
    "no magic": b"hello",
    "empty member": b"",
    "pickle": pickle.dumps([1.0, 2.0]),
}


@pytest.mark.parametrize("member", BAD_MEMBERS.values(), ids=BAD_MEMBERS)
def test_bad_members(tmp_path, member):
    path = archive(tmp_path / "bad.npz", member)
    with pytest.raises(InputError, match=r"bad\.npz is damaged or of another kind"):
        read_arrays(path)


def test_compressed_bomb(tmp_path):
    member = header(shape=f"({2**24},)") + bytes(2**27)
    path = archive(tmp_path / "a.npz", member, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**18
    with pytest.raises(InputError, match="claim to hold"):
        read_arrays(path)


def test_wrong_checksum(tmp_path):
    write_arrays(tmp_path / "a.npz", {"x": np.full(100, 7.0)})
    raw = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(raw.replace(np.full(1, 7.0).tobytes(), b"8" * 8))
    with pytest.raises(InputError, match="CRC"):
        read_arrays(tmp_path / "a.npz")


def test_other_compression(tmp_path):
    path = archive(tmp_path / "a.npz", header() + DOUBLES, "x.npy", zipfile.ZIP_LZMA)
    with pytest.raises(InputError, match="unknown compression"):
        read_arrays(path)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: None, "there is no"),
        (lambda p: p.mkdir(), "not a regular file"),
        (lambda p: p.write_bytes(b""), "not a zip file"),
        (lambda p: p.write_text("3\n\nO 0 0 0\n"), "not a zip file"),
    ],
)
def test_not_an_archive(tmp_path, make, match):
    make(tmp_path / "a.npz")
    with pytest.raises(InputError, match=match):
        read_arrays(tmp_path / "a.npz")


def saved(compressed):
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **ARRAYS)
    return stream.getvalue()


GOOD = [saved(False), saved(True)]


def read_bytes(folder, raw):
    path = folder / "fuzz.npz"
    path.write_bytes(raw)
    try:
        found = read_arrays(path)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert sum(a.nbytes for a in found.values()) < 10_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=200, deadline=None)
@given(
    raw=st.sampled_from(GOOD),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=6),
    cut=st.floats(0, 1) | st.just(1.0),
)
def test_flipped_and_cut(folder, raw, flips, cut):
    raw = bytearray(raw)
    for where, mask in flips:
        raw[min(int(where * len(raw)), len(raw) - 1)] ^= mask
    read_bytes(folder, bytes(raw[: int(cut * len(raw))]))


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=300))
def test_random_members(folder, raw):
    for member in (raw, b"\x93NUMPY\x01\x00" + raw, header() + raw):
        path = archive(folder / "member.npz", member)
        read_bytes(folder, path.read_bytes())


def test_objects_are_not_written(tmp_path):
    with pytest.raises(InputError, match=r"found object in 'x'"):
        write_arrays(tmp_path / "a.npz", {"x": np.array([None])})
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    write_arrays(path, {"x": np.ones(2)})

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device; free some space"):
        write_arrays(path, {"x": np.zeros(2)})
    assert list(tmp_path.iterdir()) == [path]
    np.testing.assert_array_equal(read_arrays(path)["x"], np.ones(2))


@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")
def test_write_that_fails_half_way(tmp_path):
    code = (
        "import resource, sys, numpy as np\n"
        "from kforce.storage.npz import write_arrays\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "write_arrays(sys.argv[1], {'x': np.ones(10**6), 'y': np.ones(3)})\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.npz"], capture_output=True, text=True
    )
    assert "InputError: Could not write" in run.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["nowhere/a.npz", "."])
def test_places_that_cannot_be_written(tmp_path, name):
    with pytest.raises(InputError, match="Could not write"):
        write_arrays(tmp_path / name, {"x": np.ones(2)})


def interrupt(path):
    with replaced_file(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupt(tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.array("eV"), "eV"),
        (np.array(b"kcal/mol"), "kcal/mol"),
        (np.array(["\xc5"]), "\xc5"),
        (np.array(b"\xff"), "\ufffd"),
        (np.array(["a", "b"]), ""),
        (np.array(1.0), ""),
        (None, ""),
    ],
)
def test_fields_of_text(value, text):
    assert as_text(value) == text


def test_reference_models(shared):
    found = read_arrays(shared / "reference" / "sgdml" / "eth40_model.npz")
    assert found["R_desc"].shape == (36, 40)
    assert str(found["type"]) == "m"
    assert "f_err" not in found
