"""Chebyshev tables: what they state is a bound, for any activation, kernel and correlation; and it is small."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp, mpf

import finitewidth as fw
from finitewidth.gaussian.pair_maps import TableMap
from finitewidth.gaussian.plane import direct_pairs
from finitewidth.gaussian.tables import (
    LineTable,
    NotTabulable,
    PairTable,
    Window,
    is_discontinuous,
    line_moments,
    pair_table,
)
from finitewidth.precision import float64

W = np.array([0.0, 1e-12, 1e-6, 0.01, 0.3, 1.0])


def random_activation(seed: int) -> fw.Activation:
    """Smooth, odd, even or kinked at 0: sums of steps and bells of random widths, places and sizes."""
    rng = np.random.default_rng(seed)
    rate, size, shift = rng.uniform(0.3, 2.0, 3), rng.normal(size=3), rng.normal(size=3)
    slope = rng.uniform(-0.5, 1.0)
    kinds = {
        "smooth": lambda z: size[0] * jnp.tanh(rate[0] * z + shift[0]) + size[1] * jax.nn.sigmoid(rate[1] * z) * z,
        "odd": lambda z: jnp.tanh(rate[0] * z) + size[1] * z * jnp.exp(-((rate[1] * z) ** 2) / 4),
        "even": lambda z: z * jnp.tanh(rate[0] * z) + size[1] * jnp.exp(-((rate[1] * z) ** 2) / 4),
        "kinked": lambda z: jnp.where(z > 0, z, slope * jnp.tanh(rate[0] * z)),
    }
    kind = list(kinds)[seed % 4]
    kinks = (0.0,) if kind == "kinked" else ()
    return fw.Activation(kinds[kind], name=f"{kind} {seed}", kinks=kinks)


def seen(activation: fw.Activation, K: np.ndarray, s: float):
    """Deviations of the table, as the flow takes it, from the plane, and what is stated."""
    a, w = np.repeat(K, len(W)), np.tile(W, len(K))
    with float64():
        moments = line_moments(activation, a)
        table = TableMap(activation, a[None], moments.value[None], [np.arange(len(a))])
        layers, constants = table.layers()
        layer, side = (jax.tree.map(lambda x: x[0], x) for x in (layers, table.tile(0)))
        square = np.abs(w[:, None] - w)  # any complements will do: one for each pair
        mine = table.function(constants, layer, side, side, jnp.asarray(square), jnp.full(square.shape, s))
    rng = np.random.default_rng(0)
    i, j = rng.integers(0, len(a), (2, 24))
    plane, error = direct_pairs(activation, a[i], a[j], square[i, j], np.full(i.shape, s))
    m, ss = moments.value[:2]
    scale_F, scale_S = np.sqrt(m[i] * m[j]), np.sqrt(ss[i] * ss[j])
    relative = (moments.error[:2] / moments.value[:2]).max()
    off = {
        "F": (np.abs(np.asarray(mine.F)[i, j] - plane.F) - error.F) / scale_F,
        "S": (np.abs(np.asarray(mine.S)[i, j] - plane.S) - error.S) / scale_S,
    }
    edge = (np.abs(np.asarray(mine.collinear)[i, j] - plane.collinear) - error.collinear) / scale_F
    return off, edge, table.errors, relative


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, *range(2, 16)))])
def test_the_error_is_honest_and_small(seed: int) -> None:
    s = -1.0 if seed % 3 == 0 else 1.0
    activation = random_activation(seed)
    rng = np.random.default_rng(100 + seed)
    K = np.exp(rng.uniform(-5, 2) + rng.uniform(0, 0.5, 4))
    off, edge, stated, moment_error = seen(activation, K, s)
    assert off["F"].max() <= stated.averages[0] + moment_error, off["F"].max()
    assert off["S"].max() <= stated.averages[0] + moment_error, off["S"].max()
    assert edge.max() <= stated.collinear[0] + moment_error
    assert stated.averages[0] <= 1e-10
    assert stated.collinear[0] <= 1e-12


@pytest.mark.parametrize(
    ("name", "window"),
    [
        ("tanh", (3.0, 5.0)),
        pytest.param("cos", (0.0, 2.0), marks=pytest.mark.slow),
        pytest.param("gaussian", (4.0, 5.0), marks=pytest.mark.slow),
    ],
)
def test_collinear_values_by_themselves(name: str, window: tuple[float, float]) -> None:
    """⟨σ(√a x)σ(√b x)⟩ of very different kernels, by one integral in 30 digits: a table that resolves D may miss it."""
    functions = {"tanh": mp.tanh, "cos": mp.cos, "gaussian": lambda z: mp.exp(-z * z)}
    known = fw.activations.named(name)
    with float64():
        table = PairTable(fw.Activation(known.function), Window(*window))
    z = np.linspace(-3, 3, 7)
    f = functions[name]
    np.testing.assert_allclose(known.evaluate(z)[0], [float(f(mpf(x))) for x in z], rtol=1e-12)
    mp.dps = 30
    grid = [mpf(i) / 100 for i in range(-1200, 1201)]

    def average(a: float, b: float) -> mpf:
        root_a, root_b = mp.sqrt(mpf(a)), mp.sqrt(mpf(b))
        return mp.fsum(mp.exp(-x * x / 2) * f(root_a * x) * f(root_b * x) for x in grid) / 100 / mp.sqrt(2 * mp.pi)

    u = np.random.default_rng(0).uniform(*window, (6, 2))
    for a, b in np.exp(np.concatenate([u, [window]])):
        right = float(average(a, b) / mp.sqrt(average(a, a) * average(b, b)))
        one, two = (
            np.polynomial.chebyshev.chebvander(table.window.to_unit(np.log(k)), table.size[1] - 1) for k in (a, b)
        )
        assert abs((one @ table.collinear[0] @ two.T).item() - right) <= table.collinear_error
    assert table.collinear_error <= 1e-12


def test_small_moments_keep_their_digits_beside_large_ones() -> None:
    """⟨max(z − κ, 0)²⟩ = K [(1 + u²) Φ(−u) − u φ(u)], u = κ/√K: from 1e-26 to 1e-5 within one window."""
    with float64():
        table = LineTable(fw.Activation(lambda z: jnp.maximum(z - 3.7, 0.0), kinks=(3.7,)), Window(-2.0, 0.0))
    mp.dps = 40
    for K in (0.14, 0.3, 0.9):
        u = mpf(3.7) / mp.sqrt(mpf(K))
        slope, value = mp.ncdf(-u), mpf(K) * ((1 + u * u) * mp.ncdf(-u) - u * mp.npdf(u))
        found = table.moments(np.array(K))
        for row, exact in ((0, value), (1, slope), (2, slope)):
            assert abs(found[row] / exact - 1) <= table.error[0] + table.error[row], (K, row)
    assert table.error.max() < 1e-12


def test_moments_of_a_single_input() -> None:
    """⟨σ²⟩, ⟨σ'²⟩, d⟨σ²⟩/dK, ⟨σ⁴⟩, ⟨z²σ'²⟩ of tanh by a trapezoid sum in 30 digits."""
    mp.dps = 30
    with float64():
        table = LineTable(fw.activations.tanh, Window(-1.0, 3.0))
    grid = [mpf(i) / 40 for i in range(-480, 481)]
    weight = [mp.exp(-x * x / 2) / 40 / mp.sqrt(2 * mp.pi) for x in grid]
    for K in (0.4, 1.0, 7.3, 20.0):
        z = [mp.sqrt(mpf(K)) * x for x in grid]
        t = [mp.tanh(x) for x in z]
        d = [1 - x * x for x in t]
        each = [
            [x * x for x in t],
            [x * x for x in d],
            [x * y * u / mpf(K) for x, y, u in zip(z, t, d, strict=True)],
            [x**4 for x in t],
            [(x * u) ** 2 for x, u in zip(z, d, strict=True)],
        ]
        right = [mp.fsum(w * x for w, x in zip(weight, values, strict=True)) for values in each]
        for value, exact, error in zip(table.moments(np.array(K)), right, table.error, strict=True):
            assert abs(mpf(value.item()) - exact) <= float(error + 1e-15) * exact
    assert table.error.max() < 1e-11


def test_windows_cover_and_repeat() -> None:
    for low, high in ((0.3, 0.4), (-7.2, 5.9), (1.0, 1.0)):
        window = Window.around(np.exp(np.array([low, high])))
        assert window.low <= low + 1e-12 and window.high >= high - 1e-12
        assert window == Window.around(np.exp(np.array([low, high]) + 1e-9 * (high - low)))
        assert np.all(np.abs(window.to_unit(np.array([low, high]))) <= 1 + 1e-12)


def test_wide_windows_keep_close_to_the_kernels() -> None:
    """Inputs of one component have kernels from 1e-5 to 10: a window up to 1e7 would leave tanh without a table."""
    for low, high in ((1e-4, 4.0), (4e-6, 10.0), (2e-9, 10.0), (1e-30, 1e-3)):
        window = Window.around(np.array([low, high]))
        wide = math.log(high / low)
        assert window.low <= math.log(low) and math.log(high) <= window.high
        assert window.high - window.low <= 1.3 * wide


def test_tables_of_inputs_on_a_line() -> None:
    """tanh at kernels from 1e-4 to 4: before, only quadrature pair by pair was left, minutes for a hundred inputs."""
    K = np.array([1e-4, 0.3, 4.0])
    with float64():
        table = pair_table(fw.activations.tanh, K)
    assert max(table.error, table.collinear_error) < 1e-10
    mp.dps = 30
    grid = [mpf(i) / 100 for i in range(-1200, 1201)]
    weight = [mp.exp(-x * x / 2) / 100 / mp.sqrt(2 * mp.pi) for x in grid]

    def average(a: float, b: float) -> mpf:
        one, two = mp.sqrt(mpf(a)), mp.sqrt(mpf(b))
        return mp.fsum(w * mp.tanh(one * x) * mp.tanh(two * x) for w, x in zip(weight, grid, strict=True))

    ends = [np.polynomial.chebyshev.chebvander(table.window.to_unit(np.log(k)), table.size[1] - 1) for k in K]
    right = float(average(K[0], K[2]) / mp.sqrt(average(K[0], K[0]) * average(K[2], K[2])))
    assert abs((ends[0] @ table.collinear[0] @ ends[2].T).item() - right) <= table.collinear_error


def test_refusals() -> None:
    with float64():
        with pytest.raises(NotTabulable, match="kinks away from the origin"):
            PairTable(fw.Activation(fw.activations.named("hardtanh").function, kinks=(-1.0, 1.0)), Window(0.0, 1.0))
        with pytest.raises(NotTabulable):
            PairTable(fw.Activation(lambda z: jnp.sin(60 * z)), Window(4.0, 5.0))


@pytest.mark.parametrize(("name", "jumps"), [("sign", True), ("hardshrink", True), ("relu", False), ("elu", False)])
def test_jumps_of_sigma_are_seen(name: str, jumps: bool) -> None:
    assert is_discontinuous(fw.activations.named(name)) is jumps
