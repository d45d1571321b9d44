"""What a tensor inside a network is, in the theory's words: seen from the layers of weights, how did it come about?

A recording of the forward pass (`recording`) gives every tensor one of these. They form a graph towards the data:

    Data                    computed from the input alone, before any weights
    Preactivation           b + W s, what a call of a layer returns
    Elementwise             σ(base): one function of each number of `base`, however many operations it was written in
    Sum                     Σ_i a_i s_i of signals from different layers: a residual addition
    Affine                  multiplied by fixed numbers, or these added: a position embedding, a gain for each channel
    Normalised              LayerNorm, BatchNorm and their like
    Rearranged              the same numbers in another shape, or some of them
    Dropped                 dropout
    Resampled               pooling, padding, interpolation: numbers mixed within a neuron's image
    Unknown                 anything else
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from finitewidth.activations import Activation

if TYPE_CHECKING:
    from finitewidth.frontends.torch.model import Call


@dataclass(frozen=True, eq=False)
class Signal:
    """What a tensor is. Two signals are the same only when they are one object."""

    @property
    def parents(self) -> tuple["Signal", ...]:
        return ()


@dataclass(frozen=True, eq=False)
class Data(Signal):
    """Numbers computed from the input without any weights of a layer; `mean_square` of all of them.

    is_input: whether they are the numbers that the model is called with, in whatever shape.
    """

    mean_square: float
    of: tuple[Signal, ...] = ()
    is_input: bool = False

    @property
    def parents(self) -> tuple[Signal, ...]:
        return self.of


@dataclass(frozen=True, eq=False)
class Preactivation(Signal):
    """What one call of a layer returns."""

    call: "Call"

    @property
    def parents(self) -> tuple[Signal, ...]:
        return (self.call.source,)


@dataclass(frozen=True, eq=False)
class Elementwise(Signal):
    """`twin`(base), number by number.

    twin: the function in JAX. text: how it was written, with z for the base. known: the activation of the catalogue
    that it is, if it is a single one. path: the module in which it was computed. multiple: (c, s) if it is c × s, s
    another signal with the same base.
    """

    base: Signal
    twin: Callable[[Any], Any]
    text: str
    path: str
    known: Activation | None = None
    multiple: tuple[float, Signal] | None = None

    @property
    def parents(self) -> tuple[Signal, ...]:
        return (self.base,)

    @property
    def linear(self) -> float | None:
        """c if the function is c z."""
        return self.multiple[0] if self.multiple is not None and self.multiple[1] is self.base else None

    @cached_property
    def activation(self) -> Activation:
        """As an `Activation`; kinks of what is not in the catalogue are searched for."""
        return self.known or Activation(self.twin, name=self.text if len(self.text) <= 40 else f"custom ({self.path})")


@dataclass(frozen=True, eq=False)
class Sum(Signal):
    """Σ coefficient × signal. multiple: (c, s) if it is c × a sum s."""

    terms: tuple[tuple[float, Signal], ...]
    path: str
    multiple: tuple[float, Signal] | None = None

    @property
    def parents(self) -> tuple[Signal, ...]:
        return tuple(signal for _, signal in self.terms)


@dataclass(frozen=True, eq=False)
class Affine(Signal):
    """a × `of` + b with fixed numbers a and b, of mean squares `scale` and `shift`.

    is_learned: whether a is a gain that the model learns, rather than a mask or noise.
    """

    of: Signal
    operation: str
    path: str
    scale: float = 1.0
    shift: float = 0.0
    is_learned: bool = False

    @property
    def parents(self) -> tuple[Signal, ...]:
        return (self.of,)


@dataclass(frozen=True, eq=False)
class Normalised(Signal):
    """A normalisation layer's output; `mean_square` is what its own gain and bias make of numbers of variance one."""

    of: Signal
    operation: str
    mean_square: float
    path: str

    @property
    def parents(self) -> tuple[Signal, ...]:
        return (self.of,)


@dataclass(frozen=True, eq=False)
class Rearranged(Signal):
    """The same numbers in another order or shape, or some of them."""

    of: Signal
    operation: str

    @property
    def parents(self) -> tuple[Signal, ...]:
        return (self.of,)


@dataclass(frozen=True, eq=False)
class Dropped(Signal):
    """After dropout of probability `p`, zero in eval mode."""

    of: Signal
    p: float
    path: str

    @property
    def parents(self) -> tuple[Signal, ...]:
        return (self.of,)


@dataclass(frozen=True, eq=False)
class Resampled(Signal):
    """After pooling, padding or interpolation."""

    of: Signal
    operation: str
    path: str

    @property
    def parents(self) -> tuple[Signal, ...]:
        return (self.of,)


@dataclass(frozen=True, eq=False)
class Unknown(Signal):
    """After an operation that the theory, or this library, has no words for.

    looks_elementwise: one tensor came in and one of the same shape out, so that it may be an activation.
    """

    of: tuple[Signal, ...]
    operation: str
    path: str
    looks_elementwise: bool = field(default=False)

    @property
    def parents(self) -> tuple[Signal, ...]:
        return self.of


def stripped(signal: Signal) -> Signal:
    """The signal without what only rearranges, drops or resamples it."""
    while isinstance(signal, (Rearranged, Dropped, Resampled)):
        signal = signal.of
    return signal


def upstream(signal: Signal) -> Iterator[Signal]:
    """`signal` and everything that it was computed from, each once."""
    seen: set[int] = set()
    waiting = [signal]
    while waiting:
        at = waiting.pop()
        if id(at) not in seen:
            seen.add(id(at))
            yield at
            waiting += at.parents


def since_layers(signal: Signal) -> Iterator[Signal]:
    """`signal` and what it was computed from, back to the layers before it and no further."""
    waiting = [signal]
    while waiting:
        at = waiting.pop()
        yield at
        if not isinstance(at, Preactivation):
            waiting += at.parents
