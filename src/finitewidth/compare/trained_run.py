"""Theory meets experiment after training: a run of `fw.ensemble` with a training, beside `finitewidth.predict`.

Of the observables `mean` and `covariance` of a run, at every one of its times: infinite width, first order in 1/n where
it is computed (gradient flow and descent), and what networks of this width showed.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finitewidth.algorithms import GradientDescent, GradientFlow
from finitewidth.architecture import MLP
from finitewidth.compare.comparison import Comparison, Comparisons
from finitewidth.compare.kinks import warn_of_kinks
from finitewidth.errors import InputError
from finitewidth.experiments import arguments
from finitewidth.experiments.courses import Course, Trainable
from finitewidth.experiments.runs import Run
from finitewidth.experiments.training import RTOL
from finitewidth.experiments.trainings import Training
from finitewidth.flow.first_order import MOST_INPUTS
from finitewidth.training import predict
from finitewidth.training.result import Prediction

Progress = Callable[[int, int], Any]
NAMES = ("mean", "covariance")
# Outputs of the flow, and of the end of training, are right to this times their size; finite steps are exact.
ACCURACY = 10 * RTOL


@dataclass(frozen=True, kw_only=True)
class TrainedRow(Comparison):
    """One entry of the mean or of the covariance of trained outputs.

    name: `mean` or `covariance`. inputs: (output, sample), of the covariance twice. theory: to the order asked for.
    time: at which. infinite: theory at infinite width. numerical: absolute error of the theory's numbers, and of the
        training where that is not exact (the flow's integrator, the end of training).
    """

    time: float
    infinite: float
    numerical: float

    @property
    def z(self) -> float:
        """(experiment − theory) over its statistical and its numerical error, added in squares."""
        error = math.hypot(self.standard_error, self.numerical)
        return (self.experiment - self.theory) / error if error else super().z

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        time = self.time if math.isfinite(self.time) else "inf"
        return super().to_dict() | {"time": time, "infinite": self.infinite, "numerical": self.numerical}


@dataclass(frozen=True, kw_only=True)
class TrainedComparison(Comparisons):
    """Trained networks beside the theory, entry by entry.

    What first order leaves out is of order 1/n², what infinite width leaves out of order 1/n: where many networks make
    errors smaller than that, z is large though nothing is wrong. With kinks, what both leave out is of order 1/√n.

    algorithm: of the training. order: of the theory in 1/n.
    """

    rows: tuple[TrainedRow, ...]
    algorithm: Trainable
    order: int

    def worst(self) -> tuple[TrainedRow, ...]:
        """Of mean and covariance at every time, the row with the largest |z|."""
        groups = dict.fromkeys((row.name, row.time) for row in self.rows)
        return tuple(
            max((row for row in self.rows if (row.name, row.time) == group), key=lambda row: abs(row.z))
            for group in groups
        )

    def _about(self) -> dict[str, Any]:
        return super()._about() | {"algorithm": repr(self.algorithm), "order": self.order}


def compare_trained_run(
    net: MLP, x: Any, training: Training, run: Run, *, order: int | None = None, progress: Progress | None = None
) -> TrainedComparison:
    """A run of trained networks beside what the theory predicts of them.

    Arguments
        net, x, training: as the run had them.
        run: of `fw.ensemble(net, x, training=training)`, with `mean` or `covariance` among its observables.
        order: of the theory: 0, infinite width, or 1. None: 1 where it is computed, for gradient flow and descent on
            few enough inputs.
        progress: called as progress(times done, of how many).

    Raises
        InputError: when the run is another one or has nothing that the theory knows, or `fw.predict` does not know the
            algorithm or the loss.

    Warns
        TrustWarning: for σ with kinks, whose effect in training is of order 1/√n.

    >>> import finitewidth as fw
    >>> from finitewidth.compare import compare_trained_run
    >>> net, x = fw.MLP("tanh", depth=2, width=100), [[0.2, -1.0]]
    >>> training = fw.Training([[1.0, 0.5]], [0.5], algorithm=fw.GradientDescent(0.2, 5))
    >>> run = fw.ensemble(net, x, training=training, n_networks=500)
    >>> found = compare_trained_run(net, x, training, run)
    >>> found.order, [(row.name, row.time, abs(row.z) < 5) for row in found.worst()]
    (1, [('mean', 5.0, True), ('covariance', 5.0, True)])
    """
    net, x, plan = arguments.network(net), arguments.inputs(net, x), training.plan
    names = comparable(net, x, training, run.description)
    if plan.loss.name != "mse":
        raise InputError(f"the run was trained with the loss {plan.loss.name!r}, but fw.predict knows 'mse' only")
    order = _order(plan.algorithm, np.concatenate([np.asarray(training.x_train), x])) if order is None else order
    warn_of_kinks(net, "an expansion in 1/n")
    rows: list[TrainedRow] = []
    for t, time in enumerate(plan.times):
        if progress is not None:
            progress(t, len(plan.times))
        at = predict(net, training.x_train, training.y_train, x, algorithm=_until(plan, time), order=order)
        for name in names:
            rows += _rows(name, t, time, at, run, 0.0 if _exact(plan, time) else ACCURACY, training)
    rows.sort(key=lambda row: names.index(row.name))
    return TrainedComparison(
        net=net, rows=tuple(rows), n_networks=run.n_networks, algorithm=plan.algorithm, order=order
    )


def comparable(net: MLP, x: Any, training: Training, description: Mapping[str, Any]) -> list[str]:
    """Which of `NAMES` a run of this description has measured.

    Raises
        InputError: when there are none, or the run is of other networks or another training.
    """
    x = arguments.inputs(net, x)
    expected = json.loads(json.dumps(training.experiment(net, x, NAMES, 0).describe()))
    for name in expected.keys() - {"seed", "observables"}:
        if description.get(name) != expected[name]:
            raise InputError(f"`run` is of other networks or another training: its {name} differs; give its own")
    # by what they are made of: a user's own observable may have the same name
    names = [name for name in NAMES if description["observables"].get(name) == expected["observables"][name]]
    if not names:
        raise InputError(f"the run has no observable that the theory knows; ask for {' and '.join(NAMES)}")
    return names


def _order(algorithm: Trainable, inputs: np.ndarray) -> int:
    few = len(np.unique(inputs, axis=0)) <= MOST_INPUTS
    return int(isinstance(algorithm, GradientFlow | GradientDescent) and few)


def _until(plan: Course, time: float) -> Trainable:
    """The algorithm, run until this time."""
    if isinstance(plan.algorithm, GradientFlow):
        return GradientFlow(time)
    steps: Any = time if math.isinf(time) else int(time)
    return replace(plan.algorithm, steps=steps)


def _exact(plan: Course, time: float) -> bool:
    return time == 0 or not (plan.flows or math.isinf(time))


def _rows(
    name: str, t: int, time: float, at: Prediction, run: Run, accuracy: float, training: Training
) -> Iterator[TrainedRow]:
    """The distinct entries at one time; a mean as [A], a covariance as [A, B], A = (output, sample)."""
    size = max(float(np.abs(training.y_train).max()), math.sqrt(float(at.covariance_infinite.max())))
    if name == "mean":
        theory, infinite = (each.transpose("output", "sample").values for each in (at.mean, at.mean_infinite))
        numerical = float(at.error["mean"].max()) + accuracy * size
    else:
        axes = ("output", "sample", "output_b", "sample_b")
        theory, infinite = (each.transpose(*axes).values for each in (at.covariance, at.covariance_infinite))
        numerical = float(at.error["variance"].max()) + accuracy * size**2
    found = run.estimates[name]
    for entry in np.ndindex(theory.shape):
        first, second = entry[:2], entry[2:]
        if second and second < first:  # symmetric
            continue
        yield TrainedRow(
            name=name,
            inputs=entry,
            theory=float(theory[entry]),
            experiment=float(found.value[t][entry]),
            standard_error=float(found.standard_error[t][entry]),
            time=float(time),
            infinite=float(infinite[entry]),
            numerical=numerical,
        )
