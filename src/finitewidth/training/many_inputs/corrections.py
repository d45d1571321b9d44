"""Terms of order 1/n of trained outputs and of the posterior, from sample neurons, for any number of inputs."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from finitewidth.algorithms import GradientDescent, GradientFlow
from finitewidth.architecture import MLP
from finitewidth.cores import Progress, Tally, on_all_cores
from finitewidth.flow.line import LineFlow, line_flow
from finitewidth.flow.neurons import HiddenLayer, Means, hidden_layers
from finitewidth.flow.pairs import pair_flow
from finitewidth.flow.shifts import mean_shifts, shift_means
from finitewidth.gaussian.normals import Normals, principal_root
from finitewidth.gaussian.population import spread
from finitewidth.training.bayes_first_order import Directions, posterior_terms
from finitewidth.training.first_order import Corrections, Terms, total
from finitewidth.training.infinite_width import Kernels
from finitewidth.training.many_inputs.averages import Evolution, average

POPULATIONS = 8
"""Independent ones, whose scatter is the error."""

_DIRECTIONS = 32  # sample neurons whose N × N fluctuations of the metric are held at a time


@dataclass(frozen=True)
class Populations:
    """Hidden layers as populations of sample neurons, and how many stand for each.

    Attributes
        line: single inputs. K, Theta: of all layers, (L, N, N). layers: the hidden ones, as the last layer sees them.
        means: averages over pairs that G1 and H1 need.
        neurons: of every layer in each population.
    """

    net: MLP
    line: LineFlow
    K: np.ndarray
    Theta: np.ndarray
    layers: list[HiddenLayer]
    means: list[Means]
    neurons: int

    @classmethod
    def of(cls, net: MLP, x: np.ndarray, neurons: int) -> "Populations":
        """For inputs x, (N, n_in), `neurons` in all populations together.

        Raises
            InputError: for activations with kinks that are not like ReLU's.
        """
        line = line_flow(net, np.einsum("ai,ai->a", x, x) / x.shape[1])
        K, Theta, _ = pair_flow(net, x, line, list(range(1, net.depth + 1)), None)
        return cls(
            net, line, K, Theta, hidden_layers(net, K, Theta), shift_means(net, K), max(2, neurons // POPULATIONS)
        )

    def generator(self, population: int, layer: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([0, population, layer]))

    def shifts(self, population: int) -> tuple[np.ndarray, np.ndarray]:
        """G1 and H1 by the neurons of one population."""
        rng = self.generator(population, len(self.layers))
        return mean_shifts(self.net, self.K, self.Theta, self.means, neurons=self.neurons, rng=rng)


def many_input_corrections(
    algorithm: GradientFlow | GradientDescent,
    kernels: Kernels,
    targets: np.ndarray,
    populations: Populations,
    progress: Progress | None,
) -> Corrections:
    """As `training.first_order.corrections`, without the tensors."""
    evolution = Evolution.of(algorithm, kernels, targets)
    root = principal_root(kernels.K)
    layers = populations.layers
    tally = Tally(POPULATIONS * len(layers) * populations.neurons, progress)

    def of_layer(where: tuple[int, int]) -> tuple[Terms, Terms]:
        rng = populations.generator(*where)
        return average(layers[where[1]], evolution, root, populations.neurons, rng, tally)

    def of_shifts(population: int) -> tuple[Terms, Terms]:
        return evolution.shifted(*populations.shifts(population), kernels.K)

    each = on_all_cores(of_layer, product(range(POPULATIONS), range(len(layers))), tally)
    found = on_all_cores(of_shifts, range(POPULATIONS))
    for i, both in enumerate(found):
        for l, layer in enumerate(layers):
            for terms, added in zip(both, each[i * len(layers) + l], strict=True):
                for name, value in added.items():
                    terms[name] = terms.get(name, 0.0) + layer.weight * value
    return _gathered(found)


def many_input_posterior(
    kernels: Kernels, targets: np.ndarray, noise: float, populations: Populations, progress: Progress | None
) -> tuple[Corrections, float]:
    """As `training.bayes_first_order.posterior_corrections`, without V."""
    tally = Tally(POPULATIONS * len(populations.layers) * populations.neurons, progress)

    def population(i: int) -> tuple[Terms, Terms, float]:
        G1, _ = populations.shifts(i)
        return posterior_terms(kernels, targets, noise, _directions(populations, i, tally), G1)

    each = on_all_cores(population, range(POPULATIONS), tally)
    return _gathered([(mean, covariance) for mean, covariance, _ in each]), float(np.mean([e for _, _, e in each]))


def _directions(populations: Populations, population: int, tally: Tally) -> Iterator[Directions]:
    """V = Σ_k w_k φ_k φ_k with a φ for every neuron."""
    for l, layer in enumerate(populations.layers):
        normals = Normals(populations.neurons, layer.even_columns, populations.generator(population, l))
        neurons = layer.draw(normals, len(populations.K[0]))
        for at in range(0, populations.neurons, _DIRECTIONS):
            phi = layer.operators["", ""].matrices(neurons.some(slice(at, at + _DIRECTIONS)))
            yield np.full(len(phi), layer.weight / populations.neurons), phi
            tally.add(len(phi))


def _gathered(found: list[tuple[Terms, Terms]]) -> Corrections:
    """Averages over the populations, and their standard errors."""
    means, covariances = ([each[i] for each in found] for i in (0, 1))
    return Corrections(
        {name: np.mean([each[name] for each in means], 0) for name in means[0]},
        {name: np.mean([each[name] for each in covariances], 0) for name in covariances[0]},
        spread(np.stack([total(each) for each in means])).error,
        spread(np.stack([np.einsum("xixi->xi", total(each)) for each in covariances])).error,
    )
