"""Files of structures that promise more than they hold."""

import bz2
import gzip
import lzma
import subprocess
import sys

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule

from kforce import InputError, read_frames
from kforce.data.promises import check_promises

WATER = "3\n\nO 0 0 0\nH 0 0 1\nH 0 1 0\n"

FILES = {
    "atoms": "1000000000000\n\nH 0 0 0",
    "atoms of a later frame": WATER + "1000000000000\n\nH 0 0 0",
    "atoms after a cell": "1\n\nH 0 0 0\nVEC1 3 0 0\n1_000_000_000_000\n\nH 0 0 0",
    "columns": "1\nProperties=species:S:1:pos:R:1000000000\nH 0 0 0\n",
    "quoted columns": '1\nProperties="species:S:1:pos:R: +1_000_000_000"\nH 0 0 0\n',
    "columns of no atoms": "0\nProperties=species:S:1:pos:R:1000000000\n",
}


def read_apart(paths):
    """Read files in a process that can be ended; return what it says of each."""
    program = (
        "import resource, sys, kforce\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\n"
        "resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        print(kforce.read_frames(path))\n"
        "    except kforce.InputError as error:\n"
        "        print(error)\n"
    )
    command = [sys.executable, "-c", program, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-300:]
    return done.stdout.splitlines()


def test_more_than_there_is(tmp_path):
    paths = [tmp_path / f"{name}.xyz" for name in FILES]
    for path, text in zip(paths, FILES.values(), strict=True):
        path.write_text(text)
    said = read_apart(paths)
    for path, text, line in zip(paths, FILES.values(), said, strict=True):
        frame = 1 if text.startswith((WATER, "1\n\n")) else 0
        assert f"Frame {frame} of {path} promises 1,000," in line


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_compressed_files(tmp_path, module):
    suffix = {gzip: "gz", bz2: "bz2", lzma: "xz"}[module]
    path = tmp_path / f"a.xyz.{suffix}"
    path.write_bytes(module.compress(WATER.encode()))
    assert len(read_frames(path)[0]) == 3
    path.write_bytes(module.compress(FILES["atoms"].encode()))
    with pytest.raises(InputError, match="promises 1,000,000,000,000 atoms"):
        read_frames(path)
    path.write_bytes(module.compress(WATER.encode() + b" " * (80 * 2**20)))
    with pytest.raises(InputError, match=r"unfolds to more than 67,108,864"):
        read_frames(path)
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="could not be read"):
        read_frames(path)


def test_what_holds_its_promise_is_read_as_ever(tmp_path):
    frames = [bulk("Cu"), molecule("H2O"), molecule("C6H6")]
    frames[2].info["time"] = "12:30:100000"
    frames[1].set_array("many", np.zeros((3, 12345)))
    for name in ("a.xyz", "a.extxyz", "frames"):
        ase.io.write(tmp_path / name, frames, format="extxyz")
        assert read_frames(tmp_path / name) == frames
    ase.io.write(tmp_path / "a.xyz", frames[1:], format="xyz")
    assert [len(frame) for frame in read_frames(tmp_path / "a.xyz")] == [3, 12]
    ase.io.write(tmp_path / "POSCAR", frames[0])
    assert len(read_frames(tmp_path / "POSCAR")) == 1


def test_comments_of_any_encoding(tmp_path):
    (tmp_path / "a.xyz").write_bytes(WATER.replace("\n\n", "\né=1\n").encode("latin1"))
    (tmp_path / "b.xyz").write_text(WATER.replace("\n", "\r"), newline="")
    for name in "ab":
        check_promises(tmp_path / f"{name}.xyz", "extxyz")


def test_a_file_that_is_cut_off(tmp_path):
    (tmp_path / "a.xyz").write_text(WATER[:-10])
    with pytest.raises(InputError, match="could not be read"):
        read_frames(tmp_path / "a.xyz")
