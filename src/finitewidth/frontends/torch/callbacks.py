"""Watching a model while it trains: the size of preactivations and of gradients, layer by layer.

`SignalMonitor` measures; the two callbacks bring it to Lightning and to the Trainer of Hugging Face, without which this
module works as well: neither is imported before it is asked for.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

from finitewidth.architecture import whole_number
from finitewidth.errors import InputError
from finitewidth.frontends.torch.model import LAYERS


class SignalMonitor:
    """Mean squares of what layers return in the last forward pass, and of the gradients of their weights.

    Arguments
        model: any `torch.nn.Module`; its `Linear` and `Conv1d/2d/3d` modules are watched until `close`.

    Raises
        InputError: for a model without such layers.

    >>> import finitewidth as fw, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False))
    >>> torch.nn.init.ones_(model[0].weight).tolist()
    [[1.0, 1.0]]
    >>> monitor = fw.torch.SignalMonitor(model)
    >>> model(torch.tensor([[1.0, 2.0]])).sum().backward()
    >>> monitor.measured()
    {'preactivation/0': 9.0, 'gradient/0': 2.5}
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._layers = {path: m for path, m in model.named_modules() if isinstance(m, LAYERS)}
        if not self._layers:
            raise InputError("`model` has no Linear or Conv1d/2d/3d layers: there is nothing to watch")
        self._seen: dict[str, torch.Tensor] = {}
        self._hooks = [m.register_forward_hook(self._hook(path)) for path, m in self._layers.items()]

    def _hook(self, path: str) -> Callable[..., None]:
        def hook(module: Any, args: Any, output: torch.Tensor) -> None:
            self._seen[path] = output.detach().float().square().mean()  # no .item(): it would wait for the device

        return hook

    def measured(self) -> dict[str, float]:
        """`preactivation/<path>` and, of weights that are parameters and have one, `gradient/<path>`: mean squares."""
        values = {f"preactivation/{path}": float(value) for path, value in self._seen.items()}
        for path, layer in self._layers.items():
            # not layer.weight: a parametrized one is computed anew, which for spectral_norm changes its buffers
            weight = dict(layer.named_parameters(recurse=False)).get("weight")
            if weight is not None and weight.grad is not None:
                values[f"gradient/{path}"] = float(weight.grad.detach().float().square().mean())
        return values

    def close(self) -> None:
        """Stop watching."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


def lightning_callback(*, every_n_steps: int = 100) -> Any:
    """A Lightning callback that logs what `SignalMonitor` measures, before every n-th step of an optimizer.

    Then the gradients of accumulated batches are complete, and those of mixed precision no longer scaled.

    Raises
        ImportError: without Lightning.
    """
    every = whole_number("every_n_steps", every_n_steps)
    base = _first_of(("lightning.pytorch", "pytorch_lightning"), "Callback", "lightning")

    class Signals(base):  # type: ignore[misc, valid-type]
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.monitor = SignalMonitor(pl_module)

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            if trainer.global_step % every == 0:
                pl_module.log_dict({f"signals/{name}": v for name, v in self.monitor.measured().items()})

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            self.monitor.close()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            if hasattr(self, "monitor"):
                self.monitor.close()

    return Signals()


def trainer_callback(trainer: Any, *, every_n_steps: int = 100) -> Any:
    """A callback for the Trainer of Hugging Face: `trainer.add_callback(trainer_callback(trainer))`.

    It logs through `trainer.log`, and so to wherever the trainer reports.

    Raises
        ImportError: without transformers.
    """
    every = whole_number("every_n_steps", every_n_steps)
    base = _first_of(("transformers",), "TrainerCallback", "transformers")

    class Signals(base):  # type: ignore[misc, valid-type]
        def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, **others: Any) -> None:
            self.monitor = SignalMonitor(model)

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.global_step % every == 0:  # gradients are there, and not yet set to zero
                trainer.log({f"signals/{name}": v for name, v in self.monitor.measured().items()})

        def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            self.monitor.close()

    return Signals()


def _first_of(modules: tuple[str, ...], name: str, package: str) -> Any:
    for module in modules:
        try:
            return getattr(import_module(module), name)
        except ImportError:
            continue
    raise ImportError(f"this callback needs {package}: pip install {package}")
