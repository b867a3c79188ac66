"""Labels that frames carry: energies, forces and virials, and how noisy each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import full_3x3_to_voigt_6_stress

from kforce.errors import InputError
from kforce.neighbours.search import check_cell
from kforce.structures import as_frames, check_size


@dataclass(frozen=True)
class Labels:
    """Reference energies and forces of a list of frames; NaN where there is none.

    Attributes
    ----------
    energy : ndarray of shape (n_structures,)
        Energies in eV.
    forces : list of ndarray of shape (n_atoms, 3)
        Forces in eV/Å.
    noise_energy : ndarray of shape (n_structures,) or None
        Standard deviations of the energies in eV per atom (× √n_atoms).
    noise_forces : list of ndarray of shape (n_atoms,) or None
        Standard deviations of the force components in eV/Å.
    """

    energy: np.ndarray
    forces: list[np.ndarray]
    noise_energy: np.ndarray | None = None
    noise_forces: list[np.ndarray] | None = None

    @classmethod
    def from_frames(cls, frames: Sequence[Atoms]) -> Labels:
        """Read the labels that the frames' calculators hold.

        Standard deviations of their noise are read from ``info["noise_energy"]``,
        ``info["noise_forces"]`` and, atom by atom, ``arrays["noise_forces"]``.

        Raises
        ------
        InputError
            If a label is infinite or has a wrong shape, or a noise is not a positive
            number. NaN means "no label", or "no noise of its own".

        Examples
        --------
        >>> from kforce.datasets import load_methanol_ccsdt
        >>> Labels.from_frames(load_methanol_ccsdt()[:2]).energy
        array([-3140.66..., -3140.32...])
        """
        frames = as_frames(frames)
        energy = np.full(len(frames), np.nan)
        forces = []
        for s, frame in enumerate(frames):
            e = read_label(frame, s, "energy", frame.get_potential_energy)
            if e.size != 1:
                raise InputError(
                    f"The energy of frame {s} must be one number, found {e.size}."
                )
            energy[s] = e.item()
            f = read_label(frame, s, "forces", frame.get_forces)
            if f.ndim == 0:
                f = np.full((len(frame), 3), float(f))
            if f.shape != (len(frame), 3):
                raise InputError(
                    f"Forces of frame {s} must have shape ({len(frame)}, 3), found "
                    f"{f.shape}."
                )
            check_size(s, energy[s], f)
            forces.append(f)
        return cls(energy, forces, *_noises(frames))

    def take(self, chosen: Sequence[int]) -> Labels:
        """Return the labels of some frames."""
        energy, noise = self.energy, self.noise_energy
        lists = [
            None if values is None else [values[s] for s in chosen]
            for values in (self.forces, self.noise_forces)
        ]
        noise = None if noise is None else noise[chosen]
        return Labels(energy[chosen], lists[0], noise, lists[1])

    def above(self, energy: np.ndarray, forces: Sequence[np.ndarray]) -> Labels:
        """Return what the labels are above energies and forces of another model."""
        pairs = zip(self.forces, forces, strict=True)
        left = [own - other for own, other in pairs]
        return replace(self, energy=self.energy - energy, forces=left)

    @property
    def has_forces(self) -> np.ndarray:
        """Which frames have the force on at least one atom, (n_structures,)."""
        return np.array([np.isfinite(f).all(axis=1).any() for f in self.forces])


def _noises(frames):
    """Read the noises of energies and of forces; None where no frame has any."""
    energy = [_noise(f.info, "noise_energy", (), s) for s, f in enumerate(frames)]
    energy = np.array(energy)
    forces = []
    for s, frame in enumerate(frames):
        whole = _noise(frame.info, "noise_forces", (), s)
        own = _noise(frame.arrays, "noise_forces", (len(frame),), s)
        forces.append(np.where(np.isnan(own), whole, own))
    return (
        energy if np.isfinite(energy).any() else None,
        forces if any(np.isfinite(f).any() for f in forces) else None,
    )


def _noise(values, name, shape, s):
    if name not in values:
        return np.full(shape, np.nan)
    try:
        found = np.asarray(values[name], dtype=float)
    except (TypeError, ValueError):
        found = np.array(-1.0)
    if found.shape != shape or (found <= 0).any() or np.isinf(found).any():
        raise InputError(
            f"{name} of frame {s} must be positive standard deviations of shape "
            f"{shape}, found {values[name]!r}."
        )
    return found


def read_label(frame, s, name, method):
    """Return a label as an array, as computed, without constraints; NaN if none.

    Parameters
    ----------
    frame : ase.Atoms
        With a calculator, or without.
    s : int
        Number of the frame, for messages.
    name : str
        Of the label.
    method : callable
        The frame's method that returns it.

    Raises
    ------
    InputError
        If the frame was changed after the label was computed, or it is no number.
    """
    if frame.calc is None:
        return np.array(np.nan)
    try:
        value = method(apply_constraint=False)
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


#: Frames of a sample, at least, if there are so many.
_FEW = 5


@dataclass(frozen=True)
class Noises:
    """Standard deviations of labels.

    Attributes
    ----------
    energy, virial : float
        In eV per atom (× √n_atoms).
    forces : float
        Of a component, in eV/Å.
    """

    energy: float
    forces: float
    virial: float

    def times(self, factor: float) -> Noises:
        """Return all of them multiplied by a factor."""
        return Noises(factor * self.energy, factor * self.forces, factor * self.virial)


@dataclass(frozen=True)
class LocalLabels:
    """Labels of one frame each in lists; NaN where there is none.

    Attributes
    ----------
    energy : ndarray of shape (n_structures,)
        In eV.
    forces : list of ndarray of shape (n_atoms, 3)
        In eV/Å.
    virial : ndarray of shape (n_structures, 6)
        −∂E/∂ε, components as in `VIRIAL_COMPONENTS`, in eV.
    noise_energy, noise_virial : ndarray of shape (n_structures,)
        In eV, for the whole frame.
    noise_forces : list of ndarray of shape (n_atoms,)
        In eV/Å.
    is_default : ndarray of bool, shape (n_structures, 3)
        Whether the noises of energy, forces and virial are those of the model. Where
        some atoms of a frame have noises of their own, those of the others stay, too.
    """

    energy: np.ndarray
    forces: list[np.ndarray]
    virial: np.ndarray
    noise_energy: np.ndarray
    noise_forces: list[np.ndarray]
    noise_virial: np.ndarray
    is_default: np.ndarray

    @classmethod
    def collect(
        cls,
        frames: Sequence[Atoms],
        labels: Labels,
        noises: Noises,
        by_type: Mapping[str, tuple] | None = None,
    ) -> LocalLabels:
        """Read virials and noises that go with labels.

        Noises of a frame's own (``info["noise_energy"]``, ``info["noise_virial"]``, eV
        per atom; ``info["noise_forces"]`` and ``arrays["noise_forces"]``, eV/Å) come
        before those of its ``info["config_type"]``, which come before `noises`.

        Raises
        ------
        InputError
            If a frame that is not periodic in three directions has a stress, or a
            config_type has no noise.
        """
        own = np.array([_of_type(f, s, noises, by_type) for s, f in enumerate(frames)])
        default = np.repeat(
            [[_has_no_type(f, by_type)] for f in frames],
            3,
            axis=1,
        )
        n_atoms = np.array([len(f) for f in frames])
        noise_energy = own[:, 0].copy()
        if labels.noise_energy is not None:
            given = np.isfinite(labels.noise_energy)
            noise_energy[given] = labels.noise_energy[given]
            default[given, 0] = False
        noise_forces = [np.full(n, f) for n, f in zip(n_atoms, own[:, 1], strict=True)]
        for s, given in enumerate(labels.noise_forces or ()):
            known = np.isfinite(given)
            noise_forces[s][known] = given[known]
            default[s, 1] &= not known.any()
        noise_virial = own[:, 2].copy()
        for s, frame in enumerate(frames):
            if "noise_virial" in frame.info:
                noise_virial[s] = _positive(frame.info["noise_virial"], s)
                default[s, 2] = False
        root = np.sqrt(n_atoms)
        return cls(
            labels.energy,
            labels.forces,
            read_virials(frames),
            noise_energy * root,
            noise_forces,
            noise_virial * root,
            default,
        )

    def with_noises(self, noises: Noises) -> LocalLabels:
        """Return the labels with other noises where they are the model's."""
        n_atoms = np.array([len(f) for f in self.forces])
        is_energy, is_forces, is_virial = self.is_default.T
        root = np.sqrt(n_atoms)
        forces = [
            np.full(n, noises.forces) if default else own
            for n, default, own in zip(
                n_atoms, is_forces, self.noise_forces, strict=True
            )
        ]
        return replace(
            self,
            noise_energy=np.where(is_energy, noises.energy * root, self.noise_energy),
            noise_forces=forces,
            noise_virial=np.where(is_virial, noises.virial * root, self.noise_virial),
        )

    def sample(
        self, rng: np.random.Generator, n_labels: int, n_frames: int | None = None
    ) -> np.ndarray:
        """Return some frames that have labels, about `n_labels` of them.

        Parameters
        ----------
        rng : numpy.random.Generator
            Chooses them.
        n_labels : int
            Labels together, at most, unless few frames have more.
        n_frames : int, optional
            Frames, at most.
        """
        sizes = np.isfinite(self.energy) + np.isfinite(self.virial).sum(axis=1)
        sizes = sizes + [np.isfinite(f).sum() for f in self.forces]
        order = rng.permutation(len(sizes))
        order = order[sizes[order] > 0][:n_frames]
        n = int(np.searchsorted(np.cumsum(sizes[order]), n_labels))
        return order[: max(_FEW, n)]

    @property
    def counts(self) -> np.ndarray:
        """Number of labels of energy, forces and virial, (3,)."""
        return np.array(
            [
                np.isfinite(self.energy).sum(),
                sum(np.isfinite(f).sum() for f in self.forces),
                np.isfinite(self.virial).sum(),
            ]
        )


def read_virials(frames: Sequence[Atoms]) -> np.ndarray:
    """Return the virials −V σ of frames with a stress, NaN elsewhere; in eV.

    Raises
    ------
    InputError
        If a frame has a stress but is not periodic in three directions.
    """
    frames = as_frames(frames)
    virials = np.full((len(frames), 6), np.nan)
    for s, frame in enumerate(frames):
        stress = read_label(frame, s, "stress", frame.get_stress)
        check_size(s, stress)
        if stress.ndim == 0:
            continue
        if not frame.pbc.all():
            raise InputError(
                f"Frame {s} has a stress, but is not periodic in three directions "
                f"(pbc={frame.pbc.tolist()}): a virial means nothing there. Set its "
                "cell and pbc, or remove the stress."
            )
        check_cell(frame.cell.array, frame.pbc, s)
        virials[s] = virial_of(stress, frame.get_volume())
    return virials


def virial_of(stress: np.ndarray, volume: float) -> np.ndarray:
    """Return the virial (6,), as in `VIRIAL_COMPONENTS`, of a stress in eV/Å³."""
    xx, yy, zz, yz, xz, xy = stress
    return -volume * np.array([xx, xy, xz, yy, yz, zz])


def stress_of(virial: np.ndarray, volume: float) -> np.ndarray:
    """Return the stress (6,) in ASE's order and sign of a virial (3, 3), in eV/Å³."""
    return full_3x3_to_voigt_6_stress(-virial / volume)


def _has_no_type(frame, by_type):
    return by_type is None or (
        frame.info.get("config_type") is None and "default" not in by_type
    )


def _of_type(frame, s, noises, by_type):
    name = frame.info.get("config_type", "default")
    if _has_no_type(frame, by_type):
        return noises.energy, noises.forces, noises.virial
    if name not in by_type and "default" not in by_type:
        raise InputError(
            f"Frame {s} has the config_type {name!r}, for which config_noises has no "
            "noises: add it, or an entry 'default'."
        )
    found = by_type.get(name, by_type.get("default"))
    try:
        energy, forces, virial = (float(value) for value in found)
    except (TypeError, ValueError):
        energy = forces = virial = np.nan
    if not all(0.0 < value < np.inf for value in (energy, forces, virial)):
        raise InputError(
            f"config_noises[{name!r}] must be three positive numbers, the noises of "
            f"energy, forces and virial, found {found!r}."
        )
    return energy, forces, virial


def _positive(value, s):
    try:
        if 0.0 < float(value) < np.inf:
            return float(value)
    except (TypeError, ValueError):
        pass
    raise InputError(
        f"noise_virial of frame {s} must be a positive standard deviation in eV per "
        f"atom, found {value!r}."
    )
