"""`fw.torch.inspect`: signals and gradients of a user's own model, measured layer by layer over fresh draws."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from finitewidth.errors import InputError
from finitewidth.frontends.moments import (
    Value,
    contributions,
    mean_over_initialisations,
    over_initialisations,
    over_inputs,
    root_mean_square,
)
from finitewidth.frontends.torch.inspect_draws import Build, built, checked, duplicate, misfit, reset, seeded
from finitewidth.frontends.torch.inspect_layers import (
    Layer,
    Run,
    arranged,
    batch_size,
    by_unit,
    normal_like,
    partial_jacobian,
    pulled_back,
    run,
)
from finitewidth.report.inspection import Column, Inspection, column

PROBES = 8
"""Random directions of the output, where one network is measured: its gradient norms get their errors from these."""

_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass
class Draw:
    """What one network contributes."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    neurons: tuple[int, ...]
    weights: tuple[str, ...]
    moments: list[dict[str, np.ndarray]]
    chi: list[np.ndarray | None]
    jacobian: list[list[np.ndarray | None]] = field(default_factory=list)  # by probe, by layer
    gradients: list[dict[str, float]] = field(default_factory=list)  # by probe, by parameter
    variances: tuple[tuple[float, ...], ...] = ()  # of weights and biases by layer, for theory


def inspect(
    model: nn.Module | Build,
    batch: Any,
    *,
    initialisations: int | None = 10,
    initialise: Callable[[nn.Module], Any] | None = None,
    theory: bool = True,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """What a model does to signals and gradients, layer by layer, measured on freshly initialised copies of it.

        K = E z² ,   χ⁽ℓ⁾ = E |∂z⁽ℓ⁾/∂z⁽ℓ⁻¹⁾|²/n_ℓ ,   J⁽ℓ⁾ = E |∂z⁽ᴸ⁾/∂z⁽ℓ⁾|²/n_L ,   g = √E |vᵀ∂z⁽ᴸ⁾/∂W⁽ℓ⁾|²/n_L ,

    |·| the Frobenius norm, from backward passes along random directions v; the angle between inputs, the excess
    kurtosis of a neuron and the correlation of two neurons' squares. Each with the standard error of its average over
    initialisations (and, with it, over random directions). A layer is a module that owns a matrix; z, its output,
    counts as (inputs, neurons, positions), channels as neurons. Where the model is an MLP with one activation, theory
    stands beside: K and kurtosis to first order in 1/n, the rest to the first order that it has.

    Source: partial Jacobians, Doshi, He and Gromov, arXiv:2111.12143; theory, PDLT ch. 4, 5, 8.

    Arguments
        model: a module, of which copies are measured, or a function without arguments that builds one.
        batch: what the model is called with: a tensor with one input a row, a tuple of arguments, or a dictionary.
        initialisations: how many networks to draw, ≥ 2. None: the weights as they are (a trained model, say); errors
            then come from the spread between inputs and between random directions.
        initialise: called with each copy to initialise it, for instance `torch.nn.init` over its parameters. By default
            every module's `reset_parameters`; a function that builds the model needs neither.
        theory: whether to compute what theory expects, which takes some ten seconds.
        seed: of the weights and the random directions; the same seed gives the same numbers.
        progress: called with (networks done, networks in all).

    Returns
        An `Inspection`: print it for a table and a verdict; `.columns`, `.save_picture(file)`, `.to_dict()`.

    The model, its buffers and mode and PyTorch's random state are as before. Fresh copies run in the model's own mode,
    except that BatchNorm takes the statistics of the batch: running statistics of other weights mean nothing.

    Raises
        InputError: naming the argument, its value and the remedy: no layers, weights in half precision or on the meta
            device, a batch that does not fit, weights that `reset_parameters` would not draw.

    >>> import torch, finitewidth as fw
    >>> model = torch.nn.Sequential(torch.nn.Linear(9, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    >>> found = fw.torch.inspect(model, torch.randn(8, 9), initialisations=2, theory=False)
    >>> found.layers
    ('0', '2')
    """
    _check(initialisations, seed, initialise)
    inputs = batch_size(batch)
    draws: list[Draw] = []
    notes, how = _Notes(), ""
    with seeded(seed, model if isinstance(model, nn.Module) else None):
        for network, drawn in _networks(model, initialisations, initialise, notes):
            how = drawn
            draws.append(_measure(network, batch, inputs, PROBES if initialisations is None else 1, notes))
            if draws[-1].names != draws[0].names:
                raise InputError(
                    "`model` runs different layers from one initialisation to the next; measure one as it is"
                )
            if progress is not None:
                progress(len(draws), initialisations or 1)
    found = _inspection(model, draws, initialisations or 0, inputs, how, notes)
    return found if initialisations is None or not theory else _with_theory(found, model, batch, draws)


class _Notes(list[str]):
    """Remarks, each once."""

    def say(self, text: str) -> None:
        if text not in self:
            self.append(text)


def _check(initialisations: Any, seed: Any, initialise: Any) -> None:
    if initialisations is not None and (
        isinstance(initialisations, bool) or not isinstance(initialisations, int) or initialisations < 2
    ):
        raise InputError(
            f"`initialisations` must be an integer ≥ 2 (one shows no spread), or None for the weights as they are; got "
            f"{initialisations!r}"
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"`seed` must be an integer ≥ 0, but got {seed!r}")
    if initialise is not None and not callable(initialise):
        raise InputError(f"`initialise` must be a function of a module, but got {initialise!r}")
    if initialise is not None and initialisations is None:
        raise InputError(
            "`initialise` is given, but initialisations=None takes the weights as they are; give one of them"
        )


def _networks(
    model: nn.Module | Build, initialisations: int | None, initialise: Callable[[nn.Module], Any] | None, notes: _Notes
) -> Iterator[tuple[nn.Module, str]]:
    """Networks to be measured, each free to be changed, and how they were drawn."""
    if not isinstance(model, nn.Module) and not callable(model):
        raise InputError(f"`model` must be a torch.nn.Module or a function that builds one, but got {model!r:.100}")
    if isinstance(model, nn.Module):
        checked(model)
    if initialisations is None:
        yield _another(model), "weights as they are"
        return
    for i in range(initialisations):
        network = _another(model)
        if initialise is not None:
            initialise(network)
            how = f"initialised by {getattr(initialise, '__name__', 'a function of yours')}"
        elif isinstance(model, nn.Module):
            unknown, how = reset(network), "initialised by reset_parameters"
            if i == 0:
                _refuse_misfit(model, network)
                _tell_kept(model, unknown, notes)
        else:
            how = f"built by {getattr(model, '__name__', 'a function of yours')}"
        if initialise is not None:
            checked(network)
        _own_statistics(network, notes)
        yield network, how


def _another(model: nn.Module | Build) -> nn.Module:
    """A network to be changed: a copy, or a newly built one."""
    return duplicate(model) if isinstance(model, nn.Module) else built(model)


def _refuse_misfit(model: nn.Module, fresh: nn.Module) -> None:
    if (how := misfit(model, fresh)) is not None:
        raise InputError(
            f"`model` was not initialised by reset_parameters: {how}. To measure yours, give a function that builds "
            "the model in place of it, or initialise=…, or initialisations=None for these weights alone"
        )


def _tell_kept(model: nn.Module, unknown: list[str], notes: _Notes) -> None:
    if unknown:
        notes.say(f"not redrawn, since no module has a reset_parameters for it: {_listed(unknown)}")
    if frozen := [name for name, p in model.named_parameters() if not p.requires_grad]:
        notes.say(f"frozen, and left as it is: {_listed(frozen)}")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _own_statistics(network: nn.Module, notes: _Notes) -> None:
    for module in network.modules():
        if isinstance(module, _NORMALISATIONS) and not module.training:
            module.train()
            notes.say("the model is in eval mode, but its BatchNorm was given the statistics of the batch")


def _measure(network: nn.Module, batch: Any, inputs: int, probes: int, notes: _Notes) -> Draw:
    """One network: moments of its layers, Jacobians between neighbours, and from the output back."""
    ran = run(network, batch)
    layers = ran.layers
    draw = Draw(
        names=tuple(layer.name for layer in layers),
        kinds=tuple(_kind(layer.module) for layer in layers),
        neurons=tuple(int(by_unit(layer, inputs).shape[1]) for layer in layers),
        weights=tuple(_weights(layer) for layer in layers),
        moments=[contributions(by_unit(layer, inputs).detach().double().cpu().numpy()) for layer in layers],
        chi=[partial_jacobian(layers, i, inputs) for i in range(len(layers))],
        variances=tuple(_variances(layer.module) for layer in layers),
    )
    if any(len(m["K"]) != inputs for m in draw.moments):
        notes.say(
            f"some layers do not have the batch’s {inputs} inputs along their first axis; angles are between rows"
        )
    parameters = dict(network.named_parameters())
    for _ in range(probes):
        jacobian, gradients = _from_the_output(ran, parameters, inputs)
        draw.jacobian.append(jacobian)
        draw.gradients.append(gradients)
    aside = [n for n, j in zip(draw.names, draw.jacobian[0], strict=True) if j is None]
    if aside:
        notes.say(f"the output does not depend on {_listed(aside)}")
    return draw


def _from_the_output(
    ran: Run, parameters: dict[str, nn.Parameter], inputs: int
) -> tuple[list[np.ndarray | None], dict[str, float]]:
    """|∂z⁽ᴸ⁾/∂z⁽ℓ⁾|² per output for each input, and E |vᵀ∂z⁽ᴸ⁾/∂θ|² per output and input.

    One backward pass from Σ_a v_a·z_a with independent v_a: the inputs' gradients add up, and their cross terms vanish
    on average.
    """
    direction = normal_like(ran.output)
    outputs = ran.output.numel() / inputs
    names = [name for name, p in parameters.items() if p.is_floating_point()]
    wanted = [layer.z for layer in ran.layers] + [parameters[name] for name in names]
    pulled = pulled_back(ran.output, wanted, direction)
    jacobian = [
        None if g is None else (arranged(g, layer.module, inputs).double().square().sum((1, 2)) / outputs).cpu().numpy()
        for layer, g in zip(ran.layers, pulled, strict=False)
    ]
    of_parameters = zip(names, pulled[len(ran.layers) :], strict=True)
    gradients = {
        name: 0.0 if g is None else float(g.to_dense().double().square().sum()) / (outputs * inputs)
        for name, g in of_parameters
    }
    return jacobian, gradients


def _weights(layer: Layer) -> str:
    """The name of the first matrix that a layer owns."""
    own = layer.module.named_parameters(recurse=False)
    name = next((name for name, p in own if p.dim() >= 2), "weight")
    return f"{layer.path}.{name}" if layer.path else name


def _kind(module: nn.Module) -> str:
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.dim() < 2:
        return type(module).__name__
    fan_in, fan_out = weight[0].numel(), weight.shape[0]
    if isinstance(module, nn.Embedding):
        fan_in, fan_out = fan_out, fan_in
    return f"{type(module).__name__} {fan_in} → {fan_out}"


def _variances(module: nn.Module) -> tuple[float, ...]:
    """Mean square and fourth moment of weights and of biases."""
    found: list[float] = []
    for name in ("weight", "bias"):
        values = getattr(module, name, None)
        if isinstance(values, torch.Tensor):
            squares = values.detach().double().square()
            found += [float(squares.mean()), float(squares.square().mean())]
        else:
            found += [0.0, 0.0]
    return tuple(found)


def _inspection(
    model: nn.Module | Build, draws: list[Draw], initialisations: int, inputs: int, how: str, notes: _Notes
) -> Inspection:
    first = draws[0]
    rows: dict[str, list[Value | None]] = {
        key: [] for key in ("K", "angle", "chi", "jacobian", "gradient", "kurtosis", "correlation")
    }
    parameters = {name: root_mean_square([g[name] for d in draws for g in d.gradients]) for name in first.gradients[0]}
    for i, name in enumerate(first.weights):
        moments = [d.moments[i] for d in draws]
        found = over_initialisations(moments, first.neurons[i]) if initialisations else over_inputs(moments[0])
        for key in ("K", "angle", "kurtosis", "correlation"):
            rows[key].append(found.get(key))
        rows["chi"].append(_averaged([d.chi[i] for d in draws]))
        rows["jacobian"].append(
            _averaged([j[i] for d in draws for j in d.jacobian] if initialisations else _by_input(first, i))
        )
        rows["gradient"].append(parameters.get(name))
    columns = {key: column(values) for key, values in rows.items() if any(v is not None for v in values)}
    return Inspection(
        title=_title(model, first),
        layers=first.names,
        kinds=first.kinds,
        columns=columns,
        parameters=parameters,
        initialisations=initialisations,
        inputs=inputs,
        redrawn=how,
        notes=tuple(notes),
    )


def _title(model: nn.Module | Build, draw: Draw) -> str:
    name = type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", "model")
    count = len(draw.names)
    return f"{name}: {count} layer{'s' * (count != 1)}"


def _by_input(draw: Draw, i: int) -> list[np.ndarray | None]:
    """The Jacobian of one network, one number for each input, averaged over directions."""
    by_probe = [jacobian for j in draw.jacobian if (jacobian := j[i]) is not None]
    return list(np.mean(by_probe, axis=0)) if by_probe else [None]


def _averaged(values: list[np.ndarray | None]) -> Value | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    # a single network: from the spread between inputs
    return mean_over_initialisations(known if len(known) > 1 else list(np.atleast_1d(known[0])))


def _with_theory(found: Inspection, model: nn.Module | Build, batch: Any, draws: list[Draw]) -> Inspection:
    from finitewidth.frontends.torch.inspect_theory import predicted

    network = _another(model)
    variances = np.mean([d.variances for d in draws], axis=0)
    columns, why = predicted(network, batch, found.layers, variances)
    merged: dict[str, Column] = {
        key: replace(c, theory=columns[key][0], dropped=columns[key][1]) if key in columns else c
        for key, c in found.columns.items()
    }
    return replace(found, columns=merged, theory=why)
