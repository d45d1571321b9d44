"""What a training is: algorithm, loss, and the times at which the network is looked at."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np

from finitewidth.algorithms import Adam, Bayes, GradientDescent, GradientFlow, Momentum, Sgd
from finitewidth.errors import InputError
from finitewidth.experiments.losses import Loss, named

Trainable = GradientFlow | GradientDescent | Momentum | Sgd | Adam
ALGORITHMS: dict[str, type[Trainable]] = {
    "flow": GradientFlow,
    "descent": GradientDescent,
    "momentum": Momentum,
    "sgd": Sgd,
    "adam": Adam,
}


def describe_algorithm(algorithm: Trainable) -> dict[str, Any]:
    """Its short name and its parameters."""
    name = next(name for name, kind in ALGORITHMS.items() if type(algorithm) is kind)
    return {"name": name, **asdict(algorithm)}


def algorithm_of(description: Mapping[str, Any]) -> Trainable:
    """The algorithm that was described."""
    return ALGORITHMS[description["name"]](**{name: each for name, each in description.items() if name != "name"})


@dataclass(frozen=True)
class Course:
    """A training, and when it is looked at; hashable, so that one program is compiled for it.

    algorithm: what is done. loss: of the outputs.
    times: increasing; numbers of steps, or times of the flow. Only the last may be ∞, the end of training.
    """

    algorithm: Trainable
    loss: Loss
    times: tuple[float, ...]

    @property
    def flows(self) -> bool:
        """Whether time is continuous."""
        return isinstance(self.algorithm, GradientFlow)

    @property
    def ends(self) -> bool:
        """Whether the last of the times is the end of training."""
        return math.isinf(self.times[-1])

    @property
    def finite_times(self) -> tuple[float, ...]:
        """The times before the end of training."""
        return self.times[:-1] if self.ends else self.times

    @property
    def has_batches(self) -> bool:
        """Whether steps see a part of the data."""
        return isinstance(self.algorithm, Sgd)

    @property
    def step(self) -> float:
        """η of algorithms that have steps."""
        return math.nan if isinstance(self.algorithm, GradientFlow) else self.algorithm.step

    @property
    def gaps(self) -> Any:  # arrays that `scan` takes
        """Starts and ends of the stretches between finite times."""
        times = np.array(self.finite_times, dtype=np.float64 if self.flows else np.int64)
        return np.concatenate([np.zeros_like(times[:1]), times[:-1]]), times


def course(algorithm: Any, *, loss: Any = "mse", times: Any = None, inputs: int) -> Course:
    """The arguments of a training, checked once.

    Arguments
        algorithm: `GradientFlow`, `GradientDescent`, `Momentum`, `Sgd` or `Adam`.
        loss: "mse" or "cross-entropy".
        times: when to look: increasing times or numbers of steps up to the algorithm's own; None is its end.
        inputs: how many training inputs there are.

    Raises
        InputError: naming the argument, its value and the remedy.
    """
    if isinstance(algorithm, Bayes):
        raise InputError("`algorithm` Bayes trains no network, so that there is none to draw; fw.predict computes it")
    if not isinstance(algorithm, Trainable):
        raise InputError(f"`algorithm` must be one such as fw.GradientFlow(time=5.0), but got {algorithm!r}")
    if isinstance(algorithm, Sgd) and algorithm.batch_size > inputs:
        raise InputError(
            f"`batch_size` must be at most the {inputs} training inputs, but is {algorithm.batch_size}; lower it"
        )
    chosen = named(loss)
    last = algorithm.time if isinstance(algorithm, GradientFlow) else float(algorithm.steps)
    made = Course(algorithm, chosen, _times(times, last, isinstance(algorithm, GradientFlow)))
    if made.ends and not chosen.quadratic:
        raise InputError(
            f"`algorithm` {algorithm!r} has no end for `loss` {chosen.name!r}, under which outputs grow for ever; "
            "give a finite time or number of steps"
        )
    return made


def _times(times: Any, last: float, flows: bool) -> tuple[float, ...]:
    if times is None:
        return (last,)
    if isinstance(times, Real):
        times = (times,)
    if isinstance(times, str) or not isinstance(times, (Sequence, np.ndarray)) or len(times) == 0:
        raise InputError(f"`times` must be increasing numbers such as [1, 10, 100], but got {times!r}")
    for time in times:
        whole = flows or isinstance(time, Integral) or time == math.inf
        if isinstance(time, bool) or not isinstance(time, Real) or not 0 <= float(time) <= last or not whole:
            kind = "times" if flows else "numbers of steps"
            raise InputError(f"`times` must be {kind} from 0 to the algorithm's own end, {last:g}, but has {time!r}")
    if any(not before < after for before, after in pairwise(times)):
        raise InputError(f"`times` must increase, but got {list(times)}")
    return tuple(float(time) if flows else (math.inf if time == math.inf else int(time)) for time in times)
