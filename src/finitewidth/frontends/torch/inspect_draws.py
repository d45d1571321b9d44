"""Fresh initialisations of a model, without touching it: from a function that builds it, or by `reset_parameters`."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from finitewidth.errors import InputError
from finitewidth.frontends.torch.inspect_layers import weighted

Build = Callable[[], nn.Module]

MISFIT = 8.0
"""Standard errors of a standard deviation beyond which weights are said not to come from `reset_parameters`."""


@contextmanager
def seeded(seed: int, model: nn.Module | None = None) -> Iterator[None]:
    """PyTorch's random numbers from this seed on, and the user's state again afterwards."""
    tensors = [] if model is None else [*model.parameters(), *model.buffers()]
    devices = sorted({t.device.index or 0 for t in tensors if t.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def duplicate(model: nn.Module) -> nn.Module:
    """A deep copy; what cannot be copied is said in one line."""
    try:
        return copy.deepcopy(model)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"`model` cannot be copied ({reason}); give a function that builds it instead") from error


def checked(model: Any, name: str = "model") -> nn.Module:
    """A module whose parameters can be measured."""
    if not isinstance(model, nn.Module):
        raise InputError(f"`{name}` must be a torch.nn.Module, or a function that builds one, but got {model!r:.100}")
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) and (weighted(module) or module is model):
            where = f"`{name}`: {path!r}" if path else f"`{name}`"
            raise InputError(f"{where} is a compiled {type(module).__name__}; give the module that it was made from")
    lazy = next((path for path, p in model.named_parameters() if isinstance(p, nn.UninitializedParameter)), None)
    if lazy is not None:
        raise InputError(f"`{name}` has lazy parameters ({lazy}); call it once on a batch so that they get shapes")
    parameters = list(model.named_parameters())
    if not any(p.dim() >= 2 for _, p in parameters):
        raise InputError(f"`{name}` {type(model).__name__} has no weights; there is no layer to measure")
    for path, p in parameters:
        if p.device.type == "meta":
            raise InputError(f"`{name}` has parameters without numbers, on the meta device ({path}); build it on cpu")
        if p.is_complex():
            raise InputError(f"`{name}` has complex parameters ({path}), but what is measured is of real networks")
        if p.dtype not in (torch.float32, torch.float64):
            kind = str(p.dtype).removeprefix("torch.")
            raise InputError(
                f"`{name}` has parameters of type {kind} ({path}), in which squares and fourth powers are lost; "
                "measure model.float()"
            )
        if not bool(torch.isfinite(p).all()):
            raise InputError(f"`{name}` has parameters that are not finite ({path}); initialise it anew")
    return model


def built(build: Build) -> nn.Module:
    """What the function builds, checked."""
    try:
        model = build()
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"`model`, a function that builds one, fails: {type(error).__name__}: {reason}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"`model` is a function that must return a torch.nn.Module, but returned {model!r:.100}")
    return checked(model)


def reset(model: nn.Module) -> list[str]:
    """Draw the parameters of every module anew as its constructor does; frozen ones stay.

    Returns the names of parameters that need gradients and are not redrawn, because no module knows how.
    """
    kept = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    unknown = []
    for path, module in model.named_modules():
        own = [(name, p) for name, p in module.named_parameters(recurse=False) if p.requires_grad]
        if isinstance(module, nn.MultiheadAttention):
            _reset_attention(module)
        elif callable(method := getattr(module, "reset_parameters", None)):
            method()
        else:
            unknown += [f"{path}.{name}" if path else name for name, _ in own]
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name in kept:
                p.copy_(kept[name])
    return unknown


def _reset_attention(module: nn.MultiheadAttention) -> None:
    """As its constructor does (its own method for this is private); out_proj is a Linear, which resets itself."""
    for name, p in module.named_parameters(recurse=False):
        if p.dim() < 2:
            nn.init.zeros_(p)
        elif name in ("bias_k", "bias_v"):
            nn.init.xavier_normal_(p)
        else:
            nn.init.xavier_uniform_(p)


def misfit(model: nn.Module, fresh: nn.Module) -> str | None:
    """The first weights of `model` that are not of the size that a fresh draw has, in words; None if all are."""
    drawn = dict(fresh.named_parameters())
    for name, p in model.named_parameters():
        if not p.requires_grad or p.dim() < 2 or p.numel() < 64:
            continue
        mine, theirs = float(p.detach().double().std()), float(drawn[name].detach().double().std())
        error = (2 / p.numel()) ** 0.5  # of the ratio of two standard deviations, for Gaussians
        if abs(mine / theirs - 1) > MISFIT * error if theirs > 0 else mine > 0:
            return f"{name} has standard deviation {mine:.3g}, reset_parameters draws {theirs:.3g}"
    return None
