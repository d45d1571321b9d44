"""Architectures: what a network is made of, before any of its weights is drawn (PDLT ch. 2).

z⁽¹⁾ = b⁽¹⁾ + W⁽¹⁾ x ,     z⁽ℓ⁺¹⁾ = b⁽ℓ⁺¹⁾ + W⁽ℓ⁺¹⁾ σ(z⁽ℓ⁾) ,     ℓ + 1 = 2 … L
E[b_i b_j] = δ_ij C_b ,     E[W_ij W_kl] = δ_ik δ_jl C_W / n_{ℓ-1} .
"""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from finitewidth.activations import Activation, named
from finitewidth.activations.entry import Entry
from finitewidth.errors import InputError

PerLayer = float | Sequence[float]


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron with L = `depth` layers of weights, the output layer included.

    Source: PDLT ch. 2; conventions of THEORY §1. The learning-rate tensor is diagonal: λ_b for biases, λ_W / n_{ℓ-1}
    for weights. Two networks are equal when all their arguments are; equal networks have equal hashes.

    Arguments
        activation: an `Activation`, or the name of one (`"gelu"`, `"leaky_relu(0.1)"`).
        depth: L ≥ 1, the number of layers of weights. The output is the preactivation z⁽ᴸ⁾.
        width: n ≥ 1 of every hidden layer, or one per hidden layer (L − 1 of them).
        n_in, n_out: n_0 and n_L. `n_in=None` takes the number of columns of the data.
        C_b, C_W: variance of biases, and n_{ℓ-1} × variance of weights; one number, or one per layer (L of them).
        lambda_b, lambda_W: the learning-rate tensor; one number, or one per layer.

    Raises
        InputError: naming the argument, its value and the remedy.

    >>> import finitewidth as fw
    >>> fw.MLP("relu", depth=3, width=[64, 32]).widths
    (64, 32)
    """

    activation: Activation
    _: KW_ONLY
    depth: int
    width: int | Sequence[int] = 1
    n_in: int | None = None
    n_out: int = 1
    C_b: PerLayer = 0.0
    C_W: PerLayer = 1.0
    lambda_b: PerLayer = 1.0
    lambda_W: PerLayer = 1.0

    if TYPE_CHECKING:  # a name may be given, an Activation is kept

        def __init__(
            self,
            activation: Activation | str,
            *,
            depth: int,
            width: int | Sequence[int] = 1,
            n_in: int | None = None,
            n_out: int = 1,
            C_b: PerLayer = 0.0,
            C_W: PerLayer = 1.0,
            lambda_b: PerLayer = 1.0,
            lambda_W: PerLayer = 1.0,
        ) -> None: ...

    def __post_init__(self) -> None:
        depth = whole_number("depth", self.depth)
        checked = {
            "activation": _activation(self.activation),
            "depth": depth,
            "width": _widths(self.width, depth),
            "n_in": None if self.n_in is None else whole_number("n_in", self.n_in),
            "n_out": whole_number("n_out", self.n_out),
            **{name: _per_layer(name, getattr(self, name), depth) for name in ("C_b", "C_W", "lambda_b", "lambda_W")},
        }
        if np.any(np.asarray(checked["C_W"]) == 0):
            raise InputError("`C_W` must be positive in every layer: at C_W = 0 no layer sees its input; got 0")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def widths(self) -> tuple[int, ...]:
        """n_1 … n_{L-1}, the hidden widths."""
        return (self.width,) * (self.depth - 1) if isinstance(self.width, int) else tuple(self.width)

    def per_layer(self, name: str) -> np.ndarray:
        """`C_b`, `C_W`, `lambda_b` or `lambda_W` as an array of L numbers, layer 1 first."""
        return np.broadcast_to(np.asarray(getattr(self, name), dtype=np.float64), (self.depth,))

    @property
    def depth_to_width(self) -> float:
        """r = Σ_ℓ 1/n_ℓ over hidden layers: (L − 1)/n for equal widths. The small parameter of PDLT ch. 3–4."""
        return float(sum(1.0 / n for n in self.widths))


def whole_number(name: str, value: Any) -> int:
    """`value` as an int ≥ 1, or an `InputError` that says so."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InputError(f"`{name}` must be an integer ≥ 1, but got {value!r}")
    return int(value)


def _activation(activation: Any) -> Activation:
    if isinstance(activation, str):
        return named(activation)
    if isinstance(activation, Entry):
        call = activation.default().name if activation.example else f"{activation.name}()"
        raise InputError(
            f"`activation` {activation.name} has parameters: call it to choose them, as in fw.activations.{call} "
            f"({activation.signature})"
        )
    if not isinstance(activation, Activation):
        raise InputError(
            f"`activation` must be an Activation or the name of one, but got {activation!r}; "
            "wrap a function as fw.Activation(function)"
        )
    return activation


def _widths(width: Any, depth: int) -> int | tuple[int, ...]:
    if isinstance(width, Integral) and not isinstance(width, bool):
        return whole_number("width", width)
    if isinstance(width, str) or not isinstance(width, (Sequence, np.ndarray)):
        raise InputError(f"`width` must be an integer ≥ 1 or a sequence of them, but got {width!r}")
    if len(width) != depth - 1:
        raise InputError(
            f"`width` has {len(width)} entries, but depth {depth} has {depth - 1} hidden layers "
            f"(depth counts layers of weights, the output included); give {depth - 1} widths or one number"
        )
    return tuple(whole_number(f"width[{i}]", n) for i, n in enumerate(width))


def _per_layer(name: str, value: Any, depth: int) -> float | tuple[float, ...]:
    if isinstance(value, Real) and not isinstance(value, bool):
        return _variance(name, value)
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)) or np.ndim(value) != 1:
        raise InputError(f"`{name}` must be a number ≥ 0 or a sequence with one per layer, but got {value!r}")
    if len(value) != depth:
        raise InputError(
            f"`{name}` has {len(value)} entries, but the network has depth {depth}; give {depth} or one number"
        )
    return tuple(_variance(f"{name}[{i}]", v) for i, v in enumerate(value))


def _variance(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        raise InputError(f"`{name}` must be a finite number ≥ 0, but got {value!r}")
    return float(value)
