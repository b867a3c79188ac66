"""Labels that frames carry: energies, forces and virials, and how noisy each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import full_3x3_to_voigt_6_stress

from kforce.errors import SMALLEST_NOISE, InputError
from kforce.neighbours.search import check_cell
from kforce.structures import as_frames

#: Doubles of this size do not even resolve 0.1 eV.
_LARGEST_LABEL = 1e15


@dataclass(frozen=True)
class Labels:
    """Labels of a list of frames, NaN where there is none, and their own noises.

    `energy` (n_structures,) is in eV, `forces` a list of (n_atoms, 3) in eV/Å. Standard
    deviations of labels that frames bring along are `noise_energy` (n_structures,) in
    eV per atom (× √n_atoms) and `noise_forces`, a list of (n_atoms,) in eV/Å; None
    where no frame has any, and NaN where a label has none.

    `stress` (n_structures, 6) is that of `read_stresses`, in eV/Å³, None where it was
    not read; `noise_virial` (n_structures,), in eV per atom, is the noise of the virial
    that it stands for.
    """

    energy: np.ndarray
    forces: list[np.ndarray]
    noise_energy: np.ndarray | None = None
    noise_forces: list[np.ndarray] | None = None
    stress: np.ndarray | None = None
    noise_virial: np.ndarray | None = None

    @classmethod
    def from_frames(cls, frames: Sequence[Atoms]) -> Labels:
        """Read the energies and forces that the frames' calculators hold.

        Noises are read from ``info["noise_energy"]``, ``info["noise_forces"]``,
        ``info["noise_virial"]`` and, atom by atom, ``arrays["noise_forces"]``. Raises
        `InputError` if a label is infinite or has a wrong shape, or a noise is not a
        positive number.

        >>> from kforce.datasets import load_methanol_ccsdt
        >>> Labels.from_frames(load_methanol_ccsdt()[:2]).energy
        array([-3140.66..., -3140.32...])
        """
        frames = as_frames(frames)
        pairs = [_energy_and_forces(frame, s) for s, frame in enumerate(frames)]
        energy, forces = zip(*pairs, strict=True)
        virial = _noises_of_frames(frames, "noise_virial")
        return cls(
            np.array(energy),
            list(forces),
            *_noises(frames),
            noise_virial=virial if np.isfinite(virial).any() else None,
        )

    def take(self, chosen: Sequence[int]) -> Labels:
        """Return the labels of some frames."""

        def taken(values):
            if values is None:
                return None
            if isinstance(values, list):
                return [values[s] for s in chosen]
            return values[chosen]

        return Labels(*map(taken, vars(self).values()))

    def in_order(self, orders: Sequence[np.ndarray]) -> Labels:
        """Return the labels with the atoms of each frame in another order."""

        def ordered(values):
            if values is None:
                return None
            pairs = zip(values, orders, strict=True)
            return [of_atoms[order] for of_atoms, order in pairs]

        return replace(
            self,
            forces=ordered(self.forces),
            noise_forces=ordered(self.noise_forces),
        )

    def pairs(self, prediction) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return predicted and reference 'energy' and 'forces' of what has labels.

        All flat, in eV and eV/Å, NaN where a label has none.
        """
        pairs = {}
        if np.isfinite(self.energy).any():
            pairs["energy"] = prediction.energy, self.energy
        if self.has_forces.any():
            forces = prediction.forces, self.forces
            pairs["forces"] = tuple(np.concatenate(f).ravel() for f in forces)
        return pairs

    @property
    def has_forces(self) -> np.ndarray:
        """Which frames have the force on at least one atom, (n_structures,)."""
        return np.array([np.isfinite(f).all(axis=1).any() for f in self.forces])


def _energy_and_forces(frame, s):
    """Read the energy and the forces of a frame, NaN where there are none."""
    energy = read_label(frame, s, "energy")
    if energy.size != 1:
        raise InputError(
            f"The energy of frame {s} must be one number, found {energy.size}."
        )
    forces = read_label(frame, s, "forces")
    if forces.ndim == 0:
        forces = np.full((len(frame), 3), float(forces))
    if forces.shape != (len(frame), 3):
        raise InputError(
            f"Forces of frame {s} must have shape ({len(frame)}, 3), found "
            f"{forces.shape}."
        )
    _check_size(s, energy, forces)
    return energy.item(), forces


def _check_size(s, *labels):
    """Raise an error if a label of frame s is infinite or larger than any there is."""
    sizes = [np.fmax.reduce(np.abs(label), axis=None, initial=0.0) for label in labels]
    largest = max(sizes)  # NaN is no label
    if largest > _LARGEST_LABEL:
        wrong = "must be finite" if np.isinf(largest) else "are too large to be true"
        found = "infinity" if np.isinf(largest) else f"{largest:g} (eV, Å)"
        raise InputError(
            f"Labels {wrong}; frame {s} holds {found}. Remove that frame, or set the "
            "value to NaN to leave it out of the fit."
        )


def _noises(frames):
    """Read the noises of energies and of forces; None where no frame has any."""
    energy = _noises_of_frames(frames, "noise_energy")
    of_frames = _noises_of_frames(frames, "noise_forces")
    forces = []
    for s, (frame, of_frame) in enumerate(zip(frames, of_frames, strict=True)):
        of_atoms = _noise(frame.arrays, "noise_forces", (len(frame),), s)
        forces.append(np.where(np.isnan(of_atoms), of_frame, of_atoms))
    return (
        energy if np.isfinite(energy).any() else None,
        forces if any(np.isfinite(f).any() for f in forces) else None,
    )


def _noises_of_frames(frames, name):
    return np.array([_noise(frame.info, name, (), s) for s, frame in enumerate(frames)])


def _noise(values, name, shape, s):
    if name not in values:
        return np.full(shape, np.nan)
    try:
        noise = np.asarray(values[name], dtype=float)
    except (TypeError, ValueError):
        noise = np.array(-1.0)
    limits = SMALLEST_NOISE, 1.0 / SMALLEST_NOISE
    outside = (noise <= limits[0]) | (noise >= limits[1])  # not where it is NaN
    if noise.shape != shape or outside.any():
        raise InputError(
            f"{name} of frame {s} must be positive standard deviations of shape "
            f"{shape}, found {values[name]!r}."
        )
    return noise


def read_label(frame, s, name):
    """Return a label as an array, as computed, without constraints; NaN if none.

    `s` is the number of the frame, for messages, `name` 'energy', 'forces' or 'stress'.
    Raises `InputError` if the frame was changed after the label was computed, or it is
    no number.
    """
    if frame.calc is None:
        return np.array(np.nan)
    method = "get_potential_energy" if name == "energy" else f"get_{name}"
    try:
        value = getattr(frame, method)(apply_constraint=False)
    except (PropertyNotImplementedError, NotImplementedError):
        if getattr(frame.calc, "results", {}).get(name) is None:
            return np.array(np.nan)
        raise InputError(
            f"Frame {s} was changed after its {name} was computed (moved, wrapped, or "
            "given another cell), so the label no longer belongs to it: label it again "
            "or attach the label to the changed frame."
        ) from None
    except (AssertionError, TypeError, ValueError) as error:
        raise InputError(
            f"The {name} of frame {s} is not what ASE expects ({error}): correct it."
        ) from None
    try:
        return np.array(np.nan if value is None else value, dtype=float)
    except (TypeError, ValueError):
        raise InputError(
            f"The {name} of frame {s} must be numbers, found {str(value)[:40]!r}."
        ) from None


def read_stresses(frames: Sequence[Atoms]) -> np.ndarray:
    """Return the stresses of frames in Voigt order, NaN where there is none, in eV/Å³.

    Their shape is (n_structures, 6). Raises `InputError` if a frame has a stress but is
    not periodic in three directions.
    """
    frames = as_frames(frames)
    stresses = np.full((len(frames), 6), np.nan)
    for s, frame in enumerate(frames):
        stress = read_label(frame, s, "stress")
        _check_size(s, stress)
        if stress.ndim == 0:
            continue
        if not frame.pbc.all():
            raise InputError(
                f"Frame {s} has a stress, but is not periodic in three directions "
                f"(pbc={frame.pbc.tolist()}): a virial means nothing there. Set its "
                "cell and pbc, or remove the stress."
            )
        check_cell(frame.cell.array, frame.pbc, s)
        stresses[s] = stress
    return stresses


def virial_of(stress: np.ndarray, volume: float) -> np.ndarray:
    """Return the virial −∂E/∂ε, in eV, of a stress in eV/Å³, both in Voigt order."""
    return -volume * np.asarray(stress)


def stress_of(virial: np.ndarray, volume: float) -> np.ndarray:
    """Return the stress (6,) in ASE's order and sign of a virial (3, 3), in eV/Å³."""
    return full_3x3_to_voigt_6_stress(-virial / volume)
