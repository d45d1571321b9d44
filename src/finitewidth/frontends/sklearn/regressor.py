"""`FiniteWidthRegressor`: what networks predict after training, with error bars over their initialisations."""

from typing import Any, Self

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import validate_data

from finitewidth.frontends.sklearn.estimator import FiniteWidthEstimator


class FiniteWidthRegressor(RegressorMixin, MultiOutputMixin, FiniteWidthEstimator):
    r"""Mean and spread of the predictions of trained networks, over their initialisations.

    No network is drawn or trained: the answer is `fw.predict`'s, that of infinitely many of them, under the loss
    ½ Σ (z − y)². Several targets are several outputs of one network.

    Source: PDLT ch. 6, 10, 11, ∞; THEORY-TRAINED §3–5.

    Parameters
        activation, depth, width, lambda_b, lambda_W: of the network, as in `fw.MLP`.
        C_b, C_W: variance of biases, and of weights × fan-in; "critical" is `fw.critical`'s, with C_W of the first
            layer such that the training inputs have the kernel K* on average (K = 1 where any K will do). A number is
            taken as it is, so that the size of the features then matters.
        algorithm: `None` for gradient flow to the end of training; `fw.GradientFlow(time)`, `fw.GradientDescent(step,
            steps)`, `fw.Momentum(…)`, `fw.Newton(…)`, `fw.Bayes(noise)`.
        noise: variance of the labels' noise for `fw.Bayes`, in place of its own (for searches over it).
        regularisation: ρ ≥ 0, a pull back to the initial parameters: the mean ends at Θ_XT (Θ_TT + ρ)⁻¹ y. Not for
            Bayes.
        order: 0 for infinite width, whose answer `width` does not enter; 1 with the correction in 1/n, at the cost of
            minutes (see `fw.predict`).
        intercept: whether the network sees a constant feature 1 beside the others, whose weights are the biases of its
            first layer. Without it, inputs that are zero are refused.
        normalize_y: whether targets are brought to mean 0 and variance 1 for the network, and its answers back. It is
            drawn with mean 0 and a variance of order one, so this is what units of y should not matter for.
        tune: "evidence" chooses C_b, C_W and noise by the evidence (marginal likelihood) of `fw.Bayes` at infinite
            width. For cross-validation there is scikit-learn's `GridSearchCV`.

    Features are not rescaled: bring them to order one each, with `StandardScaler` in a `Pipeline`.

    Attributes
        net_: the network, with C_b and C_W of every layer. algorithm_: with the noise that was given or found.
        y_mean_, y_scale_: what `normalize_y` took off the targets and divided them by, shape (n_targets,).
        log_evidence_: log p(y) of the targets as the network sees them, with Bayes only.
        notes_: what must be known of the result, such as modes that duplicate inputs leave untrained.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    >>> import numpy as np
    >>> from finitewidth.sklearn import FiniteWidthRegressor
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> model = FiniteWidthRegressor("relu", depth=3).fit(X, X.ravel() ** 2)
    >>> mean, std = model.predict([[0.5]], return_std=True)
    >>> bool(abs(mean[0] - 0.25) < 0.01), bool(std[0] < 0.02)
    (True, True)
    """

    def __init__(
        self,
        activation: Any = "gelu",
        *,
        depth: int = 3,
        width: Any = 64,
        C_b: Any = "critical",
        C_W: Any = "critical",
        lambda_b: Any = 1.0,
        lambda_W: Any = 1.0,
        algorithm: Any = None,
        noise: float | None = None,
        regularisation: float | None = None,
        order: int = 0,
        intercept: bool = True,
        normalize_y: bool = True,
        tune: str | None = None,
    ) -> None:
        super().__init__(
            activation,
            depth=depth,
            width=width,
            C_b=C_b,
            C_W=C_W,
            lambda_b=lambda_b,
            lambda_W=lambda_W,
            algorithm=algorithm,
            noise=noise,
            regularisation=regularisation,
            order=order,
            intercept=intercept,
            tune=tune,
        )
        self.normalize_y = normalize_y

    def fit(self, X: Any, y: Any) -> Self:
        """Keep the training data, and find out what network and algorithm are.

        Arguments
            X: features, shape (N, n_features). y: targets, shape (N,) or (N, n_targets).

        Raises
            InputError: for parameters that cannot be used. ValueError, TypeError: scikit-learn's, for data.
        """
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64)
        targets = np.asarray(y, dtype=np.float64).reshape(len(X), -1)
        self._is_vector = np.ndim(y) == 1
        self.y_mean_, self.y_scale_ = np.zeros(targets.shape[1]), np.ones(targets.shape[1])
        if self.normalize_y:
            self.y_mean_ = targets.mean(0)
            spread = targets.std(0)
            negligible = spread <= 10 * np.finfo(float).eps * np.abs(targets).max(0)
            self.y_scale_ = np.where(negligible, 1.0, spread)
        self._fit_network(X, (targets - self.y_mean_) / self.y_scale_)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The mean over initialisations, shape (N,) or (N, n_targets).

        Arguments
            return_std: also the standard deviation over initialisations, of the same shape (with Bayes: that of the
                network's output given the labels, their noise not added).
        """
        means, variances = [], []
        for chunk in self._chunks(X):
            means.append(chunk.mean)
            variances.append(np.einsum("aii->ai", chunk.covariance))
        mean = self._shaped(np.concatenate(means) * self.y_scale_ + self.y_mean_)
        if not return_std:
            return mean
        return mean, self._shaped(np.sqrt(np.maximum(np.concatenate(variances), 0.0)) * self.y_scale_)

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        return values[:, 0] if self._is_vector else values
