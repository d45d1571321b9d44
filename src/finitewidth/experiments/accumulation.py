"""Summing what networks contribute, a chunk at a time, in memory that does not grow with their number."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.errors import InputError
from finitewidth.experiments.chunks import Chunk
from finitewidth.experiments.compiled import compiled
from finitewidth.experiments.experiment import Experiment
from finitewidth.experiments.statistics import Batch
from finitewidth.precision import float64

Arrays = Mapping[str, Any]
Shapes = Mapping[str, tuple[int, ...]]


class Stopped(Exception):
    """The chunk was given up because the run is being stopped."""


def accumulated(experiment: Experiment, chunk: Chunk, stopped: Callable[[], bool] = lambda: False) -> list[Batch]:
    """The sums of every cell of a chunk.

    Raises
        InputError: when contributions change their shapes.
        Stopped: soon after `stopped()` is true.
    """
    together, cells = experiment.together, np.arange(chunk.cells)
    totals: dict[str, Any] = {}
    excluded: Any = np.zeros(chunk.cells)
    with float64():
        for start in range(chunk.first, chunk.last, together):
            if stopped():
                raise Stopped
            numbers = start + np.arange(together)
            mine = (numbers - chunk.first) // chunk.size
            weights = ((mine == cells[:, None]) & (numbers < chunk.last)).astype(np.float64)
            values = dict(experiment.contributions(np.minimum(numbers, chunk.last - 1)))
            if not totals:
                totals = {name: np.zeros((chunk.cells, *np.shape(each)[1:])) for name, each in values.items()}
            same_shapes({name: each.shape[1:] for name, each in totals.items()}, _shapes(values, together))
            totals, excluded = _added(totals, excluded, weights, values)
        sums = {name: np.asarray(each) for name, each in totals.items()}
        left_out = np.rint(np.asarray(excluded)).astype(int)
    networks = np.minimum(chunk.size, chunk.count - cells * chunk.size)
    return [
        Batch(int(networks[c] - left_out[c]), {name: each[c] for name, each in sums.items()}, int(left_out[c]))
        for c in cells
    ]


def same_shapes(before: Shapes, now: Shapes) -> None:
    """Refuse contributions whose names or shapes are not those of other networks."""
    if before.keys() != now.keys():
        name = next(iter(before.keys() ^ now.keys()))
        raise InputError(f"`observables` contribute {name!r} for some networks only; contribute the same names always")
    for name, shape in now.items():
        if tuple(before[name]) != tuple(shape):
            raise InputError(
                f"`observables` contribute {name!r} of shape {tuple(before[name])} for some networks and "
                f"{tuple(shape)} for others; a contribution must have the same shape for every network"
            )


@compiled
def _added(
    totals: dict[str, jax.Array], excluded: jax.Array, weights: jax.Array, values: dict[str, jax.Array]
) -> tuple[dict[str, jax.Array], jax.Array]:
    """The sums with these networks in them; weights: (cells, networks), 1 where a network is in a cell."""
    finite = jnp.ones(weights.shape[1], dtype=bool)
    for each in values.values():
        finite &= jnp.isfinite(each).reshape(each.shape[0], -1).all(1)

    def add(total: jax.Array, each: jax.Array) -> jax.Array:
        # not 0 × what is not finite: that is not a number either
        clean = jnp.where(finite.reshape(-1, *(1,) * (each.ndim - 1)), each, 0.0)
        return total + jnp.tensordot(weights, clean.astype(total.dtype), 1)

    return {name: add(totals[name], each) for name, each in values.items()}, excluded + weights @ ~finite


def _shapes(values: Arrays, together: int) -> Shapes:
    shapes = {name: np.shape(each) for name, each in values.items()}
    for name, shape in shapes.items():
        if not shape or shape[0] != together:
            raise InputError(f"`observables` contribute {name!r} of shape {shape} for {together} networks")
    return {name: shape[1:] for name, shape in shapes.items()}
