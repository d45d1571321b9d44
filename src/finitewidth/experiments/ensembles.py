"""`finitewidth.ensemble`: observables measured on ensembles of real networks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from finitewidth.architecture import MLP
from finitewidth.errors import InputError
from finitewidth.experiments import arguments
from finitewidth.experiments.experiment import Experiment
from finitewidth.experiments.initial_networks import InitialLayers, InitialNetworks, check
from finitewidth.experiments.observables import Observable, gradient_norms, tensor
from finitewidth.experiments.runs import Progress, Run, run
from finitewidth.experiments.tensors import TENSORS, Outputs

Observed = Observable | str | Callable[[Any], Any]
DRAWS = {"networks": InitialNetworks, "layers": InitialLayers}


class Training(Protocol):
    """What is done to networks before they are measured."""

    @property
    def x_train(self) -> Any:
        """The inputs of training."""

    def experiment(self, net: MLP, x: np.ndarray, observables: Sequence[Any], seed: int) -> Experiment:
        """Trained networks, and what they contribute."""

    def to_json(self) -> Mapping[str, Any]:
        """As a ledger keeps it."""


def ensemble(
    net: MLP,
    x: Any,
    *,
    observables: Sequence[Observed] | None = None,
    n_networks: int,
    seed: int = 0,
    draw: str = "networks",
    training: Training | None = None,
    path: str | Path | None = None,
    engine: str | None = None,
    workers: int | None = None,
    chunk: int | None = None,
    outputs: Outputs | None = None,
    progress: Progress | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Run:
    """Draw networks and measure them: averages over the ensemble, with standard errors.

    Network number k is the same for the same seed, whoever draws it: the estimates do not depend on engine, workers, or
    on how often and when the run was stopped, bit for bit (on one kind of processor and one version of JAX).

    Arguments
        net: the architecture. x: (N, n_in) inputs.
        observables: names of tensors (K, V, Theta, A, B, D, F, P, Q, R, S, T, U, at the output layer, times n),
            "gradient_norms", what `fw.observables` makes (moments, cumulants, kernels, histograms, …), or functions of
            one network, decorated with `fw.observable`. None: K and V; with `training` mean and covariance.
        n_networks: how many, at least 2. Errors fall as its square root.
        seed: an integer from 0 to 2³² − 1.
        draw: "networks" draws all weights. "layers" draws layer by layer without weights, exactly in law (THEORY §3):
            n N² work a layer for n² N, for observables of preactivations and for all tensors.
        training: what is done to each network first; None for networks at initialisation.
        path: of the ledger that keeps what is done, a file on a disk of this machine. What it has of the same run is
            not done again; with a larger n_networks it is extended. Any other file is refused and left as it is.
        engine: None or "threads": all cores of this process. "processes": processes of this machine. The address of a
            Dask scheduler ("tcp://10.0.0.1:8786"): its workers.
        workers: how many threads or processes; as many as cores when None.
        chunk: networks at most in a chunk, the unit of work and of what a kill can cost a worker; a few seconds of work
            when None. It is a part of what the run is.
        outputs: of draw="networks", how many outputs each order of derivatives uses; chosen for efficiency when None.
        progress: called as progress(networks done, of how many) whenever a chunk is done.
        extra: more to be kept in the ledger, as JSON has it.

    Returns
        a `Run`: `run.estimate["V"]` has `value` and `standard_error` with labelled axes; `run.n_networks` are in it,
        `run.n_excluded` more contributed a number that is not finite.

    Raises
        InputError: naming the argument, its value and the remedy.

    >>> import finitewidth as fw
    >>> net = fw.MLP("linear", depth=2, width=8)
    >>> run = fw.ensemble(net, [[1.0]], observables=["V"], n_networks=4000, draw="layers")  # V = 2 K², exactly
    >>> V = run.estimate["V"]
    >>> bool(abs(V.value - 2).item() < 5 * V.standard_error.item())
    True
    """
    net, x, seed = arguments.network(net), arguments.inputs(net, x), arguments.seed(seed)
    net = replace(net, n_in=x.shape[1])
    experiment: Experiment
    kept: dict[str, Any] = {"x": x.tolist() if x.size <= MOST_KEPT else None}
    if training is not None:
        if not hasattr(training, "experiment"):
            raise InputError(
                f"`training` must be a Training, as fw.Training(x_train, y_train, algorithm=…), but got {training!r}"
            )
        if draw != "networks" or outputs is not None:
            raise InputError("`training` trains networks with all their weights; leave out `draw` and `outputs`")
        asked = ("mean", "covariance") if observables is None else observables
        experiment = training.experiment(net, x, asked, seed)
        kept["training"] = training.to_json() if np.size(training.x_train) <= MOST_KEPT else None
    else:
        asked = ("K", "V") if observables is None else observables
        experiment = at_initialisation(net, x, asked, seed=seed, draw=draw, outputs=outputs)
    return run(
        experiment,
        n_networks=n_networks,
        path=path,
        engine=engine,
        workers=workers,
        chunk=chunk,
        progress=progress,
        extra={**kept, **(extra or {})},
    )


MOST_KEPT = 1 << 17  # numbers of the inputs that a ledger keeps, for whoever compares it with a theory


def at_initialisation(
    net: MLP, x: np.ndarray, observables: Sequence[Observed], *, seed: int, draw: str, outputs: Outputs | None = None
) -> InitialNetworks:
    """The experiment of networks that are not trained; checked arguments but for these."""
    if draw not in DRAWS:
        raise InputError(f"`draw` must be 'networks' or 'layers', but got {draw!r}")
    if outputs is not None:
        outputs = arguments.outputs(outputs, ())
    made = DRAWS[draw](net, x, observables=observed(observables), seed=seed, outputs=outputs)
    check(made)
    return made


def observed(observables: Any) -> tuple[Observable, ...]:
    """The observables that are meant, in their order.

    Raises
        InputError: when one is unknown, or two have the same name.
    """
    if isinstance(observables, (str, Observable)) or not isinstance(observables, Sequence) or not observables:
        raise InputError(f"`observables` must be a list such as ['K', 'V'], but got {observables!r}")
    found = tuple(map(_observable, observables))
    names = [each.name for each in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"`observables` has {twice[0]!r} twice; give each its own `name`")
    return found


def _observable(given: Any) -> Observable:
    if isinstance(given, Observable):
        return given
    if isinstance(given, str):
        if given == "gradient_norms":
            return gradient_norms()
        if given in TENSORS:
            return tensor(given)
        from difflib import get_close_matches

        near = [name for name in TENSORS if name.lower() == given.lower()]
        near += get_close_matches(given, [*TENSORS, "gradient_norms"], n=1)
        raise InputError(
            f"`observables` has {given!r}, but the names are {', '.join(TENSORS)} and gradient_norms"
            + (f"; did you mean {near[0]!r}?" if near else "; make others with fw.observables")
        )
    if callable(given):
        raise InputError(
            f"`observables` has the function {getattr(given, '__name__', given)!r}; decorate it with "
            "@fw.observable(dims=(…)), which names the axes of what it returns"
        )
    raise InputError(
        f"`observables` has {given!r}; give names, functions decorated with @fw.observable, or Observables"
    )
