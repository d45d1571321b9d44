"""Populations of sample neurons: quasi-random points that stand for a Gaussian in many dimensions.

A neuron of an infinitely wide layer draws its preactivations z ~ N(0, K), one for each input. A population is a set of
such draws, spread more evenly than chance would (scrambled Sobol points through the normal quantile function), several
times over with independent randomisations: the mean over them is the average, their scatter is its error.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri
from scipy.stats import norm, qmc, t

from finitewidth.errors import InputError
from finitewidth.gaussian.estimate import Estimate
from finitewidth.gaussian.factor import factor

_BITS = 52
_RANDOMISATIONS = 16
_MOST_SOBOL = 21_201  # dimensions that scipy has Sobol points for


class Population(NamedTuple):
    """Sample neurons with weights.

    `nodes` has shape (randomisations, n, inputs), `weights` shape (n,); the weights sum to one. The randomisations are
    independent, each with the right mean.
    """

    nodes: np.ndarray
    weights: np.ndarray

    @classmethod
    def sample(cls, K: np.ndarray, n: int, seed: int, *, randomisations: int = _RANDOMISATIONS) -> "Population":
        """A population for z ~ N(0, K).

        Arguments
            K: covariance of the inputs, shape (m, m), of any rank.
            n: sample neurons of each randomisation, a power of two: other numbers lose the even spread.
            seed: the same seed gives the same numbers.
        """
        if n < 1 or n & (n - 1):
            raise InputError(f"`n` must be a power of two, but got {n}")
        L = factor(K)
        nodes = independent_normals(n, L.shape[1], seed, randomisations=randomisations) @ L.T
        return cls(nodes, np.full(n, 1.0 / n))

    def average(self, f: Callable[..., np.ndarray]) -> Estimate:
        """⟨f(z₁, …, z_m)⟩ with its standard error; f takes m arrays of shape (n,) and returns one of shape (…, n)."""
        means = np.stack([np.asarray(f(*z.T)) @ self.weights for z in self.nodes])
        return spread(means)


def independent_normals(
    n: int, dimensions: int, seed: int, *, randomisations: int = _RANDOMISATIONS, most_even: int = _MOST_SOBOL
) -> np.ndarray:
    """Quasi-random points for independent standard normals, shape (randomisations, n, dimensions), n a power of two.

    Dimensions beyond `most_even` are pseudo-random: Sobol points cost 0.4 ms a dimension and randomisation. So what
    matters most comes first.
    """
    return np.stack([_normals(n, dimensions, child, most_even) for child in _children(seed, randomisations)])


def spread(means: np.ndarray) -> Estimate:
    """Mean and standard error of independent means, shape (randomisations, …).

    The standard error is itself estimated, from few means: Student's t widens it to cover what one standard deviation
    of a normal distribution covers, 68 %.
    """
    count = len(means)
    factor_t = t.ppf(norm.cdf(1.0), count - 1)
    error = factor_t * means.std(axis=0, ddof=1) / np.sqrt(count)
    value = means.mean(axis=0)
    return Estimate(value, error + 4 * np.finfo(float).eps * np.abs(value), "population")


def _children(seed: int, count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(count)]


def _normals(n: int, dimensions: int, generator: np.random.Generator, most_even: int) -> np.ndarray:
    """Scrambled Sobol points as independent normals, shape (n, dimensions)."""
    if dimensions == 0:
        return np.zeros((n, 0))
    even = min(dimensions, most_even)
    sobol = qmc.Sobol(even, scramble=True, bits=_BITS, seed=generator)
    # the middle of each cell of the grid: zero would become −∞
    nodes = ndtri(sobol.random_base2(n.bit_length() - 1) + 0.5 ** (_BITS + 1))
    return np.concatenate([nodes, generator.standard_normal((n, dimensions - even))], axis=1)
