"""Estimators for scikit-learn: `FiniteWidthRegressor` and `FiniteWidthClassifier` (they live in `frontends/sklearn/`)."""

from finitewidth.frontends.sklearn import FiniteWidthClassifier, FiniteWidthRegressor

__all__ = ["FiniteWidthClassifier", "FiniteWidthRegressor"]
