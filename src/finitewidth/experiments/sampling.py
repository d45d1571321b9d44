"""Draw networks by number, and sum over them what each contributes.

Network number k has the random key fold_in(key, k), where the key comes from the seed and the widths: it is the same
network whoever draws it and beside whichever others, and networks of two widths are independent.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.architecture import MLP
from finitewidth.errors import InputError
from finitewidth.experiments.derivatives import Derivatives
from finitewidth.experiments.networks import draw
from finitewidth.experiments.normals import IMPLEMENTATION
from finitewidth.experiments.statistics import Batch
from finitewidth.experiments.tensors import TENSORS, Outputs
from finitewidth.precision import float64

Sums = Callable[[jax.Array, np.ndarray, np.ndarray, np.ndarray], dict[str, jax.Array]]

CACHE_BYTES = 4 << 20  # networks done together go through the processor's cache, which is faster than its memory
MOST_TOGETHER = 64


class Sampler:
    """What networks of one architecture contribute to some tensors.

    Arguments
        net, x: the architecture and its (N, n_in) inputs.
        names: tensors to contribute to.
        outputs: how many outputs each order of derivatives uses.
        seed: an integer ≥ 0.
        together: how many networks at most are done at once; None takes as many as fit the processor's cache.
    """

    def __init__(
        self, net: MLP, x: np.ndarray, *, names: Sequence[str], outputs: Outputs, seed: int, together: int | None = None
    ):
        self.net, self.x, self._key = net, x, ensemble_key(net, seed)
        self.names, self.outputs = tuple(names), outputs
        self.together = self._in_cache() if together is None else together

    def chunks(self, networks: np.ndarray) -> Iterator[Batch]:
        """The sums over the networks with these numbers, a chunk at a time.

        Raises
            InputError: when a contribution is not a finite number.
        """
        if networks.size == 0:
            return
        pieces = -(-networks.size // self.together)
        size = -(-networks.size // pieces)  # one shape for all chunks, so that one program is compiled
        for start in range(0, networks.size, size):
            mine = networks[start : start + size]
            numbers = np.pad(mine, (0, size - mine.size), mode="edge")
            weights = (np.arange(size) < mine.size).astype(np.float64)
            with float64():
                sums = _compiled(self.net, self.names, self.outputs)(self._key, numbers, weights, self.x)
                batch = Batch(mine.size, {name: np.asarray(each) for name, each in sums.items()})
            self._check(batch)
            yield batch

    def _check(self, batch: Batch) -> None:
        bad = [name for name, sums in batch.sums.items() if not np.isfinite(sums).all()]
        if bad:
            raise InputError(
                f"`net` {self.net} has networks whose {', '.join(bad)} is not a finite number: signals or gradients "
                "overflow, or σ has no derivative where they pass; choose C_W nearer to critical, fewer layers, or "
                "another activation"
            )

    def _in_cache(self) -> int:
        levels = {TENSORS[name].level for name in self.names}
        outputs = self.outputs if "ddH" in levels else replace(self.outputs, ddH=0)
        return networks_in_cache(numbers_of_one(self.net, self.x.shape[0], self.x.shape[1], outputs))


def numbers_of_one(net: MLP, inputs: int, n_in: int, outputs: Outputs) -> int:
    """How many numbers one network and its derivatives are made of."""
    widths = (n_in, *net.widths, outputs.moving)
    parameters = sum((before + 1) * after for before, after in pairwise(widths))
    vectors = 1 + outputs.moving * inputs + (outputs.ddH * inputs) ** 2
    return parameters * vectors + outputs.z * (widths[-2] + 1)


def networks_in_cache(numbers: int) -> int:
    """How many networks of so many numbers each are done at once."""
    return int(np.clip(CACHE_BYTES // (8 * numbers), 1, MOST_TOGETHER))


def network_keys(key: jax.Array, numbers: jax.Array) -> jax.Array:
    """The random keys of networks by their numbers, which may exceed the 32 bits that `fold_in` takes."""
    low, high = (numbers & 0xFFFFFFFF).astype(jnp.uint32), (numbers >> 32).astype(jnp.uint32)

    def one(low: jax.Array, high: jax.Array) -> jax.Array:
        beyond = jax.random.key_data(jax.random.fold_in(key, high))
        start = jnp.where(high == 0, jax.random.key_data(key), beyond)
        return jax.random.fold_in(jax.random.wrap_key_data(start, impl=jax.random.key_impl(key)), low)

    return jax.vmap(one)(low, high)


def ensemble_key(net: MLP, seed: int) -> jax.Array:
    """The key of an ensemble, from its seed and its widths."""
    with float64():
        key = jax.random.key(seed, impl=IMPLEMENTATION)
        for n in net.widths:
            key = jax.random.fold_in(key, n)
    return key


@lru_cache(maxsize=32)
def _compiled(net: MLP, names: tuple[str, ...], outputs: Outputs) -> Sums:
    def contributions(key: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
        parameters = draw(key, net, n_in=x.shape[1], n_out=outputs.z)
        network = Derivatives(net, parameters, x, moving=outputs.moving)
        return {name: TENSORS[name].product(network, outputs) for name in names}

    @jax.jit
    def sums(key: jax.Array, numbers: jax.Array, weights: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
        keys = network_keys(key, numbers)
        each = jax.vmap(lambda key: contributions(key, x))(keys)
        return jax.tree.map(lambda values: jnp.tensordot(weights, values, 1), each)

    return sums
