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
from finitewidth.experiments import arguments, observable_checks
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
            return self.module(self.x).reshape(self.x.shape[0], -1).T.double().cpu().numpy()


class Modules:
    """Modules by their number, as an experiment."""

    together = 1

    def __init__(
        self, build_module: Callable[[], torch.nn.Module], x: np.ndarray, observables: Sequence[Observable], seed: int
    ) -> None:
        self.build, self.x, self.observables, self.seed = build_module, x, tuple(observables), seed
        module = self.drawn(0)
        _check_module(module, again=self.drawn(0))
        self._text = repr(module)
        self.parameters = sum(each.numel() for each in module.parameters())
        network = self._network(module)
        observable_checks.check(
            self.observables, lambda each: each.contributions(network), of="a function of one drawn module"
        )

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

    def drawn(self, number: int) -> torch.nn.Module:
        """The module of this number."""
        digest = hashlib.sha256(f"{self.seed} {number}".encode()).digest()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            return self.build()

    def _network(self, module: torch.nn.Module) -> Module:
        first = next(module.parameters(), torch.zeros(0))
        return Module(module.eval(), torch.as_tensor(self.x, dtype=first.dtype, device=first.device))

    def contributions(self, numbers: np.ndarray) -> Mapping[str, np.ndarray]:
        network = self._network(self.drawn(int(numbers[0])))
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
        x: (N, …) inputs, such as (N, n_in) or images (N, channels, height, width); given to the module in the precision
            and on the device of its parameters.
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
    if isinstance(observables, Sequence) and (names := [each for each in observables if isinstance(each, str)]):
        raise InputError(
            f"`observables` has {names[0]!r}, a name of what fw.MLP networks have; of modules ask for what "
            "fw.observables makes, such as moment('ii'), or for functions of your own"
        )
    made = Modules(build_module, _inputs(x), observed(observables), arguments.seed(seed))
    return run(made, n_networks=n_networks, path=path, engine=engine, workers=workers, chunk=chunk, progress=progress)


def _inputs(x: Any) -> np.ndarray:
    """`x` with whatever axes an input has, its numbers checked."""
    array = np.asarray(x.detach().cpu() if isinstance(x, torch.Tensor) else x)
    if array.ndim <= 2 or not array.size:
        return check_inputs(x)
    return check_inputs(array.reshape(len(array), -1)).reshape(array.shape)


def _check_module(module: Any, *, again: Any) -> None:
    """A module, and the same module once more.

    Raises
        InputError: when it is none, or when the two differ: then no run could be repeated or gone on with.
    """
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"`build_module` must return a torch.nn.Module, but returned {module!r}")
    named = dict(module.named_parameters())
    if lazy := [name for name, each in named.items() if isinstance(each, torch.nn.parameter.UninitializedParameter)]:
        raise InputError(
            f"`build_module` returns a module whose {lazy[0]} has no numbers yet; run it once in `build_module`, on "
            "inputs such as those in `x`"
        )
    for name, each in again.named_parameters():
        if not torch.equal(each, named[name]):
            raise InputError(
                f"`build_module` returns another {name} for the same seed of PyTorch; draw with PyTorch's own random "
                "numbers, and leave their seed alone"
            )
