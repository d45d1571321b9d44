"""Training as a part of `finitewidth.ensemble`: any observable, of networks that have been trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.algorithms import GradientFlow
from finitewidth.architecture import MLP
from finitewidth.errors import InputError
from finitewidth.experiments import arguments
from finitewidth.experiments.courses import Course, Trainable, course
from finitewidth.experiments.descriptions import describe_array, describe_function
from finitewidth.experiments.drawn import WithWeights
from finitewidth.experiments.experiment import Quantity
from finitewidth.experiments.losses import targets
from finitewidth.experiments.networks import Parameters
from finitewidth.experiments.observables import Observable
from finitewidth.experiments.statistics import Averages
from finitewidth.experiments.tensors import TENSORS, Outputs
from finitewidth.experiments.trained_networks import USUAL_STEPS, Data, NetworksByNumber
from finitewidth.experiments.training import train


@dataclass(frozen=True)
class Training:
    """What is done to the networks of an ensemble before they are looked at: `fw.ensemble(net, x, training=…)`.

    Arguments
        x_train, y_train: (N_T, n_in) inputs; (N_T,) or (N_T, n_out) targets, for cross-entropy labels or probabilities.
        algorithm: `GradientFlow`, `GradientDescent`, `Momentum`, `Sgd` or `Adam`; None is the flow to its end.
        loss: "mse", ½ Σ (z − y)², or "cross-entropy"; sums over training inputs.
        times: when to look: increasing times of the flow or numbers of steps; None is the algorithm's end. Every
            estimate has a first axis `time`.

    An observable gets the trained network; what it was at initialisation is `network.before`.

    >>> import finitewidth as fw, jax.numpy as jnp
    >>> @fw.observable(dims=("layer",), needs="weights")
    ... def moved(network):
    ...     pairs = zip(network.parameters, network.before.parameters)
    ...     return jnp.stack([((now.W - old.W) ** 2).sum() for now, old in pairs])
    >>> training = fw.Training([[1.0]], [0.5], algorithm=fw.GradientDescent(0.2, 20), times=[1, 20])
    >>> run = fw.ensemble(
    ...     fw.MLP("tanh", depth=2, width=8), [[1.0]], observables=[moved], training=training, n_networks=100
    ... )
    >>> run.estimate["moved"].value.dims
    ('time', 'layer')
    """

    x_train: Any
    y_train: Any
    algorithm: Trainable | None = None
    loss: str = "mse"
    times: Sequence[float] | None = None

    def experiment(self, net: MLP, x: np.ndarray, observables: Sequence[Any], seed: int) -> "ObservedTraining":
        """The experiment that measures the observables of networks so trained.

        Raises
            InputError: naming the argument, its value and the remedy.
        """
        from finitewidth.experiments.ensembles import observed  # it imports experiments of all kinds

        inputs = arguments.inputs(net, self.x_train, name="x_train")
        algorithm = GradientFlow() if self.algorithm is None else self.algorithm
        plan = course(algorithm, loss=self.loss, times=self.times, inputs=inputs.shape[0])
        y = targets(plan.loss, self.y_train, inputs=inputs.shape[0], n_out=net.n_out)
        made = observed(observables)
        if names := [each.name for each in made if each.name in TENSORS]:
            raise InputError(
                f"`observables` has {names[0]!r}, a tensor of networks at initialisation; of trained ones ask for what "
                "fw.observables makes, such as moment('i') or cumulant('ii')"
            )
        net = replace(net, n_in=inputs.shape[1])
        return ObservedTraining(net, Data(inputs, y), plan, seed=seed, x=x, observables=made)


class TrainedNetwork(WithWeights):
    """A network after training; `before` is the same at initialisation, whose own `before` is itself."""

    def __init__(
        self, net: MLP, parameters: Parameters, x: jax.Array, outputs: Outputs, before: "TrainedNetwork | None"
    ) -> None:
        super().__init__(net, parameters, x, outputs)
        self.before = self if before is None else before


class ObservedTraining(NetworksByNumber):
    """Observables of trained networks.

    Arguments
        net, data, course, seed: as for all.
        x: (N, n_in) inputs on which networks are looked at. observables: what they contribute to.
    """

    kind = "training"

    def __init__(
        self, net: MLP, data: Data, plan: Course, *, seed: int, x: np.ndarray, observables: Sequence[Observable]
    ) -> None:
        super().__init__(net, data, plan, seed=seed)
        self.x, self.observables = x, tuple(observables)
        self._outputs = Outputs(z=net.n_out, H=net.n_out if any(each.needs == "H" for each in self.observables) else 0)

    @property
    def steps(self) -> float:
        last = self.course.times[-1]
        return 3.0 + (USUAL_STEPS if self.course.flows or np.isinf(last) else last)

    def one(self, key: jax.Array, order_key: jax.Array, x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
        start = self.draw(key)
        before = self._network(start, None)

        def observe(after: Parameters) -> dict[str, jax.Array]:
            network = self._network(after, before)
            # an observable that overlooks what is not a number would hide that a network diverged
            fate = {"finite/": jnp.where(jnp.isfinite(network.z()).all(), 0.0, jnp.nan)}
            parts = [each.contributions(network) for each in self.observables]
            return fate | {name: value for part in parts for name, value in part.items()}

        return train(self.net, start, x, y, course=self.course, key=order_key, observe=observe)

    def _network(self, parameters: Parameters, before: "TrainedNetwork | None") -> "TrainedNetwork":
        return TrainedNetwork(self.net, parameters, jnp.asarray(self.x), self._outputs, before)

    def describe(self) -> Mapping[str, Any]:
        functions = {
            each.name: [describe_function(each.function), describe_function(each.statistic)]
            for each in self.observables
        }
        return {**super().describe(), "x_seen": describe_array(self.x), "observables": functions}

    def quantities(self) -> Mapping[str, Quantity]:
        time = np.array(self.course.times)
        return {
            each.name: Quantity(_at_every_time(each, time.size), ("time", *each.dims), {**each.coords, "time": time})
            for each in self.observables
        }


def _at_every_time(observable: Observable, times: int) -> Any:
    def estimated(averages: Averages) -> np.ndarray:
        return np.stack(
            [observable.estimated({name: each[:, t] for name, each in averages.items()}) for t in range(times)], axis=1
        )

    return estimated
