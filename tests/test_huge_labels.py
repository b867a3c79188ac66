"""Labels that no structure has are refused before a fit, not when it is saved."""

import pytest
from local_frames import cells
from toys import labelled

import kforce
from kforce import InputError
from kforce.datasets import load_methanol_ccsdt

MODELS = [
    kforce.GDMLRegressor(kernel=kforce.Matern52()),
    kforce.GAPRegressor([kforce.Term(kforce.TwoBody(cutoff=3.0), n_inducing=4)]),
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("factor", [1e160, -1e300, 1e20])
@pytest.mark.parametrize("name", ["energy", "forces"])
def test_energies_and_forces(model, factor, name):
    frames = []
    for s, frame in enumerate(load_methanol_ccsdt()[:4]):
        energy, forces = frame.get_potential_energy(), frame.get_forces()
        if s == 2 and name == "energy":
            energy = factor
        elif s == 2:
            forces[1, 2] = factor
        frames.append(labelled(frame.numbers, frame.positions, energy, forces))
    with pytest.raises(InputError, match=r"too large to be true; frame 2 holds 1e\+"):
        model.fit(frames)


def test_stresses():
    frames = cells(3)
    frames[1].calc.results["stress"][3] = -1e160
    with pytest.raises(
        InputError, match=r"too large to be true; frame 1 holds 1e\+160"
    ):
        MODELS[1].fit(frames)
