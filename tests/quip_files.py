"""GAP models and files of them that the tests share."""

import numpy as np
from ase.build import bulk, molecule

from kforce import RBF, SOAP, GAPRegressor, Polynomial, Scaled, ThreeBody, TwoBody
from kforce.gap.extrapolation import Grade
from kforce.gap.sparse_term import PermutedTerm, SparseTerm
from kforce.kernels.stationary import PiecewisePolynomial
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

CRYSTAL = bulk("SiC", "zincblende", a=4.36, cubic=True)
CRYSTAL.rattle(0.1, seed=1)
MOLECULE = molecule("CH3SiH3")
MOLECULE.rattle(0.1, seed=2)
FRAMES = [CRYSTAL, MOLECULE]
SOAP_SMALL = {"cutoff": 3.5, "n_max": 3, "l_max": 2, "atom_sigma": 0.45}


def term(descriptor, kernel, n=4, constant=0.0, permutations=None, seed=0):
    """A term with environments of both frames, and weights out of the blue."""
    rng = np.random.default_rng(seed)
    x, f_cut = [], []
    for frame in FRAMES:
        batch = Batch.from_frames([frame])
        found = descriptor(batch.numbers, find_neighbours(batch, descriptor.cutoff))
        x.append(found.x)
        f_cut.append(found.f_cut)
    x, f_cut = np.concatenate(x), np.concatenate(f_cut)
    rows = rng.choice(len(x), n, replace=False)
    if kernel.is_product:
        lengths = np.ones(x.shape[1])
    else:
        lengths = np.round(np.ptp(x, axis=0) * rng.uniform(0.5, 1.0) + 0.1, 3)
    fields = {
        "descriptor": descriptor,
        "kernel": Scaled(kernel, amplitude=0.7),
        "length_scales": lengths,
        "constant": constant,
        "inducing_points": x[rows],
        "f_cut": f_cut[rows],
        "weights": rng.normal(size=n),
    }
    if permutations is None:
        return SparseTerm(**fields)
    fields["length_scales"] = np.full(x.shape[1], lengths.max())
    return PermutedTerm(**fields, permutations=np.array(permutations))


def model(*terms):
    """A fitted model of them."""
    return GAPRegressor()._restore(
        terms_=list(terms),
        species_=(14, 6, 1),
        reference_energies_={14: -1.25, 6: 1 / 3, 1: 0.0},
        noise_energy_=None,
        noise_forces_=None,
        noise_virial_=None,
        solution_=None,
        grade_=Grade.of_points(terms),
        log_marginal_likelihood_=None,
        training_=None,
        baseline_=None,
    )


def soap(zeta=2, **parameters):
    return term(SOAP(**SOAP_SMALL | parameters), Polynomial(zeta=zeta))


def pair(kernel=None, constant=0.0, **parameters):
    kernel = RBF(length_scale=1.0) if kernel is None else kernel
    return term(TwoBody(**{"cutoff": 3.0} | parameters), kernel, constant=constant)


def triplet(kernel=None, permutations=None, **parameters):
    kernel = RBF(length_scale=1.0) if kernel is None else kernel
    descriptor = ThreeBody(**{"cutoff": 2.5} | parameters)
    return term(descriptor, kernel, constant=0.2, permutations=permutations)


#: A group of permutations of three features.
SWAP = [[0, 1, 2], [2, 1, 0]]

#: All that the files can express.
TERMS = {
    "pair": lambda: pair(species=(14, 6), constant=0.3),
    "pair, any": lambda: pair(),
    "pair, half": lambda: pair(species=(14, None), transition_width=1.0),
    "pair, exponents": lambda: pair(exponents=(-1, 2)),
    "pair, exponent": lambda: pair(exponents=(-2,), species=(6, 1)),
    "pair, tail": lambda: pair(tail=(2, 0.8)),
    "pair, compact": lambda: pair(kernel=PiecewisePolynomial(n_features=1)),
    "triplet": lambda: triplet(centre=14, species=(6, 1)),
    "triplet, any": lambda: triplet(),
    "triplet, half": lambda: triplet(centre=6, species=(None, 1)),
    "triplet, permuted": lambda: triplet(permutations=SWAP, centre=14),
    "triplet, compact, permuted": lambda: triplet(
        kernel=PiecewisePolynomial(n_features=3), permutations=SWAP
    ),
    "soap": lambda: soap(species=(6, 14, 1), centre=6, zeta=4),
    "soap, any": lambda: soap(sigma0=0.2, central_weight=0.5),
    "soap, one": lambda: soap(species=(14,), zeta=2.5, central_everywhere=False),
    "soap, centres": lambda: soap(species=(1, 6), centre=(6, 14)),
    "soap, everywhere": lambda: soap(species=(1, 6), central_everywhere=True),
    "soap, gto": lambda: soap(radial_basis="gto", transition_width=0.7),
    "soap, poly": lambda: soap(radial_basis="poly", species=(14, 6)),
    "soap, error": lambda: soap(basis_error_exponent=8.5),
    "soap, damping": lambda: soap(damping=(3, 2.5, 0.8)),
    "soap, diagonal": lambda: soap(diagonal_radial=True, species=(14, 6)),
    "soap, raw": lambda: soap(normalise=False, zeta=1),
    "soap, radial": lambda: term(SOAP(**SOAP_SMALL), RBF(length_scale=1.0)),
}

#: A model in which each kernel stands once, and sparse points in the XML.
TEXT = """<lab>
<Potential label="lab" init_args="IP GAP label=lab"/>
<GAP_params label="lab" gap_version="1527075646">
<GAP_data do_core="F"><e0 Z="14" value="-.15E+001"/><e0 Z="6" value="2"/></GAP_data>
<gpSparse label="lab" n_coordinate="3" fitted="T">
<gpCoordinates label="lab1" dimensions="1" signal_variance=".5" signal_mean=".1"
 sparsified="T" n_permutations="1" covariance_type="1" n_sparseX="2">
<theta> .8 </theta>
<descriptor> distance_2b cutoff=3.0 Z1=14 Z2=6 n_sparse=2}</descriptor>
<permutation i="1">1  </permutation>
<sparseX i="1" alpha="-.15E-001" sparseCutoff="1">.19E+001</sparseX>
<sparseX i="2" alpha=".25" sparseCutoff=".75">2.2</sparseX>
</gpCoordinates>
<gpCoordinates label="lab2" dimensions="3" signal_variance="1" signal_mean="0"
 sparsified="T" n_permutations="2" covariance_type="4" n_sparseX="1">
<theta> 1.5 2 1.5 </theta>
<descriptor>angle_3b cutoff=2.5 Z=14 Z1=6 Z2=6</descriptor>
<permutation i="1">1 2 3</permutation><permutation i="2">3 2 1</permutation>
<sparseX i="1" alpha="1" sparseCutoff="1">3.8 0.1
 3.1</sparseX>
</gpCoordinates>
<gpCoordinates label="lab3" dimensions="4" signal_variance="1" signal_mean=".3"
 sparsified="T" n_permutations="1" covariance_type="2" zeta="2" n_sparseX="2">
<descriptor>soap cutoff=3.0 n_max=2 l_max=0 atom_sigma=0.5 n_species=1 Z=14
 species_Z={6 }</descriptor>
<sparseX i="1" alpha="2" sparseCutoff="1" sliced="T"><sparseX_slice start="1"
 end="3">.6 .5 .4</sparseX_slice><sparseX_slice start="4" end="4">0</sparseX_slice>
</sparseX>
<sparseX i="2" alpha="-1" sparseCutoff="1">.3 .5 .7 0</sparseX>
</gpCoordinates>
</gpSparse>
<command_line><![CDATA[ gap_fit gap={distance_2b <&>} ]]></command_line>
</GAP_params>
</lab>
"""


def changed(folder, *replacements, text=TEXT):
    """Write a model with parts of its text replaced, each of which must be there."""
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    (folder / "gap.xml").write_text(text)
    return folder / "gap.xml"


def same(first, second, frames=(CRYSTAL,)):
    """Whether two models predict the same to the last digit."""
    wanted = ("energy", "forces", "energies")
    one, other = (m.evaluate(frames, wanted) for m in (first, second))
    pairs = [(one.energy, other.energy)]
    for name in wanted[1:]:
        pairs += zip(getattr(one, name), getattr(other, name), strict=True)
    return all((a == b).all() for a, b in pairs)
