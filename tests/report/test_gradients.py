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


def measure(
    sigma: Callable[[Any], Any], widths: tuple[int, ...], C_b: float, C_W: float, x: Any, number: int, seed: int
) -> np.ndarray:
    """Squared gradients of output 0 of `number` networks by the first layer's z and by each W: (number, 1 + L)."""
    rng = np.random.default_rng(seed)

    @jax.jit
    @jax.vmap
    def squares(parameters: Any) -> Any:
        by_z, by_parameters = jax.grad(lambda first, p: forward(sigma, p, x, first), argnums=(0, 1))(
            jnp.zeros(widths[1]), parameters
        )
        return jnp.stack([jnp.sum(by_z**2), *(jnp.sum(W**2) for W, _ in by_parameters)])

    chunks = []
    for _ in range(number // 1000):
        parameters = [
            (
                np.sqrt(C_W / n_in) * rng.standard_normal((1000, n_out, n_in), dtype=np.float32),
                np.sqrt(C_b) * rng.standard_normal((1000, n_out), dtype=np.float32),
            )
            for n_in, n_out in pairwise(widths)
        ]
        chunks.append(np.asarray(squares(parameters), dtype=np.float64))
    return np.concatenate(chunks)


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
    sample = measure(jax.nn.relu, widths, 0.0, 1.7, x, 8_000, seed=1)
    theory = expected("relu", widths, 0.0, 1.7, x)
    error = sample.std(axis=0) / np.sqrt(len(sample))
    assert abs(sample[:, 0].mean() - theory[0]) < FALSE_ALARM * error[0]
    # relative to the last layer: means whose ratio is predicted
    last = sample[:, -1]
    residual = sample[:, 1:] - theory[1:] * last[:, None]
    errors = residual.std(axis=0) / np.sqrt(len(sample))
    assert np.all(np.abs(residual.mean(axis=0)) <= FALSE_ALARM * errors + 1e-12)


@pytest.mark.parametrize(
    ("activation", "sigma"), [("erf", jax.scipy.special.erf), ("gelu", partial(jax.nn.gelu, approximate=False))]
)
def test_gradients_tend_to_the_leading_order_in_1_over_n(activation: str, sigma: Callable[[Any], Any]) -> None:
    x = np.linspace(-1.0, 1.5, 7)
    C_b, C_W = 0.15, 1.6
    means, errors = [], []
    for n, number in ((16, 8_000), (32, 8_000)):
        widths = (7, n, n, n, 2)
        sample = measure(sigma, widths, C_b, C_W, x, number, seed=n)
        theory = expected(activation, widths, C_b, C_W, x)
        # by z⁽¹⁾ as it is; by the weights relative to the last layer's, as a difference, which has a mean without bias
        residual = np.concatenate([sample[:, :1] - theory[0], sample[:, 1:-1] - theory[1:-1] * sample[:, -1:]], axis=1)
        scale = np.concatenate([theory[:1], theory[1:-1] * sample[:, -1].mean()])
        means.append(residual.mean(axis=0) / scale)
        errors.append(residual.std(axis=0) / np.sqrt(number) / scale)
    limit = 2 * means[1] - means[0]  # the order 1/n cancels; what is left is of order 1/n²
    error = np.sqrt(4 * errors[1] ** 2 + errors[0] ** 2)
    assert np.all(np.abs(limit) < FALSE_ALARM * error)
    assert np.all(error < 0.04)  # enough to see a missing factor
