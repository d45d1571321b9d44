"""`fw.inspect`: signals, gradients and the tangent kernel of a user's own JAX function, over fresh initialisations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.errors import InputError
from finitewidth.frontends.moments import (
    Value,
    contributions,
    over_initialisations,
    root_mean_square,
)
from finitewidth.report.inspection import Inspection, column

MOST_IN_KERNEL = 16
"""Inputs whose tangent kernel is measured: each needs a gradient with respect to all parameters in memory."""

Draw = tuple[dict[str, jax.Array], jax.Array, dict[str, jax.Array]]


def inspect(
    apply: Callable[[Any, Any], Any],
    init: Callable[[jax.Array], Any],
    x: Any,
    *,
    initialisations: int = 10,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """What a JAX function does to signals and gradients at initialisation, measured on freshly drawn parameters.

        K = E z² ,   g_θ = √E |∂(v·f)/∂θ|² ,   Θ_ab = E Σ_θ ∂(v·f_a)/∂θ ∂(v·f_b)/∂θ = (1/n_L) Σ_iθ ∂f_ia/∂θ ∂f_ib/∂θ ,

    v a random direction of the outputs, of mean square length 1: gradient norms by leaf of the parameters, and the
    neural tangent kernel with learning rate 1 for every parameter (λ_b = 1, λ_W = fan-in in the conventions of `flow`).
    Of the outputs, and of every intermediate value that `apply` returns: variance, angle between inputs, excess
    kurtosis and correlation of neurons. Each with the standard error of its average over initialisations.

    Source: PDLT ch. 4, 8. Works with plain functions, Flax (`model.apply`) and Equinox (a function that combines).

    Arguments
        apply: apply(parameters, x) → outputs (inputs, …, features), or a pair of them and any tree of intermediate
            values of the same kind, one input a row.
        init: init(key) → parameters, any tree of arrays, from a JAX random key.
        x: the inputs as `apply` takes them: an array, or a tree of arrays, with one input a row.
        initialisations: how many parameters to draw, ≥ 2.
        seed: the same seed gives the same numbers.
        progress: called with (draws done, draws in all).

    Returns
        An `Inspection`: print it, or read `.columns`, `.parameters` and `.tangent_kernel` (of the first 16 inputs).

    Raises
        InputError: naming the argument, its value and the remedy.

    >>> import finitewidth as fw, jax, jax.numpy as jnp
    >>> def init(key):
    ...     first, second = jax.random.split(key)
    ...     return {"W1": jax.random.normal(first, (9, 64)) / 3, "W2": jax.random.normal(second, (64, 4)) / 8}
    >>> def apply(parameters, x):
    ...     z = x @ parameters["W1"]
    ...     return jnp.tanh(z) @ parameters["W2"], {"hidden": z}
    >>> found = fw.inspect(apply, init, jnp.ones((3, 9)))
    >>> found.layers
    ("['hidden']", 'output')
    """
    inputs = _checked(apply, init, x, initialisations, seed)
    key = jax.random.key(seed)
    measured = jax.jit(lambda key, x: _draw(apply, init, key, x, inputs))
    draws: list[Draw] = []
    for i in range(initialisations):
        try:
            draw: Draw = measured(jax.random.fold_in(key, i), x)
        except InputError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"`apply` or `init` fails ({type(error).__name__}: {reason}); inspect needs init(key) → parameters and "
                "apply(parameters, x) → outputs, both as JAX can differentiate and compile them"
            ) from error
        draws.append(draw)
        if progress is not None:
            progress(i + 1, initialisations)
    return _inspection(getattr(apply, "__name__", "apply"), draws, inputs)


def _checked(apply: Any, init: Any, x: Any, initialisations: Any, seed: Any) -> int:
    for name, function in (("apply", apply), ("init", init)):
        if not callable(function):
            raise InputError(f"`{name}` must be a function, but got {function!r:.100}")
    if isinstance(initialisations, bool) or not isinstance(initialisations, int) or initialisations < 2:
        raise InputError(
            f"`initialisations` must be an integer ≥ 2, for one shows no spread, but got {initialisations!r}"
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"`seed` must be an integer ≥ 0, but got {seed!r}")
    leaves = jax.tree.leaves(x)
    shapes = [np.shape(leaf) for leaf in leaves]
    if not shapes or not shapes[0] or shapes[0][0] == 0:
        raise InputError(f"`x` must hold inputs, one a row, but has the shapes {shapes}")
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in leaves):
        raise InputError("`x` must be finite, but has NaN or infinite numbers; remove or replace them")
    return int(shapes[0][0])


def _draw(apply: Any, init: Any, key: jax.Array, x: Any, inputs: int) -> Draw:
    """Of one initialisation: signals by name, tangent kernel, and mean squared gradients by leaf."""
    for_init, for_direction = jax.random.split(key)
    parameters = init(for_init)

    def outputs(parameters: Any) -> tuple[jax.Array, Any]:
        found = apply(parameters, x)
        output, others = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
        if not hasattr(output, "shape") or output.ndim < 1 or output.shape[0] != inputs:
            raise InputError(
                f"`apply` must return outputs with one of the {inputs} inputs a row, but returned the shape "
                f"{getattr(output, 'shape', type(output).__name__)}"
            )
        return output.reshape(*output.shape, *(1,) * (output.ndim == 1)), others

    output, pullback, others = jax.vjp(outputs, parameters, has_aux=True)
    numbers = output[0].size
    direction = jax.random.normal(for_direction, output.shape[1:], output.dtype) / jnp.sqrt(numbers)
    one_input = jnp.eye(inputs, dtype=output.dtype)[: min(inputs, MOST_IN_KERNEL)]
    # (inputs, …): the gradient of v·f_a for every a, with the same v, so that products of two are the kernel
    (gradients,) = jax.vmap(lambda a: pullback(jnp.tensordot(a, direction, 0)))(one_input)
    by_leaf = {jax.tree_util.keystr(path): g for path, g in jax.tree_util.tree_leaves_with_path(gradients)}
    flat = [g.reshape(len(one_input), -1) for g in by_leaf.values() if jnp.issubdtype(g.dtype, jnp.floating)]
    kernel = sum((g @ g.T for g in flat), jnp.zeros(()))
    squares = {name: jnp.mean(jnp.sum(g.reshape(len(one_input), -1) ** 2, 1)) for name, g in by_leaf.items()
               if jnp.issubdtype(g.dtype, jnp.floating)}  # fmt: skip
    signals = {jax.tree_util.keystr(path): z for path, z in jax.tree_util.tree_leaves_with_path(others)}
    return {**signals, "output": output}, jnp.asarray(kernel), squares


def _arranged(z: jax.Array) -> np.ndarray:
    """(inputs, neurons, positions): features come last."""
    array = np.asarray(z, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    return np.moveaxis(array, -1, 1).reshape(array.shape[0], array.shape[-1], -1)


def _inspection(name: str, draws: list[Draw], inputs: int) -> Inspection:
    names = [n for n, z in draws[0][0].items() if z.ndim >= 1 and z.shape[0] == inputs]
    ignored = [n for n in draws[0][0] if n not in names]
    rows: dict[str, list[Value | None]] = {key: [] for key in ("K", "angle", "kurtosis", "correlation")}
    kinds = []
    for layer in names:
        z = [_arranged(signals[layer]) for signals, _, _ in draws]
        found = over_initialisations([contributions(each) for each in z], z[0].shape[1])
        kinds.append(f"{z[0].shape[1]} features")
        for key, row in rows.items():
            row.append(found.get(key))
    kernels = np.array([np.asarray(kernel, dtype=np.float64) for _, kernel, _ in draws])
    notes = [f"not measured, since they do not have one input a row: {', '.join(ignored)}"] if ignored else []
    if inputs > MOST_IN_KERNEL:
        notes.append(f"gradients and the tangent kernel are those of the first {MOST_IN_KERNEL} inputs")
    return Inspection(
        title=f"{name}: output and {len(names) - 1} intermediate values",
        layers=tuple(names),
        kinds=tuple(kinds),
        columns={key: column(row) for key, row in rows.items() if any(v is not None for v in row)},
        parameters={leaf: root_mean_square([float(squares[leaf]) for _, _, squares in draws]) for leaf in draws[0][2]},
        initialisations=len(draws),
        inputs=inputs,
        redrawn="parameters from init",
        notes=tuple(notes),
        tangent_kernel=(kernels.mean(0), kernels.std(0, ddof=1) / np.sqrt(len(kernels))),
    )
