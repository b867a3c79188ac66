"""GAP models: what is written is read, and all forms of the files mean the same."""

import hashlib
import os
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from quip_files import (
    CRYSTAL,
    FRAMES,
    SWAP,
    TERMS,
    TEXT,
    changed,
    model,
    pair,
    same,
    soap,
    triplet,
)
from sklearn.exceptions import NotFittedError

import kforce
from kforce import RBF, SOAP, Matern52, ThreeBody, TwoBody
from kforce.descriptors.projected import Projected
from kforce.errors import InputError
from kforce.io import read_quip_xml, write_quip_xml
from kforce.io.quip_descriptors import Keys, read_descriptor, write_descriptor
from kforce.kernels.stationary import PiecewisePolynomial

NEW = 1527075646


def written(folder, made):
    write_quip_xml(made, folder / "gap.xml")
    return read_quip_xml(folder / "gap.xml")


@pytest.mark.parametrize("make", TERMS.values(), ids=TERMS)
def test_round_trip(tmp_path, make):
    made = model(make())
    again = written(tmp_path, made)
    assert same(again, made, FRAMES)
    assert again.species_ == made.species_
    assert again.reference_energies_ == made.reference_energies_


@pytest.mark.parametrize("kernel", [RBF(0.6), PiecewisePolynomial(1, 3.0)])
def test_length_scales_of_kernels(tmp_path, kernel):
    made = model(pair(kernel=kernel))
    again = written(tmp_path, made).evaluate(FRAMES)
    expected = made.evaluate(FRAMES)
    np.testing.assert_allclose(again.energy, expected.energy, rtol=1e-12)
    np.testing.assert_allclose(again.forces[0], expected.forces[0], atol=1e-12)


def test_round_trip_of_old_rules(tmp_path):
    terms = soap(legacy_factor=True), pair(), soap(legacy_factor=True, species=(14,))
    made = model(*terms)
    assert same(written(tmp_path, made), made)
    text = (tmp_path / "gap.xml").read_text()
    assert 'gap_version="1423143768"' in text


@pytest.mark.parametrize("energies", [None, {"C": -1e3, "O": -2e3, "H": -15.0}])
def test_a_fitted_model(tmp_path, methanol, energies):
    terms = [
        kforce.Term(TwoBody(cutoff=4.0), n_inducing=8),
        kforce.Term(SOAP(cutoff=3.0, n_max=3, l_max=2, atom_sigma=0.5), n_inducing=9),
    ]
    made = kforce.GAPRegressor(terms, optimize=False, reference_energies=energies)
    made.fit(methanol[:10])
    again = written(tmp_path, made)
    wanted = ("energy", "forces", "energies")
    one, other = (m.evaluate(methanol[-5:], wanted) for m in (made, again))
    assert (np.array(one.forces) == np.array(other.forces)).all()
    # Energies of atoms that were learned are added to those of the elements.
    np.testing.assert_allclose(one.energy, other.energy, rtol=1e-13)
    np.testing.assert_allclose(one.energies, other.energies, rtol=1e-12)


def test_projected_features(tmp_path, methanol):
    """The file holds whole features, whose products are those of the projected ones."""
    soap = SOAP(cutoff=3.0, n_max=4, l_max=3, atom_sigma=0.5)
    terms = [kforce.Term(soap, n_inducing=20)]
    made = kforce.GAPRegressor(terms, optimize=False).fit(methanol[:10])
    again = written(tmp_path, made)
    term = made.terms_[0]
    assert term.descriptor.n_features < again.terms_[0].descriptor.n_features
    assert not hasattr(again.terms_[0].descriptor, "matrix")
    one, other = (m.evaluate(methanol[-5:]) for m in (made, again))
    np.testing.assert_allclose(other.energy, one.energy, rtol=1e-12)
    np.testing.assert_allclose(other.forces, one.forces, rtol=0.0, atol=1e-9)


def test_projected_features_of_other_kernels(tmp_path, methanol):
    soap = SOAP(cutoff=3.0, n_max=2, l_max=1, atom_sigma=0.5, species=(1, 6, 8))
    descriptor = Projected(soap, np.eye(soap.n_features)[:, :12])
    terms = [kforce.Term(descriptor, RBF(1.0), n_inducing=5)]
    made = kforce.GAPRegressor(terms, optimize=False).fit(methanol[:5])
    with pytest.raises(InputError, match="kernels of products only"):
        write_quip_xml(made, tmp_path / "gap.xml")


def test_what_is_written(tmp_path):
    write_quip_xml(model(*(make() for make in TERMS.values())), tmp_path / "gap.xml")
    text = (tmp_path / "gap.xml").read_text()
    root = ElementTree.fromstring(text)
    assert re.fullmatch("kforce_[0-9a-f]{12}", root.tag)
    assert text.startswith(f"<{root.tag}>")
    assert f'gap_version="{NEW}"' in text
    parts = list(root.iter("gpCoordinates"))
    labels = [f"{root.tag}{i + 1}" for i in range(len(TERMS))]
    assert [part.get("label") for part in parts] == labels
    for part in parts:
        data = (tmp_path / part.get("sparseX_filename")).read_bytes()
        assert hashlib.md5(data).hexdigest() == part.get("sparseX_md5sum")
        lines = data.decode().splitlines()
        assert len(lines) == int(part.get("n_sparseX")) * int(part.get("dimensions"))
        digits = {len(re.sub(r"e.*|[^0-9]", "", line)) for line in lines}
        assert digits == {17}
        for child in part.iter():
            words = [len(line.split()) for line in (child.text or "").splitlines()]
            assert max(words, default=0) <= 8 or child.tag == "descriptor"
    assert len(os.listdir(tmp_path)) == len(TERMS) + 1


def test_equal_models_give_equal_files(tmp_path):
    for _ in range(2):
        write_quip_xml(model(pair()), tmp_path / "gap.xml")
        found = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        assert len(found) == 2
    write_quip_xml(model(pair(species=(1, 6))), tmp_path / "gap.xml")
    assert found.keys() - {"gap.xml"} < {p.name for p in tmp_path.iterdir()}


def test_file_names_of_all_kinds(tmp_path):
    made = model(pair())
    path = tmp_path / 'a "b" <é>.xml'
    write_quip_xml(made, path)
    assert same(read_quip_xml(path), made)


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_failure_leaves_nothing(tmp_path, monkeypatch, failing):
    write_quip_xml(model(pair()), tmp_path / "gap.xml")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    calls, real = [], os.replace

    def broken(source, target):
        calls.append(target)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", broken)
    made = model(pair(species=(6, 14)), triplet())
    with pytest.raises(InputError, match="No space left"):
        write_quip_xml(made, tmp_path / "gap.xml")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="Could not write"):
        write_quip_xml(model(pair()), tmp_path / "no" / "gap.xml")


class Other(TwoBody):
    """A descriptor that QUIP does not have."""


CANNOT = {
    "kernel": (lambda: pair(kernel=Matern52(length_scale=1.0)), "kernels RBF"),
    "descriptor": (
        lambda: replace(pair(), descriptor=Other(cutoff=3.0)),
        "descriptors TwoBody, ThreeBody and SOAP",
    ),
    "constant": (lambda: replace(soap(), constant=0.1), "adds no constant"),
    "lengths": (
        lambda: replace(soap(), length_scales=np.full(19, 2.0)),
        "no length scales",
    ),
    "dimensions": (
        lambda: triplet(kernel=PiecewisePolynomial(n_features=1)),
        "as many features",
    ),
    "damping": (lambda: soap(damping=(2.5, 2.0, 1.0)), "whole exponents"),
}


@pytest.mark.parametrize(("make", "match"), CANNOT.values(), ids=CANNOT)
def test_what_quip_has_not(tmp_path, make, match):
    with pytest.raises(InputError, match=match):
        write_quip_xml(model(make()), tmp_path / "gap.xml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "terms",
    [
        (soap(legacy_factor=True), soap()),
        (soap(legacy_factor=True, species=(6, 14)),),
    ],
)
def test_mixed_rules(tmp_path, terms):
    with pytest.raises(InputError, match="legacy_factor=True"):
        write_quip_xml(model(*terms), tmp_path / "gap.xml")


def test_other_models(tmp_path, methanol, methanol_model):
    with pytest.raises(InputError, match="models of GAPRegressor, found GDML"):
        write_quip_xml(methanol_model, tmp_path / "gap.xml")
    with pytest.raises(NotFittedError):
        write_quip_xml(kforce.GAPRegressor(), tmp_path / "gap.xml")
    with pytest.raises(InputError, match="no baseline"):
        write_quip_xml(model(pair())._restore(baseline_=object()), tmp_path / "gap.xml")


def test_the_text_as_a_model(tmp_path):
    found = read_quip_xml(changed(tmp_path))
    two, three, many = found.terms_
    assert repr(two.descriptor) == repr(TwoBody(cutoff=3.0, species=(14, 6)))
    assert (two.constant, two.kernel.amplitude, two.length_scales) == (0.1, 0.5, [0.8])
    assert two.inducing_points.tolist() == [[1.9], [2.2]]
    assert two.weights.tolist() == [-0.015, 0.25]
    assert two.f_cut.tolist() == [1.0, 0.75]
    assert three.permutations.tolist() == SWAP
    assert repr(three.kernel.kernel) == repr(PiecewisePolynomial(n_features=3))
    assert three.inducing_points.tolist() == [[3.8, 0.1, 3.1]]
    assert many.inducing_points.tolist() == [[0.6, 0.5, 0.4, 0], [0.3, 0.5, 0.7, 0]]
    assert (many.descriptor.species, many.descriptor.centre) == ((6,), 14)
    assert (many.constant, many.kernel.kernel.zeta) == (0.0, 2)
    assert found.species_ == (14, 6)
    assert found.reference_energies_ == {14: -1.5, 6: 2.0}
    assert np.isfinite(found.evaluate([CRYSTAL]).forces[0]).all()


SLICED = re.search(r' sliced="T">.*?(?=</sparseX>\n<sparseX i="2")', TEXT, re.S)[0]
OF_SOAP = "<descriptor>soap"
FIRST, SECOND = re.findall(r"<sparseX i.*</sparseX>", TEXT)[:2]

#: Other texts for the same model.
FORMS = {
    "no slices": [(SLICED, ">\n.6 .5\n.4 0")],
    "order": [(f"{FIRST}\n{SECOND}", f"{SECOND}\n{FIRST}")],
    "old exponent": [(' zeta="2"', ""), (OF_SOAP, f"<theta>2</theta>{OF_SOAP}")],
    "no identity": [('<permutation i="1">1  </permutation>\n', "")],
    "identity of products": [
        (OF_SOAP, f'<permutation i="1">1</permutation>{OF_SOAP}')
    ],
    "few attributes": [
        (' do_core="F"', ""),
        (' fitted="T"', ""),
        (' sparsified="T"', ""),
        ('<Potential label="lab" init_args="IP GAP label=lab"/>', ""),
        (' n_permutations="1"', ""),
    ],
    "unknown things": [
        ("<GAP_data", '<GAP_data mood="good"'),
        ("</GAP_params>", "<XYZ_data>2</XYZ_data></GAP_params>"),
        ("cutoff=3.0", "theta_fac=0.2 cutoff=3.0 config={a b} print"),
    ],
    "harmless keys": [("atom_sigma", "average=F nu_R=2 K=0 Z_mix=F atom_sigma")],
    "keys": [
        ("cutoff=3.0", "cutoff=9 CUTOFF = 3.0d0"),
        ("Z=14\n species_Z={6 }", "n_z=1 Z={14} species_Z=\"6\" normalise"),
        ("atom_sigma", "atom_gaussian_width"),
        ("Z=14 Z1", "Z_center=14 Z1"),
    ],
    "comment": [("<gpSparse", "<!-- & so on -->\n<gpSparse")],
    "declaration": [("<lab>", '<?xml version="1.0" encoding="UTF-8"?><lab>')],
    "new version": [("1527075646", "1769700636")],
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms(tmp_path, form):
    expected = read_quip_xml(changed(tmp_path))
    found = read_quip_xml(changed(tmp_path, *form))
    assert found.species_ == expected.species_
    assert same(found, expected)


def external(folder, data=b"1.9\n2.2\n", name="points", md5=None):
    """Write the model with the sparse points of pairs in a file."""
    (folder / "points").write_bytes(data)
    attributes = f'n_sparseX="2" sparseX_filename="{name}"'
    if md5 is not None:
        attributes += f' sparseX_md5sum="{md5}"'
    return changed(
        folder,
        ('covariance_type="1" n_sparseX="2"', f'covariance_type="1" {attributes}'),
        (">.19E+001</sparseX>", "/>"),
        (">2.2</sparseX>", "/>"),
    )


DATA = b" .19D+001\n\n 2.2"
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.mark.parametrize("md5", [None, "", MD5, MD5.upper()])
def test_points_in_a_file(tmp_path, md5):
    expected = read_quip_xml(changed(tmp_path))
    assert same(read_quip_xml(external(tmp_path, DATA, md5=md5)), expected)


def test_a_folder_that_one_is_in(tmp_path, monkeypatch):
    external(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert read_quip_xml("gap.xml").terms_[0].n_inducing == 2


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("none", "there is no .*none"),
        ("", "names the file ''"),
        ("..", "names the file"),
        (".", "not a regular file"),
        ("../model/points", "names the file '../model/points'"),
        ("sub/points", "in the folder of the model"),
        ("sub\\points", "in the folder of the model"),
        ("/etc/passwd", "in the folder of the model"),
        ("leaves", "in the folder of the model"),
        ("pipe", "not a regular file"),
        ("points&#10;", "in the folder of the model"),
    ],
)
def test_other_files_are_not_read(tmp_path, name, match):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "points").write_bytes(DATA)
    (tmp_path / "secret").write_bytes(DATA)
    (folder / "leaves").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match=match):
        read_quip_xml(external(folder, DATA, name=name))


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "holds 0 numbers, expected 2"),
        (b"1.9", "holds 1 numbers, expected 2"),
        (b"1.9 2.2 3", "holds 3 numbers, expected 2"),
        (b"1.9 2.2 x", "something else than numbers"),
        (b"1.9 nan", "not finite"),
        (b"1.9 1e400", "not finite"),
        (b"1.9 \xff\x00", "something else than numbers"),
        (b"1" * 2000, "too large"),
    ],
)
def test_bad_points_in_a_file(tmp_path, data, match):
    with pytest.raises(InputError, match=match):
        read_quip_xml(external(tmp_path, data))


def test_another_checksum(tmp_path):
    with pytest.raises(InputError, match="does not have the checksum"):
        read_quip_xml(external(tmp_path, DATA + b"\n", md5=MD5))


LISTED = '<e0 Z="14" value="-.15E+001"/><e0 Z="6" value="2"/>'
TABLE = "".join(f'<e0 Z="{z}" value="{z in (1, 6)}"/>' for z in range(1, 117))
TABLE = TABLE.replace("True", ".5").replace("False", "0")
ALL = {z: 0.0 for z in range(1, 119)}


@pytest.mark.parametrize(
    ("replacements", "energies"),
    [
        ([(LISTED, TABLE)], {1: 0.5, 6: 0.5, 14: 0.0}),
        ([(LISTED, "")], {6: 0.0, 14: 0.0}),
        ([(f'<GAP_data do_core="F">{LISTED}</GAP_data>', "")], {6: 0.0, 14: 0.0}),
        ([('do_core="F"', 'e0="3"'), (LISTED, "")], {6: 3.0, 14: 3.0}),
        ([('do_core="F"', 'e0="3"'), ('<e0 Z="6" value="2"/>', "")], {14: -1.5, 6: 3}),
        ([(LISTED, ""), ("Z2=6 n_sparse", "n_sparse")], ALL),
        ([("Z2=6 n_sparse", "n_sparse")], {14: -1.5, 6: 2.0}),
    ],
)
def test_energies_of_atoms(tmp_path, replacements, energies):
    found = read_quip_xml(changed(tmp_path, *replacements))
    assert found.reference_energies_ == energies
    assert found.species_ == tuple(energies)


@pytest.mark.parametrize(
    ("version", "factor", "everywhere"),
    [
        ("", True, True),
        ('gap_version="0"', True, True),
        ('gap_version="1423143768"', True, True),
        ('gap_version="1423143769"', False, True),
        ('gap_version="1426512067"', False, True),
        ('gap_version="1426512068"', False, None),
    ],
)
def test_rules_of_versions(tmp_path, version, factor, everywhere):
    found = read_quip_xml(changed(tmp_path, ('gap_version="1527075646"', version)))
    descriptor = found.terms_[2].descriptor
    assert descriptor.legacy_factor is factor
    assert descriptor.central_everywhere is everywhere


STRINGS = {
    "soap cutoff=4 n_max=3 l_max=2 atom_sigma=.5": SOAP(
        cutoff=4.0, n_max=3, l_max=2, atom_sigma=0.5
    ),
    "soap cutoff=4.0 cutoff_transition_width=1 n_max=3 l_max=2 atom_sigma=.5 "
    "n_species=2 species_Z={6 14 } n_Z=2 Z={14,6} central_weight=.5 normalise=F "
    "covariance_sigma0=.1 radial_basis=GTO basis_error_exponent=8 cutoff_dexp=2 "
    "cutoff_scale=3 cutoff_rate=0 diagonal_radial=T central_reference_all_species=T": (
        SOAP(
            cutoff=4.0,
            n_max=3,
            l_max=2,
            atom_sigma=0.5,
            transition_width=1.0,
            species=(6, 14),
            centre=(14, 6),
            central_weight=0.5,
            normalise=False,
            sigma0=0.1,
            radial_basis="gto",
            basis_error_exponent=8.0,
            damping=(2, 3.0, 0.0),
            diagonal_radial=True,
            central_everywhere=True,
        )
    ),
    "distance_2b cutoff=4.0": TwoBody(cutoff=4.0, species=(None, None)),
    "distance_2b cutoff=4.0 Z2=6 n_exponents=2": TwoBody(
        cutoff=4.0, species=(None, 6), exponents=(-1, -2)
    ),
    "distance_2b cutoff=4.0 exponents=-3 tail_exponent=2": TwoBody(
        cutoff=4.0, species=(None, None), exponents=(-3,), tail=(2, 1.0)
    ),
    "{angle_3b cutoff=4.0 Z1=1 Z2=8 Z=6}": ThreeBody(
        cutoff=4.0, centre=6, species=(1, 8)
    ),
}


@pytest.mark.parametrize("text", STRINGS)
def test_descriptors(text):
    found = read_descriptor(text, NEW)
    assert repr(found) == repr(STRINGS[text])
    again = read_descriptor(write_descriptor(found), NEW)
    assert again.n_features == found.n_features
    assert write_descriptor(again) == write_descriptor(found)


def test_keys():
    keys = Keys.parse("{name a=1 A= 2 b={3 4} c='5 6' d=7} e f=T")
    assert keys.name == "name"
    assert keys.values == {
        "name": "T", "a": "2", "b": "3 4", "c": "5 6", "d": "7", "e": "T", "f": "T",
    }  # fmt: skip
