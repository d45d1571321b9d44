"""Trained networks as an experiment: network number k is drawn, trained, and looked at.

It is the same network at initialisation, and sees the same batches, whoever trains it and beside whichever others. One
that diverges, or does not settle, contributes what is not a number, and whoever adds up leaves it out and counts it.
"""

from collections.abc import Hashable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.architecture import MLP
from finitewidth.experiments.compiled import compiled, kept
from finitewidth.experiments.courses import Course
from finitewidth.experiments.descriptions import describe_array, describe_net
from finitewidth.experiments.experiment import Quantity
from finitewidth.experiments.linearised import linearised as train_linearised
from finitewidth.experiments.moments import cumulants, moments
from finitewidth.experiments.networks import Parameters, draw, layers, preactivations
from finitewidth.experiments.normals import GENERATOR
from finitewidth.experiments.sampling import ensemble_key, network_keys, networks_in_cache
from finitewidth.experiments.statistics import Averages
from finitewidth.experiments.tangent_kernel import tangent_kernel
from finitewidth.experiments.training import train

NORMAL_COST = 60.0  # floating-point operations that take as long as one Gaussian random number
ORDERS = 0xFFFFFFFF  # the stream of keys for orders of batches; those of networks are below
DIVERGED = 1e6  # outputs this many times as large as outputs and targets were are on their way to infinity
Arrays = tuple[jax.Array, ...]
USUAL_STEPS = 300  # guessed where the algorithm does not say how many


@dataclass(frozen=True)
class Data:
    """x: (N, n_in) inputs, those of training first. y: (n_out, N_T) targets."""

    x: np.ndarray
    y: np.ndarray

    @property
    def trained(self) -> int:
        """N_T, the number of training inputs."""
        return int(self.y.shape[1])

    @property
    def x_train(self) -> np.ndarray:
        """The inputs of training."""
        return self.x[: self.trained]


class NetworksByNumber:
    """What experiments on networks with weights share: numbers to keys, one compiled program, sizes.

    The program is that of all experiments in this process that do the same to arrays of the same shapes.

    Arguments
        net, data, course, seed: the networks and their training.
    """

    kind = ""
    stream = 0  # experiments of different streams draw independent networks

    def __init__(self, net: MLP, data: Data, course: Course, *, seed: int) -> None:
        self.net, self.data, self.course, self.seed = net, data, course, seed

    def one(self, key: jax.Array, order_key: jax.Array, arrays: Arrays) -> dict[str, jax.Array]:
        """What the network of this key contributes; of arrays it reads these, and the experiment's own shapes only."""
        raise NotImplementedError

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """The numbers that its program is given: x, y, and what else a kind needs."""
        return self.data.x, self.data.y

    @property
    def steps(self) -> float:
        """Forward and backward passes through all inputs, roughly."""
        return 2.0

    @property
    def together(self) -> int:
        return networks_in_cache(4 * self._parameters + 4 * len(self.course.times) * self.data.x.shape[0] ** 2)

    @property
    def cost(self) -> float:
        return float(self._parameters * (NORMAL_COST + 6 * self.data.x.shape[0] * self.steps))

    def describe(self) -> Mapping[str, Any]:
        return {
            "experiment": self.kind,
            "net": describe_net(self.net),
            "x": describe_array(self.data.x),
            "y": describe_array(self.data.y),
            "algorithm": repr(self.course.algorithm),
            "loss": self.course.loss.name,
            "times": [str(time) for time in self.course.times],
            "seed": self.seed,
            "generator": GENERATOR,
        }

    def contributions(self, numbers: np.ndarray) -> Mapping[str, Any]:
        return self._program(self._key, numbers, self.arrays)

    def quantities(self) -> Mapping[str, Quantity]:
        raise NotImplementedError

    def draw(self, key: jax.Array) -> Parameters:
        """The network of this key."""
        return draw(key, self.net, n_in=self.data.x.shape[1], n_out=self.net.n_out)

    def __getstate__(self) -> dict[str, Any]:
        # compiled programs and keys stay where they are
        return {name: value for name, value in self.__dict__.items() if name not in ("_program", "_key")}

    @cached_property
    def _key(self) -> jax.Array:
        key = ensemble_key(self.net, self.seed)
        return key if self.stream == 0 else jax.random.fold_in(key, ORDERS - self.stream)

    def _same(self) -> Hashable:
        """What the program depends on besides arrays; None where that cannot be told."""
        return self.net, self.course

    @cached_property
    def _program(self) -> Any:
        same = self._same()
        if same is None:
            return self._made()
        return kept((type(self), same, *map(np.shape, self.arrays)), self._made)

    def _made(self) -> Any:
        alone = self._without_numbers()  # which a program that is kept must not hold on to, nor read

        @compiled
        def program(key: jax.Array, numbers: jax.Array, arrays: Arrays) -> dict[str, jax.Array]:
            keys, orders = network_keys(key, numbers), network_keys(jax.random.fold_in(key, ORDERS), numbers)
            return jax.vmap(lambda key, order: alone.one(key, order, arrays))(keys, orders)

        return program

    def _without_numbers(self) -> "NetworksByNumber":
        alone = copy(self)
        for name in ("_program", "_key", "seed"):
            alone.__dict__.pop(name, None)
        alone.data = Data(_nothing(self.data.x), _nothing(self.data.y))
        return alone

    @property
    def _parameters(self) -> int:
        widths = (self.data.x.shape[1], *self.net.widths, self.net.n_out)
        return sum((before + 1) * after for before, after in pairwise(widths))


class TrainedNetworks(NetworksByNumber):
    """Networks that are trained, and how they changed.

    Arguments
        net, data, course, seed: as for all.
        linearised: whether also to contribute the moments of the network's own linearisation, trained alike.
    """

    kind = "trained"

    def __init__(self, net: MLP, data: Data, course: Course, *, seed: int, linearised: bool = False) -> None:
        super().__init__(net, data, course, seed=seed)
        self.linearised = linearised

    @property
    def steps(self) -> float:
        last = self.course.times[-1]
        return 3.0 + (USUAL_STEPS if self.course.flows or np.isinf(last) else last)

    def _same(self) -> Hashable:
        return super()._same(), self.linearised

    def one(self, key: jax.Array, order_key: jax.Array, arrays: Arrays) -> dict[str, jax.Array]:
        (x, y), before, few = arrays, self.draw(key), self.data.trained
        seen = self._train(before, order_key, x, y)
        made = {**moments(seen.pop("z")), **seen}
        if self.linearised:
            H, z = tangent_kernel(self.net, before, x, onto=few), preactivations(self.net, before, x)
            control = train_linearised(H, z, y, course=self.course, key=order_key)
            made |= {f"control/{name}": each for name, each in moments(control).items()}
        return made

    def _train(self, before: Parameters, order_key: jax.Array, x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
        net, few = self.net, self.data.trained
        H, z = _kernel(net, before, x), layers(net, before, x)
        largest = largest_output(y, z[-1])

        def observe(after: Parameters) -> dict[str, jax.Array]:
            now, H_now = layers(net, after, x), _kernel(net, after, x)
            output = jnp.where(jnp.abs(now[-1]) <= largest, now[-1], jnp.nan)
            return {
                "z": output,
                "loss": self.course.loss(output[:, :few], y),
                "H": H_now,
                "H_moved": jnp.sum((H_now - H) ** 2),
                "z_moved": jnp.stack([((a - b) ** 2).mean() for a, b in zip(now, z, strict=True)]),
                "parameters_moved": _distances(after, before),
            }

        seen = train(net, before, x[:few], y, course=self.course, key=order_key, observe=observe)
        return {
            **seen,
            "H_before": H,
            "H_squared": jnp.sum(H**2),
            "z_squared": jnp.stack([(each**2).mean() for each in z]),
            "parameters_squared": _distances(before, jax.tree.map(jnp.zeros_like, before)),
        }

    def describe(self) -> Mapping[str, Any]:
        return {**super().describe(), "linearised": self.linearised}

    def quantities(self) -> Mapping[str, Quantity]:
        time, layer = np.array(self.course.times), np.arange(1, self.net.depth + 1)
        by_layer = ("time", "layer"), {"time": time, "layer": layer}
        found = {
            **cumulants(self.course.times),
            "loss": Quantity(lambda m: m["loss"], ("time",), {"time": time}),
            "H_before": Quantity(lambda m: m["H_before"], ("sample", "sample_b")),
            "H": Quantity(lambda m: m["H"], ("time", "sample", "sample_b"), {"time": time}),
            "H_moved": Quantity(lambda m: _relative(m, "H"), ("time",), {"time": time}),
            "z_moved": Quantity(lambda m: _relative(m, "z"), *by_layer),
            "parameters_moved": Quantity(lambda m: _relative(m, "parameters"), *by_layer),
        }
        if self.linearised:
            of_control = cumulants(self.course.times, "control/").items()
            found |= {f"control/{name}": quantity for name, quantity in of_control}
        return found


def largest_output(y: jax.Array, z: jax.Array) -> jax.Array:
    """What outputs may grow to; y are the targets, z the outputs at initialisation. Beyond it a training diverges,
    though its numbers are finite yet: the steps may have ended before they overflow."""
    return DIVERGED * (jnp.abs(y).max() + jnp.abs(z).max())


def _nothing(like: np.ndarray) -> np.ndarray:
    """An array of the same shape without numbers, which takes no memory."""
    return np.broadcast_to(np.nan, np.shape(like))


def _kernel(net: MLP, parameters: Parameters, x: jax.Array) -> jax.Array:
    """H_ab, the mean over outputs of H_(ia)(ib)."""
    return jnp.einsum("iaib->ab", tangent_kernel(net, parameters, x)) / parameters[-1].b.shape[0]


def _distances(one: Parameters, other: Parameters) -> jax.Array:
    """Σ (θ − θ′)² of every layer."""
    squares = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), one, other)
    return jnp.stack([sum(layer) for layer in squares])


def _relative(m: Averages, name: str) -> np.ndarray:
    """√( E[moved²] / E[before²] )."""
    moved, before = m[f"{name}_moved"], m[f"{name}_squared"]
    return np.sqrt(moved / before[:, None])
