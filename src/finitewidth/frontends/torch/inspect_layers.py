"""Running a model with its layers watched: their outputs z, and derivatives between them by backward passes.

A layer is a module that owns a matrix (a floating-point parameter of two or more dimensions): Linear, convolutions,
Embedding, MultiheadAttention, LSTM, and anybody's own. Its output is its preactivation z. A module that is called
twice is two layers.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from finitewidth.errors import InputError

LOOK_BACK = 16
"""How many earlier layers are tried as the one that a layer gets its signal from."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One call of a module with weights.

    path, module: which. made: what it returned, as a function of earlier layers. z: the same numbers as later layers
    take them; `made` itself, or, where the run was cut, a leaf of its own.
    """

    name: str
    path: str
    module: nn.Module
    made: torch.Tensor
    z: torch.Tensor


@dataclass(frozen=True, eq=False)
class Run:
    """A forward pass: its layers in the order in which they ran, and the network's output."""

    layers: tuple[Layer, ...]
    output: torch.Tensor


def first_tensor(value: Any) -> torch.Tensor | None:
    """The floating-point tensor that an output consists of, or begins with (logits first, where they are named)."""
    if isinstance(value, torch.Tensor):
        return value if value.is_floating_point() else None
    if isinstance(value, Mapping):
        parts = [value[key] for key in ("logits", "last_hidden_state") if key in value] or list(value.values())
    elif isinstance(value, (tuple, list)):
        parts = list(value)
    elif hasattr(value, "logits"):
        parts = [value.logits]
    else:
        return None
    return next((found for found in map(first_tensor, parts) if found is not None), None)


def _with_first(value: Any, replacement: torch.Tensor) -> Any:
    """`value` with its first tensor replaced; None where that cannot be done."""
    if isinstance(value, torch.Tensor):
        return replacement
    if type(value) in (tuple, list) and isinstance(value[0], torch.Tensor):
        return type(value)([replacement, *value[1:]])
    return None


def weighted(module: nn.Module) -> bool:
    """Whether the module itself owns a matrix."""
    return any(p.is_floating_point() and p.dim() >= 2 for p in module.parameters(recurse=False)) or (
        nn.utils.parametrize.is_parametrized(module) and isinstance(getattr(module, "weight", None), torch.Tensor)
    )


def call(model: nn.Module, batch: Any) -> Any:
    """model(batch), model(*batch) or model(**batch). Errors of the model become one line."""
    try:
        if isinstance(batch, Mapping):
            return model(**batch)
        return model(*batch) if isinstance(batch, (tuple, list)) else model(batch)
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"`model` fails on `batch` ({described(batch)}): {type(error).__name__}: {reason}; give a batch that the "
            "model can be called with (a tensor, a tuple of arguments, or a dictionary of keyword arguments)"
        ) from error


def described(batch: Any) -> str:
    """Shapes and types, for messages."""
    if isinstance(batch, torch.Tensor):
        return f"{tuple(batch.shape)} {str(batch.dtype).removeprefix('torch.')}"
    if isinstance(batch, Mapping):
        return ", ".join(f"{key}: {described(value)}" for key, value in batch.items())
    if isinstance(batch, (tuple, list)):
        return ", ".join(map(described, batch))
    return type(batch).__name__


def tensors(batch: Any) -> list[torch.Tensor]:
    """The tensors of a batch."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        return [t for value in batch.values() for t in tensors(value)]
    return [t for value in batch for t in tensors(value)] if isinstance(batch, (tuple, list)) else []


def batch_size(batch: Any) -> int:
    """The number of inputs in the batch, which is finite numbers."""
    found = tensors(batch)
    if not found or found[0].dim() == 0:
        raise InputError(
            f"`batch` must be a tensor, one input a row, or a tuple or dictionary of them, but got {described(batch)}"
        )
    if found[0].shape[0] == 0:
        raise InputError(f"`batch` has no inputs ({described(batch)}); give at least one, better thirty")
    for tensor in found:
        if tensor.is_meta:
            raise InputError(f"`batch` ({described(batch)}) is on the meta device, without numbers; give it on cpu")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"`batch` ({described(batch)}) has numbers that are not finite; remove or replace them")
    return int(found[0].shape[0])


def run(model: nn.Module, batch: Any, *, cut: bool = False) -> Run:
    """Call the model and record its layers.

    model: a copy that may be changed: every parameter is made to need gradients.
    cut: whether each layer's output goes on as a leaf of its own, so that derivatives reach the nearest layers only.
    """
    layers: list[Layer] = []
    calls: dict[str, int] = {}

    def watch(path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, _: Any, output: Any) -> Any:
            z = first_tensor(output)
            if z is None or z.dim() == 0:
                return None
            calls[path] = calls.get(path, 0) + 1
            name = path or type(module).__name__
            made = z
            if cut or not z.requires_grad:
                z = z.detach().requires_grad_()
            # the network goes on with a copy: an activation in place must not overwrite what is measured
            changed = _with_first(output, z.clone())
            if changed is None:
                return None
            layers.append(Layer(name if calls[path] == 1 else f"{name} (call {calls[path]})", path, module, made, z))
            return changed

        return hook

    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_()
    with ExitStack() as hooks, torch.enable_grad():
        for path, module in model.named_modules():
            if weighted(module):
                hooks.callback(module.register_forward_hook(watch(path)).remove)
        output = first_tensor(call(model, batch))
    if output is None:
        raise InputError("`model` must return a floating-point tensor, or a tuple or dictionary of them, but does not")
    if not layers:
        raise InputError(
            f"`model` {type(model).__name__} calls no module with weights (such as nn.Linear) on this batch: there is "
            "no layer to measure; give a model of such layers"
        )
    return Run(tuple(layers), output)


def by_unit(layer: Layer, inputs: int) -> torch.Tensor:
    """z as (inputs, neurons, positions): channels are neurons; pixels and tokens are positions."""
    return arranged(layer.z, layer.module, inputs)


def arranged(values: torch.Tensor, module: nn.Module, inputs: int) -> torch.Tensor:
    """A tensor shaped as the module's output, as (inputs, neurons, positions)."""
    if values.dim() == 1:
        values = values.unsqueeze(-1)
    if values.shape[0] != inputs and values.dim() > 2 and values.shape[1] == inputs:  # (time, batch, features)
        values = values.transpose(0, 1)
    is_image = hasattr(module, "kernel_size") and values.dim() > 2
    if not is_image:
        values = values.movedim(-1, 1)  # features last
    if values.shape[0] != inputs and values.shape[0] % inputs == 0:  # tokens flattened into the batch
        parts = values.reshape(inputs, values.shape[0] // inputs, *values.shape[1:])
        values = parts.movedim(1, -1)
    return values.reshape(values.shape[0], values.shape[1], -1)


def normal_like(tensor: torch.Tensor) -> torch.Tensor:
    """A random direction of independent standard normals."""
    return torch.randn(tensor.shape, dtype=tensor.dtype, device=tensor.device)


def pulled_back(
    z: torch.Tensor, at: Sequence[torch.Tensor], direction: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:
    """vᵀ ∂z/∂(each of `at`); None for those that z does not depend on."""
    if not z.requires_grad:
        return (None,) * len(at)
    return torch.autograd.grad(z, list(at), direction, retain_graph=True, allow_unused=True)


def partial_jacobian(layers: Sequence[Layer], i: int, inputs: int) -> np.ndarray | None:
    """|∂z⁽ⁱ⁾/∂z⁽ʲ⁾|²_F per neuron of layer i for each input, along one random direction; j is the layer before.

    E |vᵀJ|² = |J|²_F for v of independent standard normals. The layer before is the latest that layer i depends on:
    of parallel branches, not the neighbour.
    """
    z = layers[i].made
    direction = normal_like(z)
    for j in range(i - 1, max(-1, i - 1 - LOOK_BACK), -1):
        (pulled,) = pulled_back(z, [layers[j].z], direction)
        if pulled is not None:
            squares = arranged(pulled, layers[j].module, inputs).double().square().sum((1, 2))
            return (squares / (z.numel() / len(squares))).cpu().numpy()
    return None
