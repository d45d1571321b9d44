"""What trained networks of finite width predict, as scikit-learn estimators.

`estimator` is what both share: from scikit-learn's parameters to a network, and on to `fw.predict`; `regressor` and
`classifier` put targets in and read answers out; `largest` turns Gaussian outputs into probabilities of classes;
`evidence` chooses C_b, C_W and the noise.
"""

from finitewidth.frontends.sklearn.classifier import FiniteWidthClassifier
from finitewidth.frontends.sklearn.regressor import FiniteWidthRegressor

__all__ = ["FiniteWidthClassifier", "FiniteWidthRegressor"]
