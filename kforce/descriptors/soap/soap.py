"""The SOAP power spectrum of atomic environments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from numbers import Integral, Real

import numpy as np

from kforce.descriptors.local import LocalDescriptor, TermDefaults
from kforce.descriptors.soap._density import weigh_members
from kforce.descriptors.soap._power_spectrum import factors, soap_values
from kforce.descriptors.soap._radial import bessel_starts
from kforce.descriptors.soap.compression import mixing_matrix
from kforce.descriptors.soap.environments import SoapEnvironments, SoapTables, in_spans
from kforce.descriptors.soap.radial_basis import BASES, radial_basis
from kforce.errors import InputError, check_count
from kforce.kernels.dot_product import Polynomial
from kforce.neighbours.search import Neighbours
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
        are much the same for elements that are alike; see
        `kforce.descriptors.soap.compression`. The number of features shrinks with
        the square of the number of densities. None mixes nothing.

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
        self,
        *,
        cutoff,
        n_max,
        l_max,
        atom_sigma,
        transition_width=0.5,
        species=None,
        centre=None,
        central_weight=1.0,
        sigma0=0.0,
        normalise=True,
        radial_basis="equispaced",
        basis_error_exponent=10.0,
        central_everywhere=None,
        damping=None,
        diagonal_radial=False,
        legacy_factor=False,
        compression=None,
    ):
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
        for name in _POSITIVE:
            value = getattr(self, name)
            if not _is_number(value) or value <= 0.0:
                raise InputError(f"{name} must be a positive number, found {value!r}.")
        super().check()
        for name in ("central_weight", "sigma0"):
            value = getattr(self, name)
            if not _is_number(value) or value < 0.0:
                raise InputError(f"{name} must be a number ≥ 0, found {value!r}.")
        for name in ("species", "centre"):
            value = getattr(self, name)
            if value is not None and not _are_elements(as_tuple(value)):
                raise InputError(
                    f"{name} must be different atomic numbers from 1 to "
                    f"{LARGEST_NUMBER}, or None for all elements, found {value!r}."
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

    def __call__(self, numbers: np.ndarray, neighbours: Neighbours) -> SoapEnvironments:
        """Return the environments of the centres of a neighbour list.

        Raises
        ------
        InputError
            If a parameter makes no sense, or two atoms are at one place.
        """
        self.check()
        if self.centre is not None:
            wanted = np.isin(numbers[neighbours.central_atoms], as_tuple(self.centre))
            neighbours = neighbours.of(wanted)
        neighbours, starts = self._by_channel(numbers, neighbours.within(self.cutoff))
        tables, origin = self._tables()
        n_env = len(neighbours.central_atoms)
        n_coefficients = len(tables.mixing) * self.n_max
        central = self._central(
            numbers[neighbours.central_atoms], tables.mixing, origin
        )
        members = self._members(neighbours)
        x = np.empty((n_env, len(tables.pairs) * (self.l_max + 1) + 1))
        x[:, -1] = self.sigma0
        c = np.empty((n_env, n_coefficients, (self.l_max + 1) ** 2))
        length = np.empty(n_env)

        def fill(first, last):
            soap_values(first, last, starts, members, central, *tables, x, c, length)

        in_spans(fill, 0, n_env)
        return SoapEnvironments(
            x,
            np.ones(n_env),
            neighbours.central_atoms,
            1,
            neighbours,
            starts,
            members,
            tables,
            c,
            length,
        )

    def _tables(self):
        basis = radial_basis(
            self.radial_basis,
            self.n_max,
            self.l_max,
            self.cutoff,
            self.atom_sigma,
            self.basis_error_exponent,
        )
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
            alpha,
            basis.points,
            begins,
            basis.matrices,
            mixing,
            np.ascontiguousarray(pairs),
            factors(self.l_max, self.legacy_factor),
            bool(self.normalise),
        )
        return tables, basis.origin

    @property
    def _n_channels(self):
        return 1 if self.species is None else len(as_tuple(self.species))

    def _by_channel(self, numbers, neighbours):
        """Return the neighbours sorted by element, and where each of these starts."""
        n_env, n_channels = len(neighbours.central_atoms), self._n_channels
        if self.species is None:
            return neighbours, neighbours.offsets
        channels = np.full(LARGEST_NUMBER + 1, -1)
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
            neighbours = replace(
                neighbours,
                atoms=neighbours.atoms[order],
                vec=neighbours.vec[order],
                dist=neighbours.dist[order],
                shifts=neighbours.shifts[order],
            )
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


#: Atomic numbers are at most this.
LARGEST_NUMBER = 118


#: Recursions of larger angular momenta would leave the range of doubles; the features
#: of more radial functions would fill the memory.
_LARGEST_L, _LARGEST_N = 40, 100


_POSITIVE = ("cutoff", "atom_sigma", "transition_width", "basis_error_exponent")


def as_tuple(value) -> tuple:
    """Return one value or several as a tuple.

    Examples
    --------
    >>> as_tuple(6), as_tuple([6, 1])
    ((6,), (6, 1))
    """
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
    good = all(isinstance(z, Integral) and 0 < z <= LARGEST_NUMBER for z in numbers)
    return good and 0 < len(numbers) == len(set(numbers))


def _is_damping(numbers):
    good = len(numbers) == 3 and all(_is_number(number) for number in numbers)
    return good and numbers[0] > 0.0 and numbers[1] > 0.0 and numbers[2] >= 0.0
