"""The reference model of the tests, and variants of its file."""

from pathlib import Path

import numpy as np
from ase import Atoms
from toys import labelled

from kforce.storage.npz import read_arrays, write_arrays

DATA = Path(__file__).parent / "data"
MODEL = DATA / "sgdml_ethanol_model.npz"
FIELDS = read_arrays(MODEL)
REFERENCE = read_arrays(DATA / "sgdml_ethanol.npz")


def frames_of(reference):
    return [Atoms(reference["z"], r) for r in reference["R"][reference["test"]]]


def assert_predicts(model, frames, energy, forces, tolerance=1e-6):
    found = model.evaluate(frames)
    np.testing.assert_allclose(found.energy, energy, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.forces, forces, rtol=0, atol=tolerance)


def assert_reference(model, tolerance=1e-6):
    energy, forces = REFERENCE["E_pred"], REFERENCE["F_pred"]
    assert_predicts(model, frames_of(REFERENCE), energy, forces, tolerance)


def changed(folder, **fields):
    """Write the reference model with some fields changed; None leaves one out."""
    arrays = {k: v for k, v in (FIELDS | fields).items() if v is not None}
    write_arrays(folder / "model.npz", arrays)
    return folder / "model.npz"


def layout_of_2018(perms=FIELDS["perms"] + 1):
    return {
        "Rt_desc": FIELDS["R_desc"],
        "Rt_d_desc_alpha": FIELDS["std"] * FIELDS["R_d_desc_alpha"][:, :, None],
        "c": FIELDS["c"],
        "z": FIELDS["z"].astype(np.uint8),
        "sig": FIELDS["sig"],
        "perms": perms.astype(np.uint8),
        "tril_perms_lin": FIELDS["tril_perms_lin"],
        "dataset": np.array("ethanol"),
    }


def in_cell(frames, pbc=True):
    """The same frames in a box; its edges cut some of the molecules."""
    cell = [[7.0, 0.0, 0.0], [0.4, 6.5, 0.0], [0.0, 0.0, 6.0]]
    boxed = []
    for frame in frames:
        labels = frame.get_potential_energy(), frame.get_forces()
        boxed.append(
            labelled(frame.numbers, frame.positions, *labels, cell=cell, pbc=pbc)
        )
        boxed[-1].wrap()
        boxed[-1].calc.atoms = boxed[-1].copy()  # the labels are those of the images
    return boxed
