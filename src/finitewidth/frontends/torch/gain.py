"""Activations of PyTorch in the theory's hands, and their critical gain."""

from collections.abc import Callable
from math import sqrt
from typing import Any

import torch

from finitewidth.activations import Activation, named
from finitewidth.criticality import critical_choice
from finitewidth.errors import InputError
from finitewidth.frontends.torch.recording import Recorder
from finitewidth.frontends.torch.signals import Elementwise, Signal


class Gain(float):
    """√C_W, a number as `torch.nn.init` wants it, with what belongs to it.

    bias_std: √C_b, the standard deviation of biases. K: the mean square that preactivations should have (None: any).
    is_critical: whether this is a critical point, rather than what comes nearest. note: the same in words.
    """

    bias_std: float
    K: float | None
    is_critical: bool
    note: str

    def __new__(cls, value: float, bias_std: float, K: float | None, is_critical: bool, note: str) -> "Gain":
        made = super().__new__(cls, value)
        made.bias_std, made.K, made.is_critical, made.note = bias_std, K, is_critical, note
        return made

    def __getnewargs__(self) -> Any:
        return float(self), self.bias_std, self.K, self.is_critical, self.note


def calculate_gain(activation: torch.nn.Module | Callable[[Any], Any] | Activation | str) -> Gain:
    """The gain at which signals and gradients survive any depth: weights of variance gain²/fan_in, and biases with it.

    Equation: gain = √C_W with C_W = 1/⟨σ'²⟩_{K*}, bias_std = √C_b with C_b = K* − C_W⟨σ²⟩_{K*}, and K* such that norms
    and angles stay alike, χ∥ = χ⊥ = 1. Source: PDLT §5.1–5.3; the choice is that of `finitewidth.critical`.

    Arguments
        activation: a module (`torch.nn.GELU()`), a function of a tensor (`torch.sin`, a lambda of PyTorch's elementwise
            operations), an `Activation`, or the name of one.

    Returns
        a `Gain`: a float with the attributes `bias_std`, `K`, `is_critical` and `note`. For activations without a
        critical point (softplus) it is what comes nearest, and the note says so.

    Raises
        InputError: what is not one function of each number, cannot be read, or has no useful choice at all (exp).

    >>> import finitewidth as fw, torch
    >>> gain = fw.torch.calculate_gain(torch.nn.GELU())
    >>> round(gain, 4), round(gain.bias_std, 4)
    (1.4082, 0.4158)
    >>> round(fw.torch.calculate_gain(lambda z: z * torch.sigmoid(z)), 4)
    1.41
    """
    choice = critical_choice(as_activation(activation))
    return Gain(sqrt(choice.C_W), sqrt(choice.C_b), choice.K, choice.is_critical, choice.note)


def as_activation(activation: Any) -> Activation:
    """An `Activation` from a PyTorch module or function, a name, or an `Activation`.

    Raises
        InputError: naming what came, and why it is no activation.
    """
    if isinstance(activation, str):
        return named(activation)
    if isinstance(activation, Activation):
        return activation
    return function_of(activation).activation


def function_of(activation: Any) -> Elementwise:
    """What a module or function computes, as one function of each number."""
    if isinstance(activation, type) or not callable(activation):
        raise InputError(f"`activation` must be a module, a function, an Activation or a name, but got {activation!r}")
    shown = f"`activation` {getattr(activation, '__name__', activation)!s}"
    own = list(activation.parameters()) if isinstance(activation, torch.nn.Module) else []
    if any(p.ndim > 1 for p in own):
        raise InputError(f"{shown} has weights of its own: it is not a function of one number")
    columns = max((p.numel() for p in own), default=2)  # a parameter for each channel
    z = torch.linspace(-1.0, 1.0, 2 * columns, dtype=own[0].dtype if own else torch.float64).reshape(2, columns)
    base = Signal()
    recorder = Recorder(lambda *_: None)
    recorder.set(z, base)
    try:
        with torch.no_grad(), recorder:
            output = activation(z)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{shown} fails on a tensor ({reason}); give a function of one tensor") from error
    signal = recorder.get(output)
    if signal is base:
        return Elementwise(base, lambda z: z, "linear", "", named("linear"), multiple=(1.0, base))
    if not isinstance(signal, Elementwise) or output.shape != z.shape:
        raise InputError(
            f"{shown} cannot be read as one function of each number; "
            "give the same function in JAX as finitewidth.Activation(function)"
        )
    return signal
