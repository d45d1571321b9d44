"""A forward pass, recorded: which signal every tensor of it is.

PyTorch tells a `TorchFunctionMode` of every operation on tensors, wherever it is written: in a module, a function or a
lambda, under any Python control flow. Symbolic tracing (torch.fx), which was the other way, stops at control flow and
needs a second pass for shapes. What neither sees, such as a compiled function or an `autograd.Function`, is noticed
when the module around it returns a tensor of unseen origin.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import jax
import torch
from torch.overrides import TorchFunctionMode

from finitewidth.activations import Activation
from finitewidth.errors import InputError
from finitewidth.frontends.torch import operations
from finitewidth.frontends.torch.signals import (
    Affine,
    Data,
    Dropped,
    Elementwise,
    Normalised,
    Rearranged,
    Resampled,
    Signal,
    Sum,
    Unknown,
    upstream,
)

# of a weighted operation: (function, its name, arguments by name) -> the signal of its output, or None
OnLayer = Callable[[Any, str, dict[str, Any]], Signal | None]
_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
WEIGHTED = {"linear": _CONVOLUTION[:3], "conv1d": _CONVOLUTION, "conv2d": _CONVOLUTION, "conv3d": _CONVOLUTION}


class Recorder(TorchFunctionMode):
    """Gives every tensor of a forward pass its signal, while it is entered."""

    def __init__(self, on_layer: OnLayer) -> None:
        super().__init__()
        self._on_layer = on_layer
        self._signals: dict[int, Signal] = {}
        self._alive: list[Any] = []  # an id is one tensor's only as long as that tensor lives
        self._from_weights: set[int] = set()  # tensors computed from parameters alone
        self.uses: dict[int, dict[str, None]] = {}  # of parameters by id, in operations that are no layer
        self._inside: list[str] = []
        self._silent = 0

    @property
    def path(self) -> str:
        """The module that runs now."""
        return self._inside[-1] if self._inside else ""

    def get(self, tensor: Any) -> Signal | None:
        """The signal of a tensor, None for one that was not computed from the input."""
        return self._signals.get(id(tensor))

    def set(self, tensor: Any, signal: Signal) -> None:
        self._signals[id(tensor)] = signal
        self._alive.append(tensor)

    def follow(self, model: torch.nn.Module, given: dict[str, Activation]) -> AbstractContextManager[Any]:
        """Context in which modules say when they run; those in `given` are taken to be that activation."""
        with ExitStack() as stack:
            for path, module in model.named_modules():
                before, after = self._before(path, path in given), self._after(path, given.get(path))
                stack.callback(module.register_forward_pre_hook(before).remove)
                stack.callback(module.register_forward_hook(after).remove)
            return stack.pop_all()

    def _before(self, path: str, is_given: bool) -> Callable[..., None]:
        def hook(module: Any, args: Any) -> None:
            self._inside.append(path)
            self._silent += is_given

        return hook

    def _after(self, path: str, activation: Activation | None) -> Callable[..., None]:
        def hook(module: Any, args: Any, output: Any) -> None:
            self._inside.pop()
            came = [s for s in map(self.get, tensors((args,))) if s is not None]
            if activation is not None:
                self._silent -= 1
                if len(came) != 1 or not isinstance(output, torch.Tensor):
                    raise InputError(f"`activation` names {path!r}, which does not take one tensor and return one")
                self.set(output, composed(came[0], activation, path))
                return
            for tensor in tensors((output,)):
                if came and self.get(tensor) is None:
                    alike = len(came) == 1 and tensor.shape == next(tensors((args,))).shape
                    self.set(tensor, _after_unknown(came, type(module).__name__, path, tensor, alike))

        return hook

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = list(tensors((args, kwargs)))
        came = [s for s in map(self.get, inputs) if s is not None]
        shape = next((t.shape for t in inputs if self.get(t) is not None), None)
        output = func(*args, **kwargs)
        outputs = list(tensors((output,)))
        name = operations.plain_name(func)
        if not came:
            self._note_weights(name, inputs, outputs)
        if self._silent or not came or not outputs or name in operations.CONSTANT:
            return output
        signal = self._layer(func, name, args, kwargs)
        if signal is None:
            self._note_uses(name, inputs)
            signal = self._signal(name, args, kwargs, came, outputs, shape)
        for i, tensor in enumerate(outputs):
            # pieces of one tensor are different neurons: each is a signal of its own
            self.set(tensor, signal if i == 0 else Rearranged(came[0], name) if name in _SPLITTING else signal)
        return output

    def _note_weights(self, name: str, inputs: list[Any], outputs: list[Any]) -> None:
        """What is computed from parameters is no data either: a weight that is transposed or normalised, say."""
        if outputs and any(map(self._is_weight, inputs)):
            self._note_uses(name, inputs)
            self._from_weights.update(map(id, outputs))
            self._alive += outputs

    def _note_uses(self, name: str, inputs: list[Any]) -> None:
        for tensor in inputs:
            if isinstance(tensor, torch.nn.Parameter):
                self.uses.setdefault(id(tensor), {})[name] = None

    def _is_weight(self, tensor: Any) -> bool:
        return isinstance(tensor, torch.nn.Parameter) or id(tensor) in self._from_weights

    def _layer(self, func: Any, name: str, args: Any, kwargs: Any) -> Signal | None:
        if name not in WEIGHTED:
            return None
        return self._on_layer(func, name, dict(zip(WEIGHTED[name], args, strict=False), **kwargs))

    def _signal(self, name: str, args: Any, kwargs: Any, came: list[Signal], outputs: list[Any], shape: Any) -> Signal:
        if all(isinstance(s, Data) for s in came):
            if name in operations.SAME or (
                name in operations.DROPPING and not _argument(args, kwargs, 2, "training", True)
            ):
                return came[0]
            mixed = any(self._is_weight(t) and t.ndim > 1 for t in tensors((args, kwargs)))
            if not mixed or operations.keeps_data(name):
                return data(outputs[0], came, is_input=self._is_input(name, args, outputs))
            return Unknown(tuple(came), name, self.path)
        elif name in operations.SAME:
            return came[0]
        elif (
            name in operations.REARRANGING
            or (name == "pad" and kwargs.get("mode", "constant") != "constant")
            or (name in operations.JOINING and len(came) == 1 and outputs[0].shape == shape)
        ):
            return Rearranged(came[0], name)
        elif name in operations.DROPPING:
            p, training = _argument(args, kwargs, 1, "p", 0.5), _argument(args, kwargs, 2, "training", True)
            return Dropped(came[0], float(p) if training else 0.0, self.path)
        elif name in operations.NORMALISING:
            return Normalised(came[0], name, _affine_mean_square(name, args, kwargs), self.path)
        elif operations.is_resampling(name):
            return Resampled(came[0], name, self.path)
        else:
            found = self._elementwise(name, args, kwargs, came) or self._sum(name, args, kwargs)
            if found is None and len(came) == 1 and outputs[0].shape == shape:
                found = self._affine(name, args, kwargs)
            if found is not None:
                return found
        several = sum(t.numel() > 1 for t in tensors((args, kwargs))) > 1  # a matrix product, a concatenation
        alike = len(came) == 1 and not several and outputs[0].shape == shape and name not in operations.MIXING
        return _after_unknown(came, name, self.path, outputs[0], alike)

    def _is_input(self, name: str, args: Any, outputs: list[Any]) -> bool:
        signal = self.get(args[0]) if args else None
        same = isinstance(signal, Data) and signal.is_input and name in operations.REARRANGING
        return same and outputs[0].numel() == args[0].numel()

    def _elementwise(self, name: str, args: Any, kwargs: Any, came: list[Signal]) -> Signal | None:
        if len({id(_base(s)) for s in came}) != 1 or name not in {*operations.ACTIVATIONS, *operations.TWINS}:
            return None
        values = [self._operand(a) for a in args]
        options = {k: self._operand(v) for k, v in kwargs.items() if k != "out"}
        if any(v is _UNREADABLE for v in (*values, *options.values())):
            return None
        found = _applied(name, values, options, self.path)
        if found is not None and found.linear is not None and isinstance(found.base, Sum):  # (x + f(x))/√2
            factor = found.linear
            terms = tuple((factor * coefficient, signal) for coefficient, signal in found.base.terms)
            return Sum(terms, self.path, multiple=(factor, found.base))
        return found

    def _operand(self, value: Any) -> Any:
        """What an argument is to a twin: a signal, a number, or unreadable (a tensor of different numbers)."""
        if not isinstance(value, torch.Tensor):
            return value
        signal = self.get(value)
        if signal is not None:
            return signal
        flat = value.detach().flatten()
        return flat[0].item() if flat.numel() and bool((flat == flat[0]).all()) else _UNREADABLE

    def _sum(self, name: str, args: Any, kwargs: Any) -> Signal | None:
        """a s + b t of signals with different bases: a residual addition."""
        operands = [self._operand(a) for a in args[:2]]
        if (
            name not in ("add", "sub", "subtract")
            or len(operands) < 2
            or not all(isinstance(o, Signal) for o in operands)
        ):
            return None
        second = float(kwargs.get("alpha", 1.0)) * (1.0 if name == "add" else -1.0)
        first, other = operands
        return Sum((_skip_or_term(1.0, first, other), _skip_or_term(second, other, first)), self.path)

    def _affine(self, name: str, args: Any, kwargs: Any) -> Affine | None:
        """A signal and a tensor of different fixed numbers, added or multiplied."""
        operands = [(self.get(a), a) for a in args[:2] if isinstance(a, torch.Tensor)]
        if len(operands) != 2 or name not in ("add", "sub", "subtract", "rsub", "mul", "multiply", "div", "divide"):
            return None
        (signal, _), (other, fixed) = operands if operands[0][0] is not None else operands[::-1]
        if signal is None or other is not None or (name.startswith("div") and operands[0][0] is None):
            return None
        square = float(fixed.detach().double().square().mean())
        if name.startswith("div"):
            square = float(fixed.detach().double().square().reciprocal().mean())
        if name.startswith(("mul", "div")):
            return Affine(signal, name, self.path, scale=square, is_learned=self._is_weight(fixed))
        alpha = float(kwargs.get("alpha", 1.0))
        by_signal, by_fixed = (1.0, alpha**2) if (operands[0][0] is not None) != (name == "rsub") else (alpha**2, 1.0)
        return Affine(signal, name, self.path, scale=by_signal, shift=by_fixed * square)


_UNREADABLE = object()
_SPLITTING = frozenset({"chunk", "split", "unbind", "tensor_split"})
_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "gt": ">", "lt": "<", "ge": ">=", "le": "<="}


def tensors(nested: Any) -> Iterator[Any]:
    """The tensors in nested tuples, lists and dictionaries, in order."""
    if isinstance(nested, torch.Tensor):
        yield nested
    elif isinstance(nested, (tuple, list, dict)):
        for value in nested.values() if isinstance(nested, dict) else nested:
            yield from tensors(value)


def composed(signal: Signal, activation: Activation, path: str) -> Elementwise:
    """`activation` of `signal`."""
    if not isinstance(signal, Elementwise):
        return Elementwise(signal, activation.function, activation.name, path, known=activation)
    inner = signal.twin
    text = f"{activation.name}({_shown(signal)})"
    return Elementwise(signal.base, lambda z: activation.function(inner(z)), text, path)


def _applied(name: str, values: list[Any], options: dict[str, Any], path: str) -> Elementwise | None:
    """An operation on signals with one base, and numbers; None if it cannot be said in JAX."""
    operands = [v for v in (*values, *options.values()) if isinstance(v, Signal)]
    base = _base(operands[0])
    try:
        if name in operations.ACTIVATIONS:
            activation = operations.ACTIVATIONS[name](*values, **options) if len(operands) == 1 else None
            return None if activation is None else composed(operands[0], activation, path)
        operation = operations.TWINS[name]

        def twin(z: Any) -> Any:
            at = [_value(v, z) for v in values]
            return operation(*at, **{k: _value(v, z) for k, v in options.items()})

        jax.eval_shape(twin, jax.ShapeDtypeStruct((2,), "float32"))
    except (TypeError, ValueError):
        return None
    shown = [_shown(v) for v in (*values, *options.values())]
    infix = _INFIX.get(name) if len(shown) == 2 else None
    text = f"({shown[0]} {infix} {shown[1]})" if infix else f"{name}({', '.join(shown)})"
    return Elementwise(base, twin, text, path, multiple=_multiple(name, values))


def _multiple(name: str, values: list[Any]) -> tuple[float, Signal] | None:
    """(c, s) if the operation makes c s of a signal s and numbers."""
    if not all(isinstance(v, (Signal, int, float)) and not isinstance(v, bool) for v in values):
        return None
    match name, values:
        case "neg" | "negative", [Signal() as signal]:
            return _term(-1.0, signal)
        case ("mul" | "multiply", [Signal() as signal, int() | float() as factor]) | (
            "mul" | "multiply",
            [int() | float() as factor, Signal() as signal],
        ):
            return _term(float(factor), signal)
        case "div" | "divide" | "true_divide", [Signal() as signal, int() | float() as divisor] if divisor:
            return _term(1 / float(divisor), signal)
        case ("add" | "sub" | "subtract", [Signal() as signal, 0]) | ("add", [0, Signal() as signal]):
            return _term(1.0, signal)
    return None


def _value(operand: Any, z: Any) -> Any:
    if isinstance(operand, Elementwise):
        return operand.twin(z)
    return z if isinstance(operand, Signal) else operand


def _shown(operand: Any) -> str:
    if isinstance(operand, Elementwise):
        return f"{operand.text}(z)" if operand.known is not None else operand.text
    return "z" if isinstance(operand, Signal) else str(operand)  # in full: the text tells functions apart


def _base(signal: Signal) -> Signal:
    return signal.base if isinstance(signal, Elementwise) else signal


def _term(coefficient: float, signal: Signal) -> tuple[float, Signal]:
    if isinstance(signal, Elementwise) and signal.multiple is not None:
        factor, of = signal.multiple
        return coefficient * factor, of
    if isinstance(signal, Affine) and signal.is_learned:
        return _term(coefficient * signal.scale**0.5, signal.of)
    return coefficient, signal


def _skip_or_term(coefficient: float, signal: Signal, other: Signal) -> tuple[float, Signal]:
    """A factor is that of the addition, γ x + f(x), unless f reads γ x as well: then that is the stream."""
    if isinstance(signal, Sum) and signal.multiple is not None and all(s is not signal for s in upstream(other)):
        factor, of = signal.multiple
        return coefficient * factor, of
    return _term(coefficient, signal)


def data(tensor: Any, came: Sequence[Signal] = (), *, is_input: bool = False) -> Data:
    """The signal of numbers that no layer has touched."""
    numbers = tensor.detach()
    numbers = (numbers.abs() if numbers.is_complex() else numbers).double()
    return Data(float(numbers.square().mean()), tuple(came), is_input)


def _after_unknown(came: list[Signal], operation: str, path: str, tensor: Any, alike: bool) -> Signal:
    if all(isinstance(s, Data) for s in came):
        return data(tensor, came)
    return Unknown(tuple(came), operation, path, looks_elementwise=alike)


def _argument(args: Any, kwargs: Any, position: int, name: str, default: Any) -> Any:
    return kwargs[name] if name in kwargs else args[position] if len(args) > position else default


def _affine_mean_square(name: str, args: Any, kwargs: Any) -> float:
    """E (γ u + β)² over the units for u of mean 0 and variance 1."""
    position = 3 if name in ("batch_norm", "instance_norm") else 2
    gain, shift = (_argument(args, kwargs, position + i, n, None) for i, n in enumerate(("weight", "bias")))
    square = 1.0 if gain is None else float(gain.detach().square().mean())
    return square + (float(shift.detach().square().mean()) if isinstance(shift, torch.Tensor) else 0.0)
