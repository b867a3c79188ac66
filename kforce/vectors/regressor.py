"""Gaussian process on plain feature vectors, from values and gradients."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from kforce.errors import InputError, check_positive, check_seed
from kforce.gdml.subsets import random_subset
from kforce.kernels.base import check_kernel
from kforce.kernels.stationary import Matern52
from kforce.parallel import slices
from kforce.solvers.resources import Forecast
from kforce.vectors.posterior import (
    Observations,
    Sites,
    condition,
    covariance,
    learn,
    noise_variances,
)


class GradientGPRegressor(RegressorMixin, BaseEstimator):
    """Gaussian process regression on feature vectors, from values and/or gradients.

    y(x) = c + f(x) with a zero-mean Gaussian process f; observed are values y and
    gradients ∂y/∂x, and the predicted gradient is exactly that of the predicted value.

    Parameters
    ----------
    kernel : Kernel, default=None
        Covariance of f, in the square of the unit of y; None is `Matern52`. A length
        scale of None and, unless the kernel is `Scaled`, the amplitude are those of
        the largest marginal likelihood.
    noise : float, default=0.0
        Standard deviation of the values, in the unit of y.
    noise_gradient : float, default=0.0
        Standard deviation of a component of the gradients, in the unit of y over that
        of X.
    seed : int, default=0
        Seed of the subset of about 1,000 observations that a length scale is learned
        from, and an amplitude where a noise is given.

    Attributes
    ----------
    kernel_ : Kernel
        The kernel with all values that were learned.
    noise_, noise_gradient_ : float
        The noises in use: those given, or 1e-5 of the prior standard deviation where
        this is larger, so that equal points do no harm.
    constant_ : float
        c: the mean of y, or 0 in a fit of gradients alone.
    expansion_ : Expansion
        The posterior mean of f.
    log_marginal_likelihood_ : float
        Of the observations, y taken from its mean.
    n_features_in_ : int
        Features of X.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Where X had names.

    Raises
    ------
    InputError
        By `fit`, if there is neither y nor dy, if shapes or parameters are not as
        described, or if the fit needs more memory than there is.

    Notes
    -----
    A length scale or a noise that the data do not determine is best chosen with
    `sklearn.model_selection.GridSearchCV`, as ``kernel__length_scale`` and ``noise``.
    Gradients are with respect to the X that reaches this estimator: behind a scaler in
    a pipeline, scale them too.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning, sec. 2.2, 5.4.1
    and 9.4.

    Examples
    --------
    >>> import numpy as np
    >>> from kforce.kernels.stationary import RBF
    >>> from kforce.vectors.regressor import GradientGPRegressor
    >>> X = np.linspace(0.0, 6.0, 7)[:, None]
    >>> model = GradientGPRegressor(kernel=RBF()).fit(X, np.sin(X[:, 0]), np.cos(X))
    >>> y, gradient = model.predict([[0.5]], return_gradient=True)
    >>> bool(abs(y[0] - np.sin(0.5)) < 1e-3)
    True
    >>> bool(abs(gradient[0, 0] - np.cos(0.5)) < 1e-3)
    True
    """

    #: Entries of the covariance with the queries that are in memory at a time: 32 MB.
    _max_entries = 4_000_000

    def __init__(self, kernel=None, *, noise=0.0, noise_gradient=0.0, seed=0):
        self.kernel = kernel
        self.noise = noise
        self.noise_gradient = noise_gradient
        self.seed = seed

    def fit(self, X, y, dy=None):
        """Condition the process on observed values and/or gradients.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.
        y : array-like of shape (n_samples,) or None
            Values at all points; None fits the gradients alone, which leaves the
            additive constant open: it is taken as 0.
        dy : array-like of shape (n_samples, n_features), default=None
            Gradients. A component that is NaN was not observed; all others are used.

        Returns
        -------
        GradientGPRegressor
            self.
        """
        self._check_parameters()
        X, y, dy = self._check_data(X, y, dy)
        n_observations = np.isfinite(dy).sum(axis=1) + (y is not None)
        n = int(n_observations.sum())
        Forecast.of(n, feature_bytes=8.0 * n * n).require_memory()
        noises = (self.noise, self.noise_gradient)
        chosen = random_subset(n_observations, X, np.random.default_rng(self.seed))
        subset = Observations.of(
            X[chosen], None if y is None else y[chosen], dy[chosen]
        )
        kernel = clone(Matern52() if self.kernel is None else self.kernel)
        kernel = learn(kernel, subset, noises)
        observations = Observations.of(X, y, dy)
        self.kernel_, solution = condition(kernel, observations, noises)
        variances = noise_variances(self.kernel_, noises)
        self.noise_, self.noise_gradient_ = (float(np.sqrt(v)) for v in variances)
        self.constant_ = observations.constant
        self.log_marginal_likelihood_ = solution.log_likelihood(observations.y)
        self.expansion_ = observations.expand(self.kernel_, solution.coef)
        self._sites = observations.sites
        self._solution = solution
        return self

    def predict(self, X, return_std=False, return_gradient=False):
        """Predict values and, on request, their uncertainty and gradients.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.
        return_std : bool, default=False
            Return also the posterior standard deviation of f.
        return_gradient : bool, default=False
            Return also the gradient of the predicted values.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Posterior mean, in the unit of the training values.
        std : ndarray of shape (n_samples,)
            Only with return_std. What is left of the variance where the data determine
            f is limited by rounding; it is cut off at 0.
        gradient : ndarray of shape (n_samples, n_features)
            Only with return_gradient, ∂y/∂x.

        Raises
        ------
        ValueError
            If X is not finite or has another number of features than in `fit`.
        sklearn.exceptions.NotFittedError
            If the model has not been fitted.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        f, gradient = self.expansion_.jet(X)
        wanted = [f + self.constant_]
        if return_std:
            wanted.append(self._standard_deviation(X))
        if return_gradient:
            wanted.append(gradient)
        return wanted[0] if len(wanted) == 1 else tuple(wanted)

    def _standard_deviation(self, X):
        variance = np.full(len(X), float(self.kernel_(0.0)))
        step = max(1, self._max_entries // len(self._solution.coef))
        for part in slices(len(X), step):
            queries = Sites.of_values(X[part])
            K_star = covariance(self.kernel_, self._sites, queries)
            variance[part] -= self._solution.explained(K_star)
        return np.sqrt(np.maximum(variance, 0.0))

    def _check_parameters(self):
        check_kernel(self.kernel)
        check_seed(self.seed)
        for name in ("noise", "noise_gradient"):
            check_positive(
                name, getattr(self, name), "standard deviation", or_zero=True
            )

    def _check_data(self, X, y, dy):
        """Return copies, without the points where nothing was observed."""
        if y is None and dy is None:
            raise InputError(
                "GradientGPRegressor requires y to be passed, but the target y is None "
                "and so is dy: give values y, gradients dy, or both."
            )
        options = {"dtype": np.float64, "copy": True}
        if y is None:
            X = validate_data(self, X, **options)
        else:
            X, y = validate_data(self, X, y, y_numeric=True, **options)
            y = y.astype(np.float64)
        if dy is None:
            return X, y, np.full(X.shape, np.nan)
        dy = check_array(
            dy,
            dtype=np.float64,
            ensure_2d=False,
            allow_nd=True,
            ensure_all_finite="allow-nan",
            input_name="dy",
        )
        if dy.shape != X.shape:
            raise InputError(
                f"dy must have the shape of X, one gradient for each point: expected "
                f"{X.shape}, found {dy.shape}."
            )
        if y is not None:
            return X, y, dy
        is_observed = np.isfinite(dy).any(axis=1)
        if not is_observed.any():
            raise InputError(
                "Expected a gradient at one point at least, since y is None, found "
                "dy all NaN: give values y, or gradients that are finite."
            )
        return X[is_observed], None, dy[is_observed]
