"""The approach to the fixed point: the recursion itself, iterated deep, against the exponents and coefficients that
are stated."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, erfc, expit, ndtr

from finitewidth.activations import Activation
from finitewidth.criticality import critical

# an independent road: ⟨f⟩ = Σ w f(√K x), Gauss–Legendre on [0, 9] mirrored, split at 0 where the kinks below are
_X, _W = np.polynomial.legendre.leggauss(160)
X = np.concatenate([-4.5 * (_X + 1), 4.5 * (_X + 1)])
W = np.tile(4.5 * _W, 2) * np.exp(-0.5 * X * X) / math.sqrt(2 * math.pi)


def flow(sigma, slope, C_W, C_b, K, layers):
    """K, χ∥, χ⊥ at each of `layers` (increasing), from K at layer 1."""
    rows = {}
    wanted = set(layers)
    for layer in range(1, max(layers) + 1):
        z = math.sqrt(K) * X
        s = sigma(z)
        if layer in wanted:
            d = slope(z)
            rows[layer] = (K, C_W * (W @ (z * s * d)) / K, C_W * (W @ (d * d)))
        K = C_b + C_W * (W @ (s * s))
    return np.array([rows[layer] for layer in layers])


def elu(z):
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def elu_slope(z):
    return np.where(z > 0, 1.0, np.exp(np.minimum(z, 0)))


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

DECAYS = {
    "tanh": (Activation(jnp.tanh, "tanh", kinks=(), parity="odd"), np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sin + bump": (
        Activation(lambda z: jnp.sin(z) + 0.3 * (1 - jnp.cos(z)), "sin + bump", kinks=(), parity="none"),
        lambda z: np.sin(z) + 0.3 * (1 - np.cos(z)),
        lambda z: np.cos(z) + 0.3 * np.sin(z),
    ),
    "elu": (
        Activation(lambda z: jnp.where(z > 0, z, jnp.expm1(jnp.minimum(z, 0.0))), "elu", kinks=(0.0,), parity="none"),
        elu,
        elu_slope,
    ),
    "selu": (
        Activation(jax.nn.selu, "selu", kinks=(0.0,), parity="none"),
        lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0))),
        lambda z: SELU_SCALE * np.where(z > 0, 1.0, SELU_ALPHA * np.exp(np.minimum(z, 0))),
    ),
    "softsign": (
        Activation(lambda z: z / (1 + jnp.abs(z)), "softsign", kinks=(0.0,), parity="odd"),
        lambda z: z / (1 + np.abs(z)),
        lambda z: 1 / (1 + np.abs(z)) ** 2,
    ),
}


@pytest.mark.parametrize("name", DECAYS)
def test_decay_to_zero_kernel(name):
    activation, sigma, slope = DECAYS[name]
    (point,) = [p for p in critical(activation, K_range=(1e-3, 1e2)).points if p.K_star == 0.0]
    layers = [2500, 5000, 10000]
    rows = flow(sigma, slope, point.C_W, 0.0, 1.0, layers)
    ell = np.array(layers, dtype=float)
    p_0, p_parallel, p_perp = (point.exponents[k] for k in ("p_0", "p_parallel", "p_perp"))
    # corrections are (A ln ℓ + B)/ℓ: with three depths in the ratio 2 both are eliminated
    for measured, stated in (
        ((rows[:, 0] * ell**p_0) ** (-1 / p_0), point.coefficients["K"] ** (-1 / p_0)),
        (ell * (1 - rows[:, 1]), p_parallel),
        (ell * (1 - rows[:, 2]), p_perp),
    ):
        limit = 4 * measured[2] - 4 * measured[1] + measured[0]
        assert limit == pytest.approx(stated, rel=2e-5)
        assert abs(measured[2] - stated) < 0.01 * stated


@pytest.mark.parametrize(
    ("activation", "sigma", "side"),
    [
        (
            Activation(lambda z: z * jax.scipy.special.ndtr(z), "gelu", kinks=(), parity="none"),
            lambda z: z * ndtr(z),
            +1,
        ),
        (
            Activation(jax.nn.mish, "mish", kinks=(), parity="none"),
            lambda z: z * np.tanh(np.logaddexp(z, 0)),
            -1,
        ),
        (
            Activation(lambda z: z * jax.nn.sigmoid(2 * z), "sharp swish", kinks=(), parity="none"),
            lambda z: z * expit(2 * z),
            -1,
        ),
    ],
    ids=["gelu", "mish", "sharp swish"],
)
def test_half_stable_approach_is_one_over_depth(activation, sigma, side):
    """1/δ grows by −a a layer: measured where δ is small enough for the next order, and both sides are what is
    stated."""
    point = critical(activation, K_range=(0.1, 100.0)).preferred
    assert point.universality_class == "half-stable"
    assert (point.stable_from_above, point.stable_from_below) == (side > 0, side < 0)
    rates = []
    for start in (0.04, 0.02):
        delta = side * start
        after = flow(sigma, lambda z: 0 * z, point.C_W, point.C_b, point.K_star + delta, [2001])[0, 0] - point.K_star
        rates.append((1 / after - 1 / delta) / 2000)
        before = flow(sigma, lambda z: 0 * z, point.C_W, point.C_b, point.K_star - delta, [2001])[0, 0] - point.K_star
        assert abs(after) < abs(delta) < abs(before)
    assert -(2 * rates[1] - rates[0]) == pytest.approx(point.coefficients["a"], rel=0.01)
    assert point.coefficients["K"] == pytest.approx(1 / abs(point.coefficients["a"]))


def test_hardtanh_decays_like_one_over_twice_the_logarithm():
    """With u = 1/2K, e^u → 2ℓ√(u/π): one layer changes u by 2√(u/π) e^{−u} (derived in `point._flat`)."""
    K, layers = 1.0, {10**3: None, 10**5: None}
    for layer in range(1, 10**5 + 1):
        root = math.sqrt(2 * K)
        tail = 0.5 * erfc(1 / root)
        density = math.exp(-0.5 / K) / math.sqrt(2 * math.pi * K)
        if layer in layers:
            layers[layer] = (K, 1 - 2 * density - 2 * tail, erf(1 / root))
        K = K * (1 - 2 * tail - 2 * density) + 2 * tail
    off = []
    for layer, (K, chi_parallel, _) in layers.items():
        u = 0.5 / K
        off.append(abs(math.exp(u) / (2 * layer * math.sqrt(u / math.pi)) - 1))
        assert layer * (1 - chi_parallel) == pytest.approx(1.0, abs=0.35)
    assert off[1] < off[0] < 0.4 and layers[10**5][0] * 2 * math.log(10**5) == pytest.approx(1.0, abs=0.15)
    # angles: ℓ(1 − χ⊥) → K → 0, which is p_perp = 0
    assert 10**5 * (1 - layers[10**5][2]) < 10**3 * (1 - layers[10**3][2]) < 0.12
