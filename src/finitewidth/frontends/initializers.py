"""Critical initialisation with the signature of `jax.nn.initializers`: public as `finitewidth.initializers`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import jax
import jax.numpy as jnp

from finitewidth.activations import Activation, named
from finitewidth.criticality import critical_choice
from finitewidth.errors import InputError

Initializer = Callable[..., jax.Array]

__all__ = ["CriticalInitializer", "critical"]


@dataclass(frozen=True)
class CriticalInitializer:
    """Draws weights when called as (key, shape, dtype); `bias` draws biases in the same way.

    C_W, C_b: fan-in × variance of weights, variance of biases. K: the mean square that preactivations should have
    (None: any). note: the same in words.
    """

    kernel: Initializer
    bias: Initializer
    C_W: float
    C_b: float
    K: float | None
    note: str

    def __call__(self, key: Any, shape: Sequence[int], dtype: Any = None, **options: Any) -> jax.Array:
        return self.kernel(key, shape, jax.dtypes.canonicalize_dtype(float) if dtype is None else dtype, **options)


def critical(
    activation: Activation | str,
    *,
    mean_square: float | None = None,
    distribution: str = "normal",
    in_axis: int | Sequence[int] = -2,
    out_axis: int | Sequence[int] = -1,
) -> CriticalInitializer:
    """Initializers of weights and biases at the critical point of `activation`.

    Equation: weights of variance C_W/fan_in, biases of variance C_b, Gaussian; C_W = 1/⟨σ'²⟩_{K*} and
    C_b = K* − C_W⟨σ²⟩_{K*}. Source: PDLT §5.1–5.3. Orthogonal weights are √c Q, c = C_W max(fan_in, fan_out)/fan_in, Q
    with orthonormal rows or columns, which has the same variance.

    Arguments
        activation: an `Activation` or the name of one. A function of JAX: `fw.Activation(function)`.
        mean_square: for the first layer, |x|²/n_0 of the data, which its weights then bring to K* (to 1 where any K
            will do). None: for the other layers.
        distribution: of weights, "normal" or "orthogonal", which fluctuates less at finite width (PDLT's tensors of
            order 1/n are for "normal"). A convolution's matrix is that of one patch.
        in_axis, out_axis: as in `jax.nn.initializers.variance_scaling`: Flax and JAX have kernels (…, in, out). For
            Equinox, whose weights are (out, in): `in_axis=1, out_axis=0`.

    Returns
        a `CriticalInitializer`: itself an initializer of weights, called as (key, shape, dtype) like those of
        `jax.nn.initializers`; its attribute `bias` is the one of biases.

    Raises
        InputError: for an unknown activation, one with no useful choice, `mean_square` that is not positive, another
            `distribution`, or several `out_axis` with "orthogonal".

    >>> import finitewidth as fw, jax
    >>> init = fw.initializers.critical("gelu")
    >>> round(init.C_W, 4), round(init.C_b, 4)
    (1.9831, 0.1729)
    >>> init(jax.random.key(0), (256, 128)).shape
    (256, 128)
    """
    if not isinstance(activation, (str, Activation)):
        raise InputError(
            f"`activation` must be an Activation or the name of one, but got {activation!r}; "
            "wrap a function as fw.Activation(function)"
        )
    if distribution not in ("normal", "orthogonal"):
        raise InputError(f"`distribution` must be 'normal' or 'orthogonal', but got {distribution!r}")
    if distribution == "orthogonal" and not isinstance(out_axis, int):
        raise InputError(f"`out_axis` must be one number with distribution='orthogonal', but got {out_axis!r}")
    with jax.ensure_compile_time_eval():  # Flax and others make layers, and so initializers, inside of jit
        choice = critical_choice(named(activation) if isinstance(activation, str) else activation)
    C_b, C_W, note = choice.C_b, choice.C_W, choice.note
    if mean_square is not None:
        if isinstance(mean_square, bool) or not 0 < mean_square < float("inf"):
            raise InputError(
                f"`mean_square` must be a finite number > 0, |x|²/n_0 of the data, but got {mean_square!r}"
            )
        K = choice.K or 1.0
        C_W, note = (
            (K - C_b) / float(mean_square),
            f"{note}; brings data of mean square {mean_square:.6g} to K = {K:.6g}",
        )
    return CriticalInitializer(
        kernel=(
            _orthogonal(C_W, out_axis)
            if isinstance(out_axis, int) and distribution == "orthogonal"
            else jax.nn.initializers.variance_scaling(C_W, "fan_in", "normal", in_axis=in_axis, out_axis=out_axis)
        ),
        bias=jax.nn.initializers.normal(sqrt(C_b)) if C_b > 0 else jax.nn.initializers.zeros,
        C_W=C_W,
        C_b=C_b,
        K=choice.K,
        note=note,
    )


def _orthogonal(C_W: float, out_axis: int) -> Initializer:
    """Orthogonal matrices of variance C_W/fan_in; drawn in single precision at least, in which there is a QR."""

    def init(key: Any, shape: Sequence[int], dtype: Any, **options: Any) -> jax.Array:
        fan_out = shape[out_axis]
        fan_in = prod(shape) // fan_out
        scale = sqrt(C_W * max(fan_in, fan_out) / fan_in)
        drawn = jax.nn.initializers.orthogonal(scale, column_axis=out_axis)
        return drawn(key, tuple(shape), jnp.promote_types(dtype, jnp.float32), **options).astype(dtype)

    return init
