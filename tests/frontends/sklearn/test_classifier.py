"""The classifier: probabilities are shares of Gaussian draws, classes what most of them choose."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import finitewidth as fw
from finitewidth.sklearn import FiniteWidthClassifier

RNG = np.random.default_rng(4)
X, X_NEW = RNG.standard_normal((24, 2)), RNG.standard_normal((40, 2))


def predicted(model, targets):
    inputs = model.network_inputs(X), model.network_inputs(X_NEW)
    return fw.predict(model.net_, inputs[0], targets, inputs[1], algorithm=model.algorithm, order=0)


def test_probabilities_are_shares_of_the_networks_that_predict_describes():
    label = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.5])
    model = FiniteWidthClassifier("relu", algorithm=fw.GradientFlow(time=3.0)).fit(X, label)
    p, draws = predicted(model, np.eye(3)[label] - 1 / 3), 50_000
    z = p.mean.values[:, :, None] + p.std.values[:, :, None] * RNG.standard_normal((40, 3, draws))
    share = np.stack([np.mean(z.argmax(1) == k, axis=1) for k in range(3)], axis=1)
    found = model.predict_proba(X_NEW)
    error = np.sqrt(found * (1 - found) / draws) + 1 / draws
    assert np.max(np.abs(share - found) / error) < norm.isf(0.005 / 120)  # false alarms in 1 % of seeds
    np.testing.assert_array_equal(model.predict(X_NEW), found.argmax(1))
    assert np.min(found.max(1)) < 0.9  # not only sure ones


def test_two_classes_in_closed_form():
    label = np.where(X[:, 0] > 0, "right", "left")
    model = FiniteWidthClassifier("relu", algorithm=fw.Bayes(0.2)).fit(X, label)
    p = predicted(model, np.column_stack([label == "left", label == "right"]) - 0.5)
    difference = p.mean.values[:, 1] - p.mean.values[:, 0]
    expected = norm.cdf(difference / np.sqrt(2 * p.variance.values[:, 0]))
    np.testing.assert_allclose(model.predict_proba(X_NEW)[:, 1], expected, rtol=1e-10)
    assert list(model.classes_) == ["left", "right"]


def test_training_to_the_end_meets_every_label():
    label = RNG.integers(0, 4, 24)
    model = FiniteWidthClassifier("relu").fit(X, label)
    np.testing.assert_array_equal(model.predict(X), label)
    np.testing.assert_allclose(model.predict_proba(X).max(1), 1.0, atol=1e-6)


def test_one_class_is_always_chosen():
    model = FiniteWidthClassifier("relu").fit(X, np.full(24, 7))
    assert np.all(model.predict(X_NEW) == 7)
    np.testing.assert_array_equal(model.predict_proba(X_NEW), np.ones((40, 1)))


def test_iris():
    data = load_iris()
    model = make_pipeline(StandardScaler(), FiniteWidthClassifier("relu", algorithm=fw.Bayes(0.1), order=0))
    assert cross_val_score(model, data.data, data.target, cv=3).mean() > 0.93


def test_numbers_that_are_no_labels_are_refused():
    with pytest.raises(ValueError, match="Unknown label type"):
        FiniteWidthClassifier().fit(X, X[:, 0])
