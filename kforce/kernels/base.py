"""Kernels: a scalar profile φ(u) of one invariant of two points.

A radial kernel is k(x, y) = φ(|x − y|²). The profile and its derivatives give every
covariance between values and gradients (d = x − y)::

    k          = φ
    ∂ₓ k       = 2 φ' d                 = −c1 d,      c1 = −2 φ'
    ∂ₓ∂ᵧᵀ k    = −2 φ' I − 4 φ'' d dᵀ   = c1 I − c2 d dᵀ,   c2 = 4 φ''

so a new kernel writes its profile and nothing else. A kernel of products is
k(x, y) = φ(x · y), with ∂ₓ k = φ' y; it is meant for normalised features.

A sum of kernels of one profile has components: each looks at the features with scales
of its own, k(x, y) = Σ_t a_t² φ(u_t) with u_t = Σ_k s_tk² (x_k − y_k)².
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone

from kforce.errors import InputError, check_positive
from kforce.registry import check_instance, register


class Components(NamedTuple):
    """How the components of a kernel scale the features.

    Attributes
    ----------
    profile : Kernel
        φ, which all components share.
    scales : ndarray of shape (n_components, n_features)
        s_tk, in inverse units of the features.
    variances : ndarray of shape (n_components,)
        a_t².
    """

    profile: Kernel
    scales: np.ndarray
    variances: np.ndarray


class Kernel(BaseEstimator):
    """Base of all kernels: subclasses define `profile`.

    A parameter `length_scale` that is None is learned by models.
    """

    #: Whether u is the product x · y instead of the squared distance.
    is_product = False

    #: Whether the amplitude is given; models learn that of any other kernel.
    is_scaled = False

    #: Whether its components have scales of their own; models learn none then.
    is_sum = False

    #: ζ where φ(u) = u^ζ: models sum such kernels in closed form.
    degree: float | None = None

    def profile(
        self, u: ArrayLike, orders: tuple[int, ...] = (0, 1, 2, 3)
    ) -> tuple[np.ndarray, ...]:
        """Return the derivatives of φ with respect to u of the given orders.

        Parameters
        ----------
        u : ndarray
            Squared distances, in the square of the unit of the descriptor, or
            products of the points.
        orders : tuple of int, default=(0, 1, 2, 3)
            Which derivatives; 0 is φ itself.

        Returns
        -------
        tuple of ndarray
            One array of the shape of `u` for each of `orders`, in eV² over the unit
            of u to the power of the order. Where they diverge at u = 0, as orders 2
            and 3 may, they are 0: they multiply distances that vanish.

        Raises
        ------
        InputError
            If a parameter makes no sense or is still to be learned.
        """
        raise NotImplementedError

    def __call__(self, u: ArrayLike) -> np.ndarray:
        """Return φ(u)."""
        return self.profile(u, orders=(0,))[0]

    def components(self, n_features: int) -> Components:
        """Return the components for points of so many features: one of all here.

        Raises
        ------
        InputError
            If the kernel has scales that do not fit the descriptor.
        """
        return Components(self, np.ones((1, n_features)), np.ones(1))

    @property
    def unscaled(self) -> Kernel:
        """The kernel without amplitudes: the one inside of `Scaled`."""
        return self

    @property
    def prior_std(self) -> float:
        """Prior standard deviation of the latent function, in eV."""
        return float(np.sqrt(self(float(self.is_product))))

    @property
    def needs_length_scale(self) -> bool:
        """Whether the length scale is left to a model to learn."""
        return getattr(self.unscaled, "length_scale", 1.0) is None

    def with_length_scale(self, length: float) -> Kernel:
        """Return a copy with a length scale; kernels that have none are only copied."""
        kernel = clone(self)
        if hasattr(kernel, "length_scale"):
            kernel.length_scale = length
        return kernel

    def for_features(self, n_features: int) -> Kernel:
        """Return the kernel for points of so many features: itself here."""
        return self

    def describe(self) -> str:
        """Return the kernel in one line."""
        return " ".join(repr(self).split())

    def __add__(self, other: Kernel) -> Sum:
        """Return the sum, for radial kernels of one kind; see `Sum`."""
        check_instance("What is added to a kernel", other, Kernel, "a kernel")
        return _joined(self._as_sum(), other._as_sum())

    def _as_sum(self):
        return Sum(self, np.ones((1, 1)), np.ones(1))


@register
class Scaled(Kernel):
    """A kernel times the square of an amplitude: δ² k(x, y).

    Parameters
    ----------
    kernel : Kernel
        The kernel that is scaled.
    amplitude : float, default=1.0
        δ, the prior standard deviation of the latent function, in eV.

    Examples
    --------
    >>> from kforce.kernels import RBF
    >>> float(Scaled(RBF(length_scale=1.0), amplitude=3.0)(0.0))
    9.0
    """

    is_scaled = True

    def __init__(self, kernel, amplitude=1.0):
        self.kernel = kernel
        self.amplitude = amplitude

    @property
    def is_product(self):  # noqa: D102
        return self.kernel.is_product

    @property
    def unscaled(self):  # noqa: D102
        return self.kernel.unscaled

    def with_length_scale(self, length):  # noqa: D102
        return Scaled(self.kernel.with_length_scale(length), self.amplitude)

    def for_features(self, n_features):  # noqa: D102
        return Scaled(self.kernel.for_features(n_features), self.amplitude)

    def profile(self, u, orders=(0, 1, 2, 3)):  # noqa: D102
        variance = self._variance()
        return tuple(variance * p for p in self.kernel.profile(u, orders))

    def components(self, n_features):  # noqa: D102
        profile, scales, variances = self.kernel.components(n_features)
        if profile is self.kernel:
            return Components(self, scales, variances)
        return Components(profile, scales, self._variance() * variances)

    def describe(self):  # noqa: D102
        return f"{self.kernel.describe()}, amplitude {self.amplitude:.3g} eV"

    def _as_sum(self):
        inner, variance = self.kernel._as_sum(), self._variance()
        return Sum(inner.kernel, inner.scales, np.sqrt(variance) * inner.amplitudes)

    def _variance(self):
        check_positive("The amplitude", self.amplitude)
        return float(self.amplitude) ** 2


@register
class Sum(Kernel):
    """A sum of one kernel with different scales of the features.

    k(x, y) = Σ_t a_t² φ(u_t) with u_t = Σ_k s_tk² (x_k − y_k)²: component t looks at
    the features whose scale is not zero, as an energy of many parts does. With one
    scale each for all features, it is what ``+`` makes of kernels of one kind that
    differ in their length scales.

    Parameters
    ----------
    kernel : Kernel
        The radial kernel with the profile φ.
    scales : array-like of shape (n_components, n_features) or (n_components, 1)
        s_tk, in inverse units of the features; not negative. One column is for all
        features.
    amplitudes : array-like of shape (n_components,), default=None
        a_t in eV; None is 1 for all.

    References
    ----------
    Duvenaud, Nickisch and Rasmussen, Adv. Neural Inf. Process. Syst. 24 (2011).

    Examples
    --------
    >>> from kforce.kernels import RBF
    >>> kernel = Sum(RBF(length_scale=1.0), [[1.0, 0.0], [0.5, 0.5]])
    >>> kernel.components(n_features=2)[1]
    array([[1. , 0. ],
           [0.5, 0.5]])
    >>> RBF(length_scale=1.0) + Scaled(RBF(length_scale=4.0), amplitude=3.0)
    Sum(amplitudes=array([1., 3.]), kernel=RBF(length_scale=1.0),
        scales=array([[1.  ],
           [0.25]]))
    """

    is_sum = True

    def __init__(self, kernel, scales, amplitudes=None):
        self.kernel = kernel
        self.scales = scales
        self.amplitudes = amplitudes

    @property
    def is_product(self):  # noqa: D102
        return self.kernel.is_product

    def profile(self, u, orders=(0, 1, 2, 3)):
        """Return the derivatives of φ, see `Kernel.profile`.

        Raises
        ------
        InputError
            If features have scales of their own.
        """
        scales, variances = self._table()
        if scales.shape[1] > 1:
            raise InputError(
                "A sum with a scale for each feature is no function of one distance: "
                "use it in GDMLRegressor, or give each component one scale for all "
                "features, as RBF(length_scale=1.0) + RBF(length_scale=3.0) does."
            )
        u = np.asarray(u, dtype=float)
        totals = tuple(np.zeros(u.shape) for _ in orders)
        for scale, variance in zip(scales[:, 0] ** 2, variances, strict=True):
            values = self.kernel.profile(scale * u, orders)
            for total, order, value in zip(totals, orders, values, strict=True):
                total += variance * scale**order * value
        return totals

    def components(self, n_features):  # noqa: D102
        scales, variances = self._table()
        if scales.shape[1] not in (1, n_features):
            raise InputError(
                f"Expected scales for the {n_features} features of the descriptor, "
                f"found {scales.shape[1]} columns."
            )
        scales = np.broadcast_to(scales, (len(scales), n_features))
        return Components(self.kernel, scales, variances)

    def describe(self):  # noqa: D102
        n_components, n_features = np.shape(self.scales)
        features = f", {n_features} features" if n_features > 1 else ""
        return f"{type(self.kernel).__name__}, {n_components} components{features}"

    def _as_sum(self):
        scales, variances = self._table()
        return Sum(self.kernel, scales, np.sqrt(variances))

    def _table(self):
        scales = _checked("scales", self.scales, 2)
        amplitudes = np.ones(len(scales))
        if self.amplitudes is not None:
            amplitudes = _checked("amplitudes", self.amplitudes, 1)
        if len(amplitudes) != len(scales):
            raise InputError(
                f"Expected one amplitude for each of {len(scales)} components, found "
                f"{len(amplitudes)}."
            )
        return scales, amplitudes**2


def _checked(name: str, values: ArrayLike, n_dimensions: int) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    good = array.ndim == n_dimensions and array.size and np.isfinite(array).all()
    if not good or (array < 0).any() or not array.any(axis=-1).all():
        raise InputError(
            f"{name} must be finite and not negative, with an entry above zero in each "
            f"component, found an array of shape {array.shape}."
        )
    return array


def _joined(one, other):
    """Return the sum of two sums, with the profile of the first."""
    names = [type(part.kernel).__name__ for part in (one, other)]
    params, others = one.kernel.get_params(), other.kernel.get_params()
    length, other_length = (p.pop("length_scale", 1.0) for p in (params, others))
    if names[0] != names[1] or params != others or one.is_product:
        raise InputError(
            "A sum is of radial kernels of one kind, which differ in length scale and "
            f"amplitude only, found {one.kernel!r} and {other.kernel!r}."
        )
    if length is None or other_length is None:
        raise InputError(
            f"Kernels of a sum need a length scale: give one to each {names[0]}."
        )
    scales = [one.scales, other.scales * (length / other_length)]
    n_features = max(table.shape[1] for table in scales)
    if any(table.shape[1] not in (1, n_features) for table in scales):
        raise InputError(
            "Kernels of a sum need scales for the same features, found "
            f"{scales[0].shape[1]} and {scales[1].shape[1]} columns."
        )
    scales = [np.broadcast_to(table, (len(table), n_features)) for table in scales]
    amplitudes = np.concatenate([one.amplitudes, other.amplitudes])
    return Sum(one.kernel, np.concatenate(scales), amplitudes)


def check_kernel(kernel: Kernel | None) -> None:
    """Raise an error unless it is None or a radial kernel, scaled once at most."""
    expected = (
        "None or a kernel such as Matern52(length_scale=10.0), scaled once at most"
    )
    if kernel is None:
        return
    check_instance("kernel", kernel, Kernel, expected)
    if kernel.is_scaled:
        check_instance("kernel", kernel.kernel, Kernel, expected)
        if kernel.kernel.is_scaled:
            raise InputError(f"kernel must be {expected}, found {kernel!r}.")
    if kernel.is_product:
        raise InputError(
            f"{kernel.unscaled!r} is a kernel of products of normalised local "
            "features: use it in a term of GAPRegressor, and a radial kernel such as "
            "Matern52() here."
        )
