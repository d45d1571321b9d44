"""Residual multilayer perceptrons in PyTorch: the module that adds, and how a model made of such modules is read."""

from dataclasses import dataclass
from itertools import pairwise

import torch

from finitewidth.errors import InputError
from finitewidth.frontends.torch.model import Call, Reading, activation_before
from finitewidth.frontends.torch.signals import Data, Elementwise, Preactivation, Signal, Sum, stripped, upstream

SHAPE = "a ResidualMLP is Linear layers with z ← γ z + ξ Linear(σ(z)) between the first and the last"


class Residual(torch.nn.Module):
    """z ← γ z + ξ (b + W σ(z))."""

    def __init__(self, linear: torch.nn.Linear, activation: torch.nn.Module, gamma: float, xi: float) -> None:
        super().__init__()
        self.activation, self.linear, self.gamma, self.xi = activation, linear, gamma, xi

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.gamma * z + self.xi * self.linear(self.activation(z))

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, xi={self.xi}"


@dataclass(frozen=True)
class Stream:
    """γ and ξ of a residual model, and the activation in front of every layer but the first."""

    gamma: float
    xi: float
    activations: list[Elementwise | None]


def is_residual(reading: Reading) -> bool:
    ends = (*(call.source for call in reading.calls), *reading.outputs)
    return any(isinstance(signal, Sum) for end in ends for signal in upstream(end))


def residual_stream(reading: Reading) -> Stream:
    """A model of the shape of `ResidualMLP`, layer by layer.

    Raises
        InputError: for any other, with what is different.
    """
    calls = reading.calls
    if not isinstance(stripped(calls[0].source), Data):
        raise InputError(f"`model`: {calls[0].layer.path!r} does not read the data; {SHAPE}")
    for layer in reading.layers:
        if len(layer.calls) > 1 or len(layer.weight_names) > 1:
            raise InputError(f"`model` shares the weight {layer.weight_names[0]!r}; {SHAPE}")
    activations, factors = [], set()
    state: Signal = Preactivation(calls[0])
    for before, call in pairwise(calls):
        activation, here = activation_before(call.source)
        if before is not calls[0]:
            factors.add(_factors(here, state, before))
        elif not _is_output_of(here, before):
            raise InputError(f"`model`: {call.layer.path!r} does not follow {before.layer.path!r}; {SHAPE}")
        activations.append(activation)
        state = here
    if len(factors) > 1:
        found = ", ".join(f"γ = {gamma:g}, ξ = {xi:g}" for gamma, xi in sorted(factors))
        raise InputError(f"`model` adds with different factors ({found}); a ResidualMLP has one γ and one ξ")
    if not (factors and all(_is_output_of(stripped(output), calls[-1]) for output in reading.outputs)):
        raise InputError(f"`model` does not end in a Linear layer that reads the activation of the sums; {SHAPE}")
    gamma, xi = factors.pop()
    return Stream(gamma, xi, activations)


def _factors(here: Signal, state: Signal, before: Call) -> tuple[float, float]:
    """(γ, ξ) if `here` is γ × `state` + ξ × what `before` returns."""
    terms = here.terms if isinstance(here, Sum) else ()
    carried = [c for c, signal in terms if _same(stripped(signal), state)]
    added = [c for c, signal in terms if _is_output_of(stripped(signal), before)]
    if len(terms) != 2 or len(carried) != 1 or len(added) != 1:
        raise InputError(f"`model`: {before.layer.path!r} is not added to what its activation reads; {SHAPE}")
    return carried[0], added[0]


def _same(signal: Signal, state: Signal) -> bool:
    return signal is state or (isinstance(state, Preactivation) and _is_output_of(signal, state.call))


def _is_output_of(signal: Signal, call: Call) -> bool:
    return isinstance(signal, Preactivation) and signal.call is call
