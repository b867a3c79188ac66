"""How the models of this folder were made, with version 0.1.0 and from this folder.

Newer versions only read the files: to run this again would lose what they stand for.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import kforce
from kforce import RBF, SOAP, ZBL, Matern52, Matern72, Polynomial, Scaled, Term, TwoBody

#: A triplet term whose kernel is summed over the exchange of both neighbours.
PERMUTED = """<lab>
<Potential label="lab" init_args="IP GAP label=lab"/>
<GAP_params label="lab" gap_version="1527075646">
<GAP_data do_core="F"><e0 Z="14" value="-1.5"/><e0 Z="6" value="2"/></GAP_data>
<gpSparse label="lab" n_coordinate="1" fitted="T">
<gpCoordinates label="lab1" dimensions="3" signal_variance="1" signal_mean="0.2"
 sparsified="T" n_permutations="2" covariance_type="1" n_sparseX="2">
<theta> 1.5 2 1.5 </theta>
<descriptor>angle_3b cutoff=2.5 Z=14 Z1=6 Z2=6</descriptor>
<permutation i="1">1 2 3</permutation><permutation i="2">3 2 1</permutation>
<sparseX i="1" alpha="1" sparseCutoff="1">3.8 0.1 3.1</sparseX>
<sparseX i="2" alpha="-0.4" sparseCutoff="0.8">3.5 0.3 2.8</sparseX>
</gpCoordinates>
</gpSparse>
</GAP_params>
</lab>
"""


def labelled(atoms, **labels):
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


def crystals(n, seed):
    """Strained and shaken cells of copper and aluminium with labels of EMT."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("Cu", a=3.75, cubic=True) * (2, 1, 1)
        atoms.numbers[rng.choice(8, rng.integers(2, 5), replace=False)] = 13
        strain = np.eye(3) + rng.normal(scale=0.02, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.rattle(0.1, rng=rng)
        atoms.calc = EMT()
        names = ("energy", "forces", "stress")
        frames.append(
            labelled(atoms, **{n: atoms.calc.get_property(n, atoms) for n in names})
        )
    return frames


def carbide():
    frames = [bulk("SiC", "zincblende", a=4.36, cubic=True) for _ in range(2)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=seed)
    return frames


def gfn2(frames):
    return [
        labelled(
            Atoms(f.numbers, f.positions),
            energy=f.info["gfn2_energy"],
            forces=f.arrays["gfn2_forces"],
        )
        for f in frames
    ]


def terms():
    soap = SOAP(cutoff=4.0, n_max=3, l_max=2, atom_sigma=0.5)
    return [
        Term(TwoBody(cutoff=4.5), Scaled(RBF(), 0.5), n_inducing=8, length_scales=0.6),
        Term(soap, Scaled(Polynomial(zeta=4), 0.3), n_inducing=15),
    ]


def gap(**parameters):
    noises = {"noise_energy": 0.002, "noise_forces": 0.05, "noise_virial": 0.05}
    return kforce.GAPRegressor(terms(), optimize=False, **noises, **parameters)


def save_models(methanol):
    plain = kforce.GDMLRegressor(
        kernel=Matern52(length_scale=1.0), noise_forces=5e-3, optimize=False
    )
    plain.fit(methanol[:10]).save("gdml_plain.npz")

    kforce.GDMLRegressor().fit(methanol[:12]).save("gdml_learned.npz", with_factor=True)

    lower = kforce.GDMLRegressor(
        kernel=Matern52(length_scale=1.0), noise_forces=5e-3, optimize=False
    )
    upper = kforce.GDMLRegressor(
        kernel=Scaled(Matern72(length_scale=2.0), amplitude=5.0),
        noise_forces=5e-3,
        noise_energy=1e-3,
        baseline=lower.fit(gfn2(methanol[:12])),
    )
    upper.fit(methanol[:8]).save("gdml_on_model.npz")

    train = crystals(8, seed=0)
    references = {"Cu": 3.51, "Al": 3.2}
    gap(reference_energies=references).fit(train).save("gap.npz")
    gap(baseline=ZBL(outer=1.2)).fit(train).save("gap_fitted_energies.npz")

    with TemporaryDirectory() as folder:
        path = Path(folder) / "permuted.xml"
        path.write_text(PERMUTED)
        kforce.io.read_quip_xml(path).save("gap_permuted.npz")


def predictions(geometries):
    """Return all that the models that are in the files predict."""
    arrays = {}
    for kind, models in {
        "methanol": ("gdml_plain", "gdml_learned", "gdml_on_model"),
        "crystals": ("gap", "gap_fitted_energies"),
        "carbide": ("gap_permuted",),
    }.items():
        frames = geometries[kind]
        arrays[f"{kind}.numbers"] = np.array([f.numbers for f in frames])
        arrays[f"{kind}.positions"] = np.array([f.positions for f in frames])
        arrays[f"{kind}.cell"] = np.array([f.cell.array for f in frames])
        arrays[f"{kind}.pbc"] = np.array([f.pbc for f in frames])
        for name in models:
            model = kforce.load(f"{name}.npz")
            wanted = ("energy", "forces") + ("stress",) * (kind != "methanol")
            found = model.evaluate(frames, wanted, return_std=name != "gap_permuted")
            for what, value in vars(found).items():
                if value is not None:
                    arrays[f"{name}.{what}"] = np.array(value)
            if model.log_marginal_likelihood_ is not None:
                evidence = np.array(model.log_marginal_likelihood_)
                arrays[f"{name}.log_marginal_likelihood"] = evidence
    return arrays


if __name__ == "__main__":
    methanol = kforce.datasets.load_methanol_ccsdt()
    save_models(methanol)
    geometries = {
        "methanol": methanol[-5:],
        "crystals": crystals(3, seed=1),
        "carbide": carbide(),
    }
    np.savez("predictions.npz", **predictions(geometries))
