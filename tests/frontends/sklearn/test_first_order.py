"""The correction in 1/n through the estimators: the same numbers as `fw.predict`, whatever rows are asked together."""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.sklearn import FiniteWidthClassifier, FiniteWidthRegressor

pytestmark = pytest.mark.slow  # all tensors of 16 inputs take a minute

RNG = np.random.default_rng(9)
X, X_NEW = RNG.standard_normal((12, 2)), RNG.standard_normal((6, 2))
TIME = fw.GradientFlow(time=0.5)


def test_regression_in_two_parts():
    model = FiniteWidthRegressor("tanh", width=20, order=1, algorithm=TIME, normalize_y=False).fit(X, X[:, 0])
    mean, std = model.predict(X_NEW, return_std=True)
    for rows in (slice(0, 4), slice(2, 6)):
        inputs = model.network_inputs(X), model.network_inputs(X_NEW[rows])
        p = fw.predict(model.net_, inputs[0], X[:, 0], inputs[1], algorithm=TIME, order=1)
        np.testing.assert_allclose(mean[rows], p.mean.values[:, 0], rtol=1e-5)
        np.testing.assert_allclose(std[rows], p.std.values[:, 0], rtol=1e-5)
    assert (
        np.max(np.abs(mean - FiniteWidthRegressor(**{**model.get_params(), "order": 0}).fit(X, X[:, 0]).predict(X_NEW)))
        > 1e-4
    )


def test_outputs_of_a_classifier_are_correlated():
    label = np.digitize(X[:, 0], [-0.4, 0.4])
    model = FiniteWidthClassifier("tanh", width=6, order=1, algorithm=TIME).fit(X, label)
    (chunk, *_) = model._chunks(X_NEW[:4])
    off = chunk.covariance[:, [0, 0, 1], [1, 2, 2]]
    assert np.abs(off).max() > 1e-4
    share = np.mean(
        [
            np.eye(3)[RNG.multivariate_normal(m, S, size=100_000).argmax(1)].mean(0)
            for m, S in zip(chunk.mean[:1], chunk.covariance[:1], strict=True)
        ],
        axis=0,
    )
    np.testing.assert_allclose(model.predict_proba(X_NEW[:4])[0], share, atol=0.01)
