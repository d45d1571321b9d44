"""Reading a model: its layers of weights in the order in which they run, and what lies between them.

A layer is a weight used by `linear` or `conv1d … conv3d`, wherever that happens; between layers are the signals of
`finitewidth.frontends.torch.signals`. One forward pass on an example input shows all of it; nothing of the model
changes by that, its buffers and the state of random numbers included.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from finitewidth.activations import Activation, named
from finitewidth.errors import InputError
from finitewidth.frontends.torch.recording import Recorder, data, tensors
from finitewidth.frontends.torch.signals import (
    Affine,
    Data,
    Elementwise,
    Normalised,
    Preactivation,
    Signal,
    Sum,
    Unknown,
    stripped,
    upstream,
)

Given = Activation | str | Mapping[str, Activation | str] | None

LAYERS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_BATCH_NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d, torch.nn.SyncBatchNorm)


@dataclass(eq=False)
class Layer:
    """A layer of weights.

    path: of the module that owns the weight, "" for the model itself. kind: "linear", "conv1d", "conv2d" or "conv3d".
    weight, bias: the parameters. weight_names, bias_names: all names the model has for them; two or more: tied.
    fan_in: the numbers that each neuron sums, those of its group and kernel. groups: of a convolution. calls: each use
    of it, in order.
    """

    path: str
    kind: str
    weight: torch.nn.Parameter
    bias: torch.nn.Parameter | None
    weight_names: tuple[str, ...]
    bias_names: tuple[str, ...]
    groups: int = 1
    calls: list["Call"] = field(default_factory=list)

    @property
    def fan_in(self) -> int:
        return self.weight[0].numel()

    @property
    def fan_out(self) -> int:
        """The number of neurons (channels of a convolution)."""
        return int(self.weight.shape[0])

    def variances(self) -> tuple[float, float]:
        """C_b and C_W of the parameters as they are: mean squares, of weights times fan-in."""
        C_b = 0.0 if self.bias is None else float(self.bias.detach().double().square().mean())
        return C_b, self.fan_in * float(self.weight.detach().double().square().mean())

    def __repr__(self) -> str:
        return f"Layer({self.path!r}, {self.kind}, fan_in={self.fan_in}, fan_out={self.fan_out})"


@dataclass(eq=False)
class Call:
    """One use of a layer.

    source: the signal that comes in. mean_square: if that is data, Σ s²/fan_in over what a neuron sums, averaged over
    neurons, positions and the batch; else None. coverage: the share of a neuron's inputs that are not zero padding.
    """

    layer: Layer
    number: int
    source: Signal
    mean_square: float | None
    coverage: float


@dataclass(eq=False)
class Reading:
    """What a model is made of. `layers` in the order of their first call; `outputs`: the signals that it returns.

    uses: by id of a parameter, the operations that take it and are no layer.
    """

    model: torch.nn.Module
    layers: list[Layer]
    calls: list[Call]
    outputs: list[Signal]
    uses: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def unknown_activations(self) -> list[Unknown]:
        """Operations between layers that may be activations, but are not known to be one."""
        ends = [*(call.source for call in self.calls), *self.outputs]
        found = {id(s): s for end in ends for s in upstream(end) if isinstance(s, Unknown) and s.looks_elementwise}
        return list(found.values())

    def activations_after(self, call: Call) -> list[Elementwise]:
        """The activations that the preactivations of `call` go through next (of a residual stream, several)."""
        return self._after.get(call.number, [])

    @cached_property
    def _after(self) -> dict[int, list[Elementwise]]:
        found: dict[int, dict[int, Elementwise]] = {}
        for end in (*(call.source for call in self.calls), *self.outputs):
            for call, activation in _next(end):
                if activation is not None:
                    found.setdefault(call.number, {})[id(activation)] = activation
        return {number: list(activations.values()) for number, activations in found.items()}

    def is_output(self, call: Call) -> bool:
        """Whether the model returns what `call` returns, perhaps through an activation or in a sum."""
        return any(c is call for end in self.outputs for c, _ in _next(end))


def activation_before(signal: Signal) -> tuple[Elementwise | None, Signal]:
    """The activation whose output `signal` is, and the signal it takes; None and the signal for one that is none."""
    signal = stripped(signal)
    if not isinstance(signal, Elementwise):
        return None, signal
    before = stripped(signal.base)
    if isinstance(before, Elementwise):  # reshaped between two functions: one function all the same
        inner, outer = before.twin, signal.twin
        text = f"{signal.text} of {before.text}"
        merged = Elementwise(before.base, lambda z: outer(inner(z)), text, signal.path)
        return activation_before(merged)
    return signal, before


def _next(signal: Signal) -> Iterator[tuple[Call, Elementwise | None]]:
    """The calls from which `signal` comes without another layer between, each with the first activation after it."""
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[Signal, Elementwise | None]] = [(signal, None)]
    while waiting:
        at, after = waiting.pop()
        at = stripped(at)
        if (id(at), id(after)) in seen:
            continue
        seen.add((id(at), id(after)))
        if isinstance(at, Preactivation):
            yield at.call, after
        elif isinstance(at, Elementwise):
            waiting.append((at.base, after if at.linear is not None else at))
        elif isinstance(at, (Sum, Normalised, Affine)):
            waiting += [(parent, after) for parent in at.parents]


def read_model(model: Any, example_input: Any = None, *, activation: Given = None) -> Reading:
    """Run `model` once on `example_input` and say what it is made of.

    Arguments
        model: a `torch.nn.Module`. It is as before afterwards.
        example_input: a tensor, a tuple of positional arguments or a dictionary of named ones. None: two rows of ones
            for a model that starts with a `Linear` (or convolutions, on an image of 32 pixels a side), which shows how
            layers are joined but not the size of real inputs.
        activation: for modules that are activations which cannot be read: an `Activation` or the name of one by the
            module's path (`{"blocks.0.act": "gelu"}`), or one for every class of module that was not understood.

    Raises
        InputError: one line with what cannot be read, and the remedy.
    """
    check_model(model)
    if isinstance(activation, (str, Activation)):
        unknown = _read(model, example_input, {}).unknown_activations()
        activation = {u.path: activation for u in unknown if u.path}
    return _read(model, example_input, _given(model, activation))


def _read(model: torch.nn.Module, example_input: Any, given: dict[str, Activation]) -> Reading:
    layers = _layers(model)
    calls: list[Call] = []
    args, kwargs = _arguments(model, example_input)

    def on_layer(func: Any, kind: str, named: dict[str, Any]) -> Signal | None:
        layer, source = layers.get(id(named["weight"])), recorder.get(named["input"])
        if layer is None or source is None:
            return None
        layer.kind, layer.groups = kind, int(named.get("groups", 1))
        call = Call(layer, len(calls), source, *_sizes(func, named, measure=isinstance(source, Data)))
        layer.calls.append(call)
        calls.append(call)
        return Preactivation(call)

    recorder = Recorder(on_layer)
    with _unchanged(model), _uncompiled(model), recorder.follow(model, given):
        for tensor in tensors((args, kwargs)):
            recorder.set(tensor, data(tensor, is_input=True))
        try:
            with recorder:
                output = model(*args, **kwargs)
        except InputError:
            raise
        except Exception as error:
            runs = _runs(model, args, kwargs)
            raise InputError(_does_not_fit(example_input, args, kwargs, error, runs=runs)) from error
    outputs = [recorder.get(t) for t in tensors((output,))]
    ran = [call.layer for call in calls if call.layer.calls[0] is call]
    uses = {parameter: tuple(operations) for parameter, operations in recorder.uses.items()}
    return Reading(model, ran, calls, [s for s in outputs if s is not None], uses)


def check_model(model: Any) -> None:
    """Refuse what cannot be read or drawn: no module, parameters of other numbers than float32 and float64, or of no
    numbers at all, weights that are computed from parameters, running statistics of other weights."""
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"`model` must be a torch.nn.Module, but got {type(model).__name__}")
    for path, module in model.named_modules():
        _check_module(path, module)
    for name, parameter in model.named_parameters():
        if isinstance(parameter, torch.nn.parameter.UninitializedParameter):
            raise InputError(f"`model`: parameter {name!r} has no shape yet; run the model once on an input first")
        if parameter.is_meta:
            raise InputError(f"`model`: parameter {name!r} is on the meta device; first model.to_empty(device='cpu')")
        if parameter.is_complex():
            raise InputError(f"`model`: parameter {name!r} is complex, but the theory is of real networks")
        if parameter.is_floating_point() and parameter.dtype not in (torch.float32, torch.float64):
            remedy = "initialise in float32 and convert afterwards"
            raise InputError(f"`model`: parameter {name!r} is {str(parameter.dtype)[6:]}; {remedy}")


def _check_module(path: str, module: torch.nn.Module) -> None:
    where = f"`model`: {path!r}" if path else "`model`"
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError(f"{where} is a compiled {type(module).__name__}; give the module that it was made from")
    if torch.nn.utils.parametrize.is_parametrized(module) or (
        isinstance(module, LAYERS) and not isinstance(module.weight, torch.nn.Parameter)
    ):
        raise InputError(
            f"`model`: the parameters of {path!r} are parametrized (weight_norm, spectral_norm, pruning or like them): "
            "its weight is computed from them; remove that first, and put it back afterwards"
        )
    if isinstance(module, _BATCH_NORMS) and not module.training and module.track_running_stats:
        raise InputError(
            f"{where} is a {type(module).__name__} in eval mode, whose running statistics are not those of new "
            "weights; call model.train() first"
        )


def _layers(model: torch.nn.Module) -> dict[int, Layer]:
    """Every parameter that may be a layer's weight, by its id, with the bias of the same module."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    layers = {}
    for path, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        for name, weight in own.items():
            if weight.ndim >= 2 and id(weight) not in layers:
                # a module with several weights calls their biases alike: in_proj_weight, in_proj_bias
                bias = own.get(name.replace("weight", "bias")) if "weight" in name else None
                layers[id(weight)] = Layer(
                    path, "", weight, bias, tuple(names[id(weight)]), tuple(names[id(bias)]) if bias is not None else ()
                )
    return layers


def _arguments(model: torch.nn.Module, example_input: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if example_input is None:
        return (_stand_in(model),), {}
    for tensor in tensors((example_input,)):
        if tensor.is_meta:
            raise InputError("`example_input` is on the meta device, without numbers; give it on that of the model")
        if tensor.numel() == 0 or (tensor.is_floating_point() and not bool(tensor.isfinite().all())):
            raise InputError(f"`example_input` must hold finite numbers, but shape {tuple(tensor.shape)} does not")
    if isinstance(example_input, Mapping):
        return (), dict(example_input)
    if isinstance(example_input, (tuple, list)):
        return tuple(example_input), {}
    if not isinstance(example_input, torch.Tensor):
        raise InputError(
            f"`example_input` must be a tensor, a tuple of arguments or a dictionary of named ones, but got "
            f"{type(example_input).__name__}; for an array, torch.as_tensor(array, dtype=torch.float32)"
        )
    return (example_input,), {}


def _stand_in(model: torch.nn.Module) -> torch.Tensor:
    """An input of the shape that the first layer takes."""
    images = {torch.nn.Conv1d: 1, torch.nn.Conv2d: 2, torch.nn.Conv3d: 3}
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            return torch.ones(2, module.in_features, dtype=module.weight.dtype, device=module.weight.device)
        for kind, dimensions in images.items():
            if isinstance(module, kind):
                shape = (2, module.in_channels, *(32,) * dimensions)
                return torch.ones(shape, dtype=module.weight.dtype, device=module.weight.device)
    if any(parameter.ndim >= 2 for parameter in model.parameters()):
        raise InputError("`example_input` is needed to read this model: it has no Linear or Conv module to guess by")
    raise InputError("`model` has no Linear or Conv1d/2d/3d layers: there is nothing to initialise or to read")


def _runs(model: torch.nn.Module, args: Any, kwargs: Any) -> bool:
    try:
        model(*args, **kwargs)
    except Exception:
        return False
    return True


def _does_not_fit(example_input: Any, args: Any, kwargs: Any, error: Exception, *, runs: bool) -> str:
    reason = str(error).partition("\n")[0]
    if runs:
        return (
            f"`model` runs, but not while its operations are watched ({type(error).__name__}: {reason}); `inspect` and "
            "`tune_` do without that"
        )
    if example_input is None:
        return f"`example_input` is needed to read this model: no shape could be guessed ({reason})"
    shapes = ", ".join(str(tuple(t.shape)) for t in tensors((args, kwargs)))
    return f"`example_input` of shape {shapes} does not go through the model ({reason}); give a batch that it takes"


def _given(model: torch.nn.Module, activation: Any) -> dict[str, Activation]:
    if activation is None:
        return {}
    if not isinstance(activation, Mapping):
        raise InputError(
            f"`activation` must be an Activation, a name, or one of these by module path, but got {activation!r}"
        )
    paths = dict(model.named_modules())
    for path in activation:
        if path not in paths:
            raise InputError(f"`activation` names the module {path!r}, which the model does not have")
    given = {path: named(a) if isinstance(a, str) else a for path, a in activation.items()}
    for path, a in given.items():
        if not isinstance(a, Activation):
            raise InputError(f"`activation[{path!r}]` must be an Activation or the name of one, but got {a!r}")
    return given


def _sizes(func: Any, named: dict[str, Any], *, measure: bool) -> tuple[float | None, float]:
    """Mean square of what a neuron sums (if asked for), and the share of it that is not zero padding.

    Both by the operation itself with all weights 1 and one neuron a group.
    """
    x, weight = named["input"].detach(), named["weight"]
    groups = named.get("groups", 1)
    ones = torch.ones_like(weight[:groups], dtype=torch.float64)
    options = {k: v for k, v in named.items() if k not in ("input", "weight", "bias")}
    mean_square = None
    if measure:
        summed = func(x.double().square(), ones, None, **options)
        mean_square = float(summed.mean()) / weight[0].numel()
    if not options:
        return mean_square, 1.0
    one = torch.ones_like(x[:1] if x.ndim == weight.ndim else x, dtype=torch.float64)
    return mean_square, float(func(one, ones, None, **options).mean()) / weight[0].numel()


@contextmanager
def _unchanged(model: torch.nn.Module) -> Iterator[None]:
    """Buffers and random numbers are after the context what they were before it."""
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    before = {(module, name): (buffer, buffer.clone()) for module, name, buffer in _buffers(model)}
    with torch.random.fork_rng(devices=list(devices)), torch.no_grad():
        try:
            yield
        finally:
            for module, name, _ in list(_buffers(model)):
                if (module, name) not in before:  # None until the forward pass set it
                    setattr(module, name, None)
            for (module, name), (buffer, value) in before.items():
                setattr(module, name, buffer)  # it may have been replaced by another
                buffer.copy_(value)


def _buffers(model: torch.nn.Module) -> Iterator[tuple[torch.nn.Module, str, torch.Tensor]]:
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            yield module, name, buffer


def _uncompiled(model: torch.nn.Module) -> AbstractContextManager[Any]:
    """Context in which what torch.compile made runs operation by operation, as it was written."""
    if hasattr(torch.compiler, "set_stance"):  # since PyTorch 2.6
        return torch.compiler.set_stance("force_eager")
    if any(hasattr(module, "_orig_mod") for module in model.modules()):
        raise InputError("`model` is compiled, or a part of it; give the module that it was made from")
    return nullcontext()
