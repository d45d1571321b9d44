"""One network of an ensemble, as an observable sees it; everything is computed when it is first read.

Two kinds: one that has weights, and one whose layers were drawn without them. An observable that reads preactivations
only does not notice the difference.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp

from finitewidth.architecture import MLP
from finitewidth.errors import InputError
from finitewidth.experiments.derivatives import Derivatives
from finitewidth.experiments.networks import Parameters, layers
from finitewidth.experiments.tensors import TENSORS, Outputs


class Network(Protocol):
    """What every drawn network has. x: (N, n_in) inputs, i neurons, a … inputs."""

    net: MLP
    x: jax.Array

    def z(self, layer: int | None = None) -> jax.Array:
        """z⁽ℓ⁾_ia, (n_ℓ, N): preactivations of layer ℓ = 1 … L, or −1, −2, … from the output back; None: the output."""

    def tensor(self, name: str) -> Mapping[str, jax.Array]:
        """What the network contributes to a tensor at the output: `product`, and `first`, `second` whose averages'
        product is to be subtracted, if any; n included."""


class WithWeights:
    """A network that has weights: parameters, gradients, tangent kernels.

    parameters: biases and weights of every layer. derivatives: its exact derivatives, to third order.
    """

    def __init__(self, net: MLP, parameters: Parameters, x: jax.Array, outputs: Outputs) -> None:
        self.net, self.x, self._outputs, self._all = net, x, outputs, parameters
        *hidden, last = parameters
        self.parameters: Parameters = (*hidden, type(last)(last.b[: net.n_out], last.W[: net.n_out]))
        self.derivatives = Derivatives(net, parameters, x, moving=outputs.moving)
        self._z = layers(net, self.parameters, x)

    def z(self, layer: int | None = None) -> jax.Array:
        return self._z[place(self.net, layer)]

    @property
    def H(self) -> jax.Array:
        """H_(ia)(jb), (n_out, N, n_out, N): the tangent kernel of the outputs. An observable that reads it says so:
        needs="H"."""
        if self.net.n_out > self._outputs.H:
            raise InputError("`observables` read H, for which gradients are needed: say so with needs='H'")
        return self.derivatives.H[: self.net.n_out, :, : self.net.n_out]

    def tensor(self, name: str) -> Mapping[str, jax.Array]:
        made = TENSORS[name]
        scale = float((self.x.shape[1], *self.net.widths)[-1] ** made.power)
        product = {"product": scale * made.product(self.derivatives, self._outputs)}
        if made.means is None:
            return product
        first, second = (TENSORS[mean].product(self.derivatives, self._outputs) for mean in made.means)
        return {**product, "first": scale * first, "second": second}


def metric(network: Network, layer: int) -> jax.Array:
    """Ĝ⁽ℓ⁾_ab = C_b + (C_W/n) Σ_j σ(z_ja) σ(z_jb): the covariance of layer ℓ given the layer before, (N, N)."""
    net, l = network.net, place(network.net, layer)
    before = network.x.T if l == 0 else net.activation(network.z(l))
    n = before.shape[0]
    across = jax.lax.optimization_barrier(before.T)  # see `tensors`
    return net.per_layer("C_b")[l] + net.per_layer("C_W")[l] / n * (across @ before)


def place(net: MLP, layer: int | None) -> int:
    """The index of a layer among the network's; `layer` counts from 1, or from −1 backwards."""
    asked = net.depth if layer is None else layer
    if not isinstance(asked, int) or isinstance(asked, bool) or asked == 0 or not -net.depth <= asked <= net.depth:
        raise InputError(f"`layer` must be 1 to {net.depth}, or −1 and below from the output back, but got {layer!r}")
    return asked - 1 if asked > 0 else net.depth + asked


def stacked(networks: Sequence[Mapping[str, jax.Array]]) -> dict[str, jax.Array]:
    """What several networks contribute, one after the other along a new first axis."""
    return {name: jnp.stack([each[name] for each in networks]) for name in networks[0]}
