"""Architectures: what a network is made of, before any of its weights is drawn (PDLT ch. 2).

z⁽¹⁾ = b⁽¹⁾ + W⁽¹⁾ x ,     z⁽ℓ⁺¹⁾ = b⁽ℓ⁺¹⁾ + W⁽ℓ⁺¹⁾ σ(z⁽ℓ⁾) ,     ℓ + 1 = 2 … L
E[b_i b_j] = δ_ij C_b ,     E[W_ij W_kl] = δ_ik δ_jl C_W / n_{ℓ-1} .

A residual network adds to what it has: z⁽ℓ⁺¹⁾ = γ z⁽ℓ⁾ + ξ (b⁽ℓ⁺¹⁾ + W⁽ℓ⁺¹⁾ σ(z⁽ℓ⁾)) from one hidden layer to the next.
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
class Architecture:
    """What `MLP` and `ResidualMLP` have in common."""

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
    def carried(self) -> np.ndarray:
        """The factor of z⁽ℓ⁻¹⁾ in z⁽ℓ⁾, for L layers: 0 where a layer sees only σ(z⁽ℓ⁻¹⁾)."""
        return np.zeros(self.depth)

    @property
    def added(self) -> np.ndarray:
        """The factor of b + W σ(z⁽ℓ⁻¹⁾) in z⁽ℓ⁾, for L layers."""
        return np.ones(self.depth)

    @property
    def depth_to_width(self) -> float:
        """r = Σ_ℓ 1/n_ℓ over hidden layers: (L − 1)/n for equal widths. The small parameter of PDLT ch. 3–4."""
        return float(sum(1.0 / n for n in self.widths))


@dataclass(frozen=True)
class MLP(Architecture):
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


@dataclass(frozen=True)
class ResidualMLP(Architecture):
    """A multilayer perceptron whose hidden layers add to what the one before has made.

    Equation: z⁽ℓ⁺¹⁾ = γ z⁽ℓ⁾ + ξ (b⁽ℓ⁺¹⁾ + W⁽ℓ⁺¹⁾ σ(z⁽ℓ⁾)) for ℓ + 1 = 2 … L − 1; the first layer, which reads the
    data, and the last, which makes the outputs, are those of an `MLP`. Source: PDLT App. B; FACTS §7.4.

    Arguments
        width: n ≥ 1 of all hidden layers, one number: what is added must have the same neurons.
        gamma, xi: γ, and ξ ≠ 0. Signals and gradients keep their size where γ² + ξ² χ = 1, with χ of an `MLP` of the
            same C_W: γ² + ξ² = 1 at its critical point.
        the others: as for `MLP`.

    Raises
        InputError: naming the argument, its value and the remedy.

    >>> import finitewidth as fw
    >>> net = fw.ResidualMLP("relu", depth=10, width=64, C_W=2.0, gamma=0.8, xi=0.6)
    >>> [round(float(K), 6) for K in fw.flow(net, [[1.0]]).K[::3, 0, 0]]
    [2.0, 2.0, 2.0, 2.0]
    """

    gamma: float = 1.0
    xi: float = 1.0

    if TYPE_CHECKING:

        def __init__(
            self,
            activation: Activation | str,
            *,
            depth: int,
            width: int = 1,
            n_in: int | None = None,
            n_out: int = 1,
            C_b: PerLayer = 0.0,
            C_W: PerLayer = 1.0,
            lambda_b: PerLayer = 1.0,
            lambda_W: PerLayer = 1.0,
            gamma: float = 1.0,
            xi: float = 1.0,
        ) -> None: ...

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.widths)) > 1:
            raise InputError(
                f"`width` must be one number for all hidden layers of a residual network, but got {self.width!r}"
            )
        if not isinstance(self.width, int):
            object.__setattr__(self, "width", self.widths[0] if self.widths else 1)
        for name in ("gamma", "xi"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
                raise InputError(f"`{name}` must be a finite number, but got {value!r}")
            object.__setattr__(self, name, float(value))
        if self.xi == 0:
            raise InputError("`xi` must not be 0: hidden layers would add nothing to what they carry on; got 0")

    @property
    def carried(self) -> np.ndarray:
        return self._hidden(self.gamma, 0.0)

    @property
    def added(self) -> np.ndarray:
        return self._hidden(self.xi, 1.0)

    def _hidden(self, here: float, elsewhere: float) -> np.ndarray:
        """`here` from hidden layer to hidden layer, `elsewhere` at the first and the last."""
        return np.array([here if 0 < layer < self.depth - 1 else elsewhere for layer in range(self.depth)])


def must_be_plain(net: Architecture, what: str) -> MLP:
    """`net`, an MLP; a residual network is refused for `what`, of which there is no theory here.

    From hidden layer to hidden layer it carries z itself, so that neurons are no longer independent given the layer
    before: a three-point function E[z_i z_i z_j] of order 1/n enters the vertex.
    """
    check_net(net)
    if isinstance(net, MLP):
        return net
    raise InputError(
        f"{what} is computed for an MLP, but `net` is a {type(net).__name__}; fw.flow(net, x) gives its kernels at "
        "infinite width"
    )


def check_net(net: Any) -> None:
    """Refuse what is no network."""
    if not isinstance(net, Architecture):
        raise InputError(
            f"`net` must be an MLP or a ResidualMLP, but got {net!r}; make one as fw.MLP('tanh', depth=3, width=64)"
        )


def check_mlp(net: Any) -> None:
    """Refuse what is no MLP."""
    if not isinstance(net, MLP):
        raise InputError(f"`net` must be an MLP, but got {net!r}; make one as fw.MLP('tanh', depth=3, width=64)")


def has_biases(net: "Architecture") -> bool:
    """Whether the first layer's biases leave a kernel to an input that is zero."""
    return float(net.per_layer("C_b")[0]) > 0


def whole_number(name: str, value: Any) -> int:
    """`value` as an int ≥ 1, or an `InputError` that says so."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InputError(f"`{name}` must be an integer ≥ 1, but got {value!r}")
    return int(value)


def real_array(name: str, values: Any, what: str) -> np.ndarray:
    """`values` as float64, of any shape; `what` says in the error what they should have been.

    Raises
        InputError: for what is no array of real numbers: text and dates, which NumPy would convert, complex and masked
            ones too, of which it would drop a part.
    """
    try:
        given = values if np.ma.isMaskedArray(values) else np.asarray(values)
        if given.dtype.kind in "cmMSU" or np.ma.is_masked(given):
            raise TypeError("some are masked" if np.ma.is_masked(given) else f"they are {given.dtype}")
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"`{name}` must hold real numbers, {what}, but got {_short(values)} ({reason})") from error


def _short(values: Any) -> str:
    text = " ".join(repr(values).split())
    return text if len(text) <= 60 else text[:59] + "…"


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
