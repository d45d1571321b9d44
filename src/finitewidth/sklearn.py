"""Estimators for scikit-learn, under the name by which they are asked for."""

from finitewidth.frontends.sklearn import FiniteWidthClassifier, FiniteWidthRegressor

__all__ = ["FiniteWidthClassifier", "FiniteWidthRegressor"]
