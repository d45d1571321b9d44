"""The usual initialisations in the theory's words: (C_b, C_W) of every layer, and back to standard deviations.

    Var b = C_b ,     Var W_ij = C_W / fan_in .

| scheme   | weights of a layer                          | C_W                                | C_b          |
|----------|---------------------------------------------|------------------------------------|--------------|
| torch    | nn.Linear: U(±1/√fan_in), biases alike      | 1/3                                | 1/(3 fan_in) |
| kaiming  | N(0, gain²/fan_in)                          | gain²                              | 0            |
| xavier   | N(0, 2/(fan_in + fan_out))                  | 2 fan_in/(fan_in + fan_out)        | 0            |
| lecun    | N(0, 1/fan_in)                              | 1                                  | 0            |
| critical | `critical`                                  | C_W of the critical point          | C_b of it    |

Only means and variances of the parameters enter the theory at leading order: uniform and normal weights are alike
there.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from finitewidth.activations import Activation, named
from finitewidth.criticality.critical import critical
from finitewidth.errors import InputError

Scheme = Literal["torch", "kaiming", "xavier", "lecun", "critical"]

# torch.nn.init.calculate_gain, squared: C_W of ReLU is then exactly 2
_GAINS_SQUARED = {"linear": 1.0, "identity": 1.0, "sigmoid": 1.0, "tanh": 25.0 / 9.0, "relu": 2.0, "selu": 0.5625}


@dataclass(frozen=True)
class Initialisation:
    """Per layer ℓ = 1 … L: C_b, C_W, and the standard deviations of biases and weights that realise them; `note` in
    words."""

    scheme: str
    activation: str
    C_b: tuple[float, ...]
    C_W: tuple[float, ...]
    std_b: tuple[float, ...]
    std_W: tuple[float, ...]
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, ready for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def initialisation(
    scheme: str, activation: Activation | str, *, widths: Sequence[int], mean_square: float | None = None
) -> Initialisation:
    """C_b and C_W of every layer under a usual scheme, or at criticality.

    Arguments
        scheme: "torch" (the default of `nn.Linear`), "kaiming", "xavier", "lecun" or "critical".
        activation: an `Activation`, or the name of one. "kaiming" takes the gain of `torch.nn.init.calculate_gain`;
            for activations that it does not know, ReLU's √2, as is commonly done (the note says so).
        widths: n_0, n_1, …, n_L: inputs, hidden layers, outputs.
        mean_square: |x|²/n_0 of the data, for "critical": the first layer's C_W is then such that K⁽¹⁾ = K* (K* > 0),
            or K⁽¹⁾ = 1 where K* = 0 or every kernel is a fixed point. None: the first layer is like the others.

    Returns
        an `Initialisation` with tuples of L numbers.

    Raises
        InputError: unknown scheme or activation, fewer than two widths or widths that are not integers ≥ 1,
            `mean_square` ≤ 0, or "critical" for an activation that has neither a critical point nor a choice near
            one.

    >>> from finitewidth.criticality.initialisation import initialisation
    >>> initialisation("kaiming", "relu", widths=[784, 512, 10]).C_W
    (2.0, 2.0)
    """
    if scheme not in get_args(Scheme):
        raise InputError(f"`scheme` must be one of {', '.join(get_args(Scheme))}, but got {scheme!r}")
    activation = named(activation) if isinstance(activation, str) else activation
    fan_in, fan_out = _fans(widths)
    if mean_square is not None and not (
        isinstance(mean_square, (int, float, np.floating)) and 0 < mean_square < math.inf
    ):
        raise InputError(f"`mean_square` must be a finite number > 0, |x|²/n_0 of the data, but got {mean_square!r}")
    zero, one = np.zeros_like(fan_in), np.ones_like(fan_in)
    if scheme == "torch":
        C_b, C_W, note = 1 / (3 * fan_in), one / 3, "nn.Linear's default: weights and biases uniform in ±1/√fan_in"
    elif scheme == "kaiming":
        C_W_kaiming, origin = _gain_squared(activation)
        C_b, C_W, note = zero, C_W_kaiming * one, f"kaiming_normal_ with gain² = {C_W_kaiming:.6g} ({origin}), biases 0"
    elif scheme == "xavier":
        C_b, C_W, note = zero, 2 * fan_in / (fan_in + fan_out), "xavier_normal_ with gain 1, biases 0"
    elif scheme == "lecun":
        C_b, C_W, note = zero, one, "weights of variance 1/fan_in, biases 0"
    else:
        C_b, C_W, note = _critical(activation, fan_in.size, mean_square)
    std_b, std_W = np.sqrt(C_b), np.sqrt(C_W / fan_in)
    return Initialisation(
        scheme=scheme,
        activation=activation.name,
        C_b=tuple(C_b.tolist()),
        C_W=tuple(C_W.tolist()),
        std_b=tuple(std_b.tolist()),
        std_W=tuple(std_W.tolist()),
        note=note,
    )


def _fans(widths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(widths, str) or not isinstance(widths, (Sequence, np.ndarray)) or len(widths) < 2:
        raise InputError(f"`widths` must be n_0, n_1, …, n_L, at least two integers ≥ 1, but got {widths!r}")
    for n in widths:
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise InputError(f"`widths` must be integers ≥ 1, but got {n!r} among them")
    fans = np.asarray(widths, dtype=np.float64)
    return fans[:-1], fans[1:]


def _gain_squared(activation: Activation) -> tuple[float, str]:
    name = activation.name.lower()
    if re.match(r"leaky_?relu\b", name):
        slope = -float(activation.evaluate(np.array([-1.0]))[0, 0])
        return 2 / (1 + slope**2), f"calculate_gain for leaky ReLU of slope {slope:g}"
    if name in _GAINS_SQUARED:
        return _GAINS_SQUARED[name], f"calculate_gain for {name}"
    return _GAINS_SQUARED["relu"], f"calculate_gain does not know {activation.name}: ReLU's, as is commonly done"


@dataclass(frozen=True)
class CriticalChoice:
    """C_b and C_W to take for an activation, the kernel K to aim for (None: every one will do), and why, in words.

    is_critical: whether it is a critical point that attracts, rather than what comes nearest to one.
    """

    C_b: float
    C_W: float
    K: float | None
    is_critical: bool
    note: str


def critical_choice(activation: Activation) -> CriticalChoice:
    """The critical point to initialise at, or what comes nearest to one (PDLT §5.1–5.3).

    Raises
        InputError: for an activation that has neither.
    """
    found = critical(activation)
    best, nearest = found.preferred, found.nearest
    if best is not None and best.attracts:
        return CriticalChoice(best.C_b, best.C_W, best.K_star or None, True, f"critical, {best.universality_class}")
    if nearest is None or nearest.C_W is None or nearest.C_b is None:
        raise InputError(
            f"activation {activation.name!r} has no critical initialisation and none near it: {found.reason}"
        )
    K = 100.0 if nearest.kind == "large kernel" else nearest.K_star
    return CriticalChoice(nearest.C_b, nearest.C_W, K, False, nearest.note)


def _critical(activation: Activation, layers: int, mean_square: float | None) -> tuple[np.ndarray, np.ndarray, str]:
    choice = critical_choice(activation)
    note = choice.note
    all_b, all_W = np.full(layers, choice.C_b), np.full(layers, choice.C_W)
    if mean_square is not None:
        K_1 = choice.K or 1.0  # any kernel of order one will do where none is singled out
        all_W[0] = (K_1 - choice.C_b) / mean_square
        note += f"; first layer such that K = {K_1:.6g} for |x|²/n_0 = {mean_square:.6g}"
    return all_b, all_W, note
