"""Statistics of trained networks: draw, train, look; with control variates, so that effects of order 1/n show.

>>> import finitewidth as fw
>>> from finitewidth.experiments import measure_trained
>>> net = fw.MLP("tanh", depth=2, width=16)
>>> seen = measure_trained(net, [[1.0]], [0.5], algorithm=fw.GradientDescent(0.2, 20), n_networks=128)
>>> seen.value["mean"].shape  # (time, output, sample)
(1, 1, 1)
>>> bool(seen.standard_error["mean"].item() < 0.3 * seen.plain["mean"].standard_error.item())
True
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from finitewidth.algorithms import GradientFlow
from finitewidth.architecture import MLP, whole_number
from finitewidth.errors import InputError, TrustWarning
from finitewidth.experiments import arguments
from finitewidth.experiments.controls import LinearisedAlike, LinearisedNetworks, TangentKernels
from finitewidth.experiments.courses import Course, Trainable, course
from finitewidth.experiments.linearised import can_be_linearised
from finitewidth.experiments.losses import targets
from finitewidth.experiments.measured import Estimated, Widths
from finitewidth.experiments.moments import cumulants
from finitewidth.experiments.runs import Progress, Run, run
from finitewidth.experiments.statistics import Batch, Estimate, jackknife
from finitewidth.experiments.trained_networks import Data, TrainedNetworks

LINEARISED = 32  # networks that are only linearised, for each one that is trained; docs/trained-ensembles.md says why
KERNELS = 256  # networks whose mean tangent kernel becomes the one of all
FEWEST_WITH_CONTROL = 64  # a network for every batch of the jackknife
MOMENTS = ("first", "second", "third", "fourth")


@dataclass(frozen=True)
class TrainedMeasurement(Estimated):
    """What trained networks of one width showed.

    net, course, data: what was trained, how, and on what; samples are the training inputs, then those of testing.
    n_networks: how many were trained and are in the averages. n_excluded: how many more diverged, or did not settle.
    estimates: `mean` (time, output, sample), `covariance` (time, output, sample, output, sample), `third_cumulant` and
        `fourth_cumulant` (time, output, sample); with control variates where they were used.
        `loss` (time), `H_before` and `H`, the mean tangent kernel before (sample, sample) and at every time,
        `H_moved` (time), `z_moved` and `parameters_moved` (time, layer): root mean squares of how far each network's
        kernel, preactivations and parameters moved, divided by those at initialisation.
    plain: the same without control variates.
    """

    net: MLP
    course: Course
    data: Data
    n_networks: int
    n_excluded: int
    estimates: Mapping[str, Estimate]
    plain: Mapping[str, Estimate]

    @property
    def n(self) -> int:
        """The width of the layer before the output."""
        return (self.data.x.shape[1], *self.net.widths)[-1]

    def variance_reduction(self, name: str) -> np.ndarray:
        """How many times as many networks would have to be trained for the same error without control variates."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return (self.plain[name].standard_error / self.estimates[name].standard_error) ** 2


@dataclass(frozen=True)
class TrainedWidths(Widths):
    """Measurements of one architecture and training at several widths: c₁ of a fit is the effect of order 1/n."""

    measurements: tuple[TrainedMeasurement, ...]


def measure_trained(
    net: MLP,
    x_train: Any,
    y_train: Any,
    x_test: Any = None,
    *,
    algorithm: Trainable | None = None,
    n_networks: int,
    loss: str = "mse",
    times: Sequence[float] | None = None,
    seed: int = 0,
    control: bool | None = None,
    kernel: Any = None,
    linearised: int = LINEARISED,
    path: str | Path | None = None,
    engine: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> TrainedMeasurement:
    """Train networks, and measure the statistics of their outputs over initialisations (THEORY-TRAINED §4–6).

    Network number k is the same for the same seed, and sees the same batches, whoever trains it.

    Arguments
        net: the architecture, its `n_out` outputs included.
        x_train, y_train: (N_T, n_in) inputs; (N_T,) or (N_T, n_out) targets, for cross-entropy labels or probabilities.
        x_test: inputs on which the outputs are also looked at.
        algorithm: what is done to the parameters; None is `GradientFlow()`, to the end of training.
        n_networks: how many are trained, at least 2. Errors fall as its square root.
        loss: "mse", ½ Σ (z − y)², or "cross-entropy"; sums over training inputs.
        times: when to look: increasing times of the flow or numbers of steps; None is the algorithm's end.
        seed: an integer ≥ 0.
        control: whether control variates are used (`controls`); None: where they can be, from 64 networks on.
        kernel: the one kernel of the control variates, (N, N_T), such as that of infinite width; the mean tangent
            kernel of some more networks when None. The estimates are right with any.
        linearised: how many networks are only linearised for each one that is trained.
        path: of the ledger that keeps what the trained networks contributed; see `fw.ensemble`.
        engine, workers: what computes; see `fw.ensemble`.
        progress: called as progress(networks done, of how many). Control variates are most of the work, and count: a
            network is done when its share of theirs is.

    Raises
        InputError: naming the argument, its value and the remedy.
    """
    net, data, plan = _problem(net, x_train, y_train, x_test, algorithm, loss, times)
    n_networks, seed = arguments.networks(n_networks), arguments.seed(seed)
    controlled = _control(control, plan, n_networks)
    whole_number("linearised", linearised)
    one = None if kernel is None else _kernel(kernel, data)
    trained = TrainedNetworks(net, data, plan, seed=seed, linearised=controlled)
    options: dict[str, Any] = {"engine": engine, "workers": workers}
    works = [trained.cost * n_networks]
    if controlled:
        of_one = TangentKernels(net, data, plan, seed=seed).cost  # and of those that are linearised
        works += [of_one * count for count in ([KERNELS] if one is None else []) + 2 * [linearised * n_networks]]
    parts = _parts(progress, n_networks, works)
    seen = run(trained, n_networks=n_networks, path=path, **options, progress=next(parts))
    plain = {name: each for name, each in seen.estimates.items() if "/" not in name}
    if controlled and seen.n_excluded:
        controlled = False
        if progress is not None:
            progress(n_networks, n_networks)
        warnings.warn(
            "networks were left out, which those of the control variates are not: estimates are without control",
            TrustWarning,
            stacklevel=2,
        )
    estimates = plain
    if controlled:
        one = _mean_kernel(net, data, plan, seed, {**options, "progress": next(parts)}) if one is None else one
        levels = [
            run(
                made(net, data, plan, seed=seed, kernel=one),
                n_networks=linearised * n_networks,
                **options,
                progress=next(parts),
            )
            for made in (LinearisedNetworks, LinearisedAlike)
        ]
        estimates = {**plain, **_together(plan, seen, levels)}
    return TrainedMeasurement(net, plan, data, seen.n_networks, seen.n_excluded, estimates, plain)


def measure_trained_widths(
    net: MLP,
    x_train: Any,
    y_train: Any,
    x_test: Any = None,
    *,
    widths: Sequence[int | Sequence[int]],
    n_networks: int | Sequence[int],
    algorithm: Trainable | None = None,
    loss: str = "mse",
    times: Sequence[float] | None = None,
    seed: int = 0,
    control: bool | None = None,
    linearised: int = LINEARISED,
    engine: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> TrainedWidths:
    """`measure_trained` at several widths, to be extrapolated in 1/n.

    Arguments
        widths: for each measurement, one width for all hidden layers, or one per hidden layer, in the same ratios.
        n_networks: how many at every width, or one number per width.
        all others: as for `measure_trained`; the widths of `net` itself are not read.

    Raises
        InputError: naming the argument, its value and the remedy.
    """
    nets = arguments.scaled_networks(arguments.network(net), widths)
    counts = arguments.networks_by_width(n_networks, len(nets))
    done, seen = 0, []
    for scaled, count in zip(nets, counts, strict=True):
        seen.append(
            measure_trained(
                scaled,
                x_train,
                y_train,
                x_test,
                algorithm=algorithm,
                n_networks=count,
                loss=loss,
                times=times,
                seed=seed,
                control=control,
                linearised=linearised,
                engine=engine,
                workers=workers,
                progress=_further(progress, done, sum(counts)),
            )
        )
        done += count
    return TrainedWidths(tuple(seen))


def _problem(
    net: Any, x_train: Any, y_train: Any, x_test: Any, algorithm: Any, loss: Any, times: Any
) -> tuple[MLP, Data, Course]:
    net = arguments.network(net)
    x = arguments.inputs(net, x_train, name="x_train")
    net = replace(net, n_in=x.shape[1])
    plan = course(GradientFlow() if algorithm is None else algorithm, loss=loss, times=times, inputs=x.shape[0])
    y = targets(plan.loss, y_train, inputs=x.shape[0], n_out=net.n_out)
    everything = x if x_test is None else np.concatenate([x, arguments.inputs(net, x_test, name="x_test")])
    return net, Data(everything, y), plan


def _control(control: Any, plan: Course, n_networks: int) -> bool:
    if control not in (None, True, False):
        raise InputError(f"`control` must be True, False or None, but got {control!r}")
    possible = can_be_linearised(plan) and n_networks >= FEWEST_WITH_CONTROL
    if control and not possible:
        reason = (
            f"`n_networks` is {n_networks} < {FEWEST_WITH_CONTROL}; train more"
            if can_be_linearised(plan)
            else f"{plan.algorithm!r} has no linearisation by kernels"
        )
        raise InputError(f"`control` must be False or None: {reason}")
    return possible if control is None else bool(control)


def _kernel(kernel: Any, data: Data) -> np.ndarray:
    array = np.asarray(kernel, dtype=np.float64)
    shape = data.x.shape[0], data.trained
    if array.shape != shape or not np.isfinite(array).all():
        raise InputError(
            f"`kernel` must be finite numbers {shape}, between all inputs and those of training, but has shape "
            f"{array.shape}"
        )
    return array


def _mean_kernel(net: MLP, data: Data, plan: Course, seed: int, options: Mapping[str, Any]) -> np.ndarray:
    seen = run(TangentKernels(net, data, plan, seed=seed), n_networks=KERNELS, **options)
    kernel = np.array(seen.estimates["H"].value)
    few = data.trained
    kernel[:few] = (kernel[:few] + kernel[:few].T) / 2
    return kernel


def _together(plan: Course, trained: Run, levels: Sequence[Run]) -> dict[str, Estimate]:
    """Every cumulant as θ − β (θ_c − θ_m): θ_c of the trained networks' own linearisations, θ_m of all the levels'.

    β = Cov(θ, θ_c) / (Var θ_c + Var θ_m) of every entry leaves the least variance. It is taken from the jackknife's
    pseudo-values, of which there are 64: for Gaussian averages that biases nothing, and costs 1/64 of the variance.
    """
    sums = {name: np.sum([level.estimates[name].pseudo_values for level in levels], axis=0) for name in MOMENTS}
    batches = {j: Batch(1, {name: each[j] for name, each in sums.items()}) for j in range(len(sums["first"]))}
    found = {}
    for name, quantity in cumulants(plan.times).items():
        theta, own = trained.estimates[name], trained.estimates[f"control/{name}"]
        known = jackknife(batches, quantity.statistic)
        variance = own.standard_error**2 + known.standard_error**2
        together = (theta.standard_error**2 + own.standard_error**2 - _difference(theta, own).standard_error ** 2) / 2
        beta = np.where(variance > 0, together / np.where(variance > 0, variance, 1.0), 0.0)
        values = theta.pseudo_values - beta * (own.pseudo_values - known.pseudo_values)
        found[name] = Estimate(values, theta.weights)
    return found


def _difference(one: Estimate, other: Estimate) -> Estimate:
    return Estimate(one.pseudo_values - other.pseudo_values, one.weights)


def _parts(progress: Progress | None, n_networks: int, works: Sequence[float]) -> Iterator[Progress | None]:
    """For each of several runs a callback that tells `progress` of all the work, as so many networks' worth."""
    begun = 0.0
    for work in works:
        yield None if progress is None else _part(progress, n_networks, begun / sum(works), work / sum(works))
        begun += work


def _part(progress: Progress, n_networks: int, begin: float, share: float) -> Progress:
    return lambda done, of: progress(round(n_networks * (begin + share * done / of)), n_networks)


def _further(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)
