"""Hints name the options of the command line, too, not arguments of Python alone."""

import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import kforce
from kforce.cli.main import main
from kforce.storage.npz import read_arrays, write_arrays

KERNEL = "--kernel matern52 --length-scale 10"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("hints")
    frames = kforce.datasets.load_methanol_ccsdt()[:12]
    write(path / "data.xyz", frames)
    write(path / "few.xyz", frames[:5])
    write(path / "same.xyz", frames[:1] * 4)
    for name, kept in (("energies", "energy"), ("forces", "forces")):
        copies = [frame.copy() for frame in frames]
        for copy, frame in zip(copies, frames, strict=True):
            copy.calc = SinglePointCalculator(copy, **{kept: frame.calc.results[kept]})
        write(path / f"{name}.xyz", copies)
    call = f"train {path}/data.xyz -o {path}/model.npz --n-train 8 -q {KERNEL}"
    assert main(call.split()) == 0
    assert main(f"convert {path}/model.npz {path}/sgdml.npz -q".split()) == 0
    fields = read_arrays(path / "sgdml.npz")
    write_arrays(path / "parsec.npz", fields | {"r_unit": "parsec"})
    return path


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        ("train energies.xyz", r"forces_key (--forces-key)"),
        ("info energies.xyz", r"forces_key (--forces-key)"),
        ("train forces.xyz --split stratified", "--split random"),
        ("train data.xyz --max-permutations 1 " + KERNEL, "--max-permutations"),
        ("train same.xyz --n-train 3 --kernel matern52", "--length-scale 10"),
        ("test parsec.npz data.xyz", "--units kcal/mol,Ang"),
        ("predict sgdml.npz data.xyz --std -o {}/p.xyz", "without --std"),
        ("learning-curve few.xyz --kernel matern52", "--sizes"),
    ],
)
def test_hints_name_options(folder, tmp_path, monkeypatch, capsys, call, hint):
    monkeypatch.chdir(folder)
    if call.startswith("train"):
        call += " -o {}/m.npz"
    main(call.format(tmp_path).split())
    captured = capsys.readouterr()
    assert hint in captured.out + captured.err
