"""PyTorch's elementwise operations in JAX, so that an activation however written can be differentiated and averaged.

Two tables, by the `__name__` of the PyTorch function. `ACTIVATIONS` gives an activation of the catalogue from the
arguments of the call: its facts are known. `TWINS` gives the same operation on JAX arrays; compositions of them (
`z * torch.sigmoid(z)`) are activations too, whose kinks are searched for. An operation in neither is not guessed.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from finitewidth import activations
from finitewidth.activations import Activation, conditioned

named = activations.named


def _gelu(z: Any, approximate: str = "none") -> Activation:
    return named("gelu_tanh" if approximate == "tanh" else "gelu")


def _softplus(z: Any, beta: float = 1.0, threshold: float = 20.0) -> Activation:
    return activations.softplus(beta, threshold)


def _rrelu(z: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False) -> Any:
    return None if training else activations.rrelu(lower, upper)  # random in training: no function of z


ACTIVATIONS: dict[str, Callable[..., Activation | None]] = {
    "relu": lambda z, inplace=False: named("relu"),
    "relu6": lambda z, inplace=False: named("relu6"),
    "leaky_relu": lambda z, negative_slope=0.01, inplace=False: activations.leaky_relu(negative_slope),
    "prelu": lambda z, weight: activations.prelu(weight),
    "rrelu": _rrelu,
    "_threshold": lambda z, threshold, value, inplace=False: activations.threshold(threshold, value),
    "threshold": lambda z, threshold, value, inplace=False: activations.threshold(threshold, value),
    "tanh": lambda z: named("tanh"),
    "sigmoid": lambda z: named("sigmoid"),
    "logsigmoid": lambda z: named("log_sigmoid"),
    "log_sigmoid": lambda z: named("log_sigmoid"),
    "softsign": lambda z: named("softsign"),
    "gelu": _gelu,
    "silu": lambda z, inplace=False: named("silu"),
    "mish": lambda z, inplace=False: named("mish"),
    "elu": lambda z, alpha=1.0, inplace=False: activations.elu(alpha),
    "celu": lambda z, alpha=1.0, inplace=False: activations.celu(alpha),
    "selu": lambda z, inplace=False: named("selu"),
    "softplus": _softplus,
    "hardtanh": lambda z, min_val=-1.0, max_val=1.0, inplace=False: activations.hardtanh(min_val, max_val),
    "hardsigmoid": lambda z, inplace=False: named("hardsigmoid"),
    "hardswish": lambda z, inplace=False: named("hardswish"),
    "softshrink": lambda z, lambd=0.5: activations.softshrink(lambd),
    "hardshrink": lambda z, lambd=0.5: activations.hardshrink(lambd),
    "tanhshrink": lambda z: named("tanhshrink"),
    "erf": lambda z: named("erf"),
    "arctan": lambda z: named("arctan"),
    "atan": lambda z: named("arctan"),
    "sin": lambda z: named("sin"),
    "cos": lambda z: named("cos"),
    "exp": lambda z: named("exp"),
    "abs": lambda z: named("abs"),
    "absolute": lambda z: named("abs"),
}


def _add(a: Any, b: Any, alpha: float = 1.0) -> Any:
    return a + alpha * b


def _sub(a: Any, b: Any, alpha: float = 1.0) -> Any:
    return a - alpha * b


def _div(a: Any, b: Any, rounding_mode: None = None) -> Any:
    if rounding_mode is not None:
        raise TypeError("division that rounds is not differentiable")
    return a / b


def _clip(z: Any, min: Any = None, max: Any = None) -> Any:
    return jnp.clip(z, min, max)


# An integer power by multiplication keeps its derivative at 0; jnp.power with a traced exponent would not.
def _pow(a: Any, b: Any) -> Any:
    return a ** (int(b) if isinstance(b, float) and b.is_integer() else b)


TWINS: dict[str, Callable[..., Any]] = {
    "add": _add,
    "sub": _sub,
    "subtract": _sub,
    "rsub": lambda a, b, alpha=1.0: b - alpha * a,
    "__rsub__": lambda a, b: b - a,
    "mul": lambda a, b: a * b,
    "multiply": lambda a, b: a * b,
    "div": _div,
    "divide": _div,
    "true_divide": _div,
    "__rdiv__": lambda a, b: b / a,
    "__rtruediv__": lambda a, b: b / a,
    "pow": _pow,
    "__rpow__": lambda a, b: b**a,
    "neg": lambda z: -z,
    "negative": lambda z: -z,
    "square": jnp.square,
    "sqrt": jnp.sqrt,
    "rsqrt": jax.lax.rsqrt,
    "reciprocal": lambda z: 1.0 / z,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "expm1": conditioned.expm1,
    "exp2": jnp.exp2,
    "tan": jnp.tan,
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "asinh": jnp.arcsinh,
    "arcsinh": jnp.arcsinh,
    "erfc": jax.scipy.special.erfc,
    "sinc": jnp.sinc,
    "sign": jnp.sign,
    "sgn": jnp.sign,
    "logaddexp": jnp.logaddexp,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "clamp": _clip,
    "clip": _clip,
    "clamp_min": lambda z, min: jnp.maximum(z, min),
    "clamp_max": lambda z, max: jnp.minimum(z, max),
    "where": jnp.where,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or,
    "logical_not": jnp.logical_not,
}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The same numbers in the same places.
SAME = _names("contiguous clone detach to float double type type_as cpu cuda requires_grad_ alias positive view_as")
# The same numbers elsewhere, or some of them.
REARRANGING = _names(
    "flatten unflatten reshape view reshape_as unsqueeze squeeze transpose swapaxes permute movedim moveaxis t flip "
    "roll expand expand_as repeat chunk split unbind tensor_split __getitem__ __get__ select narrow channel_shuffle "
    "pixel_shuffle pixel_unshuffle index_select unfold"
)
DROPPING = _names("dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout")
NORMALISING = _names("layer_norm batch_norm group_norm instance_norm rms_norm")
JOINING = _names("cat concat concatenate stack hstack vstack dstack")
RESAMPLING = _names("mean sum amax amin pad interpolate upsample grid_sample adaptive_avg_pool1d")
CONSTANT = _names("zeros_like ones_like full_like rand_like randn_like empty_like new_zeros new_ones")
# What mixes numbers and keeps the shape, and so is no activation though it looks like one.
MIXING = _names("softmax log_softmax softmin gumbel_softmax cumsum sort normalize scaled_dot_product_attention")


def keeps_data(name: str) -> bool:
    """Whether the operation on data and a matrix of weights leaves each number to itself, or looks rows up in it."""
    return name in {*TWINS, *ACTIVATIONS, *REARRANGING, *JOINING} or name.startswith("embedding")


def is_resampling(name: str) -> bool:
    """Whether the operation pools, pads or interpolates."""
    return name in RESAMPLING or "pool" in name


def plain_name(function: Any) -> str:
    """The operation's name, that of `relu_` and `__iadd__` being those of `relu` and `add`."""
    name = str(getattr(function, "__name__", function))
    special = {"__iadd__": "add", "__isub__": "sub", "__imul__": "mul", "__itruediv__": "div", "__ipow__": "pow"}
    if name in special:
        return special[name]
    return name[:-1] if name.endswith("_") and not name.endswith("__") and name != "requires_grad_" else name
