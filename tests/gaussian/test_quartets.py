"""Averages over pairs and quartets of a few inputs are right within the stated error, by other roads; kinks and deltas.

Roads: closed forms for sin (characteristic functions) in four inputs; fw.expectation; and, for deltas at kinks, smooth
activations that become kinked, and a formula by hand.
"""

from itertools import product

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.gaussian.kinked import kinked_quartets
from finitewidth.gaussian.quartets import pair_averages, quartet_averages
from finitewidth.gaussian.truncated import orthant
from finitewidth.precision import float64


def kernel(rng: np.random.Generator, inputs: int, size: float, apart: float) -> np.ndarray:
    """Variances around `size`, correlations up to 1 − `apart`²/2 or so."""
    common, own = rng.normal(size=4), rng.normal(size=(inputs, 4))
    x = common + apart * own
    x *= np.sqrt(size * rng.uniform(0.5, 2.0, size=(inputs, 1))) / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def of_sines(K: np.ndarray, orders: tuple[int, ...]) -> np.ndarray:
    """⟨Π sin⁽ᵏ⁾(z)⟩ with sin⁽ᵏ⁾(z) = Im iᵏ e^{iz}: a sum over signs of e^{−½ sᵀKs}."""
    N, total = len(K), 0.0
    for signs in product((1, -1), repeat=len(orders)):
        exponent = np.zeros((N,) * len(orders))
        for (i, s), (j, t) in product(enumerate(signs), repeat=2):
            shape = [1] * len(orders)
            if i == j:
                shape[i] = N
                exponent = exponent + np.diag(K).reshape(shape)
            else:
                shape[i], shape[j] = N, N
                exponent = exponent + s * t * (K if i < j else K.T).reshape(shape)
        phase = np.prod([s * (1j * s) ** k / 2j for s, k in zip(signs, orders, strict=True)])
        total = total + phase * np.exp(-0.5 * exponent)
    return np.real(total)


@pytest.mark.parametrize("size", [1e-4, 1e-2, 0.5, 3.0])
def test_lattices_are_honest_and_accurate(size: float) -> None:
    """sin by its closed form: all pairs and quartets of four inputs, correlations up to 1 − 1e-8."""
    rng, orders = np.random.default_rng(int(1e4 * size)), [(0, 0, 0, 0), (0, 0, 1, 1), (0, 1, 1, 2), (1, 1, 1, 3)]
    sin = fw.activations.named("sin")
    for apart in (1.0, 1e-2, 1e-4):
        K = kernel(rng, 4, size, apart)
        with float64():
            pairs = pair_averages(sin, K, [(0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 1, 0)])
            quartets = quartet_averages(sin, K, orders)
        for key, (value, error) in {**pairs, **quartets}.items():
            each = key if key in quartets else (key[0] + key[1], key[2] + key[3])
            if key == (0, 0, 0, 0):
                each = key if value.ndim == 4 else (0, 0)
            exact = of_sines(K, each)
            rounding = 4e-15  # of the closed form: a sum of terms of order one
            assert np.all(np.abs(value - exact) <= error + rounding), (each, apart)
            assert np.all(error <= 1e-7 * np.abs(exact).max() + 1e-13), (each, apart)


@pytest.mark.parametrize("apart", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e2])
def test_truncated_moments_are_honest(size: float, apart: float) -> None:
    """ReLU, ⟨r_a r_b⟩ and ⟨r_a² r_b²⟩ by formulas of the angle, ⟨r_a r_b r_c²⟩ … by fw.expectation."""
    K = kernel(np.random.default_rng(3), 3, size, apart)
    relu = fw.activations.relu
    with float64():
        found = kinked_quartets(relu, K, [(0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1)])
    std = np.sqrt(np.diag(K))
    unit = K / np.outer(std, std)
    # sin θ from the exact complement: 1 − ρ² = (K_aa K_bb − K_ab²)/K_aa K_bb in extended precision
    wide = K.astype(np.longdouble)
    a, b = 0, 1
    sine = float(np.sqrt(1 - wide[a, b] ** 2 / (wide[a, a] * wide[b, b])))
    angle = np.arctan2(sine, unit[a, b])
    exact = {
        (0, 0, 0, 0): K[a, a] * K[b, b] * ((np.pi - angle) * (1 + 2 * np.cos(angle) ** 2) + 3 * sine * np.cos(angle)),
        (1, 1, 1, 1): np.pi - angle,
    }
    for orders, expected in exact.items():
        value, error = (each[a, a, b, b] for each in found[orders])
        # what rounding of K's entries does to the angle
        rounding = 1e-14 + 4e-16 / max(sine, 1e-8)
        assert abs(value - expected / (2 * np.pi)) <= error + rounding * expected, orders
        assert error <= 1e-7 * expected, orders
    if apart == 1.0:
        estimate = fw.expectation(
            lambda x, y, z: np.maximum(x, 0) * np.maximum(y, 0) * (z > 0), K, kinks=[(0.0,), (0.0,), (0.0,)]
        )
        value, error = (each[0, 1, 2, 2] for each in found[0, 0, 1, 1])
        assert abs(value - estimate.value) <= error + 3 * estimate.error + 1e-8 * abs(value)


def test_orthants_of_four_inputs() -> None:
    """Equal correlations ½: 1/(m + 1) for m inputs, by symmetry of m + 1 exchangeable variables."""
    K = 0.5 * np.eye(4) + 0.5
    for m in (1, 2, 3, 4):
        np.testing.assert_allclose(orthant(K[None, :m, :m]), 1 / (m + 1), rtol=1e-12)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 6))
    split = np.zeros((4, 4))
    split[:2, :2], split[2:, 2:] = x[:2] @ x[:2].T, x[2:] @ x[2:].T  # two independent pairs
    both = orthant(split[None, :2, :2]) * orthant(split[None, 2:, 2:])
    np.testing.assert_allclose(orthant(split[None]), both, rtol=1e-11)


# --- kinks ---

PAIR = np.array([[0.9, 0.4], [0.4, 1.3]])
DELTAS = [
    (0, 0, 0, 0),
    (1, 0, 1, 0),
    (0, 1, 0, 1),
    (0, 2, 0, 0),
    (1, 1, 1, 0),
    (1, 1, 1, 1),
    (0, 2, 0, 2),
    (1, 2, 1, 0),
    (0, 3, 0, 1),
]


def test_deltas_of_relu_by_hand() -> None:
    """∂σ' = δ: ⟨δ(z_a) δ(z_b)⟩ = p(0, 0), ⟨δ(z_a) σ(z_b)⟩ = √(K_b|a)/2π√K_aa, ⟨δ(z_a) step(z_b)⟩ = ½/√(2πK_aa)."""
    with float64():
        found = pair_averages(fw.activations.relu, PAIR, [(1, 1, 1, 1), (1, 1, 0, 0), (1, 1, 1, 0), (0, 2, 0, 2)])
    determinant = np.linalg.det(PAIR)
    density = 1 / (2 * np.pi * np.sqrt(determinant))
    np.testing.assert_allclose(found[1, 1, 1, 1][0][0, 1], density, rtol=1e-12)
    np.testing.assert_allclose(found[0, 2, 0, 2][0][0, 1], density, rtol=1e-12)
    np.testing.assert_allclose(found[1, 1, 0, 0][0][0, 1], np.sqrt(determinant) / PAIR[0, 0] / 2 / np.pi, rtol=1e-11)
    np.testing.assert_allclose(found[1, 1, 1, 0][0][0, 1], 0.5 / np.sqrt(2 * np.pi * PAIR[0, 0]), rtol=1e-11)


def test_deltas_are_what_smooth_activations_become() -> None:
    """softplus(βz)/β → ReLU: off by π²/(6β²) and higher powers; extrapolated in 1/β² from β = 8, 16, 32."""

    def smooth(beta: float) -> dict[tuple[int, ...], float]:
        # a trapezoid rule with the kink's width resolved
        x = np.arange(-9, 9.0001, 0.012)
        z = np.linalg.cholesky(PAIR) @ np.stack(np.meshgrid(x, x)).reshape(2, -1)
        weight = np.exp(-0.5 * (np.linalg.solve(PAIR, z) * z).sum(0)) * 0.012**2 / (2 * np.pi)
        s = 1 / (1 + np.exp(-np.clip(beta * z, -600, 600)))
        d = [np.logaddexp(0, beta * z) / beta, s, beta * s * (1 - s), beta**2 * s * (1 - s) * (1 - 2 * s)]
        return {key: float((d[key[0] + key[1]][0] * d[key[2] + key[3]][1]) @ weight) for key in DELTAS}

    with float64():
        found = pair_averages(fw.activations.relu, PAIR, DELTAS)
    some = [smooth(beta) for beta in (8.0, 16.0, 32.0)]
    for key in DELTAS:
        a, b, c = (each[key] for each in some)
        first = (4 * b - a) / 3, (4 * c - b) / 3
        limit = (16 * first[1] - first[0]) / 15
        assert abs(found[key][0][0, 1] - limit) <= 2e-4 * max(abs(limit), 0.1), key


@pytest.mark.parametrize("name", ["elu", "hardtanh"])
def test_other_kinks_by_expectation(name: str) -> None:
    activation = fw.activations.named(name)
    s = {"elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), "hardtanh": lambda z: np.clip(z, -1, 1)}[name]
    K = np.array([[1.0, 0.3, -0.2], [0.3, 0.8, 0.5], [-0.2, 0.5, 1.4]])
    with float64():
        found = kinked_quartets(activation, K, [(0, 0, 0, 0)])[0, 0, 0, 0]
    for a, b, c, d in ((0, 0, 1, 1), (0, 1, 1, 1), (0, 1, 2, 2)):
        inputs = sorted({a, b, c, d})
        at = [inputs.index(i) for i in (a, b, c, d)]
        estimate = fw.expectation(
            lambda *z, at=at: np.prod([s(z[i]) for i in at], axis=0),
            K[np.ix_(inputs, inputs)],
            kinks=[activation.kinks] * len(inputs),
            rtol=1e-8,
        )
        value, error = found[:, a, b, c, d]
        assert abs(value - estimate.value) <= error + 3 * estimate.error + 1e-12
        assert error <= 1e-5 * np.abs(found[0]).max()
