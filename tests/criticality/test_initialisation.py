"""Usual schemes against the variances their definitions give, and the critical one against the kernel it promises."""

import json
import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from finitewidth.activations import Activation
from finitewidth.criticality import initialisation
from finitewidth.errors import InputError

TANH = Activation(jnp.tanh, "tanh", kinks=(), parity="odd")
GELU = Activation(lambda z: z * jax.scipy.special.ndtr(z), "gelu", kinks=(), parity="none")
RELU = Activation(lambda z: jnp.where(z > 0, z, 0.0), "relu", kinks=(0.0,), parity="none")
LEAKY = Activation(lambda z: jnp.where(z > 0, z, 0.1 * z), "leaky_relu(0.1)", kinks=(0.0,), parity="none")
EXP = Activation(jnp.exp, "exp", kinks=(), parity="none")
WIDTHS = [48, 128, 128, 10]


def test_torch_default_is_a_uniform_draw():
    result = initialisation("torch", TANH, widths=WIDTHS)
    for n, C_b, C_W, std_b, std_W in zip(WIDTHS, result.C_b, result.C_W, result.std_b, result.std_W, strict=False):
        uniform_std = (2 / math.sqrt(n)) / math.sqrt(12)  # U(±1/√n)
        assert std_b == pytest.approx(uniform_std) and std_W == pytest.approx(uniform_std)
        assert (C_b, C_W) == (pytest.approx(1 / (3 * n)), pytest.approx(1 / 3))


@pytest.mark.parametrize(
    ("activation", "gain", "words"),
    [
        (RELU, math.sqrt(2), "relu"),
        (TANH, 5 / 3, "tanh"),
        (LEAKY, math.sqrt(2 / 1.01), "slope 0.1"),
        (GELU, math.sqrt(2), "does not know"),
    ],
)
def test_kaiming(activation, gain, words):
    result = initialisation("kaiming", activation, widths=WIDTHS)
    np.testing.assert_allclose(result.std_W, gain / np.sqrt(WIDTHS[:-1]))
    assert set(result.C_b) == {0.0} and words in result.note


def test_xavier_and_lecun():
    xavier, lecun = (initialisation(s, RELU, widths=WIDTHS) for s in ("xavier", "lecun"))
    np.testing.assert_allclose(xavier.std_W, [math.sqrt(2 / (a + b)) for a, b in pairwise(WIDTHS)])
    np.testing.assert_allclose(lecun.std_W, 1 / np.sqrt(WIDTHS[:-1]))


def test_critical_puts_the_first_kernel_on_the_fixed_point():
    gelu = initialisation("critical", GELU, widths=WIDTHS, mean_square=0.3)
    assert gelu.C_b[0] + gelu.C_W[0] * 0.3 == pytest.approx((3 + math.sqrt(17)) / 2, rel=1e-12)
    assert gelu.C_W[1:] == pytest.approx([1.9830582574375471] * 2) and gelu.C_b == pytest.approx(
        [0.17292239075606735] * 3
    )
    tanh = initialisation("critical", TANH, widths=WIDTHS, mean_square=4.0)
    assert tanh.C_W == (0.25, 1.0, 1.0) and tanh.C_b == (0.0, 0.0, 0.0)
    assert initialisation("critical", RELU, widths=WIDTHS).C_W == (2.0, 2.0, 2.0)
    json.dumps(gelu.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("scheme", "activation", "options", "message"),
    [
        (
            "he",
            RELU,
            {"widths": WIDTHS},
            "`scheme` must be one of torch, kaiming, xavier, lecun, critical, but got 'he'",
        ),
        ("torch", RELU, {"widths": [3]}, "`widths` must be n_0"),
        ("torch", RELU, {"widths": [3, 0]}, "`widths` must be integers ≥ 1, but got 0"),
        ("torch", RELU, {"widths": [3, 2.5]}, "`widths` must be integers ≥ 1, but got 2.5"),
        ("critical", RELU, {"widths": WIDTHS, "mean_square": 0.0}, "`mean_square` must be a finite number > 0"),
        ("critical", EXP, {"widths": WIDTHS}, "no critical initialisation and none near it"),
    ],
)
def test_errors(scheme, activation, options, message):
    with pytest.raises(InputError, match=message):
        initialisation(scheme, activation, **options)
