"""Learning rates: gradient descent converges just below the one that is printed, and diverges just above it."""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.report.tangent_kernel import tangent_kernel


def descend(x: np.ndarray, y: np.ndarray, learning_rate: float, steps: int, *, mean: bool) -> float:
    """What plain gradient descent of one linear layer, whose tangent kernel is exact, leaves of its error."""
    W, b = np.zeros((y.shape[1], x.shape[1])), np.zeros(y.shape[1])
    start = np.linalg.norm(y)
    for _ in range(steps):
        gradient = x @ W.T + b - y
        if mean:  # torch.nn.MSELoss(): the mean of (z − y)² over inputs and outputs
            gradient = 2 * gradient / y.size
        W, b = W - learning_rate * gradient.T @ x, b - learning_rate * gradient.sum(axis=0)
    return float(np.linalg.norm(x @ W.T + b - y) / start)


@pytest.mark.parametrize("mean", [True, False])
def test_plain_sgd_is_stable_up_to_the_largest_learning_rate(mean: bool, inputs: np.ndarray) -> None:
    y = np.random.default_rng(0).normal(size=(len(inputs), 3))
    net = fw.MLP("relu", depth=1, n_in=7, n_out=3, lambda_b=1.0, lambda_W=7.0)
    found = tangent_kernel(net, fw.flow(net, inputs))
    assert found.plain_sgd
    largest = found.learning_rate_mse if mean else found.learning_rate_sum
    assert descend(inputs, y, 0.98 * largest, 400, mean=mean) < 1
    assert descend(inputs, y, 1.02 * largest, 400, mean=mean) > 1e3


def test_spectrum_is_that_of_theta_and_says_where_rounding_begins(inputs: np.ndarray) -> None:
    twice = np.concatenate([inputs, inputs])  # rank 5
    net = fw.MLP("erf", depth=3, width=50, C_W=1.0, lambda_b=0.5, lambda_W=0.7)
    once, found = (tangent_kernel(net, fw.flow(net, x)) for x in (inputs, twice))
    assert found.resolved == 5 and np.all(np.isnan(found.eigenvalues[5:])) and np.isnan(found.condition)
    np.testing.assert_allclose(found.eigenvalues[:5], 2 * once.eigenvalues, rtol=1e-10)
    np.testing.assert_allclose(found.learning_rate_sum, 2 / found.eigenvalues[0])
    np.testing.assert_allclose(found.learning_rate_mse, once.learning_rate_mse, rtol=1e-10)  # does not depend on N
    assert not found.plain_sgd
