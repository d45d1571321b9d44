"""The Bayesian posterior at order 1/n, against real hidden layers weighted by the evidence of their outputs."""

import math
import warnings

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.training.bayes import log_evidence, posterior
from finitewidth.training.bayes_first_order import components, derivatives
from finitewidth.training.infinite_width import Kernels

X = np.array([[-0.8, -1.3, -0.2], [0.4, 0.5, 0.3], [-0.6, -0.6, 0.1]])
Y = np.array([[0.5, -1.1], [-0.6, 0.9]])
NOISE, C_b, C_W = 0.15, 0.2, 1.4
TRAIN, TEST = np.array([0, 1]), np.array([2])


def of_metric(G):
    """Posterior mean (…, X, n_L), covariance (…, X, X) and log evidence of Gaussian outputs with covariances G."""
    inverse = np.linalg.inv(G[..., :2, :2] + NOISE * np.eye(2))
    g = G[..., 2:, :2] @ inverse
    fit = np.einsum("ti,...ts,si->...", Y, inverse, Y)
    volume = np.linalg.slogdet(2 * np.pi * (G[..., :2, :2] + NOISE * np.eye(2)))[1]
    return g @ Y, G[..., 2:, 2:] - g @ G[..., :2, 2:], -0.5 * fit - 0.5 * 2 * volume


def last_metrics(n, number, rng):
    """Ĝ of the outputs of real networks with hidden widths 2n and n, (number, 3, 3).

    Given a layer, neurons of the next are independent Gaussians with the metric of that layer: they are drawn so, which
    is the law of drawn weights and biases exactly, and cheaper.
    """
    root = np.linalg.cholesky(C_b + C_W / 3 * X @ X.T)
    for width in (2 * n, n):
        s = np.tanh(rng.standard_normal((number, width, 3)) @ np.swapaxes(root, -1, -2))
        metric = C_b + C_W / width * s.transpose(0, 2, 1) @ s
        root = np.linalg.cholesky(metric)
    return metric


def network(width):
    return fw.MLP("tanh", depth=3, width=[2 * width, width], n_out=2, C_b=C_b, C_W=C_W)


def test_real_hidden_layers_weighted_by_their_evidence_agree():
    """Mean, covariance between all outputs, and evidence; unequal widths; two widths, extrapolated."""
    infinite = fw.predict(network(8), X[:2], Y, X[2:], algorithm=fw.Bayes(NOISE), order=0)
    first = fw.predict(network(8), X[:2], Y, X[2:], algorithm=fw.Bayes(NOISE))
    stated = np.concatenate(
        [
            sum(first.terms.values()).values.ravel(),
            sum(first.covariance_terms.values()).values.ravel(),
            [8 * (first.log_evidence - infinite.log_evidence)],
        ]
    )
    rng, found = np.random.default_rng(2), []
    for n in (16, 32):
        blocks = []
        for _ in range(40):
            m, C, evidence = of_metric(last_metrics(n, 5000, rng))
            weight = np.exp(evidence - infinite.log_evidence)
            share = weight / weight.sum()
            mean = np.einsum("s,sxi->xi", share, m)
            covariance = np.einsum("s,sxy,ij->xiyj", share, C, np.eye(2))
            covariance += np.einsum("s,sxi,syj->xiyj", share, m - mean, m - mean)
            off = [mean - infinite.mean.values, covariance - infinite.covariance.values, np.log(weight.mean())]
            blocks.append(n * np.concatenate([np.ravel(each) for each in off]))
        found.append((np.mean(blocks, 0), np.std(blocks, 0, ddof=1) / math.sqrt(len(blocks))))
    (coarse, coarse_error), (fine, fine_error) = found
    value, error = 2 * fine - coarse, np.hypot(2 * fine_error, coarse_error)
    left_over = 0.3 * np.abs(fine - coarse)  # of order 1/n² in n × …, after extrapolation
    assert np.all(np.abs(value - stated) < 4.5 * error + left_over)
    assert np.sum(np.abs(stated) > 5 * (error + left_over)) >= 4  # the test can tell


def test_derivatives_by_the_metric_are_differences():
    rng = np.random.default_rng(4)
    root = rng.standard_normal((3, 5))
    K, phi = root @ root.T, rng.standard_normal((3, 3))
    phi = phi + phi.T

    def at(t):
        kernels = Kernels(K + t * phi, K, 0.0, 0.0, TRAIN, TEST)
        found = posterior(kernels, Y, NOISE)
        return found.gain.value @ Y, found.covariance, log_evidence(kernels.K_TT + NOISE * np.eye(2), Y)

    h = 1e-4
    before, here, after = at(-h), at(0.0), at(h)
    along = derivatives(Kernels(K, K, 0.0, 0.0, TRAIN, TEST), Y, NOISE, phi[None])
    for i, (first, second) in enumerate(zip(along[::2], along[1::2], strict=True)):
        np.testing.assert_allclose(first[0], (after[i] - before[i]) / (2 * h), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(second[0], (after[i] - 2 * here[i] + before[i]) / h**2, rtol=1e-4, atol=1e-4)


def test_components_put_together_are_the_tensor():
    V = fw.flow(network(8), X, order=1, tensors="V", layers="last").V.values[0]
    weights, phi = components(V)
    np.testing.assert_allclose(np.einsum("k,kab,kcd->abcd", weights, phi, phi), V, atol=1e-12)


def test_outputs_are_wired_together_at_finite_width_only():
    p = fw.predict(network(8), X[:2], Y, X[2:], algorithm=fw.Bayes(NOISE))
    assert p.covariance_infinite.values[0, 0, 0, 1] == 0
    assert abs(p.covariance.values[0, 0, 0, 1]) > 1e-4
    assert p.error["mean"].max() < 1e-6


@pytest.mark.parametrize("width", [16, 64])
def test_terms_are_coefficients_and_know_no_width(width):
    narrow, wide = (fw.predict(network(n), X[:2], Y, X[2:], algorithm=fw.Bayes(NOISE)).terms["V"] for n in (8, width))
    np.testing.assert_allclose(narrow, wide, rtol=1e-10)


def test_evidence_that_first_order_does_not_know_is_warned_of():
    """Without noise, slow modes of K make log p(y) what the next orders make it."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 3)), rng.normal(size=4)
    net = fw.MLP("tanh", depth=3, width=64, C_b=0.1, C_W=1.5)
    with pytest.warns(fw.TrustWarning, match=r"`width` 64: it moves log p\(y\) by \+14, a factor of 1e\+06"):
        fw.predict(net, x, y, algorithm=fw.Bayes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fw.predict(net, x, y, algorithm=fw.Bayes(noise=0.1))
