"""What to do: the critical initialisation, in the words of the user's framework (PDLT ch. 5)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finitewidth.architecture import MLP

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Advice:
    """The initialisation advised for a network, layer by layer.

    C_b, C_W: one per layer, first layer first.
    fan_in: n_{ℓ−1} by layer.
    weight_std, bias_std: √(C_W/n_{ℓ−1}) and √C_b by layer.
    gain: √C_W of the hidden layers, PyTorch's word for it.
    torch, jax: lines to paste.
    """

    C_b: Array
    C_W: Array
    fan_in: NDArray[np.int64]
    weight_std: Array
    bias_std: Array
    gain: float
    torch: str
    jax: str


def advice(net: MLP) -> Advice:
    """The numbers of the advised network `net` (its `n_in` given) in a practitioner's words."""
    C_b, C_W = net.per_layer("C_b").copy(), net.per_layer("C_W").copy()
    assert net.n_in is not None
    fan_in = np.array([net.n_in, *net.widths])
    return Advice(
        C_b=C_b,
        C_W=C_W,
        fan_in=fan_in,
        weight_std=np.sqrt(C_W / fan_in),
        bias_std=np.sqrt(C_b),
        gain=float(np.sqrt(C_W[-1])),
        torch=_torch(C_b, C_W),
        jax=_jax(C_b, C_W),
    )


def _torch(C_b: Array, C_W: Array) -> str:
    bias = _per_layer(np.sqrt(C_b))
    weight = _per_layer(C_W)
    lines = ["layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]"]
    lines += ["for i, layer in enumerate(layers):"]
    lines += [f"    C_W = {weight}"]
    lines += ["    torch.nn.init.normal_(layer.weight, std=(C_W / layer.in_features) ** 0.5)"]
    if np.any(C_b > 0):
        lines += [f"    torch.nn.init.normal_(layer.bias, std={bias})"]
    else:
        lines += ["    torch.nn.init.zeros_(layer.bias)"]
    return "\n".join(lines)


def _per_layer(values: Array) -> str:
    """A Python expression in the layer's index i."""
    if np.all(values == values[0]):
        return _digits(values[0])
    if np.all(values[1:] == values[1]):
        return f"{_digits(values[0])} if i == 0 else {_digits(values[1])}"
    return f"[{', '.join(map(_digits, values))}][i]"


def _jax(C_b: Array, C_W: Array) -> str:
    def scaling(value: float) -> str:
        return f'init.variance_scaling({_digits(value)}, "fan_in", "normal")'

    lines = ["from jax.nn import initializers as init"]
    if np.all(C_W[0] == C_W):
        lines += [f"kernel_init = {scaling(C_W[0])}"]
    elif np.all(C_W[1:] == C_W[1]):
        lines += [f"first_kernel_init = {scaling(C_W[0])}", f"kernel_init = {scaling(C_W[1])}  # all other layers"]
    else:
        each = ", ".join(map(_digits, C_W))
        lines += [f'kernel_inits = [init.variance_scaling(C, "fan_in", "normal") for C in ({each})]']
    std = np.sqrt(C_b)
    if not np.any(std > 0):
        lines += ["bias_init = init.zeros"]
    elif np.all(std == std[0]):
        lines += [f"bias_init = init.normal({_digits(std[0])})"]
    else:
        lines += [f"bias_inits = [init.normal(s) for s in ({', '.join(map(_digits, std))})]"]
    return "\n".join(lines)


def _digits(value: float) -> str:
    return f"{value:.7g}"
