"""Samples: positive at every width, with the moments of order 1/n.

|z| < 5 fails by chance once in 1.7·10⁶ for a normal number: for the some 50 numbers of this file once in 3·10⁴ seeds.
"""

from itertools import product

import jax
import numpy as np
import pytest

import finitewidth as fw
from finitewidth.errors import InputError
from tests.information.draws import covariance, mean

BOUND = 5.0
X = ((1.2, -0.3), (0.4, 0.8))


@pytest.fixture(scope="module")
def found():
    return fw.nearly_gaussian(fw.MLP("gelu", depth=3, width=400, n_out=2, C_b=0.1, C_W=2.0), X)


def test_moments(found):
    # what order 1/n² adds at this width is a hundredth of V/n, and below the errors
    z = found.sample(400_000, key=jax.random.key(0))
    for a, b in product(range(2), repeat=2):
        seen, error = mean(z[:, 0, a] * z[:, 0, b])
        assert abs(seen - found.covariance[a, b]) < BOUND * error
        for i, j, k, m in [(0, 0, 1, 1), (0, 1, 0, 1)]:
            for c, d in product(range(2), repeat=2):
                # a pair's mean is known: what is left has less noise
                seen, error = covariance(z[:, i, a] * z[:, j, b], z[:, k, c] * z[:, m, d])
                wick = found.K[a, c] * found.K[b, d] if (i, j) == (0, 1) else 0.0
                expected = found.four_point(i, j, k, m)[a, b, c, d] + wick
                if wick:
                    g = found.shift
                    expected += found.K[a, c] * g[b, d] + g[a, c] * found.K[b, d]
                assert abs(seen - expected) < BOUND * error


def test_one_deep_relu_input_is_the_exact_log_normal_limit():
    # FACTS 4.2: E[Ĝ²]/K² = (1 + 5/n)^(L−1) → e^{5r}, 1.61 here; first order says 1.475
    deep = fw.nearly_gaussian(fw.MLP("relu", depth=39, width=400, C_W=2.0, n_out=100), [[1.0]])
    Q = (deep.sample(40_000, key=jax.random.key(1)) ** 2).mean((1, 2)) / deep.K.item()
    second, error = mean(Q**2)  # E Q² = (1 + 2/m) E[Ĝ²]
    assert abs(second - (1 + 5 / 400) ** 38 * (1 + 2 / 100)) < BOUND * error
    assert error < 0.02 * second


def test_same_key_same_numbers(found):
    first, again, other = (found.sample(3, key=jax.random.key(s)) for s in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (3, 2, 2) and first.dtype == np.float64


def test_inputs_that_no_network_tells_apart():
    # x and 2x of a ReLU network without biases: outputs are proportional in every network, and in every sample
    tied = fw.nearly_gaussian(fw.MLP("relu", depth=3, width=50, C_W=2.0), [[1.0, 2.0], [2.0, 4.0]])
    z = tied.sample(100, key=jax.random.key(2))
    np.testing.assert_allclose(z[..., 1], 2 * z[..., 0], rtol=1e-6)


def test_a_number_is_a_key(found):
    same = [found.sample(5, key=key) for key in (7, jax.random.key(7), jax.random.PRNGKey(7))]
    assert np.array_equal(same[0], same[1]) and np.array_equal(same[0], same[2])
    assert not np.array_equal(same[0], found.sample(5, key=8))
    for wrong in ("7", 7.0, True, np.zeros(2), None, -1, 1 << 64):
        with pytest.raises(InputError, match=r"`key` must be a whole number from 0 to 2\*\*32 - 1 or a key of"):
            found.sample(5, key=wrong)
