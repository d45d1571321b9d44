"""Populations of sample neurons: moments within their errors, errors that are honest and shrink, seeds that repeat."""

import numpy as np
import pytest
from scipy.stats import binom

import finitewidth as fw
from finitewidth.gaussian import Population

K = np.array([[1.0, 0.3, -0.2], [0.3, 2.0, 0.5], [-0.2, 0.5, 0.7]])


def wick(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return np.stack([a * b, a * a * b * c, np.abs(c)])


EXACT = np.array([K[0, 1], K[0, 0] * K[1, 2] + 2 * K[0, 1] * K[0, 2], np.sqrt(2 * K[2, 2] / np.pi)])


def test_same_seed_same_numbers() -> None:
    one, same, other = (Population.sample(K, 256, seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one.nodes, same.nodes)
    assert not np.any(one.nodes == other.nodes)


def test_shape_and_weights() -> None:
    population = Population.sample(K, 512, 0, randomisations=20)
    assert population.nodes.shape == (20, 512, 3)
    assert population.weights.sum() == 1.0
    assert np.all(np.isfinite(population.nodes))


def test_error_is_honest() -> None:
    """It covers 68 % of the truth: of 3 × 100 seeds, counts outside are binomial; false alarms 1 in 10⁴ a function."""
    outside = np.zeros(3)
    for seed in range(100):
        found = Population.sample(K, 128, seed).average(wick)
        outside += np.abs(found.value - EXACT) > found.error
    low, high = binom.interval(1 - 1e-4, 100, 0.317)
    assert np.all((outside >= low) & (outside <= high)), outside


def test_error_shrinks_faster_than_chance() -> None:
    """Eight times the neurons: chance would leave 1/2.8, quasi-random points leave about 1/8."""
    few, many = (Population.sample(K, n, 3).average(wick).error for n in (512, 8192))
    assert np.all(many < few / 6)


def test_singular_covariance_keeps_equal_inputs_equal() -> None:
    twice = K[np.ix_([0, 1, 1], [0, 1, 1])]
    nodes = Population.sample(twice, 64, 0).nodes
    np.testing.assert_array_equal(nodes[..., 1], nodes[..., 2])


def test_zero_covariance() -> None:
    assert not np.any(Population.sample(np.zeros((2, 2)), 4, 0).nodes)


@pytest.mark.parametrize("n", [0, 3, -4])
def test_number_of_neurons_is_a_power_of_two(n: int) -> None:
    with pytest.raises(fw.InputError, match=f"power of two, but got {n}"):
        Population.sample(K, n, 0)
