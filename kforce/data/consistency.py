"""Do the forces belong to the energies? Sign and units, from neighbouring frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms
from scipy.spatial.distance import cdist

from kforce.units import ENERGY_UNITS, LENGTH_UNITS

# At most so many frames look for a neighbour, among at most so many.
_MAX_QUERIES = 200
_MAX_FRAMES = 5000
_NEIGHBOURS = 2
_MIN_PAIRS = 10
# Below this R² the frames are too far apart for an answer. Right data reach 0.64 to
# 1.00 from 30 frames on (three to 27 atoms, 300 to 1200 K), unrelated labels about 0.
_MIN_R_SQUARED = 0.5
# Right data give slopes of 0.80 to 1.36; the mildest wrong unit, Bohr for Å, 1.89.
_MAX_RATIO = 1.5
# Pairs farther from the line than so many typical deviations do not count.
_OUTLIER = 6.0
# A frame has wrong labels where all its pairs, two at least, are so far from the line,
# and by such a share of the work, for which a line is no good approximation.
_CULPRIT, _CULPRIT_SHARE = 12.0, 0.5


@dataclass(frozen=True)
class EnergyForceSlope:
    """How the energy differences relate to the work of the forces.

    The slope, energy difference over work, is 1 if both belong together; `r_squared` is
    the squared correlation of the two over `n_pairs` pairs of frames. A few pairs far
    from all others are not among these: `misfits` are frames that they have in common,
    by number, with the median misfit of their pairs in eV.
    """

    slope: float
    r_squared: float
    n_pairs: int
    misfits: dict[int, float] = field(default_factory=dict)

    @property
    def conclusive(self) -> bool:
        """Whether the frames are close enough to tell."""
        return self.r_squared >= _MIN_R_SQUARED

    @property
    def contradicts(self) -> bool:
        """Whether energies and forces surely do not belong together."""
        ratio = max(self.slope, 1 / self.slope) if self.slope > 0 else np.inf
        return self.conclusive and ratio > _MAX_RATIO

    @property
    def cause(self) -> str | None:
        """The likely cause of a contradiction, in words."""
        sign = "the forces had the wrong sign" if self.slope < 0 else None
        units = self._likely_units()
        return " and ".join(filter(None, [sign, " or ".join(units)])) or None

    def _likely_units(self) -> list[str]:
        """Return the wrong units that explain the slope's size, the closest first."""
        uncertainty = np.sqrt((1 - self.r_squared) / self.n_pairs)
        margin = np.log(1.15 + 3 * uncertainty)  # 0.15: the largest bias of right data
        size = abs(self.slope)
        if abs(np.log(size)) < np.log(_MAX_RATIO):
            return []
        off = {cause: abs(np.log(size / r)) for cause, r in _wrong_units().items()}
        return [c for c in sorted(off, key=off.get) if off[c] < margin][:2]


def _wrong_units() -> dict[str, float]:
    """Return the slope that each mistake leads to."""
    bohr = LENGTH_UNITS["bohr"]
    causes = {"the positions were in Bohr": bohr, "the forces were per Bohr": 1 / bohr}
    for name in ("kcal/mol", "kJ/mol", "Hartree"):
        energy = ENERGY_UNITS[name.lower()]
        causes[f"the energies were in {name}"] = 1 / energy
        causes[f"the forces were in {name}/Å"] = energy
        causes[f"the forces were in {name}/Bohr"] = energy / bohr
    return causes


def energy_force_slope(
    frames: Sequence[Atoms], energy: np.ndarray, forces: Sequence[np.ndarray]
) -> EnergyForceSlope | None:
    """Compare energy differences with the work of the forces between neighbours.

    Between two frames of one molecule, ΔE ≈ −½ (F_a·Δr_a + F_b·Δr_b). The
    displacements follow a straight line in the logarithms of the pair distances, along
    which a molecule's energy is far closer to a parabola than along a Cartesian one:
    Δr = J⁺Δx with x = ln d and J = ∂x/∂r, evaluated at either end, so no alignment is
    needed. The nearer half of the pairs is compared.

    Of the frames, the isolated ones of the most frequent order of atoms are used, with
    energies (n_structures,) in eV and forces in eV/Å, NaN where there is none. None is
    returned when they are too few, or all energies or forces are the same.
    """
    members = _usable(frames, energy, forces)
    if len(members) <= _MIN_PAIRS:
        return None
    x = np.array([_log_distances(frames[s].positions) for s in members])
    a, b = _near_pairs(x)
    if len(a) < _MIN_PAIRS:
        return None
    used = np.unique([a, b])
    g = {
        k: _log_gradient(frames[members[k]].positions, forces[members[k]]) for k in used
    }
    gradient = np.array([(g[k] + g[m]) / 2 for k, m in zip(a, b, strict=True)])
    work = (gradient * (x[b] - x[a])).sum(axis=1)
    difference = energy[members[b]] - energy[members[a]]
    return _robust_regression(difference, work, np.stack([members[a], members[b]]))


def _usable(frames, energy, forces) -> np.ndarray:
    """Return the labelled isolated frames of the most frequent order of atoms."""
    groups = defaultdict(list)
    for s, frame in enumerate(frames):
        labelled = np.isfinite(energy[s]) and np.isfinite(forces[s]).all()
        if labelled and len(frame) > 1 and not frame.pbc.any() and _apart(frame):
            groups[frame.numbers.tobytes()].append(s)
    members = np.array(max(groups.values(), key=len, default=[]), dtype=int)
    return members[_spread(len(members), _MAX_FRAMES)]


def _apart(frame: Atoms) -> bool:
    dist = np.exp(_log_distances(frame.positions))
    return bool(np.isfinite(dist).all() and dist.min() > 1e-3)


def _spread(n: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))


def _log_distances(positions: np.ndarray) -> np.ndarray:
    i, j = np.triu_indices(len(positions), 1)
    vec = positions[j] - positions[i]
    with np.errstate(divide="ignore"):
        return 0.5 * np.log((vec * vec).sum(axis=1))


def _near_pairs(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearer half of the pairs of nearest neighbours."""
    queries = _spread(len(x), _MAX_QUERIES)
    dist = cdist(x[queries], x)
    dist[dist < 1e-6] = np.inf  # itself, and duplicates, tell nothing
    nearest = np.argpartition(dist, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
    pairs = np.stack([np.repeat(queries, _NEIGHBOURS), nearest.ravel()])
    far = np.take_along_axis(dist, nearest, axis=1).ravel()
    pairs, first = np.unique(np.sort(pairs, axis=0), axis=1, return_index=True)
    far = far[first]
    keep = np.argsort(far, kind="stable")[: max(_MIN_PAIRS, len(far) // 2)]
    keep = keep[np.isfinite(far[keep])]
    return pairs[0, keep], pairs[1, keep]


def _log_gradient(positions: np.ndarray, forces: np.ndarray) -> np.ndarray:
    """Return g with Jᵀg = −F of least norm, J the derivative of log distances."""
    n_atoms = len(positions)
    i, j = np.triu_indices(n_atoms, 1)
    vec = positions[j] - positions[i]
    row = vec / (vec * vec).sum(axis=1, keepdims=True)
    block = row[:, :, None] * row[:, None, :]
    gram = np.zeros((n_atoms, n_atoms, 3, 3))  # JᵀJ by pairs of atoms
    gram[i, j] = gram[j, i] = -block
    gram[np.arange(n_atoms), np.arange(n_atoms)] = -gram.sum(axis=1)
    gram = gram.transpose(0, 2, 1, 3).reshape(3 * n_atoms, 3 * n_atoms)
    # JᵀJ is singular along rigid motions; J maps what this lifts there to zero.
    gram[np.diag_indices_from(gram)] += 1e-8 * np.trace(gram) / len(gram)
    shift = -np.linalg.solve(gram, forces.ravel()).reshape(n_atoms, 3)
    return (row * (shift[j] - shift[i])).sum(axis=1)


def _robust_regression(difference, work, pairs) -> EnergyForceSlope | None:
    """Fit a line without the pairs that are far from it, (2, n_pairs) frames.

    A first line is that of the medians: up to half of the pairs may be wrong.
    """
    if not (difference.any() and work.any()):
        return None
    sign = np.sign(np.median(difference * work)) or 1.0
    slope = sign * np.median(np.abs(difference)) / max(np.median(np.abs(work)), 1e-300)
    misfit = np.abs(difference - slope * work)
    typical = max(1.4826 * np.median(misfit), 1e-12 * misfit.max())
    kept = misfit <= _OUTLIER * typical
    found = _regression(difference[kept], work[kept])
    if found is None:
        return None
    limit = np.maximum(_CULPRIT * typical, _CULPRIT_SHARE * np.abs(slope * work))
    misfits = {}
    for s in np.unique(pairs[:, misfit > limit]):
        own = (pairs == s).any(axis=0)
        if own.sum() > 1 and (misfit > limit)[own].all():
            misfits[int(s)] = float(np.median(misfit[own]))
    return replace(found, misfits=misfits)


def _regression(difference, work) -> EnergyForceSlope | None:
    """Fit a line through the origin with errors in both, the reduced major axis."""
    ee, ww, ew = difference @ difference, work @ work, difference @ work
    if ee == 0 or ww == 0 or ew == 0:
        return None
    slope = float(np.sign(ew) * np.sqrt(ee / ww))
    return EnergyForceSlope(slope, float(ew * ew / (ee * ww)), len(work))
