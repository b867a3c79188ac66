import os

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase import units as ase_units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given, settings
from hypothesis import strategies as st

from kforce.data import dataset_hash, read_frames, write_frames
from kforce.data.readers import cause
from kforce.datasets import load_methanol_ccsdt
from kforce.errors import InputError
from kforce.labels import Labels
from kforce.progress import show_progress
from kforce.storage.npz import write_arrays

KCAL = ase_units.kcal / ase_units.mol
FRAMES = load_methanol_ccsdt()[:5]
LABELS = Labels.from_frames(FRAMES)
R = np.array([f.positions for f in FRAMES])
E, F, Z = LABELS.energy, np.array(LABELS.forces), FRAMES[0].numbers
SGDML = {"z": Z, "R": R, "E": E / KCAL, "F": F / KCAL}
RMD17 = {
    "nuclear_charges": Z.astype(np.uint8),
    "coords": R,
    "energies": E / KCAL,
    "forces": F / KCAL,
    "old_indices": np.arange(7, 12),
}


def labelled(energy=None, forces=None, stress=None, **info):
    atoms = molecule("H2O", cell=[3, 4, 5], pbc=True)
    atoms.calc = SinglePointCalculator(
        atoms, energy=energy, forces=forces, stress=stress
    )
    atoms.info.update(info)
    return atoms


def assert_methanol(frames):
    labels = Labels.from_frames(frames)
    np.testing.assert_allclose(labels.energy, E, rtol=1e-12)
    np.testing.assert_allclose(labels.forces, F, atol=1e-12)
    np.testing.assert_allclose([f.positions for f in frames], R, atol=1e-12)
    assert all((f.numbers == Z).all() and not f.pbc.any() for f in frames)


@pytest.mark.parametrize(
    "arrays",
    [SGDML, RMD17, SGDML | {"E": SGDML["E"][:, None]}, SGDML | {"z": Z.astype(float)}],
    ids=["sgdml", "rmd17", "md17", "float z"],
)
def test_npz(tmp_path, arrays, caplog):
    write_arrays(tmp_path / "a.npz", arrays)
    with caplog.at_level("INFO", "kforce.data"):
        frames = read_frames(tmp_path / "a.npz")
    assert_methanol(frames)
    assert "names no units: taken as kcal/mol and Å" in caplog.text
    assert "converted energies from kcal/mol to eV" in caplog.text


def test_npz_units_of_the_file_and_given(tmp_path, caplog):
    bohr = ase_units.Bohr
    hartree = {"z": Z, "R": R / bohr, "E": E / ase_units.Ha}
    hartree |= {"F": F / ase_units.Ha * bohr}
    write_arrays(tmp_path / "a.npz", hartree)
    assert_methanol(read_frames(tmp_path / "a.npz", units="Hartree,Bohr"))
    write_arrays(tmp_path / "b.npz", hartree | {"e_unit": "hartree", "r_unit": "bohr"})
    assert_methanol(read_frames(tmp_path / "b.npz"))
    units = {"e_unit": np.array(b"Hartree"), "r_unit": np.array([b"Bohr"])}
    write_arrays(tmp_path / "bytes.npz", hartree | units)
    assert_methanol(read_frames(tmp_path / "bytes.npz"))
    write_arrays(tmp_path / "c.npz", {"z": Z, "R": R, "E": E, "F": F})
    caplog.clear()
    with caplog.at_level("INFO", "kforce.data"):
        assert_methanol(read_frames(tmp_path / "c.npz", units="eV"))
    assert "converted" not in caplog.text


def test_atomic_units_of_npz(tmp_path, caplog):
    bohr = ase_units.Bohr
    atomic = {"z": Z, "R": R / bohr, "E": E / ase_units.Ha}
    atomic |= {"F": F / ase_units.Ha * bohr}
    for spelling in ("au", "a.u.", np.array(b"AU")):
        fields = {"e_unit": spelling, "r_unit": spelling}
        write_arrays(tmp_path / "a.npz", atomic | fields)
        assert_methanol(read_frames(tmp_path / "a.npz"))
    assert_methanol(read_frames(tmp_path / "a.npz", units="au"))
    assert "as asked" not in caplog.text
    write_arrays(tmp_path / "b.npz", atomic | {"e_unit": "eV", "r_unit": "Bohr"})
    assert_methanol(read_frames(tmp_path / "b.npz", units="Hartree"))
    assert "in eV and Bohr, and is read in Hartree, Bohr and Hartree/Bohr as" in (
        caplog.text
    )


def test_npz_extras(tmp_path):
    columns = np.array([[9.0, 1, 0], [0, 8, 0], [0, 0, 7]])
    write_arrays(tmp_path / "a.npz", RMD17 | {"lattice": columns})
    frames = read_frames(tmp_path / "a.npz")
    np.testing.assert_allclose(frames[0].cell[1], [1, 8, 0])
    assert frames[0].pbc.all()
    assert frames[2].info == {}


def test_npz_without_some_labels(tmp_path):
    write_arrays(tmp_path / "a.npz", {"z": Z, "R": R, "F": F})
    labels = Labels.from_frames(read_frames(tmp_path / "a.npz", units="eV"))
    assert np.isnan(labels.energy).all()
    assert labels.has_forces.all()
    write_arrays(tmp_path / "b.npz", {"z": Z, "R": R})
    assert read_frames(tmp_path / "b.npz")[0].calc is None


def test_npz_named_fields(tmp_path):
    arrays = {"z": Z, "R": R, "E": E + 1, "E_cc": E, "F": F + 1, "F_cc": F}
    write_arrays(tmp_path / "a.npz", arrays)
    assert_methanol(read_frames(tmp_path / "a.npz", "E_cc", "F_cc", "eV"))


@pytest.mark.parametrize(
    ("arrays", "options", "match"),
    [
        ({"x": R}, {}, r"numbers .* 'z or nuclear_charges' .* found the fields x"),
        ({"z": Z}, {}, "positions in the field 'R or coords'"),
        (SGDML, {"energy_key": "U"}, "energies in the field 'U' .* z, R, E, F"),
        (SGDML | {"R": R[:, :4]}, {}, r"shape \(5, 6, 3\)"),
        (SGDML | {"R": R[0]}, {}, r"positions .* found \(6, 3\)"),
        (SGDML | {"F": F[:3]}, {}, r"forces .* found \(3, 6, 3\)"),
        (SGDML | {"E": E[:3]}, {}, r"energies .* shape \(5,\).* found \(3,\)"),
        (SGDML | {"E": np.array(1.0)}, {}, "energies"),
        (SGDML | {"R": np.array(1.0)}, {}, "positions"),
        (SGDML | {"z": np.array(6)}, {}, "numbers"),
        (SGDML | {"R": R[:0], "E": E[:0], "F": F[:0]}, {}, "positions"),
        (SGDML | {"z": np.array(list("COHHHH"))}, {}, "numbers for the numbers"),
        (SGDML | {"z": Z + 500}, {}, "atomic numbers up to 118"),
        (SGDML | {"z": Z + 0.5}, {}, "atomic numbers"),
        (SGDML | {"z": np.full(6, np.nan)}, {}, "atomic numbers"),
        (SGDML | {"z": np.full(6, np.inf)}, {}, "atomic numbers"),
        (SGDML | {"lattice": np.eye(2)}, {}, "lattice"),
        (SGDML | {"lattice": np.full((3, 3), np.nan)}, {}, "finite .* the lattice"),
        (SGDML | {"lattice": np.diag([9.0, 9, np.inf])}, {}, "finite .* the lattice"),
        (SGDML | {"lattice": np.ones((3, 3))}, {}, "span a volume as the lattice"),
        (SGDML | {"e_unit": np.array(b"furlong")}, {}, "unit of energy 'furlong'"),
        (SGDML | {"e_unit": "furlong"}, {}, "unit of energy 'furlong'"),
        (SGDML, {"units": "furlong"}, "unit of energy 'furlong'"),
        (SGDML, {"units": "eV,Bohr,K"}, "Unknown unit of forces 'K'.* energy over a"),
        (SGDML, {"units": "eV,Bohr,eV/Bohr,K"}, "Expected units of energies, lengths"),
        (SGDML, {"units": ""}, "Expected units of energies, lengths"),
        (SGDML | {"r_unit": "mile"}, {}, r"a.npz: .*length 'mile'.*--units kcal/mol,A"),
    ],
)
def test_npz_errors(tmp_path, arrays, options, match):
    write_arrays(tmp_path / "a.npz", arrays)
    with pytest.raises(InputError, match=match):
        read_frames(tmp_path / "a.npz", **options)


DTYPES = ["b1", "i1", "u1", "i8", "u8", "f2", "f4", "f8", "c16", "S3", "U2"]
VALUES = [0, 1, -3, 7.5, 300, 1e30, 1.7e308, np.nan, np.inf, -np.inf]
DAMAGED = st.builds(
    lambda shape, dtype, value: np.full(shape, value).astype(dtype),
    st.sampled_from([(), (1,), (3, 3), Z.shape, E.shape, (5, 1), R.shape, (0, 6, 3)]),
    st.sampled_from(DTYPES),
    st.sampled_from(VALUES),
)
NAMES = [*SGDML, *RMD17, "lattice", "e_unit", "r_unit"]


DAMAGED_NAMES = st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True)


def entries(array):
    """The same field with one entry damaged."""

    def damage(k, value):
        changed = array.astype(float)
        changed.flat[k] = value
        return changed

    places = st.integers(0, array.size - 1)
    return st.builds(damage, places, st.sampled_from(VALUES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.filterwarnings("ignore:.*encountered in cast:RuntimeWarning")
@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from([SGDML, RMD17]))
def test_damaged_fields(folder, data, arrays):
    arrays = arrays | {"lattice": 9 * np.eye(3)}
    for name in data.draw(DAMAGED_NAMES):
        known = [entries(arrays[name])] if name in arrays else []
        value = data.draw(st.one_of(st.none(), DAMAGED, *known))
        arrays = {k: v for k, v in (arrays | {name: value}).items() if v is not None}
    write_arrays(folder / "a.npz", arrays)
    units = data.draw(st.sampled_from([None, "eV", "Hartree,nm"]))
    try:
        frames = read_frames(folder / "a.npz", units=units)
        assert len(frames) > 0
        dataset_hash(frames)  # refuses labels that are not finite
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_a_bar_shows_only_where_it_is_wanted(tmp_path, monkeypatch, capfd):
    write_frames(tmp_path / "a.xyz", FRAMES)
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(clock)))
    read_frames(tmp_path / "a.xyz")
    assert capfd.readouterr().err == ""
    with show_progress():
        read_frames(tmp_path / "a.xyz")
    assert "reading a.xyz: 5" in capfd.readouterr().err


def test_extended_xyz(tmp_path, caplog):
    write_frames(tmp_path / "a.xyz", FRAMES)
    with caplog.at_level("INFO", "kforce.data"):
        frames = read_frames(tmp_path / "a.xyz")
    assert Labels.from_frames(frames).energy == pytest.approx(E)
    assert frames[0].info["ccsd_energy"] == FRAMES[0].info["ccsd_energy"]
    assert not caplog.text


def test_named_keys(tmp_path):
    write_frames(tmp_path / "a.xyz", FRAMES)
    frames = read_frames(tmp_path / "a.xyz", "ccsd_energy", "gfn2_forces")
    labels = Labels.from_frames(frames)
    assert labels.energy == pytest.approx([f.info["ccsd_energy"] for f in FRAMES])
    np.testing.assert_allclose(labels.forces[2], FRAMES[2].arrays["gfn2_forces"])
    default = read_frames(tmp_path / "a.xyz", "energy", "forces")
    assert Labels.from_frames(default).energy == pytest.approx(E)


def test_frames_without_the_key_have_no_label(tmp_path, caplog):
    frames = [labelled(1.0), labelled(2.0, U=5.0)]
    write_frames(tmp_path / "a.xyz", frames)
    energy = Labels.from_frames(read_frames(tmp_path / "a.xyz", "U")).energy
    np.testing.assert_array_equal(energy, [np.nan, 5.0])
    assert "1 frame without 'U'" in caplog.text


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        (("U",), "energy under the key 'U' .* ccsd_energy, energy, forces, gfn2_energ"),
        ((None, "dft_forces"), "forces under the key 'dft_forces' .* gfn2_forces"),
        ((None, "numbers"), r"shape \(6, 3\), found int64 of shape \(6,\)"),
        (("name",), r"energy under the key 'name' as numbers"),
    ],
)
def test_key_errors(tmp_path, keys, match):
    frames = [f.copy() for f in FRAMES]
    for old, new in zip(FRAMES, frames, strict=True):
        new.calc = old.calc
        new.info["name"] = "methanol"
    write_frames(tmp_path / "a.xyz", frames)
    with pytest.raises(InputError, match=match):
        read_frames(tmp_path / "a.xyz", *keys)


def test_candidates_are_named(tmp_path, caplog):
    atoms = molecule("H2O")
    atoms.info["dft_energy"] = -1.0
    atoms.arrays["REF_forces"] = np.zeros((3, 3))
    write_frames(tmp_path / "a.xyz", [atoms])
    read_frames(tmp_path / "a.xyz")
    assert "no energy where ASE looks for it, but there is 'dft_energy'" in caplog.text
    assert "there is 'REF_forces': name the right one with forces_key" in caplog.text


def test_units_of_text_files_and_stress(tmp_path):
    stress = np.arange(1.0, 7.0)
    forces = np.arange(9.0).reshape(3, 3)
    frame = labelled(2.0, forces, stress)
    frame.positions /= ase_units.Bohr
    frame.calc.atoms.positions = frame.positions
    write_frames(tmp_path / "a.xyz", [frame])
    plain = read_frames(tmp_path / "a.xyz")[0]
    np.testing.assert_allclose(plain.get_stress(), stress)
    converted = read_frames(tmp_path / "a.xyz", units="Hartree,Bohr")[0]
    ha, bohr = ase_units.Ha, ase_units.Bohr
    assert converted.get_potential_energy() == pytest.approx(2 * ha)
    np.testing.assert_allclose(converted.get_forces(), forces * ha / bohr)
    np.testing.assert_allclose(converted.get_stress(), stress * ha / bohr**3)
    np.testing.assert_allclose(converted.cell.lengths(), np.array([3, 4, 5]) * bohr)
    np.testing.assert_allclose(converted.positions, plain.positions * bohr)


def test_forces_in_a_unit_of_their_own(tmp_path, caplog):
    """Å, Hartree and Hartree/Bohr: what most programs of quantum chemistry print."""
    ha, bohr = ase_units.Ha, ase_units.Bohr
    mixed = [with_labels(f, e, g) for f, e, g in zip(FRAMES, E / ha, F / ha * bohr)]  # noqa: B905
    for frame in mixed:
        frame.info["noise_forces"] = 0.001
    write_frames(tmp_path / "a.xyz", mixed)
    with caplog.at_level("INFO", "kforce.data"):
        frames = read_frames(tmp_path / "a.xyz", units="Hartree,Ang,Hartree/Bohr")
    labels = Labels.from_frames(frames)
    np.testing.assert_allclose(labels.energy, E, rtol=1e-7)
    np.testing.assert_allclose(labels.forces, F, atol=1e-6)
    np.testing.assert_allclose([f.positions for f in frames], R, atol=1e-7)
    assert frames[0].info["noise_forces"] == pytest.approx(0.001 * ha / bohr)
    assert "forces from Hartree/Bohr to eV/Å (× 51.42" in caplog.text
    npz = {"z": Z, "R": R, "E": E / ha, "F": F / ha * bohr}
    write_arrays(tmp_path / "a.npz", npz)
    assert_methanol(read_frames(tmp_path / "a.npz", units="Hartree,Ang,au"))


@pytest.mark.parametrize(
    ("scale", "units", "match"),
    [
        (1.0, "Hartree,Bohr", r"from Bohr .*0\.5\d times.*0\.4\d Å.* in Ang .*"
         r"--units Hartree,Ang,Hartree/Bohr"),
        (1.0, "au", "from Bohr .*--units Hartree,Ang,Hartree/Bohr"),
        (1.0, "eV,nm", "from nm .* 9.9 times .*--units eV,Ang,eV/nm"),
        (1.0 / ase_units.Bohr, "eV,nm,eV/Bohr", "--units eV,Bohr,eV/Bohr"),
        (0.3, "eV,Bohr", "0.16 times .*check the unit of length"),
    ],
)  # fmt: skip
def test_bond_lengths_after_a_conversion(tmp_path, scale, units, match):
    frames = [Atoms(Z, f.positions * scale) for f in FRAMES]
    write_frames(tmp_path / "a.xyz", frames)
    with pytest.raises(InputError, match=match):
        read_frames(tmp_path / "a.xyz", units=units)


def test_conversions_that_are_right(tmp_path):
    """Atoms that are no neighbours, cells, and frames that tell nothing."""
    far = Atoms("Ar2", [[0, 0, 0], [0, 0, 3.8]])
    cell = molecule("H2O", cell=[9, 9, 9], pbc=True)
    flat = Atoms("C2", [[0, 0, 0], [0, 1.4, 0]], cell=[[2, 0, 0], [2, 0, 0], [0] * 3])
    flat.pbc = [True, True, False]
    split = molecule("H2O", cell=[9, 9, 9], pbc=True)
    split.positions[0] += [9, 0, 0]
    nan = molecule("H2O")
    nan.positions[0] = np.nan
    for frame in (far, cell, flat, split, Atoms("H"), nan):
        frame.set_cell(frame.cell.array / ase_units.Bohr)
        frame.positions /= ase_units.Bohr
        ase.io.write(tmp_path / "a.traj", frame)
        assert len(read_frames(tmp_path / "a.traj", units="eV,Bohr")) == 1


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("extxzy", "extxyz"),
        ("vasp_xml", "vasp-xml"),
        ("orca", "orca-output"),
        ("XYZ", "xyz"),
        ("png", "found 'png'"),
        ("", "extxyz"),
        ("no such thing", "extxyz"),
    ],
)
def test_a_format_that_ase_does_not_know(tmp_path, name, near):
    with pytest.raises(InputError, match=r"format that ASE reads, such as .*") as error:
        read_frames(tmp_path / "a.xyz", format=name)
    assert near in str(error.value)
    assert f"found {name!r}" in str(error.value)


def test_the_format_is_taken_as_given(tmp_path):
    write_frames(tmp_path / "frames", FRAMES)
    os.rename(tmp_path / "frames", tmp_path / "frames.out")
    with pytest.raises(InputError, match=r"holds none .* as 'esp.*--format aims-o"):
        read_frames(tmp_path / "frames.out")
    assert len(read_frames(tmp_path / "frames.out", format="extxyz")) == 5
    assert len(read_frames(f"{tmp_path}/frames.out@1:3", format="extxyz")) == 2
    promising = "1000000000000\n\nH 0 0 0"
    (tmp_path / "promise.out").write_text(promising)
    with pytest.raises(InputError, match="promises 1,000,000,000,000 atoms"):
        read_frames(tmp_path / "promise.out", format="extxyz")


def test_what_ase_says_is_said(tmp_path):
    (tmp_path / "a.traj").write_bytes(b"- of Ulmnothing")
    (tmp_path / "b.xyz").write_text("2\n\nH 0 0 0\nH 0 0 zero\n")
    with pytest.raises(InputError, match=r"could not be read as '\w+' \(\w+: .+\)"):
        read_frames(tmp_path / "a.traj")
    with pytest.raises(InputError, match=r"'extxyz' \(\w+Error: .*zero.*\): check"):
        read_frames(tmp_path / "b.xyz")


def test_the_frame_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "c.xyz").write_text(3 * "1\n\nH 0 0 0\n" + "2\n\nH 0 0 0\n")
    with pytest.raises(InputError, match=r"'extxyz' from frame 3 on \(XYZError: .*2\)"):
        read_frames(tmp_path / "c.xyz")
    assert len(read_frames(f"{tmp_path}/c.xyz@:3")) == 3


def test_causes_of_errors():
    def fail():
        raise KeyError from ValueError("the \n reason " + 200 * "x")

    with pytest.raises(KeyError) as caught:
        fail()
    text = cause(caught.value)
    assert text.startswith("KeyError: at 'raise KeyError from ValueError(")
    assert "; because of ValueError: the reason xxx" in text
    assert len(text) < 350


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.xyz", None, "there is no"),
        ("a.npz", None, "there is no"),
        ("a.xyz", "", "could not be read"),
        ("a.xyz", "nonsense\nmore\n", "could not be read"),
        ("a.xyz", "3\n\nO 0 0 0\nH 0 0 1\n", "could not be read"),
        ("a.xyz", "1\n\nXx 0 0 a\n", "could not be read"),
        ("a.foo", "\x01\x02", "could not be read"),
        ("a.npz", "text", "damaged or of another kind"),
    ],
)
def test_unreadable_files(tmp_path, name, content, match):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=match) as caught:
        read_frames(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_with_an_at_sign(tmp_path):
    write_frames(tmp_path / "a@2.xyz", FRAMES)
    assert len(read_frames(tmp_path / "a@2.xyz")) == 5


def test_other_ase_formats(tmp_path):
    ase.io.write(tmp_path / "a.traj", FRAMES)
    assert Labels.from_frames(read_frames(tmp_path / "a.traj")).energy == pytest.approx(
        E
    )


def test_write_is_all_or_nothing(tmp_path, monkeypatch):
    write_frames(tmp_path / "a.xyz", FRAMES)

    def full(fd):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="Could not write"):
        write_frames(tmp_path / "a.xyz", FRAMES[:1])
    assert len(read_frames(tmp_path / "a.xyz")) == 5
    assert len(list(tmp_path.iterdir())) == 1


def with_labels(atoms, energy, forces):
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def test_hash():
    reference = dataset_hash(FRAMES)
    assert len(reference) == 64
    copies = [with_labels(f, e, g) for f, e, g in zip(FRAMES, E, F, strict=True)]
    copies[0].info["name"] = "other"
    assert dataset_hash(copies) == reference
    first, rest = FRAMES[0], FRAMES[1:]
    moved = first.copy()
    moved.positions += 1e-9
    changes = [
        [with_labels(first, E[0] + 1e-9, F[0]), *rest],
        [with_labels(first, E[0], F[0] + 1e-9), *rest],
        [with_labels(first, E[0], None), *rest],
        [with_labels(moved, E[0], F[0]), *rest],
        [*rest, first],
        rest,
    ]
    assert len({reference, *map(dataset_hash, changes)}) == len(changes) + 1


def test_hash_ignores_the_sign_of_zero_and_nan():
    a, b = Atoms("H", [[0.0, 0, 0]]), Atoms("H", [[-0.0, 0, 0]])
    assert dataset_hash([a]) == dataset_hash([b])


def test_shared_data(shared):
    data = shared / "data"
    frames = read_frames(data / "rmd17" / "rmd17_ethanol_train_01.npz")
    assert len(frames) == 1000
    assert frames[0].get_potential_energy() == pytest.approx(-4209.5, abs=1)
    md17 = read_frames(data / "md17_ethanol" / "mlff_ethanol_first2000.npz")
    assert md17[0].get_potential_energy() == pytest.approx(-4215.4, abs=1)
    quip = shared / "reference" / "gap_quip_tests"
    for path in quip.glob("*.xyz"):
        assert read_frames(path)


def test_virials_are_read_as_stresses(tmp_path, caplog):
    """As in training sets of GAP: nine numbers in eV, −∂E/∂ε."""
    virial = np.array([[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]])
    frames = [molecule("H2O", cell=[3, 4, 5], pbc=True) for _ in range(3)]
    frames[0].info["virial"] = virial
    frames[1].pbc = False  # where there is none
    frames[1].info["virial"] = virial
    ase.io.write(tmp_path / "v.xyz", frames)
    caplog.set_level("INFO")
    first, second, third = read_frames(tmp_path / "v.xyz")
    expected = -np.array([1.0, 2.0, 3.0, 0.3, 0.2, 0.1]) / 60.0
    np.testing.assert_allclose(first.get_stress(), expected)
    assert second.calc is third.calc is None
    assert "the virials of 1 frame are read as stresses" in caplog.text


def test_stresses_under_other_names_are_pointed_at(tmp_path, caplog):
    ase.io.write(tmp_path / "v.xyz", labelled(energy=1.0, REF_stress=np.ones(6)))
    read_frames(tmp_path / "v.xyz")
    assert "no stresses where ASE looks for them, but there is 'REF_stress'" in (
        caplog.text
    )
