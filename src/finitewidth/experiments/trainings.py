"""Training as a part of `finitewidth.ensemble`: any observable, of networks that have been trained."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.algorithms import GradientFlow
from finitewidth.architecture import MLP
from finitewidth.experiments import arguments, observable_checks
from finitewidth.experiments.courses import Course, Trainable, algorithm_of, course, describe_algorithm
from finitewidth.experiments.descriptions import describe_array, describe_function
from finitewidth.experiments.drawn import WithWeights
from finitewidth.experiments.experiment import Quantity
from finitewidth.experiments.losses import targets
from finitewidth.experiments.networks import Parameters, preactivations
from finitewidth.experiments.observables import Observable
from finitewidth.experiments.sampling import ensemble_key
from finitewidth.experiments.statistics import Averages
from finitewidth.experiments.tensors import Outputs
from finitewidth.experiments.trained_networks import USUAL_STEPS, Arrays, Data, NetworksByNumber, largest_output
from finitewidth.experiments.trained_observables import of_trained
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

    Observables have the names of `finitewidth.experiments.trained_observables` ("mean", "covariance", "loss", …), are
    made by `fw.observables`, or are functions of the trained network; what it was at initialisation is
    `network.before`.

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
        plan = self.plan
        y = targets(plan.loss, self.y_train, inputs=inputs.shape[0], n_out=net.n_out)
        made = observed(of_trained(observables))
        net = replace(net, n_in=inputs.shape[1])
        experiment = ObservedTraining(net, Data(inputs, y), plan, seed=seed, x=x, observables=made)
        observable_checks.check(made, experiment.contributed, of="a JAX function of one trained network")
        return experiment

    def to_json(self) -> dict[str, Any]:
        """As a ledger keeps it; of a training that was accepted."""
        return {
            "x_train": np.asarray(self.x_train, dtype=np.float64).tolist(),
            "y_train": np.asarray(self.y_train, dtype=np.float64).tolist(),
            "algorithm": describe_algorithm(GradientFlow() if self.algorithm is None else self.algorithm),
            "loss": self.loss,
            "times": None if self.times is None else [float(time) for time in np.ravel(self.times)],
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Training":
        """The training that was kept."""
        algorithm = algorithm_of(kept["algorithm"])
        times = kept["times"]
        if times is not None and not isinstance(algorithm, GradientFlow):
            times = [time if np.isinf(time) else int(time) for time in times]
        return cls(kept["x_train"], kept["y_train"], algorithm, kept["loss"], times)

    @property
    def plan(self) -> Course:
        """Algorithm, loss and times, checked."""
        algorithm = GradientFlow() if self.algorithm is None else self.algorithm
        return course(algorithm, loss=self.loss, times=self.times, inputs=len(self.x_train))


class TrainedNetwork(WithWeights):
    """A network after training.

    before: the same at initialisation, whose own `before` is itself. loss: of the training inputs.
    """

    def __init__(
        self,
        net: MLP,
        parameters: Parameters,
        x: jax.Array,
        outputs: Outputs,
        loss: jax.Array,
        before: "TrainedNetwork | None",
    ) -> None:
        super().__init__(net, parameters, x, outputs)
        self.loss = loss
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

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return *super().arrays, self.x

    def one(self, key: jax.Array, order_key: jax.Array, arrays: Arrays) -> dict[str, jax.Array]:
        start, (x, y, _) = self.draw(key), arrays
        before = self._network(start, None, arrays)

        def outputs(network: TrainedNetwork) -> jax.Array:
            learned = preactivations(self.net, network.parameters, x)
            return jnp.concatenate([learned, network.z()], axis=1)  # inputs looked at may not show what diverges

        largest = largest_output(y, outputs(before))

        def observe(after: Parameters) -> dict[str, jax.Array]:
            network = self._network(after, before, arrays)
            # an observable that overlooks what is not a number would hide that a network diverged
            fate = {"finite/": jnp.where((jnp.abs(outputs(network)) <= largest).all(), 0.0, jnp.nan)}
            parts = [each.contributions(network) for each in self.observables]
            return fate | {name: value for part in parts for name, value in part.items()}

        return train(self.net, start, x, y, course=self.course, key=order_key, observe=observe)

    def contributed(self, observable: Observable) -> Mapping[str, Any]:
        """The shapes of what an observable contributes at one time; nothing is computed."""

        def untrained(key: jax.Array, arrays: Arrays) -> dict[str, jax.Array]:
            start = self.draw(key)
            return observable.contributions(self._network(start, self._network(start, None, arrays), arrays))

        shapes: Mapping[str, Any] = jax.eval_shape(untrained, ensemble_key(self.net, 0), self.arrays)
        return shapes

    def _network(self, parameters: Parameters, before: "TrainedNetwork | None", arrays: Arrays) -> "TrainedNetwork":
        x_train, y, x = arrays
        loss = self.course.loss(preactivations(self.net, parameters, x_train), y)
        return TrainedNetwork(self.net, parameters, x, self._outputs, loss, before)

    def _same(self) -> Hashable:
        computed = tuple(each.computed for each in self.observables)
        return None if None in computed else (super()._same(), computed)

    def _without_numbers(self) -> NetworksByNumber:
        alone = super()._without_numbers()
        del alone.__dict__["x"]
        return alone

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
