"""Ensembles of PyTorch modules, as they are built: no theory of them is needed.

Network number k is what `build_module()` returns after `torch.manual_seed(s_k)`, s_k from the seed and k. Everything
else (ledger, engines, errors, resuming) is that of `fw.ensemble`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finitewidth.data import check_inputs
from finitewidth.errors import InputError
from finitewidth.experiments import arguments
from finitewidth.experiments.descriptions import describe_array, describe_function
from finitewidth.experiments.ensembles import observed
from finitewidth.experiments.experiment import Quantity
from finitewidth.experiments.observables import Observable, quantities_of
from finitewidth.experiments.runs import Progress, Run, run

PER_PARAMETER = 100.0  # floating-point operations that building and drawing a module takes, roughly


class Module:
    """One drawn module, as an observable sees it. module: itself. x: the inputs, a tensor."""

    def __init__(self, module: torch.nn.Module, x: torch.Tensor) -> None:
        self.module, self.x = module, x

    def z(self, layer: int | None = None) -> np.ndarray:
        """z_ia, (outputs, N): what the module returns, its other axes flattened."""
        if layer not in (None, -1):
            raise InputError(
                f"`layer` of a module can only be its output, None, but got {layer!r}; read it in `module`"
            )
        with torch.no_grad():
            return self.module(self.x).reshape(self.x.shape[0], -1).T.double().numpy()


class Modules:
    """Modules by their number, as an experiment."""

    together = 1

    def __init__(
        self, build_module: Callable[[], torch.nn.Module], x: np.ndarray, observables: Sequence[Observable], seed: int
    ) -> None:
        self.build, self.x, self.observables, self.seed = build_module, x, tuple(observables), seed
        with torch.random.fork_rng(devices=[]):
            module = build_module()
        if not isinstance(module, torch.nn.Module):
            raise InputError(f"`build_module` must return a torch.nn.Module, but returned {module!r}")
        self._text = repr(module)
        self.parameters = sum(each.numel() for each in module.parameters())

    @property
    def cost(self) -> float:
        return 1e5 + self.parameters * (PER_PARAMETER + 2 * self.x.shape[0])

    def describe(self) -> Mapping[str, Any]:
        return {
            "draw": f"torch {torch.__version__}",
            "net": {"build_module": describe_function(self.build), "module": self._text},
            "x": describe_array(self.x),
            "seed": self.seed,
            "observables": {
                each.name: [describe_function(each.function), describe_function(each.statistic)]
                for each in self.observables
            },
        }

    def contributions(self, numbers: np.ndarray) -> Mapping[str, np.ndarray]:
        digest = hashlib.sha256(f"{self.seed} {int(numbers[0])}".encode()).digest()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            module = self.build().eval()
        first = next(module.parameters(), torch.zeros(0))
        network = Module(module, torch.as_tensor(self.x, dtype=first.dtype))
        found: dict[str, np.ndarray] = {}
        for observable in self.observables:
            found |= {name: np.asarray(each)[None] for name, each in observable.contributions(network).items()}
        return found

    def quantities(self) -> Mapping[str, Quantity]:
        return quantities_of(self.observables)


def ensemble(
    build_module: Callable[[], torch.nn.Module],
    x: Any,
    *,
    observables: Sequence[Any],
    n_networks: int,
    seed: int = 0,
    path: str | Path | None = None,
    engine: str | None = None,
    workers: int | None = None,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Run:
    """Build modules and measure them; one at a time, in as many processes as asked for.

    Arguments
        build_module: a function without arguments that returns a freshly drawn `torch.nn.Module`; with
            engine="processes", one that can be sent (a function of a module, not a lambda).
        x: (N, n_in) inputs; given to the module in the precision of its parameters.
        observables: those of `fw.observables` that read outputs (moment, cumulant, histogram), and functions decorated
            with `fw.observable`, which see `network.module`, `network.x` and `network.z()`.
        engine: None in this process, one after the other, for PyTorch's random numbers are the process' own;
            "processes", or the address of a scheduler whose workers have one thread each.
        Others: as for `fw.ensemble`.

    Raises
        InputError: naming the argument, its value and the remedy.
    """
    if not callable(build_module):
        raise InputError(f"`build_module` must be a function that returns a module, but got {build_module!r}")
    if engine in (None, "threads"):
        if workers not in (None, 1):
            raise InputError(f"`workers` of modules in this process is 1, but got {workers}; use engine='processes'")
        workers = 1
    made = Modules(build_module, check_inputs(x), observed(observables), arguments.seed(seed))
    return run(made, n_networks=n_networks, path=path, engine=engine, workers=workers, chunk=chunk, progress=progress)
