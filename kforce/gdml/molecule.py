"""The molecule that a global model knows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from kforce.errors import InputError
from kforce.neighbours.unwrapping import NotAloneError, unwrap, unwrap_all
from kforce.registry import register
from kforce.storage.codec import check_array
from kforce.structures import Batch, as_frames

_log = logging.getLogger("kforce.choice")

#: No global model has so many atoms: a file that claims them is damaged, and the pairs
#: of them would fill the memory.
_MAX_ATOMS = 3000


@register
@dataclass(frozen=True)
class Molecule:
    """Atoms in a fixed order, and the boundary conditions.

    They are atomic numbers (n_atoms,), the periodic directions (3,) and the cell (3, 3)
    in Å, which only counts where there are any.
    """

    numbers: np.ndarray
    pbc: np.ndarray
    cell: np.ndarray

    def check_stored(self) -> None:
        """Raise an error unless it is a molecule."""
        check_array("numbers", self.numbers, (None,), "i")
        check_array("pbc", self.pbc, (3,), "b")
        check_array("cell", self.cell, (3, 3))
        is_element = (self.numbers >= 0) & (self.numbers <= 118)
        if len(self.numbers) > _MAX_ATOMS or not is_element.all():
            raise ValueError("numbers are not the atomic numbers of a molecule")

    @classmethod
    def of(cls, atoms: Atoms) -> Molecule:
        """Take the molecule from a structure."""
        return cls(atoms.numbers.copy(), atoms.pbc.copy(), atoms.cell.array.copy())

    @property
    def formula(self) -> str:
        """Chemical formula."""
        return Atoms(self.numbers).get_chemical_formula()

    def check(self, atoms: Atoms, name: str = "this structure") -> None:
        """Raise an `InputError` if composition, atom order or periodicity differ.

        A molecule without periodic boundaries may come in any box, see `alone`.
        """
        self.check_atoms(atoms, name)
        if not self.pbc.any():
            return
        same_cell = np.allclose(atoms.cell.array, self.cell, atol=1e-6)
        if not (np.array_equal(atoms.pbc, self.pbc) and same_cell):
            found = _boundary(atoms.pbc, atoms.cell.array)
            raise InputError(
                f"Expected {_boundary(self.pbc, self.cell)}, found {found} in "
                f"{name}: a global model knows one cell only; GAPRegressor (--model "
                "gap) learns any."
            )

    def check_atoms(self, atoms: Atoms, name: str = "this structure") -> None:
        """Raise an `InputError` if composition or atom order differ."""
        if not np.array_equal(atoms.numbers, self.numbers):
            as_frames([atoms])  # elements that are none have no symbols
            if sorted(atoms.numbers) == sorted(self.numbers):
                raise InputError(
                    f"Expected the atoms of {self.formula} in the order "
                    f"{_symbols(self.numbers)}, found {_symbols(atoms.numbers)} in "
                    f"{name}: re-order them (kforce.data.reorder_atoms, --reorder)."
                )
            raise InputError(
                f"Expected structures of {self.formula}, found "
                f"{atoms.get_chemical_formula()} in {name}: a global model knows one "
                "molecule only; GAPRegressor (--model gap) learns any."
            )

    def alone(self, atoms: Atoms, number: int | None = None) -> Atoms:
        """Return a structure without its box, unless this is periodic itself.

        Raises `InputError` if the structure is not one molecule with vacuum around it;
        the number is that of the frame.
        """
        if not atoms.pbc.any() or self.pbc.any():
            return atoms
        try:
            return unwrap(atoms, number)
        except NotAloneError as reason:
            raise InputError(
                f"Expected one molecule with vacuum around it, found that {reason}: "
                "enlarge the box, or set pbc=False where the atoms are together."
            ) from None

    def batch_of_one(self, positions: np.ndarray) -> Batch:
        """Return one structure of this molecule, positions (n_atoms, 3) in Å."""
        return Batch(
            self.numbers,
            np.ascontiguousarray(positions, dtype=float),
            np.array([0, len(self.numbers)]),
            self.cell[None],
            self.pbc[None],
        )

    def batch(self, positions: np.ndarray) -> Batch:
        """Return structures of this molecule, positions (n, n_atoms, 3) in Å."""
        n, n_atoms = len(positions), len(self.numbers)
        return Batch(
            np.tile(self.numbers, n),
            np.ascontiguousarray(positions, dtype=float).reshape(-1, 3),
            n_atoms * np.arange(n + 1),
            np.tile(self.cell, (n, 1, 1)),
            np.tile(self.pbc, (n, 1)),
        )


def without_boxes(frames: Sequence[Atoms]) -> list[Atoms]:
    """Return training frames as molecules, or as they are where one frame is none.

    Which it is, is said in the log. Raises `InputError` if the frames have different
    boundaries then.
    """
    alone, reason = unwrap_all(frames)
    molecule = Molecule.of(alone[0])
    for s, frame in enumerate(alone):
        molecule.check(frame, f"frame {s}")
        molecule.alone(frame, s)
    if alone is not frames:
        _log.info(
            "the frames show one molecule with vacuum around it: boxes are left out"
        )
    elif reason:
        _log.log(
            logging.WARNING if reason.is_ambiguous else logging.INFO,
            "the training frames are taken as periodic: %s",
            reason,
        )
    return alone


def _symbols(numbers):
    return " ".join(chemical_symbols[z] for z in numbers)


def _boundary(pbc, cell):
    if not pbc.any():
        return "no periodic boundaries"
    return f"pbc={pbc.tolist()} and the cell {cell.round(4).tolist()}"
