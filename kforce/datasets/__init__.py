"""Sample data that comes with kforce."""

from __future__ import annotations

from importlib.resources import as_file, files

from ase import Atoms
from ase.io import read


def load_methanol_ccsdt() -> list[Atoms]:
    """Load 204 frames of methanol with CCSD(T)/cc-pVDZ energies and forces.

    The geometries come from one GFN2-xTB Langevin trajectory at 500 K, 150 fs apart
    and in time order; the labels are all-electron RHF-CCSD(T)/cc-pVDZ energies and
    analytic gradients from PySCF. By convention the first 144 frames are for training
    and the last 60 for testing.

    Returns
    -------
    list of ase.Atoms
        Energies in eV, forces in eV/Å, on each frame's calculator;
        ``info['gfn2_energy']`` and ``arrays['gfn2_forces']`` hold GFN2-xTB's.

    Examples
    --------
    >>> frames = load_methanol_ccsdt()
    >>> len(frames), str(frames[0].symbols)
    (204, 'COH4')
    """
    resource = files(__package__) / "methanol_ccsdt.xyz"
    with as_file(resource) as path:
        return read(path, index=":", format="extxyz")
