"""The layers whose preactivations a model returns: logits, or what a regression predicts."""

from finitewidth.errors import InputError
from finitewidth.frontends.torch.model import Call, Reading
from finitewidth.frontends.torch.signals import Elementwise, Preactivation, Signal, Unknown, stripped


def output_calls(reading: Reading) -> list[Call]:
    """The calls that end in the model's outputs, by themselves or through a function such as softmax.

    Raises
        InputError: where an output does not come from one layer, such as a residual addition.
    """
    return [_call_behind(end) for end in reading.outputs]


def _call_behind(end: Signal) -> Call:
    signal = stripped(end)
    while not isinstance(signal, Preactivation):
        if isinstance(signal, Elementwise):
            signal = stripped(signal.base)
        elif isinstance(signal, Unknown) and len(signal.of) == 1:
            signal = stripped(signal.of[0])
        else:
            kind = type(signal).__name__.lower()
            raise InputError(f"`output_std` sets the layer that ends the model, but this one ends in a signal {kind}")
    return signal.call
