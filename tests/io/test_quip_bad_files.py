"""What is no GAP model, a damaged one or an unknown one ends in one clear sentence."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quip_files import TEXT, changed

from kforce.errors import InputError
from kforce.io import read_quip_xml

VERSION = 'gap_version="1527075646"'
ARGS = 'init_args="IP GAP label=lab"'
CORE = "adds a core potential .* or scales it"

CASES = {
    "newer": ((VERSION, 'gap_version="1769700637"'), "of version 1769700637"),
    "half version": ((VERSION, 'gap_version="1.5"'), "gap_version='1.5'"),
    "endless version": ((VERSION, f'gap_version="{"9" * 5000}"'), "gap_version='999"),
    "core": (('do_core="F"', 'do_core="T"'), CORE),
    "unclear core": (('do_core="F"', 'do_core="no"'), "do_core='no', expected T or F"),
    "sum": ((ARGS, 'init_args="Sum init_args_pot1={IP Glue} init_args_pot2={}"'), CORE),
    "scaled": ((ARGS, 'init_args="IP GAP label=lab E_scale=2.0"'), CORE),
    "no args": ((ARGS, ""), "Potential lab lacks init_args"),
    "no model": (("GAP_params", "SW_params"), "holds 0"),
    "two models": (("<lab>", "<lab><GAP_params/>"), "holds 2"),
    "not fitted": (('fitted="T"', 'fitted="F"'), "has not been fitted"),
    "not sparse": (('sparsified="T"', 'sparsified="F"'), "lab1 is not sparse"),
    "more terms": (('n_coordinate="3"', 'n_coordinate="4"'), "3 × gpCoordinates, and"),
    "no terms": (('n_coordinate="3"', 'n_coordinate="0"'), "expected 1 or more"),
    "no term": (("gpCoordinates", "gpOther"), "holds 0 × gpCoordinates"),
    "no sparse part": (("gpSparse", "gpOther"), "holds 0 × gpSparse, expected one"),
    "element 0": (('Z="6" v', 'Z="0" v'), "e0 of Z=0, which is no element"),
    "element 119": (('Z="6" v', 'Z="119" v'), "e0 of Z=119"),
    "no energy": (('value="2"', ""), "e0 lacks value"),
    "energy": (('value="2"', 'value="two"'), "e0: value holds something else"),
    "energies": (('value="2"', 'value="2 3"'), "value holds 2 numbers, expected 1"),
    "empty energy": (('value="2"', 'value=""'), "value holds 0 numbers"),
    "nan energy": (('value="2"', 'value="NaN"'), "value holds values that are not fin"),
    "energy of all": (('do_core="F"', 'e0="x"'), "GAP_data: e0 holds something else"),
    "no delta": (('signal_variance=".5"', ""), "lab1 lacks signal_variance"),
    "delta 0": (('signal_variance=".5"', 'signal_variance="0"'), "signal_variance=0"),
    "infinite": (
        ('signal_mean=".1"', 'signal_mean="1e400"'),
        "values that are not",
    ),
    "no mean": (('signal_mean=".1"', ""), "lab1 lacks signal_mean"),
    "no kind": (('covariance_type="1"', ""), "lab1 lacks covariance_type"),
    "kind 3": (('covariance_type="1"', 'covariance_type="3"'), "lab1 is of type 3"),
    "no theta": (("<theta> .8 </theta>", ""), "lab1 holds 0 × theta"),
    "thetas": (("<theta> .8 </theta>", "<theta>1 2</theta>"), "holds 2 numbers, exp"),
    "theta 0": (("<theta> .8 </theta>", "<theta>0</theta>"), "theta that is not pos"),
    "no zeta": (('zeta="2"', ""), "lab3 holds 0 × theta"),
    "zeta": (('zeta="2"', 'zeta="0.5"'), "zeta=0.5, expected 1 or more"),
    "dimensions": (('dimensions="4"', 'dimensions="5"'), "5 dimensions, but .* has 4"),
    "no dimensions": (('dimensions="4"', ""), "lab3 lacks dimensions"),
    "points": (
        ('zeta="2" n_sparseX="2"', 'zeta="2" n_sparseX="3"'),
        "2 × sparseX",
    ),
    "many points": (('n_sparseX="2"', 'n_sparseX="99999999999"'), "2 × sparseX"),
    "equal points": (('<sparseX i="2"', '<sparseX i="1"'), "numbered from 1"),
    "no weight": (('alpha=".25" ', ""), "sparseX 2 lacks alpha"),
    "no fade": (('sparseCutoff=".75"', ""), "sparseX 2 lacks sparseCutoff"),
    "nan weight": (('alpha=".25"', 'alpha="nan"'), "alpha holds values that are not"),
    "no numbers": ((">2.2<", "><"), "its text holds 0 numbers, expected 1"),
    "stars": ((">2.2<", ">***<"), "its text holds something else than numbers"),
    "no unicode": ((">2.2<", ">２<"), "its text holds something else than numbers"),
    "slice": (('start="4"', 'start="5"'), "the slices of sparseX 1 are not 1 to 4"),
    "slice 0": (('start="1"', 'start="0"'), "start=0, expected 1 or more"),
    "gap": (('end="3"', 'end="2"'), "holds 3 numbers, expected 2"),
    "long slice": (('end="4"', 'end="400"'), "the slices of sparseX 1 are not"),
    "backwards": (('end="3"', 'end="0"'), "end=0, expected 1 or more"),
    "text slice": (('end="3"', 'end="x"'), "end='x', expected a number"),
    "few permutations": (('i="2">3 2 1</permutation>', 'i="2">3 2 1'), "damaged"),
    "no permutation": (
        ('<permutation i="2">3 2 1</permutation>', ""),
        "lab2 holds 1 × permutation, expected 2",
    ),
    "no group": (("3 2 1</perm", "2 3 1</perm"), "wrong permutations. .* be a group"),
    "repeated": (("3 2 1</perm", "3 2 2</perm"), "permutation that is none of 1 to 3"),
    "half": (("3 2 1</perm", "3 1.5 1</perm"), "permutation that is none of 1 to 3"),
    "theta changes": (("1.5 2 1.5", "1.5 2 3"), "length_scales must not change"),
    "one permutation": (
        ('n_permutations="2"', 'n_permutations="1"'),
        "lab2 holds 2 × permutation, expected 1",
    ),
    "products": (
        (
            'n_permutations="1" covariance_type="2"',
            'n_permutations="2" covariance_type="2"',
        ),
        "lab3 permutes the features of a product",
    ),
    "no descriptor": (("descriptor>", "other>"), "holds 0 × descriptor"),
    "turbo": (("soap cutoff", "soap_turbo cutoff"), "no descriptor 'soap_turbo', only"),
    "many-body": (("angle_3b", "distance_Nb"), "no descriptor 'distance_Nb'"),
    "empty": (("angle_3b cutoff=2.5 Z=14 Z1=6 Z2=6", ""), "no descriptor ''"),
    "average": (("soap ", "soap average=T "), "no soap with average=T"),
    "compression": (("soap ", "soap nu_R=1 "), "no soap with nu_R=1"),
    "mixing": (("soap ", "soap Z_mix "), "no soap with Z_mix=T"),
    "map": (("soap ", "soap Z_map={1,6} "), "no soap with Z_map=1,6"),
    "molecules": (("Z1=14 ", "Z1=14 only_intra=T "), "no distance_2b with only"),
    "basis": (("soap ", "soap radial_basis=POLYNOMIAL "), "no radial_basis=POLY"),
    "no cutoff": (
        ("distance_2b cutoff=3.0", "distance_2b"),
        "2b lacks cutoff",
    ),
    "text cutoff": (("cutoff=2.5", "cutoff=far"), "cutoff='far', expected a number"),
    "endless cutoff": (("cutoff=2.5", "cutoff=inf"), "cutoff='inf', expected"),
    "cutoff 0": (("cutoff=2.5", "cutoff=0"), "wrong descriptor. cutoff must be"),
    "n_max": (("n_max=2", "n_max=2.0"), "n_max='2.0', expected a whole number"),
    "n_max 0": (("n_max=2", "n_max=0"), "4 dimensions, but .* has 1"),
    "huge n_max": (("n_max=2", "n_max=999999"), "4 dimensions, but"),
    "endless n_max": (("n_max=2", f"n_max={'9' * 5000}"), "n_max='9999"),
    "flag": (("n_max=2", "n_max=2 normalise=.false."), "expected T or F"),
    "species": (("species_Z={6 }", "species_Z={6 1}"), "expected a whole number"),
    "some species": (("n_species=1", "n_species=2"), "expected 2 whole numbers"),
    "any species": (
        ("n_species=1 Z=14\n species_Z={6 }", "n_species=2 species_Z={6 0}"),
        "species_Z='6 0', expected 2 atomic numbers",
    ),
    "no species": (
        ("n_species=1 Z=14\n species_Z={6 }", "n_species=2"),
        "species_Z='', expected 2 atomic numbers",
    ),
    "element": (("Z1=14", "Z1=200"), "wrong descriptor. species must be"),
    "exponents": (("Z1=14", "exponents={1 2}"), "expected a whole number"),
    "many exponents": (("Z1=14", "n_exponents=900000"), "1 dimensions, but"),
}


@pytest.mark.parametrize(("replacement", "match"), CASES.values(), ids=CASES)
def test_changed_text(tmp_path, replacement, match):
    path = changed(tmp_path, replacement)
    with pytest.raises(InputError, match=match) as error:
        read_quip_xml(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


BOMB = """<!DOCTYPE lab [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;">]>
"""
OUTSIDE = '<!DOCTYPE lab [<!ENTITY a SYSTEM "file:///etc/passwd">]>\n'


@pytest.mark.parametrize(
    "text",
    [
        BOMB + TEXT.replace("2.2", "&b;"),
        OUTSIDE + TEXT.replace("gap_fit", "]]>&a;<![CDATA["),
        '<!DOCTYPE lab SYSTEM "http://localhost/gap.dtd">\n' + TEXT,
        "<!DOCTYPE lab>\n" + TEXT,
    ],
)
def test_declarations_of_types(tmp_path, text):
    (tmp_path / "gap.xml").write_text(text)
    with pytest.raises(InputError, match="document type declaration"):
        read_quip_xml(tmp_path / "gap.xml")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: None, "there is no"),
        (lambda p: p.mkdir(), "not a regular file"),
        (lambda p: p.write_text(""), "damaged or of another kind"),
        (lambda p: p.write_text("3\n\nO 0 0 0\n"), "damaged or of another kind"),
        (lambda p: p.write_text(TEXT[:900]), "damaged or of another kind"),
        (lambda p: p.write_text(TEXT.replace("</lab>", "")), "damaged or of another"),
        (lambda p: p.write_text(TEXT.replace("</lab>", "</lob>")), "mismatched tag"),
        (lambda p: p.write_text(TEXT + TEXT), "junk after document element"),
        (lambda p: p.write_text(TEXT.replace("2.2", "&b;")), "damaged or of another"),
        (lambda p: p.write_bytes(b"\x80\x81" * 99), "damaged or of another kind"),
        (
            lambda p: p.write_text('<?xml version="1.0" encoding="none"?>' + TEXT),
            "damaged or of another kind",
        ),
        (
            lambda p: p.write_text('<?xml version="1.0" encoding="big5"?>' + TEXT),
            "damaged or of another kind",
        ),
        (lambda p: p.write_text("<a>" * 30_000 + "</a>" * 30_000), "holds 0"),
        (lambda p: p.write_text("<html><p>Not found</p></html>"), "holds 0"),
    ],
)
def test_other_files(tmp_path, make, match):
    make(tmp_path / "gap.xml")
    with pytest.raises(InputError, match=match):
        read_quip_xml(tmp_path / "gap.xml")


def test_a_huge_file(tmp_path):
    with open(tmp_path / "gap.xml", "wb") as stream:
        stream.truncate(2**31)  # holds no blocks
    with pytest.raises(InputError, match="too large"):
        read_quip_xml(tmp_path / "gap.xml")


def test_unreadable_files(tmp_path, monkeypatch):
    path = changed(tmp_path)

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("kforce.io.quip_xml.parse", denied)
    with pytest.raises(InputError, match=r"Could not read .*Permission denied"):
        read_quip_xml(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_any_damage(folder, choose: random.Random, n):
    data = bytearray(TEXT.encode())
    for _ in range(n):
        at, length = choose.randrange(len(data)), choose.choice([0, 1, 1, 5, 50])
        new = choose.choice([b"", b"9", b"-", b'"', b"<", b"e", b"0", b"{", b"\xff"])
        data[at : at + length] = new
    (folder / "gap.xml").write_bytes(data)
    try:
        model = read_quip_xml(folder / "gap.xml")
    except InputError as error:
        assert str(folder) in str(error)  # noqa: PT017
    else:
        assert len(model.terms_) == 3
