"""Summing what networks contribute, a chunk at a time, in memory that does not grow with their number."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.cores import Stopped
from finitewidth.errors import InputError
from finitewidth.experiments.chunks import Chunk
from finitewidth.experiments.compiled import compiled
from finitewidth.experiments.experiment import Experiment
from finitewidth.experiments.statistics import Batch
from finitewidth.precision import float64

Arrays = Mapping[str, Any]
Shapes = Mapping[str, tuple[int, ...]]


def accumulated(experiment: Experiment, chunk: Chunk, stopped: Callable[[], bool] = lambda: False) -> list[Batch]:
    """The sums of every cell of a chunk.

    Raises
        InputError: when contributions change their shapes.
        Stopped: soon after `stopped()` is true.
    """
    together, cells = experiment.together, np.arange(chunk.cells)
    shapes: Shapes = {}
    totals, excluded = np.zeros((chunk.cells, 0)), np.zeros(chunk.cells)
    with float64():
        for start in range(chunk.first, chunk.last, together):
            if stopped():
                raise Stopped
            numbers = start + np.arange(together)
            mine = (numbers - chunk.first) // chunk.size
            weights = ((mine == cells[:, None]) & (numbers < chunk.last)).astype(np.float64)
            values = dict(experiment.contributions(np.minimum(numbers, chunk.last - 1)))
            if not shapes:
                shapes = _shapes(values, together)
                totals = np.zeros((chunk.cells, sum(map(prod, shapes.values()))))
            same_shapes(shapes, _shapes(values, together))
            totals, excluded = _added(totals, excluded, weights, [values[name] for name in shapes])
        sums = _named(np.asarray(totals), shapes)
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
def _added(totals: Any, excluded: Any, weights: jax.Array, values: list[jax.Array]) -> tuple[Any, Any]:
    """The sums with these networks in them, all contributions side by side: one product, which is soon compiled.

    totals: (cells, numbers). excluded: (cells,). weights: (cells, networks), 1 where a network is in a cell.
    """
    all_of_them = jnp.concatenate([each.reshape(len(each), -1).astype(totals.dtype) for each in values], axis=1)
    finite = jnp.isfinite(all_of_them).all(1)
    # not 0 × what is not finite: that is not a number either
    return totals + weights @ jnp.where(finite[:, None], all_of_them, 0.0), excluded + weights @ ~finite


def _named(totals: np.ndarray, shapes: Shapes) -> dict[str, np.ndarray]:
    """The sums of every contribution, (cells, …), by name."""
    ends = np.cumsum([prod(shape) for shape in shapes.values()])[:-1]
    parts = np.split(totals, ends, axis=1)
    return {name: part.reshape(-1, *shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def _shapes(values: Arrays, together: int) -> Shapes:
    shapes = {name: np.shape(each) for name, each in values.items()}
    for name, shape in shapes.items():
        if not shape or shape[0] != together:
            raise InputError(f"`observables` contribute {name!r} of shape {shape} for {together} networks")
    return {name: shape[1:] for name, shape in shapes.items()}
