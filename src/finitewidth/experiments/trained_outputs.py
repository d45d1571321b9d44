"""A handful of real networks, drawn and trained, one like the other: their outputs, not their statistics."""

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.architecture import MLP
from finitewidth.experiments.courses import Course
from finitewidth.experiments.networks import Parameters, draw, preactivations
from finitewidth.experiments.sampling import ensemble_key, network_keys
from finitewidth.experiments.trained_networks import ORDERS
from finitewidth.experiments.training import train
from finitewidth.precision import in_float64


@in_float64
def trained_outputs(
    net: MLP, x_train: np.ndarray, y_train: np.ndarray, x: np.ndarray, *, course: Course, networks: int, seed: int
) -> np.ndarray:
    """z(t) on the inputs x at every one of the course's times, shape (networks, times, N, n_out).

    Network number k is that of `measure_trained` with the same seed. One that diverges, or does not settle, has
    outputs that are not numbers.

    Arguments
        x_train: (N_T, n_in). y_train: (N_T, n_out). x: (N, n_in).
        course: algorithm, loss and times. networks: how many. seed: an integer ≥ 0.
    """
    learnt, targets, asked = jnp.asarray(x_train), jnp.asarray(y_train).T, jnp.asarray(x)

    def outputs(parameters: Parameters) -> jax.Array:
        return preactivations(net, parameters, asked).T

    def one(keys: tuple[jax.Array, jax.Array]) -> jax.Array:
        start = draw(keys[0], net, n_in=x_train.shape[1], n_out=net.n_out)
        seen: jax.Array = train(net, start, learnt, targets, course=course, key=keys[1], observe=outputs)
        return seen

    key, numbers = ensemble_key(net, seed), jnp.arange(networks)
    keys = network_keys(key, numbers), network_keys(jax.random.fold_in(key, ORDERS), numbers)
    return np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(keys))
