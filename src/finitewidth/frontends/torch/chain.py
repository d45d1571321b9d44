"""Models that are a chain: each layer reads the one before through one activation, the first reads the data."""

from itertools import pairwise

from finitewidth.errors import InputError
from finitewidth.frontends.torch.model import Reading, activation_before
from finitewidth.frontends.torch.signals import (
    Affine,
    Data,
    Dropped,
    Elementwise,
    Normalised,
    Preactivation,
    Resampled,
    Sum,
    Unknown,
    since_layers,
    upstream,
)


def check_chain(reading: Reading, remedy: str) -> None:
    """Refuse what is no chain, in one line that ends in `remedy`."""
    if not reading.layers:
        raise InputError(f"`model` runs no Linear or Conv1d/2d/3d layer on its input; {remedy}")
    for end in (*(call.source for call in reading.calls), *reading.outputs):
        for signal in upstream(end):
            if isinstance(signal, Sum):
                raise InputError(f"`model` has residual additions (in {signal.path!r}); {remedy}")
            if isinstance(signal, Normalised):
                raise InputError(f"`model` has the normalisation {signal.path!r} ({signal.operation}); {remedy}")
            if isinstance(signal, Unknown):
                raise InputError(
                    f"`model` has {signal.operation!r} (in {signal.path!r}), which cannot be read; {remedy}"
                )
            if isinstance(signal, Affine):
                raise InputError(
                    f"`model` has {signal.operation!r} of fixed numbers (in {signal.path!r}), which no layer has; "
                    f"{remedy}"
                )
    for layer in reading.layers:
        if len(layer.calls) > 1 or len(layer.weight_names) > 1:
            raise InputError(f"`model` shares the weight {layer.weight_names[0]!r}; {remedy}")
    if not isinstance(reading.calls[0].source, Data):
        raise InputError(f"`model`: {reading.calls[0].layer.path!r} does not read the data; {remedy}")
    for call, before in zip(reading.calls[1:], reading.calls, strict=False):
        _, origin = activation_before(call.source)
        if not (isinstance(origin, Preactivation) and origin.call is before):
            raise InputError(f"`model`: {call.layer.path!r} does not follow {before.layer.path!r}; {remedy}")


def hidden_activations(reading: Reading) -> list[Elementwise | None]:
    """The activation in front of every layer but the first; None where there is none."""
    return [activation_before(call.source)[0] for call in reading.calls[1:]]


def changed_between_layers(reading: Reading, *, dropout: bool) -> str:
    """What makes a layer read something else than an activation of all neurons before it, in words; empty if nothing.

    dropout: whether dropout counts.
    """
    for before, call in pairwise(reading.calls):
        path = call.layer.path
        for signal in since_layers(call.source):
            if isinstance(signal, Resampled):
                return f"{signal.operation!r} in front of {path!r}"
            if dropout and isinstance(signal, Dropped) and signal.p > 0:
                return f"dropout in front of {path!r} (in eval mode there is none)"
        _, origin = activation_before(call.source)
        follows = isinstance(origin, Preactivation) and origin.call is before
        if follows and call.layer.kind == "linear" and call.layer.fan_in != before.layer.fan_out:
            return f"{path!r}, which reads {call.layer.fan_in} numbers of the {before.layer.fan_out} before it"
    return ""
