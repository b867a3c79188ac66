"""Parameters that are numbers, but of no sensible size."""

import pytest
from stored import changed

from kforce import SOAP, GAPRegressor, InputError, Term, ThreeBody, TwoBody, load
from kforce.datasets import load_methanol_ccsdt
from kforce.gap.term_files import read_terms


def soap(**changed):
    return SOAP(**{"cutoff": 4.0, "n_max": 4, "l_max": 3, "atom_sigma": 0.5} | changed)


@pytest.mark.parametrize(
    "descriptor",
    [TwoBody(cutoff=60.0), ThreeBody(cutoff=60.0), soap(cutoff=60), soap(cutoff=1e6)],
)
def test_cutoffs(descriptor):
    with pytest.raises(InputError, match=r"cutoff must be at most 50 Å, found (60|1)"):
        descriptor.check()


def test_radial_functions():
    with pytest.raises(InputError, match="n_max must be at most 100, found 1000000"):
        soap(n_max=1_000_000).check()


@pytest.mark.parametrize("name", ["atom_sigma", "cutoff", "sigma0", "central_weight"])
def test_whole_numbers_of_any_size_are_numbers(name):
    with pytest.raises(InputError, match=f"{name} must be"):
        soap(**{name: -(10**21)}).check()


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ("cutoff: 4, n_max: 2, atom_sigma: 1000000000000000000000", "atom_sigma must"),
        ("cutoff: 4, n_max: 2, atom_sigma: 1e300", "atom_sigma must be at most 1e"),
        (f"cutoff: 4, n_max: 2, atom_sigma: {10**400}", "atom_sigma must be at most"),
        ("cutoff: 4, n_max: 1000000, atom_sigma: 1", "n_max must be at most 100"),
        ("cutoff: 60, n_max: 2, atom_sigma: 1", "cutoff must be at most 50 Å"),
    ],
)
def test_files_of_terms(tmp_path, entry, match):
    path = tmp_path / "terms.yaml"
    path.write_text(f"- {{descriptor: soap, l_max: 1, {entry}}}\n")
    with pytest.raises(InputError, match=match):
        read_terms(path)


def test_a_model_file_with_a_cutoff_that_never_ends(tmp_path):
    terms = [Term(TwoBody(cutoff=3.25), n_inducing=4)]
    model = GAPRegressor(terms, optimize=False).fit(load_methanol_ccsdt()[:3])
    model.save(tmp_path / "model.npz")
    place = ("terms_", 0, "descriptor", "cutoff")
    path = changed(tmp_path / "a.npz", tmp_path / "model.npz", place, 1e6)
    with pytest.raises(InputError, match="cutoff must be at most 50 Å"):
        load(path)
