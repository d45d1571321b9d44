"""Correlators and norms of outputs against real networks and exact deep linear networks.

|z| < 5 fails by chance once in 1.7·10⁶ for a normal number: for the some 150 numbers of this file once in 10⁴ seeds.
"""

from itertools import permutations, product

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.errors import InputError
from finitewidth.experiments import extrapolate
from tests.information.draws import at_width, covariance, drawn, mean

X = ((1.2, -0.3), (0.4, 0.8))
BOUND = 5.0
# one hidden layer: K, V are exact at every width, so nothing is extrapolated
SHALLOW = fw.MLP("gelu", depth=2, width=12, n_out=3, C_b=[0.1, 0.2], C_W=[1.5, 2.0])
DEEP = fw.MLP("tanh", depth=3, width=16, n_out=3, C_b=0.1, C_W=1.6)


@pytest.fixture(scope="module")
def shallow():
    return fw.nearly_gaussian(SHALLOW, X)


@pytest.mark.parametrize("neurons", [(0, 0, 0, 0), (0, 0, 1, 1), (0, 1, 0, 1), (0, 1, 1, 0), (0, 1, 2, 0)])
def test_four_point_correlator_of_real_networks(shallow, neurons):
    z, _ = drawn(SHALLOW, X, 60000, 1, False)
    i, j, k, m = neurons
    for a, b, c, d in product(range(2), repeat=4):
        four, error = mean(z[:, i, a] * z[:, j, b] * z[:, k, c] * z[:, m, d])
        G = shallow.covariance
        wick = (
            (i == j and k == m) * G[a, b] * G[c, d]
            + (i == k and j == m) * G[a, c] * G[b, d]
            + (i == m and j == k) * G[a, d] * G[b, c]
        )
        assert abs(four - wick - shallow.four_point(*neurons)[a, b, c, d]) < BOUND * error


def test_norms_of_real_networks(shallow):
    z, _ = drawn(SHALLOW, X, 60000, 1, False)
    Q = (z**2).mean(1)
    for a, b in product(range(2), repeat=2):
        seen, error = covariance(Q[:, a], Q[:, b])
        assert abs(seen - shallow.norm_covariance[a, b]) < BOUND * error
        assert error < 0.1 * shallow.norm_covariance[a, b]  # it is a test


def test_squares_of_two_neurons_of_real_networks(shallow):
    z, _ = drawn(SHALLOW, X, 60000, 1, False)
    for a, b in product(range(2), repeat=2):
        seen, error = covariance(z[:, 0, a] ** 2, z[:, 1, b] ** 2)
        K = shallow.K
        assert abs(seen / (2 * K[a, a] * K[b, b]) - shallow.square_correlation[a, b]) < BOUND * error / (
            2 * K[a, a] * K[b, b]
        )


@pytest.mark.slow
def test_first_order_of_deep_real_networks():
    # n × (what is seen − its value at infinite width), extrapolated by c₀ + c₁/n + c₂/n², is the coefficient of 1/n
    widths, limit = [8, 16, 32, 64], fw.nearly_gaussian(DEEP, X)
    K, m = limit.K, DEEP.n_out
    seen = {"mean": [], "norms": []}
    for n in widths:
        z, _ = drawn(at_width(DEEP, n), X, 40000, n, False)
        Q = (z**2).mean(1)
        average, error = mean(Q)
        seen["mean"].append((n * (average - np.diagonal(K)), n * error))
        spread, error = covariance(Q[:, :, None], Q[:, None, :])
        seen["norms"].append((n * (spread - 2 / m * K**2), n * error))
    first_order = {
        "mean": limit.n * (limit.norm_mean - np.diagonal(K)),
        "norms": limit.n * (limit.norm_covariance - 2 / m * K**2),
    }
    for name, expected in first_order.items():
        values, errors = zip(*seen[name], strict=True)
        fit = extrapolate(widths, values, errors, order=1)
        assert np.all(np.abs(fit.value - expected) < BOUND * fit.standard_error), (name, fit.value, expected)


@pytest.mark.parametrize("widths", [(40, 40, 40), (30, 90, 50)])
def test_deep_linear_networks(widths):
    # FACTS 4.1: E[z⁴]/(3K²) = Π (1 + 2/n_ℓ); Var Q/K² = (1 + 2/n_L) Π (1 + 2/n_ℓ) − 1; left is O(1/n²)
    left = []
    for scale in (1, 2, 4, 8):
        n = scale * np.array(widths)
        found = fw.nearly_gaussian(fw.MLP("linear", depth=4, width=tuple(map(int, n)), n_out=4), [[1.5]])
        exact = np.prod(1 + 2 / n)
        K2 = found.K[0, 0] ** 2
        left.append([3 * exact - 3 - found.kurtosis[0], (1 + 2 / 4) * exact - 1 - found.norm_covariance[0, 0] / K2])
    slopes = np.log2(np.divide(left[:-1], left[1:]))
    np.testing.assert_allclose(slopes[-1], 2, atol=0.02)  # 1/n² and a little 1/n³


def test_norms_of_two_inputs_of_a_linear_network():
    # one hidden layer of n, C_W = 1, by Wick: Ĝ_ab is an average of n products, m outputs are N(0, Ĝ) given it
    n, m, x = 15, 4, np.array([[1.0, 0.2], [-0.3, 0.8]])
    K = x @ x.T / 2
    square = np.outer(np.diagonal(K), np.diagonal(K))
    expected = 2 * K**2 / n + 2 / m * (K**2 + (K**2 + square) / n)
    found = fw.nearly_gaussian(fw.MLP("linear", depth=2, width=n, n_out=m), x)
    np.testing.assert_allclose(found.norm_covariance, expected, rtol=1e-10)


def test_correlator_does_not_ask_in_which_order_its_preactivations_come(shallow):
    for neurons in product(range(2), repeat=4):
        value = shallow.four_point(*neurons)
        for order in permutations(range(4)):
            moved = shallow.four_point(*(neurons[p] for p in order))
            np.testing.assert_allclose(moved, value.transpose(order), atol=1e-13)


def test_one_layer_of_weights_is_gaussian():
    found = fw.nearly_gaussian(fw.MLP("tanh", depth=1, n_out=2, C_b=0.3), X)
    assert not found.four_point(0, 0, 0, 0).any()
    np.testing.assert_allclose(found.norm_covariance, found.K**2)


def test_a_hidden_layer_and_some_of_its_neurons():
    whole = fw.MLP("tanh", depth=4, width=[20, 30, 40], C_b=0.1, C_W=1.6)
    part = fw.MLP("tanh", depth=3, width=[20, 30], n_out=7, C_b=0.1, C_W=1.6)
    hidden, outputs = fw.nearly_gaussian(whole, X, layer=3, neurons=7), fw.nearly_gaussian(part, X)
    np.testing.assert_allclose(hidden.norm_covariance, outputs.norm_covariance, rtol=1e-12)


def test_arguments():
    with pytest.raises(InputError, match="`layer` must be between 1 and the depth 3, but got 4"):
        fw.nearly_gaussian(DEEP, X, layer=4)
    with pytest.raises(InputError, match="`neurons` is 4, but layer 3 has 3"):
        fw.nearly_gaussian(DEEP, X, neurons=4)
