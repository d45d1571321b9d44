"""Between a PyTorch model and `MLP` or `ResidualMLP`: every prediction is one line away from a user's model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from finitewidth.activations import Activation
from finitewidth.activations.entry import Known
from finitewidth.architecture import MLP, Architecture, ResidualMLP
from finitewidth.errors import InputError
from finitewidth.frontends.torch.chain import changed_between_layers, check_chain, hidden_activations
from finitewidth.frontends.torch.gain import as_activation
from finitewidth.frontends.torch.model import Given, Reading, read_model
from finitewidth.frontends.torch.residual_mlp import SHAPE, Residual, Stream, is_residual, residual_stream
from finitewidth.frontends.torch.signals import Data, Elementwise, Preactivation, stripped

_CHAIN = "an MLP is a chain of Linear layers with one activation"

PerLayer = float | Sequence[float] | None

# PyTorch's module for an activation of the catalogue, from its parameters.
_MODULES: dict[str, Callable[..., torch.nn.Module]] = {
    "linear": torch.nn.Identity,
    "relu": torch.nn.ReLU,
    "leaky_relu": torch.nn.LeakyReLU,
    "prelu": lambda slope=0.25: torch.nn.PReLU(init=slope),
    "rrelu": lambda lower=1 / 8, upper=1 / 3: torch.nn.LeakyReLU(0.5 * (lower + upper)),
    "relu6": torch.nn.ReLU6,
    "threshold": torch.nn.Threshold,
    "tanh": torch.nn.Tanh,
    "sigmoid": torch.nn.Sigmoid,
    "softsign": torch.nn.Softsign,
    "gelu": torch.nn.GELU,
    "gelu_tanh": lambda: torch.nn.GELU(approximate="tanh"),
    "silu": torch.nn.SiLU,
    "mish": torch.nn.Mish,
    "elu": torch.nn.ELU,
    "celu": torch.nn.CELU,
    "selu": torch.nn.SELU,
    "softplus": torch.nn.Softplus,
    "log_sigmoid": torch.nn.LogSigmoid,
    "hardtanh": torch.nn.Hardtanh,
    "hardsigmoid": torch.nn.Hardsigmoid,
    "hardswish": torch.nn.Hardswish,
    "softshrink": torch.nn.Softshrink,
    "hardshrink": torch.nn.Hardshrink,
    "tanhshrink": torch.nn.Tanhshrink,
    "erf": lambda: Pointwise(torch.erf),
    "arctan": lambda: Pointwise(torch.atan),
    "sin": lambda: Pointwise(torch.sin),
    "cos": lambda: Pointwise(torch.cos),
    "exp": lambda: Pointwise(torch.exp),
    "abs": lambda: Pointwise(torch.abs),
}


class Pointwise(torch.nn.Module):
    """A module around one of PyTorch's elementwise functions that has no module of its own."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.function(z)

    def extra_repr(self) -> str:
        return str(getattr(self.function, "__name__", self.function))


@dataclass(frozen=True)
class Variance:
    """A measured variance and its standard error."""

    value: float
    error: float


def measured_variances(
    model: torch.nn.Module, example_input: Any = None, *, activation: Given = None
) -> dict[str, Any]:
    """C_W = n_{ℓ−1} E W² and C_b = E b² of every layer, from the parameters as they are, each with its standard error.

    Returns
        {"C_b": [Variance, …], "C_W": [Variance, …]}, first layer first; a layer without biases has C_b = 0 exactly. The
        error of C_W is about C_W √(2/number of weights).
    """
    reading = read_model(model, example_input, activation=activation)
    zero = Variance(0.0, 0.0)
    return {
        "C_b": [zero if layer.bias is None else _mean_square(layer.bias, 1.0) for layer in reading.layers],
        "C_W": [_mean_square(layer.weight, float(layer.fan_in)) for layer in reading.layers],
    }


def _mean_square(parameter: torch.nn.Parameter, factor: float) -> Variance:
    square = factor * parameter.detach().double().square().flatten()
    error = float(square.std()) / square.numel() ** 0.5 if square.numel() > 1 else float(square.mean())
    return Variance(float(square.mean()), error)


def to_spec(
    model: torch.nn.Module,
    *,
    C_b: PerLayer = None,
    C_W: PerLayer = None,
    lambda_b: PerLayer = None,
    lambda_W: PerLayer = None,
    example_input: Any = None,
    activation: Given = None,
) -> MLP | ResidualMLP:
    """The `MLP` of a model that is a chain of `Linear` layers with one activation, or its `ResidualMLP`.

    Equation: z⁽ℓ⁺¹⁾ = b + W σ(z⁽ℓ⁾), or z⁽ℓ⁺¹⁾ = γ z⁽ℓ⁾ + ξ (b + W σ(z⁽ℓ⁾)) from hidden layer to hidden layer, the
    variances of W and b taken from the parameters that the model has now. Source: PDLT ch. 2, App. B.

    Arguments
        model: as `read_model` reads it. An activation after the last layer is refused: outputs are preactivations.
            Dropout is left out, as in eval mode.
        C_b, C_W: variances as declared; None: measured, which `measured_variances` gives with their errors. Biases are
            few, so that C_b of one layer is known to √(2/n) only: declare it where you know it.
        lambda_b, lambda_W: learning rates. None: plain SGD, one rate for every parameter: λ_b = 1, λ_W⁽ℓ⁾ = n_{ℓ−1}.
        example_input, activation: as for `critical_init_`; an example is needed where no shape can be guessed.

    Raises
        InputError: for a model that is not such a chain, naming what it has instead; for one that changes its inputs
            before the first layer (a normalisation, a factor), since predictions are for the numbers that this reads.

    >>> import finitewidth as fw, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 1))
    >>> fw.torch.to_spec(model, C_b=0.1, C_W=2.0)  # doctest: +ELLIPSIS
    MLP(activation=Activation(gelu), depth=2, width=8, n_in=4, n_out=1, C_b=0.1, C_W=2.0, lambda_b=1.0, lambda_W=(4...
    """
    reading = read_model(model, example_input, activation=activation)
    stream = _checked(reading)
    measured = measured_variances(model, example_input, activation=activation)
    fan_in = [float(layer.fan_in) for layer in reading.layers]
    functions = hidden_activations(reading) if stream is None else stream.activations
    net = MLP(
        _one_activation(functions),
        depth=len(fan_in),
        width=_equal([layer.fan_out for layer in reading.layers[:-1]]),
        n_in=int(fan_in[0]),
        n_out=reading.layers[-1].fan_out,
        C_b=[v.value for v in measured["C_b"]] if C_b is None else C_b,
        C_W=[v.value for v in measured["C_W"]] if C_W is None else C_W,
        lambda_b=1.0 if lambda_b is None else lambda_b,
        lambda_W=fan_in if lambda_W is None else lambda_W,
    )
    if stream is None:
        return net
    return ResidualMLP(**{f.name: getattr(net, f.name) for f in fields(net)}, gamma=stream.gamma, xi=stream.xi)


def _checked(reading: Reading) -> Stream | None:
    """The residual stream of a model, None where it is a chain; refuses what is neither."""
    for layer in reading.layers:
        if layer.kind != "linear":
            raise InputError(f"`model`: {layer.path!r} is a {layer.kind} layer; an MLP has Linear layers only")
    if is_residual(reading):
        stream = residual_stream(reading)
        _check_between(reading, SHAPE)
        return stream
    check_chain(reading, _CHAIN)
    _check_between(reading, _CHAIN)
    if not all(isinstance(stripped(output), Preactivation) for output in reading.outputs):
        raise InputError("`model` has an activation after its last layer; give the model without it")
    return None


def _check_between(reading: Reading, remedy: str) -> None:
    """Refuse models whose layers read something else than the inputs and all neurons before them as they are."""
    source = stripped(reading.calls[0].source)
    if isinstance(source, Data) and not source.is_input:
        raise InputError(
            f"`model` changes its inputs before {reading.layers[0].path!r} reads them; give the layers from there on, "
            "and predict for inputs changed in the same way"
        )
    if change := changed_between_layers(reading, dropout=False):
        raise InputError(f"`model` has {change}; {remedy}")


def _one_activation(functions: list[Elementwise | None]) -> Activation | str:
    texts = sorted({"none" if f is None else f.text for f in functions})
    if len(texts) > 1:
        raise InputError(
            f"`model` has different activations ({', '.join(texts)}); an MLP has one for all hidden layers"
        )
    return "linear" if not functions or functions[0] is None else functions[0].activation


def _equal(widths: list[int]) -> int | list[int]:
    return widths[0] if widths and len(set(widths)) == 1 else widths


def from_spec(
    net: Architecture,
    *,
    activation: torch.nn.Module | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> torch.nn.Sequential:
    """A `torch.nn.Sequential` of `net`, its weights and biases drawn from Gaussians of `net`'s variances.

    Of a `ResidualMLP`, the layers between the first and the last are modules z ← γ z + ξ Linear(σ(z)).

    Source: PDLT ch. 2, App. B. The learning rates of `net` are not part of a model: `param_groups` makes groups.

    Arguments
        net: an `MLP` or `ResidualMLP` with `n_in` given.
        activation: PyTorch's module for `net.activation`; needed for an activation that is not in the catalogue. It is
            compared with `net.activation` before use.
        generator: for reproducible draws. dtype, device: of the parameters; None: PyTorch's defaults.

    Raises
        InputError: without `n_in`, for an activation that PyTorch does not have, or one that differs from `net`'s.
    """
    if not isinstance(net, Architecture):
        raise InputError(f"`net` must be a finitewidth.MLP or ResidualMLP, but got {net!r}")
    if net.n_in is None:
        raise InputError("`net` has no `n_in`, the number of components of an input; give it")
    nonlinearity = _module(net.activation) if activation is None else _same(activation, net.activation)
    widths = (net.n_in, *net.widths, net.n_out)
    modules: list[torch.nn.Module] = []
    for l, (fan_in, fan_out) in enumerate(pairwise(widths)):
        layer = torch.nn.Linear(fan_in, fan_out, dtype=dtype, device=device)
        with torch.no_grad():
            layer.weight.normal_(0.0, float(np.sqrt(net.per_layer("C_W")[l] / fan_in)), generator=generator)
            layer.bias.normal_(0.0, float(np.sqrt(net.per_layer("C_b")[l])), generator=generator)
        if isinstance(net, ResidualMLP) and 0 < l < net.depth - 1:
            modules.append(Residual(layer, nonlinearity, net.gamma, net.xi))
        else:
            modules += [nonlinearity, layer] if l else [layer]
    return torch.nn.Sequential(*modules)


def _module(activation: Activation) -> torch.nn.Module:
    recipe = activation.recipe if isinstance(activation, Known) else ""
    head, _, rest = recipe.partition("(")
    if head not in _MODULES:
        raise InputError(
            f"`net.activation` {activation.name!r} has no module in PyTorch; give one as activation=a torch.nn.Module"
        )
    parameters = [float(number) for number in rest.rstrip(")").split(",") if number.strip()]
    return _same(_MODULES[head](*parameters), activation)


def _same(module: torch.nn.Module, activation: Activation) -> torch.nn.Module:
    """`module`, if it computes what `activation` does."""
    z = np.linspace(-8.0, 8.0, 513)
    read = as_activation(module).evaluate(z)[0]
    if not np.allclose(read, activation.evaluate(z)[0], rtol=1e-5, atol=1e-7):
        raise InputError(
            f"`activation` {module} is not {activation.name!r}, the activation of `net`: their values differ"
        )
    return module
