"""The gradients that the report expects, against gradients of real networks."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finitewidth as fw
from finitewidth.report.gradients import gradients

FALSE_ALARM = 4.9  # standard errors: one in a million for each number compared


def forward(sigma: Callable[[Any], Any], parameters: list[Any], x: Any, first: Any = 0.0) -> Any:
    """Output 0 of a network; `first` is added to the preactivations of its first layer."""
    for layer, (W, b) in enumerate(parameters):
        x = W @ x + b
        if layer == 0:
            x = x + first
        if layer < len(parameters) - 1:
            x = sigma(x)
    return x[0]


def draw(key: Any, widths: tuple[int, ...], C_b: float, C_W: float) -> list[Any]:
    parameters = []
    for n_in, n_out in pairwise(widths):
        key, for_W, for_b = jax.random.split(key, 3)
        W = jnp.sqrt(C_W / n_in) * jax.random.normal(for_W, (n_out, n_in))
        parameters.append((W, jnp.sqrt(C_b) * jax.random.normal(for_b, (n_out,))))
    return parameters


def measure(
    sigma: Callable[[Any], Any], widths: tuple[int, ...], C_b: float, C_W: float, x: Any, number: int, seed: int
) -> np.ndarray:
    """Squared gradients of output 0 of `number` networks by the first layer's z and by each W: (number, 1 + L)."""

    def one(key: Any) -> Any:
        parameters = draw(key, widths, C_b, C_W)
        by_z = jax.grad(lambda first: forward(sigma, parameters, x, first))(jnp.zeros(widths[1]))
        by_parameters = jax.grad(lambda p: forward(sigma, p, x))(parameters)
        return jnp.stack([jnp.sum(by_z**2), *(jnp.sum(W**2) for W, _ in by_parameters)])

    keys = jax.random.split(jax.random.key(seed), number).reshape(-1, 500)
    batch = jax.jit(jax.vmap(one))
    return np.concatenate([np.asarray(batch(chunk), dtype=np.float64) for chunk in keys])


def expected(activation: str, widths: tuple[int, ...], C_b: float, C_W: float, x: np.ndarray) -> np.ndarray:
    """What the report says of the same numbers, the weights' relative to the last layer's."""
    net = fw.MLP(
        activation, depth=len(widths) - 1, width=widths[1:-1], n_in=widths[0], n_out=widths[-1], C_b=C_b, C_W=C_W
    )
    found = gradients(net, fw.flow(net, x[None]), np.array([x @ x / x.size]))
    return np.concatenate([found.jacobian[:1], found.weights])


def test_relu_gradients_are_exact_at_every_width() -> None:
    """For ReLU without biases σ' is independent of the size of signals, so the leading order is all there is."""
    widths, x = (7, 12, 20, 9, 3), np.linspace(-1.0, 1.5, 7)
    sample = measure(jax.nn.relu, widths, 0.0, 1.7, x, 20_000, seed=1)
    theory = expected("relu", widths, 0.0, 1.7, x)
    error = sample.std(axis=0) / np.sqrt(len(sample))
    assert abs(sample[:, 0].mean() - theory[0]) < FALSE_ALARM * error[0]
    # relative to the last layer: means whose ratio is predicted
    last = sample[:, -1]
    residual = sample[:, 1:] - theory[1:] * last[:, None]
    errors = residual.std(axis=0) / np.sqrt(len(sample))
    assert np.all(np.abs(residual.mean(axis=0)) <= FALSE_ALARM * errors + 1e-12)


@pytest.mark.parametrize(
    ("activation", "sigma"), [("tanh", jnp.tanh), ("gelu", partial(jax.nn.gelu, approximate=False))]
)
def test_gradients_tend_to_the_leading_order_in_1_over_n(activation: str, sigma: Callable[[Any], Any]) -> None:
    x = np.linspace(-1.0, 1.5, 7)
    C_b, C_W = 0.15, 1.6
    inverse, values, errors = [], [], []
    for n, number in ((16, 16_000), (32, 12_000), (64, 6_000)):
        widths = (7, n, n, n, 2)
        sample = measure(sigma, widths, C_b, C_W, x, number, seed=n)
        theory = expected(activation, widths, C_b, C_W, x)
        residual = np.concatenate([sample[:, :1] - theory[0], sample[:, 1:-1] - theory[1:-1] * sample[:, -1:]], axis=1)
        scale = np.concatenate([theory[:1], theory[1:-1] * sample[:, -1].mean()])
        inverse.append(1 / n)
        values.append(residual.mean(axis=0) / scale)
        errors.append(residual.std(axis=0) / np.sqrt(number) / scale)
    # the straight line in 1/n through the residuals meets 1/n = 0 at 0; curvature is 1/n², at most some (L/n)²
    design = np.stack([np.ones(3), np.array(inverse)], axis=1)
    for value, error in zip(np.array(values).T, np.array(errors).T, strict=True):
        weighted = design / error[:, None]
        covariance = np.linalg.inv(weighted.T @ weighted)
        intercept = (covariance @ weighted.T @ (value / error))[0]
        assert abs(intercept) < FALSE_ALARM * np.sqrt(covariance[0, 0])
        assert abs(intercept) < 0.1 and np.sqrt(covariance[0, 0]) < 0.03  # the test has the power to see a factor
