"""The labels that are farthest from what all others predict, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kforce.registry import register
from kforce.storage.codec import check_array

#: Labels beyond so many standard deviations are to be checked.
LARGEST_Z = 6.0

#: Labels that are named one by one.
_NAMED = 5

#: Units of the labels.
_UNITS = {"energy": "eV", "forces": "eV/Å"}


@dataclass(frozen=True)
class WorstFrame:
    """A frame, by its number or name, and its worse label, 'energy' or 'forces'.

    `error` is that label minus its prediction from all others, of forces the component
    that is farthest off, in eV or eV/Å, and `z` its size over the predicted standard
    deviation. `is_left_out` says whether the model was fitted without it.

    Examples
    --------
    >>> print(WorstFrame(11, "energy", 5.0, 3000.0))
    frame 11: energy 5.00 eV off, 3,000 σ
    """

    frame: int | str
    label: str
    error: float
    z: float
    is_left_out: bool = False

    def __str__(self) -> str:
        """Return what is wrong in a line."""
        return f"frame {self.frame}: {self.describe()}"

    def describe(self) -> str:
        """Return how far the label is off, without the frame."""
        z = f"{self.z:,.0f}" if self.z >= 10.0 else f"{self.z:.1f}"
        return f"{self.describe_error()} off, {z} σ"

    def describe_error(self) -> str:
        """Return which label it is, and its error."""
        size = abs(self.error)
        error = f"{size:,.2f}" if size >= 1.0 else f"{size:#.3g}"
        return f"{self.label} {error} {_UNITS[self.label]}"


@register
@dataclass(frozen=True, eq=False, repr=False)
class WorstFrames(Sequence):
    """Frames by how far the worse of their labels is off, the farthest first.

    A sequence of `WorstFrame`; printed, it is a table. The fields are those of its
    members, as arrays (n_frames,), but for `is_energy`, which label it is. `names` are
    what `advice` calls frames, by their numbers, where these say little.

    Examples
    --------
    >>> z = np.array([[3000.0, 1.2], [1.7, 2.5]])
    >>> worst = WorstFrames.of(np.array([11, 4]), z / 600.0, z)
    >>> print(worst)
    frame  label          error         z
       11  energy       5.00000      3000
        4  forces       0.00417       2.5
    >>> len(worst.suspects), worst[0].label
    (1, 'energy')
    """

    frame: np.ndarray
    is_energy: np.ndarray
    error: np.ndarray
    z: np.ndarray
    is_left_out: np.ndarray
    names: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        frame: np.ndarray,
        error: np.ndarray,
        z: np.ndarray,
        is_left_out: np.ndarray | None = None,
    ) -> WorstFrames:
        """Sort frames by the worse of their labels.

        Errors and z of energies and of forces are (n_frames, 2), in this order, and NaN
        where there is no label; frames without any are left out.
        """
        known = np.isfinite(z).any(axis=1)
        if is_left_out is None:
            is_left_out = np.zeros(len(frame), dtype=bool)
        worse = np.argmax(np.nan_to_num(z, nan=-1.0), axis=1)
        rows = np.arange(len(frame))
        columns = frame, worse == 0, error[rows, worse], z[rows, worse], is_left_out
        order = np.flatnonzero(known)[np.argsort(-z[rows, worse][known], kind="stable")]
        return cls(*(np.asarray(column)[order] for column in columns))

    @property
    def _columns(self):
        names = "frame", "is_energy", "error", "z", "is_left_out"
        return {name: getattr(self, name) for name in names}

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frame)

    def __getitem__(self, k):
        """Return one frame, or a table of some."""
        if isinstance(k, slice | np.ndarray):
            columns = {name: column[k] for name, column in self._columns.items()}
            return replace(self, **columns)
        label = "energy" if self.is_energy[k] else "forces"
        error, z = float(self.error[k]), float(self.z[k])
        return WorstFrame(
            self.frame[k].item(), label, error, z, bool(self.is_left_out[k])
        )

    def __iter__(self) -> Iterator[WorstFrame]:
        """Yield one frame after the other."""
        return (self[k] for k in range(len(self)))

    def __str__(self) -> str:
        """Return a table, errors in eV and eV/Å."""
        lines = [f"{'frame':>5}  {'label':<6}  {'error':>11}  {'z':>8}"]
        lines += [
            f"{one.frame:>5}  {one.label:<6}  {one.error:>11.5f}  {one.z:>8.4g}"
            + ("  left out" if one.is_left_out else "")
            for one in self
        ]
        return "\n".join(lines)

    __repr__ = __str__

    @property
    def suspects(self) -> WorstFrames:
        """Those whose labels are beyond 6 standard deviations."""
        return self[self.z > LARGEST_Z]

    def named(self, names: Sequence) -> WorstFrames:
        """Return the same with frame s called ``names[s]``."""
        return replace(self, frame=np.asarray(names)[self.frame])

    def advice(self) -> list[str]:
        """Return a line for each of the first few suspects, and one for the others."""
        suspects = self.suspects
        names = [self.names.get(s, str(s)) for s in suspects.frame.tolist()]
        lines = [
            f"frame {name}: {one.describe()}"
            f"{' and left out' if one.is_left_out else ''}: check this calculation"
            for name, one in zip(names[:_NAMED], suspects[:_NAMED], strict=True)
        ]
        more = names[_NAMED:]
        if more:
            lines.append(
                f"{len(more)} more frames have labels beyond {LARGEST_Z:g} σ: "
                f"{', '.join(more[:20])}{', ...' if len(more) > 20 else ''}"
            )
        return lines

    def check_stored(self) -> None:
        """Raise an error unless the columns belong together."""
        for (name, column), kind in zip(self._columns.items(), "ibffb", strict=True):
            if len(self.frame):
                check_array(name, column, (len(self.frame),), kind)
        if not (self.z >= 0.0).all():
            raise ValueError("distances of labels are negative")
