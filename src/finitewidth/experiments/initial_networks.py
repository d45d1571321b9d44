"""The two ways of drawing networks at initialisation, as experiments: with their weights, and layer by layer."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import jax
import numpy as np

from finitewidth.architecture import MLP
from finitewidth.errors import InputError
from finitewidth.experiments import observable_checks
from finitewidth.experiments.compiled import compiled, kept
from finitewidth.experiments.descriptions import describe_array, describe_function, describe_net
from finitewidth.experiments.drawn import WithWeights
from finitewidth.experiments.experiment import Quantity
from finitewidth.experiments.layers import Layerwise, jets_for
from finitewidth.experiments.networks import draw
from finitewidth.experiments.normals import GENERATOR
from finitewidth.experiments.observables import NEEDS, Observable, _tensor, quantities_of
from finitewidth.experiments.sampling import ensemble_key, network_keys, networks_in_cache, numbers_of_one
from finitewidth.experiments.tensors import TENSORS, Outputs, efficient_outputs

NORMAL_COST = 60.0  # floating-point operations that take as long as one Gaussian random number


class InitialNetworks:
    """Networks at initialisation, network number k from the key fold_in(key, k).

    Arguments
        net, x: the architecture and its (N, n_in) inputs.
        observables: what they contribute to.
        seed: an integer ≥ 0.
        outputs: how many outputs each order of derivatives uses.
    """

    draw = "networks"

    def __init__(
        self, net: MLP, x: np.ndarray, *, observables: Sequence[Observable], seed: int, outputs: Outputs | None = None
    ) -> None:
        self.net, self.x, self.seed = net, x, seed
        self.observables = tuple(observables)
        self.outputs = _outputs(net, x, self.observables, outputs)

    @property
    def together(self) -> int:
        return networks_in_cache(self._numbers)

    @property
    def cost(self) -> float:
        widths = (self.x.shape[1], *self.net.widths, self.outputs.z)
        parameters = sum((before + 1) * after for before, after in pairwise(widths))
        passes = max(1, self._numbers // parameters)  # forward, and one for every vector of derivatives
        return float(parameters * (NORMAL_COST + 2 * self.x.shape[0] * passes))

    def describe(self) -> Mapping[str, Any]:
        return {
            "draw": self.draw,
            "net": describe_net(self.net),
            "x": describe_array(self.x),
            "seed": self.seed,
            "generator": GENERATOR,
            "outputs": [self.outputs.z, self.outputs.H, self.outputs.dH, self.outputs.ddH],
            "observables": {
                each.name: [describe_function(each.function), describe_function(each.statistic)]
                for each in self.observables
            },
        }

    def contributions(self, numbers: np.ndarray) -> Mapping[str, Any]:
        return self._program(self._key, numbers, self.x)

    def quantities(self) -> Mapping[str, Quantity]:
        return quantities_of(self.observables)

    def one(self, key: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
        """What the network of this key contributes."""
        parameters = draw(key, self.net, n_in=x.shape[1], n_out=self.outputs.z)
        network = WithWeights(self.net, parameters, x, self.outputs)
        return _contributions(self.observables, network)

    def __getstate__(self) -> dict[str, Any]:
        # compiled programs and keys stay where they are
        return {name: value for name, value in self.__dict__.items() if name not in ("_program", "_key")}

    @cached_property
    def _key(self) -> jax.Array:
        return ensemble_key(self.net, self.seed)

    @cached_property
    def _program(self) -> Any:
        computed = tuple(each.computed for each in self.observables)
        if None in computed:
            return self._made()
        return kept((type(self), self.net, self.x.shape, self.outputs, computed), self._made)

    def _made(self) -> Any:
        alone = copy(self)  # without the numbers, which a program that is kept must not hold on to, nor read
        alone.__dict__.update(x=np.broadcast_to(np.nan, self.x.shape), seed=None)
        for name in ("_program", "_key"):
            alone.__dict__.pop(name, None)

        @compiled
        def program(key: jax.Array, numbers: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
            return jax.vmap(lambda key: alone.one(key, x))(network_keys(key, numbers))

        return program

    @property
    def _numbers(self) -> int:
        return numbers_of_one(self.net, self.x.shape[0], self.x.shape[1], self.outputs)


class InitialLayers(InitialNetworks):
    """The same law of preactivations, drawn layer by layer without weights (`layers`); other networks than those of
    `InitialNetworks` with the same seed."""

    draw = "layers"

    def __init__(
        self, net: MLP, x: np.ndarray, *, observables: Sequence[Observable], seed: int, outputs: Outputs | None = None
    ) -> None:
        if outputs is not None:
            raise InputError("`outputs` is not used by draw='layers', which needs no outputs; leave it out")
        super().__init__(net, x, observables=observables, seed=seed, outputs=Outputs(z=net.n_out))
        needy = [each for each in self.observables if each.needs != "z" and _tensor_of(each) is None]
        if needy:
            raise InputError(
                f"`observables` has {needy[0].name!r}, which needs {needy[0].needs}, but draw='layers' draws no "
                "weights; use draw='networks'"
            )
        tensors = [name for name in map(_tensor_of, self.observables) if name is not None]
        self._jets = jets_for(tensors)

    @property
    def cost(self) -> float:
        size = len(self._jets) * self.x.shape[0]
        n = sum((self.x.shape[1], *self.net.widths, self.net.n_out))
        return float(n * size * (NORMAL_COST + 4 * size) + self.net.depth * 10 * size**3)

    def one(self, key: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
        network = Layerwise(jax.random.fold_in(key, len(self.draw)), self.net, x, jets=self._jets)
        return _contributions(self.observables, network)

    @property
    def _numbers(self) -> int:
        size = len(self._jets) * self.x.shape[0]
        return size * (max((self.x.shape[1], *self.net.widths, self.net.n_out)) * 4 + size)


def _contributions(observables: Sequence[Observable], network: Any) -> dict[str, jax.Array]:
    return {name: each for observable in observables for name, each in observable.contributions(network).items()}


def _tensor_of(observable: Observable) -> str | None:
    """The tensor that a built-in observable is, if it is one."""
    function = observable.function
    return function.args[0] if isinstance(function, partial) and function.func is _tensor else None


def _outputs(net: MLP, x: np.ndarray, observables: Sequence[Observable], outputs: Outputs | None) -> Outputs:
    """As many outputs as every observable needs: efficient numbers for tensors, those of the network for others."""
    tensors = [name for name in map(_tensor_of, observables) if name is not None]
    n = (x.shape[1], *net.widths)[-1]
    chosen = outputs or (efficient_outputs(tensors, n, x.shape[0]) if tensors else Outputs(z=net.n_out))
    others = {each.needs for each in observables if _tensor_of(each) is None}
    if {"H", "dH", "ddH"} & others:
        chosen = replace(chosen, H=max(chosen.H, net.n_out))
    return replace(chosen, z=max(chosen.z, chosen.moving, net.n_out))


def check(experiment: InitialNetworks) -> None:
    """Look at shapes without computing anything: whatever is wrong with an observable is said before a run begins.

    Raises
        InputError: naming the observable.
    """

    def contributed(observable: Observable) -> Mapping[str, Any]:
        alone = type(experiment).__new__(type(experiment))
        alone.__dict__.update(experiment.__getstate__(), observables=(observable,))
        shapes: Mapping[str, Any] = jax.eval_shape(alone.one, ensemble_key(experiment.net, 0), experiment.x)
        return shapes

    observable_checks.check(experiment.observables, contributed, of="a JAX function of one network")


assert set(NEEDS) >= {tensor.level for tensor in TENSORS.values()}
