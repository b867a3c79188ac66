"""The SOAP power spectrum of atomic environments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
from ase.data import covalent_radii

from kforce.descriptors.local import (
    HEAVIEST_ELEMENT,
    LocalDescriptor,
    TermDefaults,
    is_atomic_number,
)
from kforce.descriptors.soap._density import weigh_members
from kforce.descriptors.soap._power_spectrum import factors, soap_values
from kforce.descriptors.soap._radial import bessel_starts
from kforce.descriptors.soap.environments import SoapEnvironments, SoapTables, in_spans
from kforce.descriptors.soap.radial_basis import BASES, radial_basis
from kforce.errors import InputError, check_count, check_positive
from kforce.kernels.dot_product import Polynomial
from kforce.registry import register


@register
class SOAP(LocalDescriptor):
    """Power spectrum of the density of neighbours, smoothed by Gaussians.

    Every neighbour within the cutoff is a Gaussian exp(−|r − D|²/2σ²), times a factor
    that goes to zero at the cutoff; those of one element make one density. Densities
    are expanded in radial functions and spherical harmonics, and the features are
    p_ABl = (2l + 1)^−½ Σ_m c_Alm c_Blm for all pairs A ≥ B of radial functions of
    densities, times √2 where A ≠ B: l runs fastest, then B, then A. One more feature is
    the constant `sigma0`. These are the vectors of the program GAP.

    Parameters
    ----------
    cutoff : float
        In Å.
    n_max, l_max : int
        Number of radial functions, and largest angular momentum.
    atom_sigma : float
        Width σ in Å.
    transition_width : float, default=0.5
        Over so many Å neighbours fade out.
    species : tuple of int, default=None
        Atomic numbers of the densities. None is one density of all elements, but in a
        `Term` one of each element of the training set.
    centre : int or tuple of int, default=None
        Atomic numbers of the centres; None for all atoms, and in a `Term` one
        descriptor for each element.
    central_weight : float, default=1.0
        Weight of the centre itself in the density. Where it is in none, the last
        neighbour that leaves the cutoff takes a normalised vector to zero in a step.
    sigma0 : float, default=0.0
        Last feature.
    normalise : bool, default=True
        Whether the features but the last have length 1.
    radial_basis : {"equispaced", "gto", "poly"}, default="equispaced"
        See `kforce.descriptors.soap.radial_basis.radial_basis`.
    basis_error_exponent : float, default=10.0
        The radial basis ends where a Gaussian at the cutoff is 10 to minus this.
    central_everywhere : bool, default=None
        Whether the centre counts in all densities, not only in that of its element.
        None: where there is one density.
    damping : tuple of (float, float, float), default=None
        (m, r₀, c): neighbours also count with c/(c + (r/r₀)ᵐ), or (r/r₀)⁻ᵐ for c = 0.
    diagonal_radial : bool, default=False
        Whether only pairs of equal radial functions are features.
    legacy_factor : bool, default=False
        Whether (2l + 1)^−½ is left out, as in old versions of GAP.
    compression : int, default=None
        The densities of `species` are mixed into so many, fewer ones, with weights that
        are much the same for elements that are alike; see `mixing_matrix`. The number
        of features shrinks with the square of the number of densities. None mixes
        nothing.

    References
    ----------
    Bartók, Kondor and Csányi, Phys. Rev. B 87, 184115 (2013); Willatt, Musil and
    Ceriotti, Phys. Chem. Chem. Phys. 20, 29661 (2018) on compression.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from kforce.neighbours.search import find_neighbours
    >>> from kforce.structures import Batch
    >>> batch = Batch.from_frames([molecule("CH4")])
    >>> soap = SOAP(cutoff=3.0, n_max=4, l_max=3, atom_sigma=0.5, centre=6)
    >>> soap(batch.numbers, find_neighbours(batch, 3.0)).x.shape
    (1, 41)
    """

    defaults = TermDefaults(Polynomial(zeta=4), n_inducing=1000)

    def __init__(
        self, *, cutoff, n_max, l_max, atom_sigma, transition_width=0.5, species=None,
        centre=None, central_weight=1.0, sigma0=0.0, normalise=True,
        radial_basis="equispaced", basis_error_exponent=10.0, central_everywhere=None,
        damping=None, diagonal_radial=False, legacy_factor=False, compression=None,
    ):  # fmt: skip
        self.cutoff = cutoff
        self.n_max = n_max
        self.l_max = l_max
        self.atom_sigma = atom_sigma
        self.transition_width = transition_width
        self.species = species
        self.centre = centre
        self.central_weight = central_weight
        self.sigma0 = sigma0
        self.normalise = normalise
        self.radial_basis = radial_basis
        self.basis_error_exponent = basis_error_exponent
        self.central_everywhere = central_everywhere
        self.damping = damping
        self.diagonal_radial = diagonal_radial
        self.legacy_factor = legacy_factor
        self.compression = compression

    @property
    def n_features(self) -> int:
        """One for each pair of radial functions and l, and the constant."""
        n, channels = self.n_max, self.compression or self._n_channels
        if self.diagonal_radial:
            pairs = n * channels * (channels + 1) // 2
        else:
            pairs = n * channels * (n * channels + 1) // 2
        return pairs * (self.l_max + 1) + 1

    def check(self):  # noqa: D102
        check_count("n_max", self.n_max)
        check_count("l_max", self.l_max, least=0)
        for name, largest in (("n_max", _LARGEST_N), ("l_max", _LARGEST_L)):
            if getattr(self, name) > largest:
                raise InputError(
                    f"{name} must be at most {largest}, found {getattr(self, name)}: "
                    "lower it."
                )
        super().check()
        for name in ("atom_sigma", "transition_width", "basis_error_exponent"):
            check_positive(name, getattr(self, name))
        for name in ("central_weight", "sigma0"):
            check_positive(name, getattr(self, name), or_zero=True)
        for name in ("species", "centre"):
            value = getattr(self, name)
            if value is not None and not _are_elements(as_tuple(value)):
                raise InputError(
                    f"{name} must be different atomic numbers from 1 to "
                    f"{HEAVIEST_ELEMENT}, or None for all elements, found {value!r}."
                )
        if self.compression is not None:
            _check_compression(self.compression, self.species)
        if self.radial_basis not in BASES:
            raise InputError(
                f"radial_basis must be one of {', '.join(BASES)}, "
                f"found {self.radial_basis!r}."
            )
        if self.damping is not None and not _is_damping(as_tuple(self.damping)):
            raise InputError(
                "damping must be None or three numbers (exponent > 0, scale > 0, "
                f"rate ≥ 0), found {self.damping!r}."
            )

    def for_species(self, species: tuple[int, ...]) -> list[SOAP]:
        """Return one descriptor per element of the centres, with densities of all.

        A descriptor whose densities are given stands for itself.
        """
        self.check()
        if self.species is not None:
            return [self]
        wanted = species if self.centre is None else as_tuple(self.centre)
        species = tuple(int(z) for z in species)
        parameters = self.get_params(deep=False) | {"species": species}
        return [SOAP(**parameters | {"centre": z}) for z in species if z in wanted]

    def __call__(self, numbers, neighbours):
        """Return the environments of the centres; refuse two atoms at one place."""
        self.check()
        if self.centre is not None:
            wanted = np.isin(numbers[neighbours.central_atoms], as_tuple(self.centre))
            neighbours = neighbours.of(wanted)
        neighbours, starts = self._by_channel(numbers, neighbours.within(self.cutoff))
        tables, origin = self._tables()
        n_env = len(neighbours.central_atoms)
        n_coefficients = len(tables.mixing) * self.n_max
        elements = numbers[neighbours.central_atoms]
        central = self._central(elements, tables.mixing, origin)
        members = self._members(neighbours)
        x = np.empty((n_env, len(tables.pairs) * (self.l_max + 1) + 1))
        x[:, -1] = self.sigma0
        c = np.empty((n_env, n_coefficients, (self.l_max + 1) ** 2))
        length = np.empty(n_env)

        def fill(first, last):
            soap_values(first, last, starts, members, central, *tables, x, c, length)

        in_spans(fill, 0, n_env)
        return SoapEnvironments(
            x, np.ones(n_env), neighbours.central_atoms, 1,
            neighbours, starts, members, tables, c, length,
        )  # fmt: skip

    def _tables(self):
        basis = radial_basis(
            self.radial_basis, self.n_max, self.l_max,
            self.cutoff, self.atom_sigma, self.basis_error_exponent,
        )  # fmt: skip
        alpha = 0.5 / self.atom_sigma**2
        mixing = np.eye(self._n_channels)
        if self.compression is not None:
            mixing = mixing_matrix(as_tuple(self.species), self.compression)
        pairs = np.stack(np.tril_indices(len(mixing) * self.n_max), axis=1)
        if self.diagonal_radial:
            n = pairs % self.n_max
            pairs = pairs[n[:, 0] == n[:, 1]]
        begins = bessel_starts(alpha, basis.points, float(self.cutoff), self.l_max)
        tables = SoapTables(
            alpha, basis.points, begins, basis.matrices,
            mixing, np.ascontiguousarray(pairs),
            factors(self.l_max, self.legacy_factor), bool(self.normalise),
        )  # fmt: skip
        return tables, basis.origin

    @property
    def _n_channels(self):
        return 1 if self.species is None else len(as_tuple(self.species))

    def _by_channel(self, numbers, neighbours):
        """Return the neighbours sorted by element, and where each of these starts."""
        n_env, n_channels = len(neighbours.central_atoms), self._n_channels
        if self.species is None:
            return neighbours, neighbours.offsets
        channels = np.full(HEAVIEST_ELEMENT + 1, -1)
        channels[list(as_tuple(self.species))] = np.arange(n_channels)
        channel = channels[numbers[neighbours.atoms]]
        if (channel < 0).any():
            neighbours = neighbours.keep(channel >= 0)
            channel = channel[channel >= 0]
        key = neighbours.owners * n_channels + channel
        counts = np.bincount(key, minlength=n_env * n_channels)
        starts = np.concatenate([[0], np.cumsum(counts)])
        if n_channels > 1:
            order = np.argsort(key, kind="stable")
            names = ("atoms", "vec", "dist", "shifts")
            sorted_arrays = {name: getattr(neighbours, name)[order] for name in names}
            neighbours = replace(neighbours, **sorted_arrays)
        return neighbours, starts

    def _central(self, numbers, mixing, origin):
        """Return what centres add to their coefficients of l = 0, (n_env, n_coeff)."""
        everywhere = self.central_everywhere
        if everywhere is None:
            everywhere = self._n_channels == 1
        counts = np.ones((len(numbers), self._n_channels))
        if self.species is not None and not everywhere:
            counts[:] = numbers[:, None] == np.array(as_tuple(self.species))
        one = origin * (self.central_weight / np.sqrt(4.0 * np.pi))
        return np.kron(counts @ mixing.T, one)

    def _members(self, neighbours):
        """Return what `weigh_members` makes of the neighbours, (n_pairs, 6)."""
        r = neighbours.dist
        if (r == 0.0).any():
            a = neighbours.owners[np.argmin(r)]
            raise InputError(
                f"Atom {neighbours.central_atoms[a]} of the batch and another one are "
                "at the same place: remove one of them."
            )
        damping = (0.0, 1.0, 1.0) if self.damping is None else self.damping
        parameters = (self.cutoff, self.transition_width, *damping)
        return weigh_members(neighbours.vec, r, *map(float, parameters))


#: Recursions of larger angular momenta would leave the range of doubles; the features
#: of more radial functions would fill the memory.
_LARGEST_L, _LARGEST_N = 40, 100


def as_tuple(value) -> tuple:
    """Return one value or several as a tuple."""
    return tuple(value) if isinstance(value, Iterable) else (value,)


def _check_compression(compression, species):
    if species is None:
        raise InputError(
            "compression mixes the densities of elements: give species, the atomic "
            "numbers of these, or compression=None."
        )
    n = len(as_tuple(species))
    whole = isinstance(compression, Integral) and not isinstance(compression, bool)
    if not whole or not 0 < compression < n:
        raise InputError(
            f"compression must be None or a whole number ≥ 1 and below the number {n} "
            f"of species, found {compression!r}."
        )


def _is_number(value):
    return isinstance(value, Real) and abs(value) < np.inf


def _are_elements(numbers):
    return all(map(is_atomic_number, numbers)) and 0 < len(numbers) == len(set(numbers))


def _is_damping(numbers):
    good = len(numbers) == 3 and all(_is_number(number) for number in numbers)
    return good and numbers[0] > 0.0 and numbers[1] > 0.0 and numbers[2] >= 0.0


#: Atomic numbers of the noble gases: the ends of the periods.
_NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86, 118)

#: Differences of period, group and covalent radius (in Å) that count as one: their
#: ranges. In smaller units an element unlike all others has hardly any weight in the
#: first density, and there may be no other.
_RANGES = (6.0, 17.0, 2.3)

#: ASE knows no radii beyond this element, and what it has instead depends on its
#: version.
_CURIUM = 96


def mixing_matrix(species: Sequence[int], n_mixed: int) -> np.ndarray:
    """Return weights (n_mixed, n_species) of densities of elements in fewer densities.

    Elements are points with the coordinates period, group and covalent radius. Rows are
    the leading eigenvectors of the matrix exp(−d) of their distances, orthonormal: the
    first sums all densities, with positive weights, and those that follow tell apart
    the elements that differ most. Nothing but the elements decides on them.

    Examples
    --------
    >>> mixing_matrix((1, 7, 8), 2).round(2)
    array([[ 0.43,  0.64,  0.64],
           [ 0.9 , -0.29, -0.32]])
    """
    order = np.argsort(species)
    elements = np.asarray(species)[order].tolist()
    points = np.array([_in_periodic_table(z) for z in elements]) / _RANGES
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    # Not its square: the eigenvalues fall so slowly that rounding mixes no vectors.
    _, vectors = np.linalg.eigh(np.exp(-distance))
    leading = vectors.T[::-1][:n_mixed]
    # Of a vector and its negative we take the one whose largest weight is positive; of
    # weights that differ by rounding, the first.
    size = np.abs(leading)
    largest = np.argmax(size > size.max(axis=1, keepdims=True) - 1e-6, axis=1)
    signs = np.sign(leading[np.arange(n_mixed), largest])
    mixing = np.empty_like(leading)
    mixing[:, order] = leading * signs[:, None]
    return np.ascontiguousarray(mixing)


def _in_periodic_table(z):
    """Return period, group and covalent radius of an element.

    Elements from lanthanum to lutetium, and those below, are between groups 3 and 4.
    """
    period = int(np.searchsorted(_NOBLE_GASES, z))
    place, before_end = z - _NOBLE_GASES[period - 1], _NOBLE_GASES[period] - z
    if place <= 2 and z != 2:
        group = float(place)
    elif before_end < 15 or period < 6:
        group = 18.0 - before_end
    else:
        group = 3.0 + (place - 3) / 15.0
    return period, group, covalent_radii[min(z, _CURIUM)]
