"""Which modules of people's own are linear in their one matrix, and so can be rescaled: found by trying.

transformers' `Conv1D` of GPT-2, a layer that writes `x @ self.weight`: z(W) = z(0) + W·(what comes in), checked as
z(2W) − z(0) = 2 (z(W) − z(0)) on what the module is called with.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from finitewidth.frontends.torch.inspect_layers import call, first_tensor, weighted


def linear_matrices(model: nn.Module, batch: Any) -> dict[nn.Module, str]:
    """By module, the name of the matrix that its outputs are linear in; of modules that own a single one."""
    found: dict[nn.Module, str] = {}
    candidates = {module: name for module in model.modules() if (name := _only_matrix(module)) is not None}

    def watch(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        z, name = first_tensor(output), candidates.pop(module, None)  # once: trying it calls it again
        if z is not None and name is not None and _is_linear(module, name, args, kwargs, z):
            found[module] = name

    with ExitStack() as hooks, torch.no_grad():
        for module in candidates:
            hooks.callback(module.register_forward_hook(watch, with_kwargs=True).remove)
        call(model, batch)
    return found


def _only_matrix(module: nn.Module) -> str | None:
    if not weighted(module) or nn.utils.parametrize.is_parametrized(module):
        return None
    matrices = [name for name, p in module.named_parameters(recurse=False) if p.dim() >= 2]
    return matrices[0] if len(matrices) == 1 else None


def _is_linear(module: nn.Module, name: str, args: Any, kwargs: Any, z: torch.Tensor) -> bool:
    matrix = getattr(module, name).detach()
    at = [first_tensor(torch.func.functional_call(module, {name: c * matrix}, args, kwargs)) for c in (0.0, 2.0)]
    if any(each is None or each.shape != z.shape for each in at):
        return False
    without, twice = at
    assert without is not None and twice is not None
    # a weight that is normalised gives the same at twice its size, and NaN at none
    return bool(((twice - without) - 2 * (z - without)).norm() <= 1e-4 * (z - without).norm())
