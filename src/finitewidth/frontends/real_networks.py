"""A handful of real networks, drawn and trained, to be seen beside what is predicted of them.

θ ← θ − η λ ∇𝓛 ,   v ← μ v − η λ ∇𝓛 , θ ← θ + v ,   or dθ/dt = − λ ∇𝓛 by Runge and Kutta's fourth-order steps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.algorithms import Algorithm, GradientDescent, GradientFlow, Momentum
from finitewidth.architecture import MLP
from finitewidth.experiments.networks import Parameters, draw, learning_rates, preactivations
from finitewidth.precision import in_float64

MOST_STEPS = 100_000
_FLOW_STEP = 0.25  # in units of 1/λ_max: a step is right to 1e-5 for the fastest mode, and to more for others


@dataclass(frozen=True)
class Steps:
    """How an algorithm is carried out: steps of size `size`, with momentum, or of the flow."""

    size: float
    count: int
    momentum: float = 0.0
    flows: bool = False


def steps_of(algorithm: Algorithm, largest_rate: float) -> Steps | None:
    """The steps that carry out `algorithm` where λ_max is the fastest rate; None where there are none, or too many."""
    match algorithm:
        case GradientDescent(step, steps) if steps <= MOST_STEPS:
            return Steps(step, int(steps))
        case Momentum(step, steps, momentum) if steps <= MOST_STEPS:
            return Steps(step, int(steps), momentum)
        case GradientFlow(time) if time * largest_rate / _FLOW_STEP <= MOST_STEPS:
            count = max(1, math.ceil(time * largest_rate / _FLOW_STEP))
            return Steps(time / count, count, flows=True)
    return None


@in_float64
def trained_networks(
    net: MLP, x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, *, steps: Steps, networks: int, seed: int
) -> np.ndarray:
    """Outputs on x_test of networks drawn and trained one like the other, shape (networks, N_X, n_L).

    Arguments
        x_train, y_train, x_test: shapes (N_T, n_0), (N_T, n_L), (N_X, n_0).
    """
    assert net.n_in is not None
    keys = jax.random.split(jax.random.key(seed), networks)
    x, y, new = jnp.asarray(x_train), jnp.asarray(y_train).T, jnp.asarray(x_test)

    def one(key: jax.Array) -> jax.Array:
        parameters = draw(key, net, n_in=int(x_train.shape[1]), n_out=net.n_out)
        return preactivations(net, _trained(net, parameters, x, y, steps), new).T

    return np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(keys))


def _trained(net: MLP, parameters: Parameters, x: jax.Array, y: jax.Array, steps: Steps) -> Parameters:
    rates = learning_rates(net, parameters)

    def loss(parameters: Parameters) -> jax.Array:
        return 0.5 * jnp.sum((preactivations(net, parameters, x) - y) ** 2)

    def velocity(parameters: Parameters) -> Parameters:
        return jax.tree.map(lambda rate, slope: -rate * slope, rates, jax.grad(loss)(parameters))

    def descend(_: Any, state: tuple[Parameters, Parameters]) -> tuple[Parameters, Parameters]:
        at, before = state
        moves = jax.tree.map(lambda v, u: steps.momentum * v + steps.size * u, before, velocity(at))
        return _plus(at, 1.0, moves), moves

    def follow(_: Any, state: tuple[Parameters, Parameters]) -> tuple[Parameters, Parameters]:
        at, unused = state
        return _runge_kutta(velocity, at, steps.size), unused

    start = parameters, jax.tree.map(jnp.zeros_like, parameters)
    return jax.lax.fori_loop(0, steps.count, follow if steps.flows else descend, start)[0]


def _runge_kutta(velocity: Callable[[Parameters], Parameters], at: Parameters, h: float) -> Parameters:
    one = velocity(at)
    two = velocity(_plus(at, h / 2, one))
    three = velocity(_plus(at, h / 2, two))
    four = velocity(_plus(at, h, three))
    return jax.tree.map(lambda z, a, b, c, d: z + h / 6 * (a + 2 * b + 2 * c + d), at, one, two, three, four)


def _plus(at: Parameters, factor: float, moves: Parameters) -> Parameters:
    return jax.tree.map(lambda z, move: z + factor * move, at, moves)
