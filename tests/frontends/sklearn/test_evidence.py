"""Choosing C_b, C_W and the noise: the evidence is that of a multivariate normal, and its largest value is found."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import finitewidth as fw
from finitewidth.frontends.sklearn.evidence import best_noise
from finitewidth.sklearn import FiniteWidthRegressor

RNG = np.random.default_rng(6)
X = RNG.standard_normal((40, 2))
NET = fw.MLP("relu", depth=3, width=16, n_in=2, C_b=0.3, C_W=1.5)


def log_evidence(net, y, noise):
    K = fw.flow(net, X, tensors="", layers="last").K.values[0]
    return sum(multivariate_normal.logpdf(column, cov=K + noise * np.eye(len(K))) for column in y.T)


def test_evidence_is_the_density_of_a_multivariate_normal():
    y = RNG.standard_normal((40, 2))
    noise, found = best_noise(NET, X, y, power=1.0, candidate=0.1)
    assert found == pytest.approx(log_evidence(NET, y, noise), rel=1e-10)


def test_no_other_noise_is_more_evident():
    y = np.sin(X[:, :1]) + 0.3 * RNG.standard_normal((40, 1))
    noise, found = best_noise(NET, X, y, power=1.0, candidate=5.0)
    assert all(log_evidence(NET, y, s) <= found + 1e-9 for s in np.geomspace(1e-6, 50, 60))
    assert 0.02 < noise < 0.4


def test_labels_drawn_from_a_prior_lead_back_to_it():
    """The evidence of what is found is at least that of the truth, and the noise is told from the signal."""
    K = fw.flow(NET, X, tensors="", layers="last").K.values[0]
    y = np.linalg.cholesky(K + 0.05 * np.eye(40)) @ RNG.standard_normal((40, 6))
    plain = {"intercept": False, "normalize_y": False, "order": 0}
    model = FiniteWidthRegressor("relu", algorithm=fw.Bayes(), tune="evidence", **plain).fit(X, y)
    assert model.log_evidence_ >= log_evidence(NET, y, 0.05) - 0.5
    assert 0.03 < model.algorithm_.noise < 0.08
    assert model.log_evidence_ == pytest.approx(log_evidence(model.net_, y, model.algorithm_.noise), rel=1e-9)


def test_tuning_is_never_worse_than_the_start():
    y = RNG.standard_normal(40)
    start = FiniteWidthRegressor("relu", algorithm=fw.Bayes(0.5)).fit(X, y)
    tuned = FiniteWidthRegressor("relu", algorithm=fw.Bayes(0.5), tune="evidence").fit(X, y)
    assert tuned.log_evidence_ >= start.log_evidence_
