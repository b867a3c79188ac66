"""Check that a baseline and the labels that it is to explain are of one kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import units

from kforce.errors import InputError

_FORCE_UNITS = {
    "Hartree/Bohr": units.Hartree / units.Bohr,
    "Hartree/Å": units.Hartree,
    "kcal/mol/Å": units.kcal / units.mol,
    "kJ/mol/Å": units.kJ / units.mol,
}


def unit_complaint(
    labels: Sequence[np.ndarray], baseline: Sequence[np.ndarray]
) -> str | None:
    """Return a complaint where a baseline leaves more to be learned than without it.

    Parameters
    ----------
    labels, baseline : list of ndarray of shape (n_atoms, 3)
        Forces in eV/Å; NaN where there is no label.

    Returns
    -------
    str or None
        For a warning.

    Raises
    ------
    InputError
        If the two differ by a factor that is one between units.

    Examples
    --------
    >>> labels = [np.array([[0.0, 1.0, 2.0]])]
    >>> print(unit_complaint(labels, [0.9 * labels[0]]))
    None
    >>> unit_complaint(labels, [labels[0] / 51.4])
    Traceback (most recent call last):
    kforce.errors.InputError: The forces of the baseline times 51.4 would fit the ...
    """
    wanted, found = np.concatenate(labels).ravel(), np.concatenate(baseline).ravel()
    known = np.isfinite(wanted)
    wanted, found = wanted[known], found[known]
    rms, left = (np.sqrt(np.mean(v**2)) for v in (wanted, wanted - found))
    overlap, square = wanted @ found, found @ found
    if overlap**2 > 0.5 * square * (wanted @ wanted) and overlap > 0:
        scale = overlap / square
        suspects = [
            f"{culprit} in {unit}"
            for unit, factor in _FORCE_UNITS.items()
            for culprit, ratio in (
                ("the baseline gives them", factor),
                ("the labels are", 1.0 / factor),
            )
            # A good baseline is itself off by a fifth; nearer ratios are all named.
            if abs(np.log(scale / ratio)) < np.log(1.4)
        ]
        if suspects:
            raise InputError(
                f"The forces of the baseline times {scale:.3g} would fit the labels, "
                f"and eV/Å is expected of both: it seems that {' or '.join(suspects)}. "
                "Convert the labels (read_frames takes units, --units), or choose "
                "another baseline."
            )
    if left <= rms:
        return None
    return (
        f"The baseline leaves forces of {left:.3g} eV/Å (rms) to be learned, more than "
        f"the {rms:.3g} eV/Å without it: check that it is meant for this molecule, and "
        "the signs and units of both."
    )
