"""Files of version 0.1 (format version 1) in the layout of today.

Version 0.1 had a layout for each kind of model: a header with parameters and some
fitted values, and arrays beside it. This module only moves them to where
`kforce.storage.codec` looks for them; what they hold is checked there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

#: Classes that have another name by now, and calculators in another module.
_RENAMED = {"Additive": "Sum"}
_MOVED = {"kforce.models.zbl:ZBL": "kforce.baselines.zbl:ZBL"}

#: Arrays of a term, and the fields that hold them by now.
_TERM = {"length_scales": "length_scales", "centers": "inducing_points"}
_TERM |= {"fade": "f_cut", "weights": "weights"}
_NUMBERS = ("noise_energy", "noise_forces", "noise_virial", "log_marginal_likelihood")


def upgraded(
    arrays: Mapping[str, np.ndarray], place: str = ""
) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the tree and the arrays that stand for a file of version 0.1.

    Names of arrays begin with the place of the model in the whole. If something is
    missing, one of `kforce.storage.codec.DAMAGE` is raised.
    """
    models = {"GDMLRegressor": _global_model, "GAPRegressor": _local_model}
    name, header = str(arrays["model"]), json.loads(str(arrays["header"]))
    if name not in models:
        raise ValueError(f"model is {name}, expected one of {list(models)}")
    store = _Store(arrays, place)
    tree = models[name](header, store)
    tree["baseline_"] = _baseline(header["baseline"], store)
    return tree, store.kept


class _Store(dict):
    """The arrays of a file, of which those are kept that a tree refers to."""

    def __init__(self, arrays, place):
        super().__init__(arrays)
        self.place, self.kept = place, {}

    def refer(self, name, array=None):
        """Return the reference to an array of the file, or to what it has become."""
        self.kept[self.place + name] = self[name] if array is None else array
        return {"array": self.place + name}


def _global_model(header, store):
    permutations = store.refer("permutations")
    given = header["permutations"]
    facts = ("noise_forces", "noise_energy", "constant", "log_marginal_likelihood")
    molecule = {name: store.refer(name) for name in ("numbers", "pbc", "cell")}
    expansion = [
        ["x_train", store.refer("centers")],
        ["directions", store.refer("directions")],
        ["weights", store.refer("weights") if header["weights"] else None],
    ]
    return {
        "class": "GDMLRegressor",
        **_parameters(header),
        "permutations": permutations if given == "given" else given,
        "molecule_": {"class": "Molecule", **molecule},
        "permutations_": permutations,
        "descriptor_": _renamed(header["descriptor"]),
        "kernel_": _renamed(header["kernel"]),
        **{f"{name}_": header[name] for name in facts},
        "training_": _training(header["training"]),
        "expansion_": {"items": expansion},
        "uncertainty_": _uncertainty(store) if header["variance"] else None,
    }


def _uncertainty(store):

    def tile(i, j):
        return store.refer(f"factor_{i}_{j}", store[f"factor_{i}_{j}"].T)

    reference, factor = store["reference"], None
    if "factor_offsets" in store:
        n = len(store["factor_offsets"]) - 1
        tiles = [[tile(i, j) for j in range(i + 1)] for i in range(n)]
        offsets = store.refer("factor_offsets")
        factor = {"class": "TiledMatrix", "offsets": offsets, "tiles": tiles}
    observations = [
        ["positions", store.refer("train_positions")],
        ["is_observed", store.refer("observed")],
        ["n_rigid", store.refer("n_rigid")],
    ]
    fields = [
        ["observations", {"items": observations}],
        ["variance", store.refer("noise_variance")],
        ["reference", store.refer("reference", reference) if reference.size else None],
        ["calibration", store["calibration"].item()],
        ["factor", factor],
    ]
    return {"items": fields}


def _local_model(header, store):
    elements = [store[name].tolist() for name in ("species", "reference_species")]
    energies = store["reference_energies"].tolist()
    described = header["terms"]
    solution, calibration = header["solution"], None
    if solution is not None:
        weights = [store[f"term_{t}.weights"] for t in range(len(described))]
        calibration = {"tuple": solution["calibration"]}
        solution = {
            "class": "SparseSolution",
            "coef": store.refer("coef", np.concatenate(weights)),
            "prior": store.refer("prior"),
            "factor": store.refer("factor"),
            "jitter": solution["jitter"],
            "misfit": solution["misfit"],
        }
    pairs = zip(elements[1], energies, strict=True)
    return {
        "class": "GAPRegressor",
        **_parameters(header),
        "terms_": [_term(t, facts, store) for t, facts in enumerate(described)],
        "species_": {"tuple": elements[0]},
        "reference_energies_": {"items": [list(pair) for pair in pairs]},
        **{f"{name}_": header[name] for name in _NUMBERS},
        "training_": _training(header["training"]),
        "solution_": solution,
        "calibration_": calibration,
    }


def _term(t, facts, store):
    arrays = {new: store.refer(f"term_{t}.{old}") for old, new in _TERM.items()}
    if facts["permuted"]:
        arrays["permutations"] = store.refer(f"term_{t}.permutations")
    return {
        "class": "PermutedTerm" if facts["permuted"] else "SparseTerm",
        "descriptor": _renamed(facts["descriptor"]),
        "kernel": _renamed(facts["kernel"]),
        "constant": facts["constant"],
        **arrays,
    }


def _parameters(header):
    return {name: _renamed(value) for name, value in header["parameters"].items()}


def _training(facts):
    if facts is None:
        return None
    versions = [list(item) for item in facts["versions"].items()]
    return {
        "class": "Training",
        "n_frames": facts["n_frames"],
        "hash": facts["hash"],
        "versions": {"items": versions},
        "frames": {"tuple": facts["frames"]},
    }


def _renamed(tree):
    """Return a tree with the class names of today."""
    if isinstance(tree, list):
        return [_renamed(part) for part in tree]
    if not isinstance(tree, dict):
        return tree
    tree = {key: _renamed(part) for key, part in tree.items()}
    if "class" in tree:
        tree["class"] = _RENAMED.get(tree["class"], tree["class"])
    return tree


def _baseline(terms, store):
    """Return the tree of a baseline; its models were files within the file."""
    if terms is None:
        return None
    trees = []
    for k, term in enumerate(terms):
        if "model" in term:
            start = f"baseline_{term['model']}."
            names = [name for name in store if name.startswith(start)]
            inner = {name.removeprefix(start): store[name] for name in names}
            tree, kept = upgraded(inner, f"{store.place}baseline_.members.{k}.model.")
            store.kept |= kept
            tree = {"class": "ModelMember", "model": tree}
        else:
            name = term["calculator"]
            tree = {
                "class": "CalculatorMember",
                "calculator": _MOVED.get(name, name),
                "settings": _items(term["settings"]),
                "version": term["version"],
            }
        trees.append(tree)
    return {"class": "Baseline", "members": trees}


def _items(settings):
    """Return plain values of a calculator with their dictionaries as items."""
    if isinstance(settings, list):
        return [_items(part) for part in settings]
    if not isinstance(settings, dict):
        return settings
    return {"items": [[key, _items(part)] for key, part in settings.items()]}
