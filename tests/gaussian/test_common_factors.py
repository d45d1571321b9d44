"""Averages over inputs with noise of their own are right within the stated error, by other roads.

Roads: sin by characteristic functions, though declared to be kinked; truncated moments; exponentials cut at a kink, as
orthant probabilities of a shifted Gaussian (SciPy); fw.expectation, whose panels know nothing of noise.
"""

from itertools import product

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr

import finitewidth as fw
from finitewidth.gaussian import common_factors as module
from finitewidth.gaussian.common_factors import averages_by_factors, common_factors
from finitewidth.gaussian.smoothed import smoothed
from finitewidth.gaussian.truncated import truncated_averages
from finitewidth.precision import float64

SIN = fw.Activation(jnp.sin, kinks=(0.0,), parity="odd", name="sin, said to be kinked")
QUARTETS = [((0,), (0,), (0,), (0,)), ((0,), (1,), (0,), (1,)), ((1,), (2,), (1,), (0,)), ((2,), (1,), (3,), (2,))]
TRIPLES = [((0, 0), (0,), (0,)), ((0,), (1, 1), (0,)), ((2,), (1,), (0, 1)), ((1,), (3,), (1, 1))]
PAIRS = [((0, 0), (0, 0)), ((0, 1, 1), (2,)), ((1,), (1,))]
KEYS = {2: PAIRS, 3: TRIPLES, 4: QUARTETS}


def kernel(inputs: int, dimensions: int, apart: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=dimensions) + apart * rng.normal(size=(inputs, dimensions))
    return x @ x.T / dimensions


def of_sines(K: np.ndarray, key: tuple[tuple[int, ...], ...]) -> float:
    """⟨Π sin⁽ᵏ⁾⟩ with sin⁽ᵏ⁾(z) = Im iᵏ e^{iz}: a sum over signs of e^{−½ sᵀKs}."""
    slots = [i for i, orders in enumerate(key) for _ in orders]
    orders = [k for each in key for k in each]
    K, total = K[np.ix_(slots, slots)], 0.0
    for signs in product((1, -1), repeat=len(slots)):
        s = np.array(signs)
        phase = np.prod([e * (1j * e) ** k / 2j for e, k in zip(signs, orders, strict=True)])
        total += float((phase * np.exp(-0.5 * s @ K @ s)).real)
    return total


def copied(K: np.ndarray, scale: float) -> np.ndarray:
    """The last input is a multiple of the one before it."""
    mix = np.eye(len(K))
    mix[-1, -1], mix[-1, -2] = 0.0, scale
    return mix @ K @ mix.T


KERNELS = {
    "apart": kernel(4, 6, 1.0),
    "alike": kernel(4, 6, 0.1, 1),
    "very alike": kernel(4, 6, 1e-3, 2),
    "large": 30 * kernel(4, 6, 1.0, 3),
    "independent": np.diag([1.0, 2.0, 0.5, 0.1]),
    "equal correlations": 0.5 * np.eye(4) + 0.5,
    "one copied": copied(kernel(4, 6, 1.0, 4), -2.0),
    "in a plane": kernel(4, 2, 1.0, 5),
    "all the same": np.ones((4, 4)),
    "one vanishes": copied(kernel(4, 6, 1.0, 6), 0.0),
}


@pytest.mark.parametrize("label", KERNELS)
def test_splits_are_complete_and_leave_a_dimension_out(label: str) -> None:
    K = KERNELS[label]
    found = common_factors(K)
    assert found.L.shape[1] <= len(K) - 1 and np.all(found.s >= 0)
    np.testing.assert_allclose(found.L @ found.L.T + np.diag(found.s**2), K, atol=2e-13 * K.max())
    # Lᵀ s⁻² L is diagonal in the axes: there the Fourier transform falls as exp(−½ Σ v k²)
    if np.all(found.s > 0):
        scaled = found.L / found.s[:, None]
        np.testing.assert_allclose(
            scaled.T @ scaled, np.diag(1 / found.v - 1), atol=1e-9 * np.max(1 / found.v, initial=1.0)
        )


@pytest.mark.parametrize("label", KERNELS)
def test_sines_are_exact_within_the_error(label: str) -> None:
    for size, keys in KEYS.items():
        K = KERNELS[label][:size, :size]
        with float64():
            value, error, _ = averages_by_factors(SIN, K[None], keys)
        exact = np.array([of_sines(K, key) for key in keys])
        assert np.all(np.abs(value[:, 0] - exact) <= error[:, 0] + 1e-14), size
        assert np.all(error <= 1e-6), size


@pytest.mark.parametrize("apart", [1.0, 0.2, 0.01])
def test_leaky_relu_by_truncated_moments(apart: float) -> None:
    """In four inputs of which two are four times the others: every product of σ and σ'."""
    keys = list(product([(0,), (1,)], repeat=4))
    K = kernel(4, 7, apart, 9) * np.outer([1, 2, 1, 2], [1, 2, 1, 2])
    leaky = fw.activations.leaky_relu(0.3)
    with float64():
        exact = truncated_averages(leaky, K[None], keys)
        value, error, _ = averages_by_factors(leaky, K[None], keys)
    assert np.all(np.abs(value - exact.value) <= error + exact.error)
    assert np.all(error <= 1e-6 * np.abs(value))


def below(bounds: np.ndarray, K: np.ndarray) -> float:
    """P(z < bounds) of four inputs: three integrals in the order of Cholesky's variables, the last by Φ."""
    L, (t, w) = np.linalg.cholesky(K), np.polynomial.legendre.leggauss(40)

    def up_to(limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        half = 0.5 * (np.clip(limit, -8.5, 8.5) + 8.5)[..., None]
        x = half * (1 + t) - 8.5
        return x, half * w * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)

    x, of_x = up_to(np.array(bounds[0] / L[0, 0]))
    y, of_y = up_to((bounds[1] - L[1, 0] * x) / L[1, 1])
    z, of_z = up_to((bounds[2] - L[2, 0] * x[:, None] - L[2, 1] * y) / L[2, 2])
    last = ndtr((bounds[3] - L[3, 0] * x[:, None, None] - L[3, 1] * y[..., None] - L[3, 2] * z) / L[3, 3])
    return float(np.einsum("i,ij,ijk,ijk->", of_x, of_y, of_z, last))


def test_exponentials_cut_at_a_kink_by_orthants() -> None:
    """σ = min(eᶻ, e^κ): with k_i = 1 where z_i < κ, each part is e^{½kᵀKk} times P(z + Kk is on these sides of κ)."""
    kink, K = 0.4, kernel(4, 5, 1.0, 11)
    cut = fw.Activation(lambda z: jnp.exp(jnp.minimum(z, kink)), kinks=(kink,), name="cut")
    exact = 0.0
    for sides in product((1.0, -1.0), repeat=4):
        side = np.array(sides)
        k = 0.5 * (1 + side)
        exact += np.exp(0.5 * k @ K @ k + kink * np.sum(1 - k)) * below(side * (kink - K @ k), K * np.outer(side, side))
    with float64():
        value, error, _ = averages_by_factors(cut, K[None], [((0,), (0,), (0,), (0,))])
    assert abs(value[0, 0] - exact) <= error[0, 0]
    assert error[0, 0] <= 1e-7 * exact


@pytest.mark.parametrize("resolved", [1e-2, 1e-4])
@pytest.mark.parametrize("apart", [1.0, 0.2])
def test_lattices_are_honest_also_when_coarse(resolved: float, apart: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """And they converge as the theory says: the error is bounded by ε^1.4, ε = exp(−2π²v/h²), up to a small factor."""
    monkeypatch.setattr(module, "_RESOLVED", dict.fromkeys((1, 2, 3), resolved))
    leaky, keys = fw.activations.leaky_relu(0.3), [((0,), (0,), (0,), (0,)), ((1,), (1,), (1,), (1,))]
    for seed in range(4):
        K = kernel(4, 6, apart, seed)
        with float64():
            exact = truncated_averages(leaky, K[None], keys)
            value, error, _ = averages_by_factors(leaky, K[None], keys)
        assert np.all(np.abs(value - exact.value) <= error + exact.error)
        assert np.all(error <= 20 * resolved**1.4 * np.abs(value))


@pytest.mark.parametrize("name", ["elu", "softsign", "hardswish", "hardshrink"])
def test_tables_are_honest(name: str) -> None:
    """Against the average over a line, at random places; kinks at 0 and elsewhere, pieces that are no polynomials."""
    from finitewidth.gaussian.line import average

    activation = fw.activations.named(name)
    products = [(0,), (1,), (0, 1), (0, 0)]
    for s, far in ((0.8, 6.0), (0.05, 8.0), (5.0, 60.0)):
        with float64():
            table = smoothed(activation, products, s, far)
            m = far / 8 * np.random.default_rng(0).uniform(-3, 3, size=12)
            exact = []
            for each in m:

                def f(x: np.ndarray, each: float = each) -> np.ndarray:
                    d = activation.evaluate(each + x, (0, 1))
                    return np.stack([np.prod([d[k] for k in orders], axis=0) for orders in products])

                exact.append(average(f, s * s, kinks=tuple(k - each for k in activation.kinks)).value)
        size = np.sqrt(np.mean(np.square(exact), axis=0))
        assert np.all(np.abs(table(m) - np.array(exact).T).max(1) <= 3 * table.error * size + 1e-12), s
        assert np.all(table.error <= 1e-5), s


@pytest.mark.slow
@pytest.mark.parametrize("name", ["selu", "hardtanh", "softsign"])
def test_four_inputs_by_nested_panels(name: str) -> None:
    activation, K = fw.activations.named(name), 1.5 * kernel(4, 20, 1.0, 0) + 0.1
    with float64():
        value, error, _ = averages_by_factors(activation, K[None], [((0,),) * 4, ((0,), (0,), (1,), (1,))])

    def f(*z: np.ndarray) -> np.ndarray:
        d = [activation.evaluate(np.asarray(each), (0, 1)) for each in z]
        return np.stack([d[0][0] * d[1][0] * d[2][0] * d[3][0], d[0][0] * d[1][0] * d[2][1] * d[3][1]])

    estimate = fw.expectation(f, K, kinks=activation.kinks, rtol=1e-6)
    # eight planes of kinks are too many for its panels: hardtanh is sampled there, to one standard error
    errors = 4 if estimate.method == "population" else 1
    assert np.all(np.abs(value[:, 0] - estimate.value) <= error[:, 0] + errors * estimate.error)
    assert np.all(error[:, 0] <= 1e-7 * np.abs(estimate.value).max())
