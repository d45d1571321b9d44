"""Spread of the NTK against real networks, by exact derivatives.

|z| < 5 fails by chance once in 1.7·10⁶ for a normal number: for the some 200 numbers of this file once in 10⁴ seeds.
"""

from itertools import product

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.errors import InputError
from finitewidth.experiments import extrapolate
from tests.information.draws import at_width, covariance, drawn, mean

X = ((1.2, -0.3), (0.4, 0.8))
BOUND = 5.0
RATES = {"lambda_b": 0.3, "lambda_W": 0.7}
# one hidden layer: all tensors are exact at every width
SHALLOW = fw.MLP("gelu", depth=2, width=12, n_out=2, C_b=[0.1, 0.2], C_W=[1.5, 2.0], **RATES)
DEEP = fw.MLP("tanh", depth=3, width=16, n_out=2, C_b=0.1, C_W=1.6, **RATES)
EQUAL = [(0, 0, 0, 0), (0, 0, 1, 1), (0, 1, 0, 1), (0, 1, 1, 0)]


@pytest.fixture(scope="module")
def shallow():
    return fw.tangent_kernel(SHALLOW, X)


@pytest.mark.parametrize("outputs", [*EQUAL, (0, 1, 0, 0)])
def test_covariance_of_entries_in_real_networks(shallow, outputs):
    _, H = drawn(SHALLOW, X, 40000, 1)
    i, j, k, m = outputs
    expected = shallow.covariance(*outputs)
    for a, b, c, d in product(range(2), repeat=4):
        seen, error = covariance(H[:, i, a, j, b], H[:, k, c, m, d])
        assert abs(seen - expected[a, b, c, d]) < BOUND * error


@pytest.mark.parametrize("outputs", EQUAL)
def test_covariance_with_outputs_in_real_networks(shallow, outputs):
    z, H = drawn(SHALLOW, X, 40000, 1)
    i, j, k, m = outputs
    expected = shallow.output_covariance(*outputs)
    for a, b, c, d in product(range(2), repeat=4):
        seen, error = covariance(z[:, i, a] * z[:, j, b], H[:, k, c, m, d])
        assert abs(seen - expected[a, b, c, d]) < BOUND * error


def test_variances_and_trace_of_real_networks(shallow):
    _, H = drawn(SHALLOW, X, 40000, 1)
    for name, entry in {"variance": H[:, 0, :, 0, :], "variance_between_outputs": H[:, 0, :, 1, :]}.items():
        seen, error = covariance(entry, entry)
        assert np.all(np.abs(seen - getattr(shallow, name)) < BOUND * error), name
    trace = np.einsum("niaia->n", H)
    seen, error = covariance(trace, trace)
    assert abs(seen - shallow.trace_variance) < BOUND * error
    assert error < 0.05 * shallow.trace_variance  # it is a test
    seen, error = mean(trace)
    assert abs(seen - shallow.trace_mean) < BOUND * error


@pytest.mark.slow
def test_first_order_of_deep_real_networks():
    # n × (what is seen − its value at infinite width), extrapolated in 1/n, is the coefficient of 1/n
    widths, limit = [8, 16, 32, 64], fw.tangent_kernel(DEEP, X)
    values, errors = [], []
    for n in widths:
        _, H = drawn(at_width(DEEP, n), X, 20000, n)
        trace = np.einsum("niaia->n", H)
        (average, average_error), (spread, error) = mean(trace), covariance(trace, trace)
        values.append(n * np.array([average - DEEP.n_out * np.trace(limit.Theta), spread]))
        errors.append(n * np.array([average_error, error]))
    fit = extrapolate(widths, values, errors, order=2)
    expected = limit.n * np.array([limit.trace_mean - DEEP.n_out * np.trace(limit.Theta), limit.trace_variance])
    assert np.all(np.abs(fit.value - expected) < BOUND * fit.standard_error), (fit.value, fit.standard_error, expected)
    assert fit.standard_error[1] < 0.15 * expected[1]  # it is a test


def test_a_linear_network_by_hand():
    # H_ij = δ_ij λ_W C + W Wᵀ λ_W for one input of length 1: Var from the moments of a Wishart matrix
    found = fw.tangent_kernel(fw.MLP("linear", depth=2, width=20, n_out=3, lambda_b=0.0), [[1.0]])
    assert found.trace_mean == pytest.approx(6)
    # tr H = 3 Σ z²/n + Σ_ik W_ik²: 9 · 2/20 + 3 · 2/20
    assert found.trace_variance == pytest.approx(1.2)


@pytest.mark.parametrize("covariance", ["covariance", "output_covariance"])
def test_order_of_outputs_and_inputs(covariance):
    # H_(kc)(md) = H_(md)(kc), z z = z z, and in Cov[H, H] the two H are alike; after one hidden layer B and F have more
    # symmetry than that, and would not tell
    deep = fw.tangent_kernel(DEEP, X)
    for outputs in product(range(2), repeat=4):
        value = getattr(deep, covariance)(*outputs)
        orders = [(1, 0, 2, 3), (0, 1, 3, 2)] + [(2, 3, 0, 1)] * (covariance == "covariance")
        for order in orders:
            moved = getattr(deep, covariance)(*(outputs[p] for p in order))
            np.testing.assert_allclose(moved, value.transpose(order), atol=1e-13)


def test_activations_that_jump_have_none():
    with pytest.raises(InputError, match="do not exist for"):
        fw.tangent_kernel(fw.MLP("perceptron", depth=2, width=20), X)
