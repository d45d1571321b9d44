"""Pair averages of many inputs agree with those of a few, which go another road, and with formulas by hand."""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.gaussian.many_pairs import many_pairs
from finitewidth.gaussian.quartets import pair_averages
from finitewidth.precision import float64

X = np.random.default_rng(5).normal(size=(4, 3))
K = 0.3 + X @ X.T / 3
APART = ~np.eye(4, dtype=bool)
OF_KINKS = [(0, 0, 0, 0), (1, 0, 1, 0), (0, 1, 0, 1), (0, 2, 0, 0), (0, 0, 0, 2), (1, 1, 0, 0), (1, 1, 1, 1)]
DEEPER = [(0, 2, 0, 2), (0, 3, 0, 1), (0, 1, 0, 3), (1, 2, 0, 1), (1, 1, 2, 0)]
DEEPEST = [(0, 4, 0, 0), (0, 0, 0, 4), (1, 2, 1, 2), (1, 4, 1, 0), (1, 0, 1, 4), (1, 3, 1, 1), (1, 1, 1, 3)]  # of H1


@pytest.mark.parametrize("name", ["relu", "leaky_relu(0.3)", "abs"])
def test_piecewise_linear_ones_agree_with_truncated_moments(name: str) -> None:
    activation = fw.activations.named(name)
    with float64():
        few, many = (road(activation, K, OF_KINKS + DEEPER + DEEPEST) for road in (pair_averages, many_pairs))
    for key in OF_KINKS + DEEPER + DEEPEST:
        value, error = few[key]
        assert np.all(np.abs(many[key] - value)[APART] <= error[APART] + 1e-12 * np.abs(value).max()), key


def test_deltas_of_relu_by_hand() -> None:
    """⟨δ(z_a) max(z_b, 0)⟩ = std(z_b | z_a = 0) E[max(u, 0)]/√(2π K_aa), ⟨δ(z_a)δ(z_b)⟩ the density at the origin."""
    with float64():
        found = many_pairs(fw.activations.relu, K, [(0, 2, 0, 0), (0, 2, 0, 2)])
    a, b = 0, 2
    spread = np.sqrt(K[b, b] - K[a, b] ** 2 / K[a, a])
    assert found[0, 2, 0, 0][a, b] == pytest.approx(
        spread / np.sqrt(2 * np.pi) / np.sqrt(2 * np.pi * K[a, a]), rel=1e-13
    )
    determinant = K[a, a] * K[b, b] - K[a, b] ** 2
    assert found[0, 2, 0, 2][a, b] == pytest.approx(1 / (2 * np.pi * np.sqrt(determinant)), rel=1e-13)


def test_deltas_of_inputs_that_are_almost_alike_are_those_of_equal_ones() -> None:
    """θ⁻³ of rounding is not let in: with 1 − ρ = 10⁻¹¹ these would be 10¹⁶."""
    near = np.array([[1.0, 1.0 - 1e-11], [1.0 - 1e-11, 1.0]])
    with float64():
        found = many_pairs(fw.activations.relu, near, [(1, 2, 1, 2), (1, 4, 1, 0), (0, 2, 0, 2)])
    for key, value in found.items():
        np.testing.assert_array_equal(value, 0.0, err_msg=str(key))


def test_smooth_ones_agree_with_planes() -> None:
    keys = [(0, 0, 0, 0), (1, 1, 1, 0), (0, 2, 2, 1)]
    with float64():
        few, many = (road(fw.activations.named("gelu"), K, keys) for road in (pair_averages, many_pairs))
    for key in keys:
        value, error = few[key]
        assert np.all(np.abs(many[key] - value) <= error + 1e-6 * np.abs(value).max()), key


def test_other_kinks_are_refused_with_a_way_out() -> None:
    with float64(), pytest.raises(fw.InputError, match="elu has kinks and is not piecewise linear"):
        many_pairs(fw.activations.named("elu"), K, [(0, 0, 0, 0)])
