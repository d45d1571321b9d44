"""`FiniteWidthClassifier`: which class networks choose after training, and what share of them."""

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from finitewidth.frontends.sklearn.estimator import FiniteWidthEstimator
from finitewidth.frontends.sklearn.largest import probabilities_of_largest


class FiniteWidthClassifier(ClassifierMixin, FiniteWidthEstimator):
    r"""The class that trained networks choose, and the share of initialisations that choose it.

    Each of the c classes has an output, and networks are trained by least squares: the loss is ½ Σ (z − y)² with
    y = 1 − 1/c at the output of the right class and −1/c at the others. A network chooses the class of its largest
    output. Outputs being Gaussian over initialisations, with mean and covariance from `fw.predict`,

        predict_proba = P(z_k is the largest) ,

    the share of networks, drawn and trained alike, that choose class k: what is not known because the initialisation
    is not. It is not the frequency of classes in the data; it is near 0 or 1 wherever all networks agree, rightly or
    wrongly.

    Source: PDLT ch. 6, 10, 11, ∞; THEORY-TRAINED §3–5.

    Parameters
        activation, depth, width, C_b, C_W, lambda_b, lambda_W, algorithm, noise, regularisation, order, intercept,
            tune: as for `FiniteWidthRegressor`.

    Attributes
        classes_: the labels, in the order of the columns of `predict_proba`.
        net_, algorithm_, log_evidence_, notes_, n_features_in_, feature_names_in_: as for
            `FiniteWidthRegressor`.

    >>> from finitewidth.sklearn import FiniteWidthClassifier
    >>> model = FiniteWidthClassifier("relu").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> model.predict([[0.2, 1.0]]).tolist(), model.predict_proba([[1.0, 1.0]]).round(3).tolist()
    (['up'], [[0.5, 0.5]])
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Keep the training data, and find out what network and algorithm are.

        Arguments
            X: features, shape (N, n_features). y: labels of any kind, shape (N,).

        Raises
            InputError: for parameters that cannot be used. ValueError, TypeError: scikit-learn's, for data.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, label = np.unique(y, return_inverse=True)
        classes = len(self.classes_)
        self._fit_network(X, np.eye(classes)[label.ravel()] - 1 / classes)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """The share of initialisations whose largest output is each class's, shape (N, classes)."""
        return np.concatenate([probabilities_of_largest(each.mean, each.covariance) for each in self._chunks(X)])

    def predict(self, X: Any) -> np.ndarray:
        """The class that most networks choose, shape (N,)."""
        check_is_fitted(self, "net_")
        return self.classes_[self.predict_proba(X).argmax(1)]
