"""scikit-learn's own checks of an estimator, every one of them."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from finitewidth.sklearn import FiniteWidthClassifier, FiniteWidthRegressor


# `check_array_api_input` skips itself unless SCIPY_ARRAY_API=1 is set before SciPy is imported; it passes then.
@parametrize_with_checks([FiniteWidthRegressor(), FiniteWidthClassifier()])
def test_infinite_width(estimator, check):
    check(estimator)
