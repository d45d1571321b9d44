"""Real networks: drawing their parameters, running them forward (PDLT ch. 2).

z⁽¹⁾ = b⁽¹⁾ + W⁽¹⁾ x ,     z⁽ℓ⁺¹⁾ = b⁽ℓ⁺¹⁾ + W⁽ℓ⁺¹⁾ σ(z⁽ℓ⁾) ,     E[b b] = C_b ,  E[W W] = C_W / n_{ℓ-1} .

This is all that an experiment knows of a network; every derivative is JAX's.
"""

from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.architecture import MLP
from finitewidth.experiments.normals import normals, normals_at


class Layer(NamedTuple):
    """Biases b (n_ℓ,) and weights W (n_ℓ, n_{ℓ-1}) of one layer; also their gradients, their learning rates, …"""

    b: jax.Array
    W: jax.Array


Parameters = tuple[Layer, ...]
Signals = tuple[jax.Array, ...]


def draw(key: jax.Array, net: MLP, *, n_in: int, n_out: int) -> Parameters:
    """One network at initialisation: independent Gaussians b ~ N(0, C_b), W ~ N(0, C_W/n_{ℓ-1}).

    Arguments
        key: a JAX random key (`normals.IMPLEMENTATION`).
        net: the architecture; its own `n_in` and `n_out` are not read.
        n_in, n_out: number of inputs and outputs. Given the layer before, outputs are independent and alike, so that
            statistics per output do not depend on their number.
    """
    widths = (n_in, *net.widths, n_out)
    C_b, C_W = net.per_layer("C_b"), net.per_layer("C_W")
    sizes = [(n, n_before) for n_before, n in pairwise(widths)]
    largest, all_of_them = max(n * m for n, m in sizes), sum(n * (m + 1) for n, m in sizes)
    in_place = largest >= LARGE and all_of_them < 1 << 32 and jnp.result_type(float) == jnp.float64
    drawn = _drawn_in_place(key, sizes) if in_place else _drawn_at_once(key, sizes)
    parameters = tuple(
        Layer(np.sqrt(C_b[l]) * each.b, np.sqrt(C_W[l] / n_before) * each.W)
        for l, (each, (_, n_before)) in enumerate(zip(drawn, sizes, strict=True))
    )
    # drawn once, however many read them
    return jax.lax.optimization_barrier(parameters) if in_place else parameters


LARGE = 1 << 16  # weights of a layer that are worth a program of their own


def _drawn_at_once(key: jax.Array, sizes: list[tuple[int, int]]) -> list[Layer]:
    """From N(0, 1): numbers 0, 1, … of the key are neuron by neuron its bias and its weights, layer by layer.

    One call for all numbers: one for each layer would take three times as long to compile.
    """
    drawn = normals(key, (sum(n * (n_before + 1) for n, n_before in sizes),))
    layers = []
    for n, n_before in sizes:
        mine, drawn = drawn[: n * (n_before + 1)].reshape(n, n_before + 1), drawn[n * (n_before + 1) :]
        layers.append(Layer(mine[:, 0], mine[:, 1:]))
    return layers


def _drawn_in_place(key: jax.Array, sizes: list[tuple[int, int]]) -> list[Layer]:
    """The same numbers, each drawn where it stands: large matrices are not copied, which takes as long as drawing."""
    layers, start = [], 0
    for n, n_before in sizes:
        neuron = jnp.uint32(start) + jnp.uint32(n_before + 1) * jax.lax.iota(jnp.uint32, n)
        weight = neuron[:, None] + jax.lax.iota(jnp.uint32, n_before) + jnp.uint32(1)
        layers.append(Layer(normals_at(key, neuron), normals_at(key, weight)))
        start += n * (n_before + 1)
    return layers


def preactivations(net: MLP, parameters: Parameters, x: jax.Array) -> jax.Array:
    """z⁽ᴸ⁾ of one network: (N, n_in) inputs to (n_out, N) outputs."""
    return layers(net, parameters, x)[-1]


def layers(net: MLP, parameters: Parameters, x: jax.Array, *, moved: Signals | None = None) -> Signals:
    """z⁽¹⁾ … z⁽ᴸ⁾ of one network, each (n_ℓ, N).

    Arguments
        moved: numbers that are added to the preactivations of each layer, (n_ℓ, N) each: for derivatives by these.
    """
    signal, seen = x.T, []
    for l, layer in enumerate(parameters):
        z = layer.b[:, None] + layer.W @ signal
        seen.append(z if moved is None else z + moved[l])
        if l + 1 < len(parameters):
            signal = net.activation(seen[-1])
    return tuple(seen)


def learning_rates(net: MLP, parameters: Parameters) -> Parameters:
    """The diagonal of the learning-rate tensor: λ_b for biases, λ_W/n_{ℓ-1} for weights; one number each."""
    lambda_b, lambda_W = net.per_layer("lambda_b"), net.per_layer("lambda_W")
    return tuple(
        Layer(jnp.asarray(lambda_b[l]), jnp.asarray(lambda_W[l] / layer.W.shape[1]))
        for l, layer in enumerate(parameters)
    )
