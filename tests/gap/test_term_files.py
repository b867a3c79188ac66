"""Terms from YAML files: what they may say, and how mistakes are named."""

import re

import pytest

from kforce import RBF, InputError, Matern52, Polynomial, Scaled
from kforce.gap.term_files import read_terms


def test_all_that_a_file_of_terms_may_say(tmp_path):
    path = tmp_path / "terms.yaml"
    path.write_text(
        "- {descriptor: two_body, cutoff: 4, species: [Cu, null], kernel: matern52,\n"
        "   exponents: [-1, -2], tail: [2, 0.5], length_scales: [0.1, 2]}\n"
        "- {descriptor: three_body, cutoff: 3.5, centre: Au, species: [Cu, 79],\n"
        "   selection: cur, stratify: true, constant: 1e-2, amplitude: 1e-1}\n"
        "- {descriptor: soap, cutoff: 4.5, n_max: 4, l_max: 3, atom_sigma: 0.5,\n"
        "   centre: [Cu, Au], transition_width: 1.0, normalise: true, zeta: 2}\n"
        "- {descriptor: soap, cutoff: 4, n_max: 2, l_max: 1, atom_sigma: 1}\n"
    )
    pair, triplet, soap, plain = read_terms(path)
    assert pair.descriptor.get_params() == {
        "cutoff": 4,
        "species": (29, None),
        "transition_width": 0.5,
        "exponents": (-1, -2),
        "tail": (2, 0.5),
    }
    assert repr(pair.kernel) == repr(Matern52())
    assert pair.length_scales == (0.1, 2)
    assert (triplet.descriptor.centre, triplet.descriptor.species) == (79, (29, 79))
    assert (triplet.selection, triplet.stratify) == ("cur", True)
    assert triplet.constant == 0.01
    assert repr(triplet.kernel) == repr(Scaled(RBF(), amplitude=0.1))
    assert soap.descriptor.centre == (29, 79)
    assert repr(soap.kernel) == repr(Polynomial(zeta=2))
    assert plain.kernel is None


SOAP = "descriptor: soap, cutoff: 4, n_max: 2, l_max: 1, atom_sigma: 1"
PAIR = "descriptor: two_body, cutoff: 4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expected a list of terms .* found nothing"),
        ("descriptor: soap", "Expected a list of terms"),
        ("- [", r"is not YAML \(line 1, column 4\)"),
        ("a:\n\t- b", r"is not YAML \(line 2"),
        ("- 3", "entry 1: expected keys and values"),
        ("- {cutoff: 3}", "entry 1: the key 'descriptor' is missing; choose one of"),
        ("- {descriptor: dope}", "entry 1: the key 'descriptor' is 'dope'; choose"),
        ("- {descriptor: [a]}", "entry 1: the key 'descriptor' is"),
        ("- {descriptor: two_body}", r"1 \(two_body\): the key 'cutoff' is missing"),
        (f"- {{{PAIR}}}\n- {{descriptor: soap, cutoff: 4}}", r"2 \(soap\): .*'n_max'"),
        (f"- {{{PAIR}, n_max: 3}}", "unknown key 'n_max'; known are descriptor"),
        ("- {descriptor: two_body, cutoff: far}", "cutoff must be a number"),
        ("- {descriptor: two_body, cutoff: true}", "cutoff must be a number"),
        ("- {descriptor: two_body, cutoff: .inf}", "cutoff must be a number"),
        ("- {descriptor: two_body, cutoff: -1}", "cutoff must be a positive"),
        ("- {descriptor: two_body, cutoff: [4]}", "cutoff must be a number"),
        (f"- {{{PAIR}, species: [Cu, Xx]}}", "species must be given as symbols"),
        (f"- {{{PAIR}, species: [Cu]}}", "species must be two"),
        (f"- {{{PAIR}, n_inducing: 2.5}}", "n_inducing must be a whole number"),
        (f"- {{{PAIR}, n_inducing: many}}", "n_inducing must be a number"),
        (
            f"- {{{PAIR}, kernel: rfb}}",
            "the key 'kernel' is 'rfb'; choose one of .*rbf",
        ),
        (f"- {{{PAIR}, kernel: 3}}", "kernel must be a word"),
        (f"- {{{PAIR}, zeta: 4}}", "zeta belongs to 'kernel: polynomial'"),
        (f"- {{{SOAP}, zeta: 0.5}}", "zeta must be a number from 1 on"),
        (f"- {{{PAIR}, amplitude: -1}}", "amplitude must be a positive number"),
        (f"- {{{PAIR}, length_scales: 0}}", "length_scales must be positive"),
        (f"- {{{PAIR}, length_scales: [1, 2]}}", "found 2 numbers"),
        (f"- {{{SOAP}, length_scales: 1}}", "do not belong to 'kernel: polynomial'"),
        (
            f"- {{{SOAP}, kernel: rbf, length_scales: [1]}}",
            "must be one number, found",
        ),
        (f"- {{{PAIR}, selection: best}}", "selection must be one of"),
        (f"- {{{PAIR}, stratify: 1}}", "stratify must be true or false"),
        (f"- {{{PAIR}, constant: -1}}", "constant must not be negative"),
        (f"- {{{SOAP}, radial_basis: best}}", "radial_basis must be one of"),
    ],
)
def test_mistakes_name_the_file_and_the_entry(tmp_path, text, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_terms(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 400


def test_folders_and_missing_files(tmp_path):
    for path in (tmp_path, tmp_path / "nothing.yaml"):
        with pytest.raises(InputError, match=f"there is no {re.escape(str(path))}"):
            read_terms(path)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_bytes(b"\xff\xfe\x00- descriptor")
    with pytest.raises(InputError, match="is not YAML"):
        read_terms(path)
