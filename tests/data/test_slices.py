"""Some of the frames of a file, named after an @."""

import pytest
from ase.build import molecule

from kforce.data import read_frames, write_frames
from kforce.data.readers import read_numbered
from kforce.data.slices import FileSlice
from kforce.errors import InputError
from kforce.storage.npz import write_arrays


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten frames that tell their number, as text and as arrays."""
    path = tmp_path_factory.mktemp("slices")
    frames = [molecule("H2O") for _ in range(10)]
    for s, frame in enumerate(frames):
        frame.info["number"] = s
        frame.rattle(0.01, seed=s)
    write_frames(path / "ten.xyz", frames)
    write_frames(path / "ten@.xyz", frames)
    positions = [frame.positions for frame in frames]
    write_arrays(path / "ten.npz", {"z": frames[0].numbers, "R": positions})
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (":", range(10)),
        (":3", range(3)),
        ("7:", range(7, 10)),
        ("::4", range(0, 10, 4)),
        ("1:9:3", range(1, 9, 3)),
        ("3", [3]),
        ("0", [0]),
        ("-1", [9]),
        ("-3:", [7, 8, 9]),
        (":-8", [0, 1]),
        ("::-4", [9, 5, 1]),
        ("5:50", range(5, 10)),
        (" 1 : 3 ", [1, 2]),
    ],
)
@pytest.mark.parametrize("name", ["ten.xyz", "ten.npz", "ten@.xyz"])
def test_slices(folder, name, text, expected):
    numbers, frames = read_numbered(f"{folder / name}@{text}", units="eV")
    assert numbers == list(expected)
    whole = read_frames(folder / name, units="eV")
    for number, frame in zip(numbers, frames, strict=True):
        assert (frame.positions == whole[number].positions).all()


def test_frames_behind_the_slice_are_not_read(folder):
    def frames():
        yield from range(5)
        raise AssertionError("asked for more")

    assert FileSlice.parse(f"{folder}/ten.xyz@2:5").choose(frames()) == (
        [2, 3, 4],
        [2, 3, 4],
    )


@pytest.mark.parametrize("name", ["ten.xyz", "ten.npz"])
@pytest.mark.parametrize("text", ["10", "10:", "5:3", ":0", "-11", "3:3", "12::2"])
def test_a_slice_without_frames(folder, name, text):
    with pytest.raises(
        InputError, match=r"chooses none of its 10 frames, which count from 0 to 9"
    ) as caught:
        read_frames(f"{folder / name}@{text}", units="eV")
    assert f"@{text}" in str(caught.value).replace("11:-10", "11")


@pytest.mark.parametrize("text", ["x", "", "1:2:3:4", "::0", "1.5", ":a"])
def test_what_is_no_slice(folder, text):
    with pytest.raises(InputError, match=r"ten.xyz@:50, .*found .*START:STOP:STEP"):
        read_frames(f"{folder}/ten.xyz@{text}")


def test_a_file_that_is_not_there(folder):
    for name, missing in (
        ("no.xyz@:3", "no.xyz"),
        ("a@b.xyz", "a@b.xyz"),
        ("@3", "@3"),
    ):
        with pytest.raises(InputError, match=f"there is no {folder / missing}$|\\.$"):
            read_frames(folder / name)


def test_a_file_whose_name_looks_like_a_slice(folder):
    write_frames(folder / "ten.xyz@1:2", read_frames(folder / "ten.xyz@:4"))
    assert len(read_frames(folder / "ten.xyz@1:2", format="extxyz")) == 4
    (folder / "ten.xyz@1:2").unlink()
    assert len(read_frames(folder / "ten.xyz@1:2")) == 1
