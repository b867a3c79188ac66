"""Energies up to a constant: their covariances, and whether they fit the forces.

A fit of forces alone knows energies up to a constant, which is the mean residual of the
training energies: E = c + f(x) with c = mean(E_i − f(x_i)). The error of an energy is
then that of f(x) − f̄ with f̄ = mean f(x_i): f̄ is one more linear functional of f, and
cov(f̄, f(x)) as a function of x is an `Expansion` with equal weights at the x_i.

The prior deviation of f, often thousands of eV, says nothing of such differences: their
covariances are written with φ(0) − φ(u), the variogram of the kernel, which is small.

Where the energies that forces imply disagree with the labels by more than a constant, a
sign, a unit or a level of theory is wrong.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.polynomial.legendre import leggauss
from scipy.linalg import cho_factor, cho_solve

from kforce.descriptors.base import Features
from kforce.gdml.covariance import covariance
from kforce.gdml.observations import Observations
from kforce.gdml.prior import Noise, Prior
from kforce.kernels.base import Kernel
from kforce.kernels.expansion import Expansion
from kforce.kernels.symmetrised import SymmetrisedKernel
from kforce.labels import Labels
from kforce.parallel import run_parallel, slices
from kforce.structures import Batch

_log = logging.getLogger("kforce.gdml")

#: Of the quadrature over [0, 1]: exact to rounding where a kernel falls by a tenth.
_NODES, _WEIGHTS = 0.5 * np.array(leggauss(10)) + [[0.5], [0.0]]

#: Distances that one thread works on: they stay in its cache.
_THREAD_ENTRIES = 50_000

#: Energies that miss by more than so many predictive standard deviations do not belong
#: to the forces. Consistent data stay below 2, shuffled energies reach 4 to 100.
_LARGEST_MISMATCH = 4.0

#: Rows of the small system that the energies are compared with.
_SYSTEM_ROWS = 1000


def mean_energy(expansion: Expansion, weights: np.ndarray) -> Expansion:
    """Return cov(f̄, f(·)) of a weighted mean f̄ of f over the x_m of an expansion.

    Of the expansion, kernel, x_m and permutations count; the weights (n_x_train,) add
    up to 1.
    """
    nowhere = np.zeros_like(expansion.x_train)
    return replace(expansion, directions=nowhere, weights=weights)


def variogram(kernel: Kernel, u: np.ndarray) -> np.ndarray:
    """Return φ(0) − φ(u) with no loss of digits at small squared distances u.

    Near 0 it is −2u ∫ φ'(u s²) s ds over [0, 1], by Gauss-Legendre quadrature: in s the
    integrand is smooth for every kernel, those with odd powers of the distance, too.

    Examples
    --------
    >>> from kforce.kernels.stationary import RBF
    >>> variogram(RBF(length_scale=1.0), np.array([1e-20, 2.0])).round(24)
    array([5.00000000e-21, 6.32120559e-01])
    """
    at_zero, value = kernel(0.0), kernel(u)
    out = at_zero - value
    near = value > 0.9 * at_zero
    u = u[near]
    integral = np.zeros(len(u))
    for s, weight in zip(_NODES, _WEIGHTS, strict=True):
        (dphi,) = kernel.profile(u * s**2, orders=(1,))
        integral += weight * s * dphi
    out[near] = -2.0 * u * integral
    return out


class EnergyPrior:
    """Prior covariances of energies f(x) − f̄, or f(x) where `mean` is None.

    `mean` is cov(f̄, f(·)), see `mean_energy`.
    """

    def __init__(
        self,
        prior: Prior,
        features: Features,
        observations: Observations,
        mean: Expansion | None,
    ):
        self._prior = prior.kernel
        self._perms = features.coordinates.images(prior.permutations)[0]
        self._features = features
        self._observations = observations
        self._mean = mean
        self._kernel = SymmetrisedKernel(prior.kernel, self._perms)
        self._variogram = partial(variogram, self._kernel.profile)
        if mean is not None:
            self._spread = float(self._to_mean(mean.x_train) @ mean.weights)
            self.of_mean = observations.of(mean, features)

    def variance(self, x: np.ndarray) -> np.ndarray:
        """Return the variances at x (n, n_features), (n,) in eV²."""
        if self._mean is None:
            return self._kernel.variance(x)
        to_images = self._kernel.variance(x, self._variogram)
        return 2.0 * self._to_mean(x) - self._spread - to_images

    def covariance(self, x: np.ndarray) -> np.ndarray:
        """Return the covariance of the energies at x (n, n_features), (n, n) in eV²."""
        if self._mean is None:
            return self._kernel.covariance(x, x)
        to_mean = self._to_mean(x)
        between = self._kernel.covariance(x, x, self._variogram)
        return np.add.outer(to_mean, to_mean) - self._spread - between

    def _to_mean(self, x):
        """Return the variogram between f(x) and f̄, (n,)."""
        x_train, weights = self._mean.x_train, self._mean.weights
        out = np.empty(len(x))

        def fill(part):
            between = self._kernel.covariance(x[part], x_train, self._variogram)
            out[part] = between @ weights

        step = max(1, _THREAD_ENTRIES // len(x_train))
        run_parallel(fill, slices(len(x), step))
        return out

    def columns(self, x: np.ndarray) -> np.ndarray:
        """Return cov(y, ·) of the energies at x (n, n_features), (n_observations, n).

        As a function of the training structures, the covariance with one f(x) is an
        expansion with a single point.
        """
        out = np.empty((self._observations.n_rows, len(x)), order="F")
        for k in range(len(x)):
            point = x[k : k + 1]
            one = Expansion(
                self._prior, point, np.zeros_like(point), np.ones(1), self._perms
            )
            out[:, k] = self._observations.of(one, self._features)
        return out if self._mean is None else out - self.of_mean[:, None]


def scale_complaint(energy: np.ndarray, predicted: np.ndarray) -> str | None:
    """Return a complaint where energies have another sign or unit than forces imply.

    Both are (n_structures,) in eV: labels, and what a model of the forces predicts.
    """
    if len(energy) < 5 or not (np.ptp(energy) and np.ptp(predicted)):
        return None
    correlation = np.corrcoef(energy, predicted)[0, 1]
    ratio = correlation * energy.std() / predicted.std()
    if abs(correlation) < 0.7 or 0.5 < ratio < 2.0:
        return None
    return (
        f"The energies change by {ratio:.3g} times what the forces imply: check the "
        "sign of the forces and the units of both."
    )


def mismatch_complaint(model, frames, labels: Labels) -> str | None:
    """Return a complaint where energies miss by far more than forces leave open.

    The model was fitted to the forces of these frames, the training set.
    """
    complete = np.flatnonzero(np.isfinite(labels.energy) & labels.has_forces)
    count = min(len(complete), max(9, _SYSTEM_ROWS // (3 * len(frames[0]))))
    if count < 9:
        return None
    chosen = complete[np.linspace(0, len(complete) - 1, count).astype(int)]
    # Every third structure gives its energy, the others their forces.
    gives_energy = np.arange(count) % 3 == 2
    energy = np.where(gives_energy, labels.energy[chosen], np.nan)
    forces = [
        np.full_like(labels.forces[s], np.nan) if alone else labels.forces[s]
        for s, alone in zip(chosen, gives_energy, strict=True)
    ]
    batch = Batch.from_frames([frames[s] for s in chosen])
    observations = Observations.build(
        batch, Labels(energy, forces), True, model.constant_
    )
    prior = Prior(model.kernel_, model.permutations_, Noise(model.noise_forces_))
    mismatch = _mismatch(prior, model.descriptor_(batch), observations)
    _log.info("energies miss by %.2g of their expected error", mismatch)
    if mismatch < _LARGEST_MISMATCH:
        return None
    return (
        f"The energies miss by {mismatch:.0f} times their expected error: these forces "
        "are not the gradient of these energies. Check that both come from one level "
        "of theory and belong to the same structures."
    )


def _mismatch(prior, features, observations):
    """How far energies are from what the forces of other structures predict.

    The forces give a predictive distribution of differences of the energies. If they
    are the gradient of these, the root mean square error of the energies, their mean
    taken out, is about the expected one; what is returned is their ratio.
    """
    K = covariance(prior, features, observations).to_dense()
    f = observations.is_force
    noise = prior.noise.variance(observations)[f]
    factor = cho_factor(K[np.ix_(f, f)] + np.diag(noise), lower=True)
    # The forces say nothing of the common constant: compare deviations from the mean.
    n = len(K) - f.sum()
    centre = np.eye(n) - 1.0 / n
    cross = K[np.ix_(f, ~f)] @ centre
    y = observations.y[f]
    alpha = cho_solve(factor, y)
    residual = centre @ observations.y[~f] - cross.T @ alpha
    spread = centre @ K[np.ix_(~f, ~f)] @ centre - cross.T @ cho_solve(factor, cross)
    # With the amplitude that is most likely for these forces, y α / n in place of 1.
    expected = np.trace(spread) * (y @ alpha / len(y))
    return float(np.sqrt(residual @ residual / max(expected, 1e-300)))
