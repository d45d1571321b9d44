"""The arguments of an experiment, checked once: every `InputError` names the argument, its value and the remedy."""

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np

from finitewidth.architecture import MLP, check_mlp, real_array, whole_number
from finitewidth.errors import InputError
from finitewidth.experiments.tensors import TENSORS, Outputs


def network(net: Any) -> MLP:
    """`net`, which is an MLP."""
    check_mlp(net)
    return net


def inputs(net: MLP, x: Any, *, name: str = "x") -> np.ndarray:
    """`x` as an (N, n_in) array of finite float64; `name` is the argument's."""
    array = real_array(name, x, "of shape (N, n_in)")
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"`{name}` must have the shape (N, n_in), one input a row, but has the shape {array.shape}")
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        value = array[row, column]
        raise InputError(f"`{name}` must be finite, but {name}[{row}, {column}] is {value}; remove or replace it")
    if net.n_in not in (None, array.shape[1]):
        columns = array.shape[1]
        raise InputError(f"`{name}` has {columns} columns, but the network has n_in = {net.n_in}; make them equal")
    return array


def tensors(names: Any) -> tuple[str, ...]:
    """Names of tensors in the order of `TENSORS`; None is all of them."""
    if names is None:
        return tuple(TENSORS)
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        raise InputError(f"`tensors` must be a list of names such as ['K', 'V'], or None for all, but got {names!r}")
    if unknown := [name for name in names if name not in TENSORS]:
        raise InputError(f"`tensors` has {unknown[0]!r}, but an experiment measures {', '.join(TENSORS)}")
    return tuple(name for name in TENSORS if name in names)


def networks(count: Any) -> int:
    """`n_networks`, an integer ≥ 2."""
    if whole_number("n_networks", count) < 2:
        raise InputError(f"`n_networks` must be at least 2, for one network shows no spread, but got {count}")
    return int(count)


def seed(value: Any) -> int:
    """`seed`, an integer from 0 to 2^32 − 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= int(value) < 1 << 32:
        raise InputError(f"`seed` must be an integer from 0 to 2**32 - 1, but got {value!r}")
    return int(value)


def outputs(counts: Any, names: Sequence[str]) -> Outputs:
    """`outputs`, with two or more at every level that the tensors need."""
    if not isinstance(counts, Outputs):
        raise InputError(f"`outputs` must be an Outputs, as Outputs(z=64, H=8, dH=4, ddH=4), but got {counts!r}")
    for level in ("z", *(TENSORS[name].level for name in names)):
        if whole_number(f"outputs.{level}", getattr(counts, level) or 0) < 2:
            raise InputError(f"`outputs.{level}` must be at least 2, for pairs of different ones, but got 1")
    if counts.moving > counts.z:
        raise InputError(
            f"`outputs.z` counts all outputs, those with gradients included, but is {counts.z} with {counts.moving} "
            f"that have gradients; raise it to {counts.moving} or more"
        )
    return counts


def scaled_networks(net: MLP, widths: Any) -> list[MLP]:
    """`net` at each of the widths."""
    if isinstance(widths, (str, Integral)) or not isinstance(widths, (Sequence, np.ndarray)) or len(widths) == 0:
        raise InputError(f"`widths` must be a list such as [16, 32, 64], but got {widths!r}")
    if net.depth == 1:
        raise InputError("`net` has depth 1, no hidden layer whose width could change; use `measure`")
    nets = [replace(net, width=width) for width in widths]
    if len({scaled.widths for scaled in nets}) < len(nets):
        raise InputError(f"`widths` must differ from each other, for equal ones have the same networks; got {widths!r}")
    shapes = [np.array(scaled.widths) / scaled.widths[-1] for scaled in nets]
    if not all(np.allclose(shape, shapes[0]) for shape in shapes):
        raise InputError(f"`widths` must keep the ratios of the layers, which enter the limit; got {widths!r}")
    return nets


def networks_by_width(counts: Any, widths: int) -> list[int]:
    """`n_networks` for each of the widths."""
    if not isinstance(counts, (Sequence, np.ndarray)):
        return [networks(counts)] * widths
    if len(counts) != widths:
        raise InputError(f"`n_networks` has {len(counts)} entries for {widths} widths; give {widths} or one number")
    return [networks(count) for count in counts]
