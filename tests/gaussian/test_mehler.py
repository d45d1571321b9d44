"""Hermite series of pair averages: sin in closed form, near-equal inputs, and what they cannot do."""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.gaussian.mehler import many_pair_averages
from finitewidth.precision import float64


@pytest.mark.parametrize("size", [1e-3, 1.0, 6.0])
def test_sines_are_right_to_what_is_promised(size: float) -> None:
    """⟨sin a sin b⟩ = e^{−(A+B)/2} sinh K, ⟨cos a cos b⟩ with cosh: 200 inputs, some nearly equal, some opposite."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 5)) * np.sqrt(size / 5)
    x[1], x[2], x[3] = x[0] * (1 + 1e-7), -x[0], x[4] + 1e-3 * x[5]
    K = x @ x.T
    with float64():
        found = many_pair_averages(fw.activations.named("sin"), K, [(0, 0), (1, 1), (2, 0)])
    # e^{K−(A+B)/2} and e^{−K−(A+B)/2}, neither of which overflows
    half = 0.5 * np.add.outer(np.diag(K), np.diag(K))
    same, opposite = np.exp(K - half), np.exp(-K - half)
    exact = {(0, 0): 0.5 * (same - opposite), (1, 1): 0.5 * (same + opposite), (2, 0): 0.5 * (opposite - same)}
    for orders, value in exact.items():
        norms = [np.sqrt(np.diag(exact[k % 2, k % 2])) for k in orders]
        assert np.all(np.abs(found[orders] - value) <= 1e-6 * np.outer(*norms)), orders


def test_too_sharp_an_activation_is_refused() -> None:
    with float64(), pytest.raises(fw.InputError, match="use smaller inputs, C_W or C_b"):
        many_pair_averages(fw.activations.named("tanh"), np.array([[1e6]]), [(0, 0)])
