"""Losses of a training: sums over training inputs and outputs, as functions of the outputs z.

    mse             𝓛 = ½ Σ_A (z_A − y_A)²
    cross-entropy   𝓛 = − Σ_a Σ_i y_ia ln softmax(z_a)_i        y_ia ≥ 0, Σ_i y_ia = 1

Of a single output the latter is the logistic loss, 𝓛 = Σ_a [ln(1 + e^{z_a}) − y_a z_a], y_a the probability of label 1.

Sums, not means: the rate that is stable falls as inputs are added, η < 2/λ_max of the tangent kernel for the first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from finitewidth.architecture import real_array
from finitewidth.errors import InputError


@dataclass(frozen=True)
class Loss:
    """A loss of outputs and targets.

    name: as it is asked for. each: (n_out, N) outputs and targets to (N,), the loss of every input.
    quadratic: ½ Σ (z − y)², whose linearised flow and descent have closed forms.
    """

    name: str
    each: Callable[[jax.Array, jax.Array], jax.Array]
    quadratic: bool = False

    def __call__(self, z: jax.Array, y: jax.Array) -> jax.Array:
        """𝓛, the sum over inputs."""
        return self.each(z, y).sum()

    def gradient(self, z: jax.Array, y: jax.Array) -> jax.Array:
        """∂𝓛/∂z_ia, (n_out, N)."""
        return jax.grad(self)(z, y)


def _mse(z: jax.Array, y: jax.Array) -> jax.Array:
    return 0.5 * ((z - y) ** 2).sum(0)


def _cross_entropy(z: jax.Array, y: jax.Array) -> jax.Array:
    if z.shape[0] == 1:
        return (jax.nn.softplus(z) - y * z)[0]
    return -(y * jax.nn.log_softmax(z, axis=0)).sum(0)


MSE = Loss("mse", _mse, quadratic=True)
CROSS_ENTROPY = Loss("cross-entropy", _cross_entropy)
LOSSES = {loss.name: loss for loss in (MSE, CROSS_ENTROPY)}


def named(name: Any) -> Loss:
    """The loss of this name."""
    if not isinstance(name, str) or name not in LOSSES:
        raise InputError(f"`loss` must be {' or '.join(map(repr, LOSSES))}, but got {name!r}")
    return LOSSES[name]


def targets(loss: Loss, y: Any, *, inputs: int, n_out: int) -> np.ndarray:
    """`y_train` as (n_out, N) numbers: what the loss compares outputs with.

    Arguments
        y: (N,) or (N, n_out) numbers; for cross-entropy probabilities, or (N,) labels 0 … n_out − 1, of a single
            output 0 and 1.

    Raises
        InputError: naming the argument, its value and the remedy.
    """
    array = real_array("y_train", y, "of shape (N, n_out)")
    if array.ndim not in (1, 2) or array.shape[0] != inputs:
        raise InputError(f"`y_train` must have one row for each of the {inputs} inputs, but has shape {array.shape}")
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise InputError(f"`y_train` must be finite, but y_train[{row}] is {array[row]}; remove or replace it")
    return _as_numbers(array, n_out) if loss.quadratic else _as_probabilities(array, n_out)


def _as_numbers(array: np.ndarray, n_out: int) -> np.ndarray:
    columns = array.reshape(array.shape[0], -1)
    if columns.shape[1] != n_out:
        raise InputError(f"`y_train` has {columns.shape[1]} columns, but the network n_out = {n_out}; make them equal")
    return np.ascontiguousarray(columns.T)


def _as_probabilities(array: np.ndarray, n_out: int) -> np.ndarray:
    if n_out == 1:
        if array.size != array.shape[0] or (array < 0).any() or (array > 1).any():
            raise InputError(
                "`y_train` must be labels 0 and 1, or probabilities of label 1, for 'cross-entropy' and n_out = 1, but "
                f"has shape {array.shape} and numbers from {array.min():g} to {array.max():g}; for more classes, give "
                "the network an output for each"
            )
        return array.reshape(1, -1)
    if array.ndim == 1:
        if not (np.isin(array, np.arange(n_out))).all():
            bad = array[~np.isin(array, np.arange(n_out))][0]
            raise InputError(f"`y_train` must be labels 0 … {n_out - 1} for n_out = {n_out}, but has {bad:g}")
        return np.eye(n_out)[array.astype(int)].T
    if array.shape[1] != n_out or (array < 0).any() or not np.allclose(array.sum(1), 1):
        raise InputError(
            f"`y_train` must be labels or probabilities (N, {n_out}) for 'cross-entropy', each row ≥ 0 with sum 1, but "
            f"has shape {array.shape} and sums from {array.sum(1).min():g} to {array.sum(1).max():g}"
        )
    return np.ascontiguousarray(array.T)
