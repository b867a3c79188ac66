"""Pairs and triplets of atoms against those of an independent program."""

import json

import numpy as np
import pytest
from ase.io import read
from conformance.local_descriptors import environments


def assert_as_reference(shared, case, make, orders):
    """Values and derivatives of all environments agree with the stored ones.

    `make` turns the keys of a descriptor string into a descriptor; `orders` are those
    of the members in which a stored environment may come.
    """
    folder = shared / "reference" / "gap"
    if not folder.is_dir():
        pytest.skip(f"no reference data: {folder} is missing")
    strings = json.loads((folder / "body.json").read_text())
    (text,) = (c["args"] for c in strings if c["case"] == case)
    text = text.replace("{", "").replace("}", "")
    keys, last = {}, None
    for word in text.split()[1:]:
        if "=" in word:
            last, word = word.split("=")
        keys.setdefault(last, []).append(float(word))
    descriptor = make(keys)
    stored = np.load(folder / "body.npz")
    stored = {
        k: stored[f"{case}__{k}"] for k in ("x", "fc", "atoms", "pos", "dx", "dfc")
    }
    atoms = read(folder / f"{case.split('__')[0]}.xyz")
    env = environments(descriptor, atoms)
    assert len(stored["x"]) == len(orders) * len(env.x)
    (block,) = env.jacobians()
    n_members = env.atoms.shape[1]
    dx = block.dx.reshape(len(env.x), n_members, 3, -1)
    df_cut = block.df_cut.reshape(len(env.x), n_members, 3)
    ours = {}
    for e in range(len(env.x)):
        for order in orders:
            order = list(order)
            vec = env.vec[e, order].round(5) + 0.0
            key = env.central_atoms[e], *env.atoms[e, order], *vec.ravel()
            ours[key] = e, order
    seen = set()
    for n in range(len(stored["x"])):
        vec = (stored["pos"][n, 1:] - stored["pos"][n, 0]).round(5) + 0.0
        key = (*stored["atoms"][n], *vec.ravel())
        e, order = ours[key]
        seen.add(key)
        close = {"rtol": 0.0, "atol": 1e-12}
        np.testing.assert_allclose(env.x[e], stored["x"][n], **close)
        np.testing.assert_allclose(env.f_cut[e], stored["fc"][n], **close)
        np.testing.assert_allclose(dx[e, order], stored["dx"][n, 1:], **close)
        np.testing.assert_allclose(df_cut[e, order], stored["dfc"][n, 1:], **close)
        centre = -dx[e].sum(axis=0), -df_cut[e].sum(axis=0)
        np.testing.assert_allclose(centre[0], stored["dx"][n, 0], **close)
        np.testing.assert_allclose(centre[1], stored["dfc"][n, 0], **close)
    assert len(seen) == len(stored["x"])
