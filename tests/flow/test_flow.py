"""`flow`: THEORY §4's numbers, real networks, symmetries, pairs that nearly coincide, and what is refused.

References of 25 digits for whole networks are in test_references. Statements about random networks have a false-alarm
rate of 1e-6 each: |z| < 4.9.
"""

import os
import warnings
from dataclasses import replace
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

import finitewidth as fw

Z_MAX = 4.9
ONE = np.ones((1, 2))


# --- numbers of THEORY §3 and §4 ---


@pytest.mark.parametrize("slope", [0.0, 0.1, -1.0])
def test_vertex_of_the_relu_family(slope: float) -> None:
    """V/K² = [6(1 + a⁴)/(1 + a²)² − 1](ℓ − 1), 5(ℓ − 1) for ReLU."""
    net = fw.MLP(fw.activations.leaky_relu(slope), depth=30, C_W=2 / (1 + slope**2))
    flow = fw.flow(net, 3 * ONE / np.sqrt(net.C_W))
    np.testing.assert_allclose(flow.K[:, 0, 0], 9.0, rtol=1e-13)
    each = 6 * (1 + slope**4) / (1 + slope**2) ** 2 - 1
    np.testing.assert_allclose(flow.V[:, 0], 81 * each * np.arange(30), rtol=1e-13)


def test_vertex_of_a_deep_linear_network() -> None:
    """E[z⁴]/3K² = Π(1 + 2/n_ℓ), so V = 2K²(ℓ − 1) to first order; with widths n_ℓ, V/n_{ℓ−1} = 2K² Σ 1/n_ℓ."""
    widths = np.array([10, 40, 20, 5])
    flow = fw.flow(fw.MLP("linear", depth=5, width=widths), ONE)
    np.testing.assert_allclose(flow.V[1:, 0] / widths, 2 * np.cumsum(1 / widths), rtol=1e-13)
    np.testing.assert_allclose(fw.flow(fw.MLP("linear", depth=9), ONE).V[:, 0], 2.0 * np.arange(9), rtol=1e-13)


@pytest.mark.slow
def test_decay_of_tanh_at_depth_2000() -> None:
    """K → 1/2ℓ and V/K² → (2/3)ℓ; corrections fall like log(ℓ)/ℓ."""
    flow = fw.flow(fw.MLP("tanh", depth=2000), ONE, tensors=None)
    layer, K = flow.layer.values, flow.K.values[:, 0, 0]
    off = np.abs(np.stack([2 * layer * K, 1.5 * flow.V.values[:, 0] / K**2 / layer]) - 1)
    assert np.all(off[:, 1999] < 5 * np.log(2000) / 2000)
    assert np.all(off[:, 1999] < 0.7 * off[:, 999])


def test_activation_that_vanishes_wherever_the_gaussian_has_weight() -> None:
    """Beyond the first layer no signal reaches the kink at 3.7: the biases are all there is."""
    far = fw.Activation(lambda z: jnp.maximum(z - 3.7, 0.0), kinks=(3.7,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow = fw.flow(fw.MLP(far, depth=4, C_b=1e-4, C_W=1.0), [[0.3], [0.4]])
    np.testing.assert_allclose(flow.K[1:], 1e-4, rtol=1e-6)
    np.testing.assert_allclose(flow.chi_perp[1:], 0.0, atol=1e-300)
    assert np.all(np.isfinite(flow.K_error)) and np.all(np.isfinite(flow.Theta_error))


def test_single_input_tanh_to_all_digits() -> None:
    """THEORY §3's example by its recursion in 30 digits."""
    K, Theta, V = tanh_line(depth=4, x2=mpf("1.1"), C_b=mpf("0.2"), C_W=mpf("1.3"), l_b=mpf("0.5"), l_W=mpf("0.7"))
    net = fw.MLP("tanh", depth=4, C_b=0.2, C_W=1.3, lambda_b=0.5, lambda_W=0.7)
    last = fw.flow(net, [[np.sqrt(1.1)]]).isel(layer=-1)
    np.testing.assert_allclose([last.K[0, 0], last.Theta[0, 0], last.V[0]], [K, Theta, V], rtol=1e-13)
    np.testing.assert_allclose([K, Theta, V], [0.61922358058375605, 1.91739453464581785, 0.1525165489], rtol=1e-10)


def tanh_line(*, depth: int, x2, C_b, C_W, l_b, l_W) -> tuple[float, float, float]:
    with mp.workdps(30):
        K, Theta, V = C_b + C_W * x2, l_b + l_W * x2, mpf(0)
        grid = [mpf(i) / 10 for i in range(-120, 121)]  # the trapezoid rule converges geometrically
        weight = [mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi) / 10 for x in grid]
        for _ in range(depth - 1):
            t = [mp.tanh(mp.sqrt(K) * x) for x in grid]
            m2, m4 = (mp.fsum(w * s**p for w, s in zip(weight, t, strict=True)) for p in (2, 4))
            slope = mp.fsum(w * (1 - s * s) ** 2 for w, s in zip(weight, t, strict=True))
            # d⟨σ²⟩/dK = ½⟨(σ²)''⟩
            curved = mp.fsum(w * (1 - s * s) * (1 - 3 * s * s) for w, s in zip(weight, t, strict=True))
            V = C_W**2 * (m4 - m2**2 + curved**2 * V)
            Theta = l_b + l_W * m2 + C_W * slope * Theta
            K = C_b + C_W * m2
        return float(K), float(Theta), float(V)


def test_hyperparameters_by_layer() -> None:
    """ReLU by the arc-cosine formula, written out for three inputs."""
    net = fw.MLP("relu", depth=4, C_b=[0.1, 0, 0.3, 0.2], C_W=[1, 2, 1.5, 0.7], lambda_b=[1, 0, 2, 3], lambda_W=0.4)
    x = np.random.default_rng(5).normal(size=(3, 4))
    flow = fw.flow(net, x)
    C_b, C_W, l_b, l_W = (net.per_layer(name) for name in ("C_b", "C_W", "lambda_b", "lambda_W"))
    K, Theta = C_b[0] + C_W[0] * x @ x.T / 4, l_b[0] + l_W[0] * x @ x.T / 4
    for layer in range(1, 4):
        size = np.sqrt(np.outer(np.diag(K), np.diag(K)))
        rho = np.clip(K / size, -1, 1)
        angle = np.arccos(rho)
        F = size * (np.sqrt(1 - rho**2) + (np.pi - angle) * rho) / (2 * np.pi)
        Theta = l_b[layer] + l_W[layer] * F + C_W[layer] * (1 - angle / np.pi) / 2 * Theta
        K = C_b[layer] + C_W[layer] * F
        np.testing.assert_allclose(flow.K[layer], K, rtol=1e-7)  # arccos near 1 loses half of the digits
        np.testing.assert_allclose(flow.Theta[layer], Theta, rtol=1e-7)


def test_susceptibilities_are_those_of_the_step_that_follows() -> None:
    """χ∥ = χ⊥ = C_W/2 of ReLU, with the C_W of the next layer; the last layer's with its own."""
    flow = fw.flow(fw.MLP("relu", depth=4, C_W=[1.0, 2.0, 3.0, 5.0]), ONE)
    for name in ("chi_parallel", "chi_perp"):
        np.testing.assert_allclose(flow[name][:, 0], [1.0, 1.5, 2.5, 2.5], rtol=1e-14)


# --- real networks ---


def draw(rng: np.random.Generator, net: fw.MLP, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One real tanh network: C_b + C_W σσ/n_{L−1} at its output, and its tangent kernel by back-propagation."""
    sizes = [x.shape[1], *net.widths, 1]
    weights = [rng.normal(size=(m, n)) * np.sqrt(net.C_W / n) for n, m in pairwise(sizes)]
    signals, slopes = [x], []
    for W in weights[:-1]:
        s = np.tanh(signals[-1] @ W.T + np.sqrt(net.C_b) * rng.normal(size=len(W)))
        signals.append(s)
        slopes.append(1 - s * s)
    H, back = np.zeros((len(x), len(x))), np.ones((len(x), 1))
    for layer in reversed(range(net.depth)):
        H += (net.lambda_b + net.lambda_W * signals[layer] @ signals[layer].T / sizes[layer]) * (back @ back.T)
        if layer:
            back = (back @ weights[layer]) * slopes[layer - 1]
    return net.C_b + net.C_W * signals[-1] @ signals[-1].T / sizes[-2], H


def test_kernels_of_real_networks() -> None:
    """Means of K and of the tangent kernel at widths 64 and 256, extrapolated to infinite width."""
    net = fw.MLP("tanh", depth=3, width=256, C_b=0.1, C_W=1.5, lambda_b=0.5, lambda_W=0.7)
    x = np.random.default_rng(1).normal(size=(3, 4))
    rng, means, variances = np.random.default_rng(7), [], []
    for width, networks in ((256, 300), (64, 600)):
        found = np.array([draw(rng, replace(net, width=width), x) for _ in range(networks)])
        means.append(found.mean(0))
        variances.append(found.var(0) / networks)
    mean = (4 * means[0] - means[1]) / 3  # what is left is of order 1/(256 · 64)
    standard_error = np.sqrt(16 * variances[0] + variances[1]) / 3
    flow = fw.flow(net, x).isel(layer=-1)
    for i, name in enumerate(("K", "Theta")):
        assert np.max(np.abs(mean[i] - flow[name].values) / standard_error[i]) < Z_MAX


@pytest.mark.parametrize("shape", [(1.0, 3.0), (3.0, 1.0)])
def test_vertex_of_real_networks_of_unequal_widths(shape: tuple[float, float]) -> None:
    """V = n_{ℓ−1} Var[Ĝ], Ĝ = C_b + C_W σ·σ/n_{ℓ−1}, at widths 32 and 64 times `shape`, extrapolated."""
    net, networks = fw.MLP("tanh", depth=3, C_b=0.2, C_W=1.8), 6000
    rng, scaled = np.random.default_rng(3), []
    for n in (64, 32):
        one, two = (int(n * factor) for factor in shape)
        G = []
        for _ in range(networks):
            s = np.tanh(rng.normal(size=one) * np.sqrt(2.0))
            W, b = rng.normal(size=(two, one), scale=np.sqrt(1.8 / one)), rng.normal(size=two) * np.sqrt(0.2)
            s = np.tanh(W @ s + b)
            G.append(0.2 + 1.8 * s @ s / two)
        squares = two * (np.array(G) - np.mean(G)) ** 2
        scaled.append((squares.mean(), squares.std() / np.sqrt(networks)))
    (fine, e_fine), (coarse, e_coarse) = scaled
    V = float(fw.flow(replace(net, width=[int(64 * f) for f in shape]), ONE).V[-1, 0])
    assert abs(2 * fine - coarse - V) / np.hypot(2 * e_fine, e_coarse) < Z_MAX


# --- what holds for every input ---

KINDS = ("relu", "hardtanh", "elu", "tanh")


def directions(seed: int) -> np.ndarray:
    """Six inputs in random directions, of lengths that stay: their tables are made once."""
    x = np.random.default_rng(seed).normal(size=(6, 4))
    return np.linspace(1.6, 2.4, 6)[:, None] * x / np.linalg.norm(x, axis=1, keepdims=True)


inputs = st.integers(0, 2**32 - 1).map(directions)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=4, deadline=None)
@given(x=inputs, order=st.permutations(range(6)))
def test_samples_in_any_order_and_twice(name: str, x: np.ndarray, order: list[int]) -> None:
    x[1] = x[0]
    x[2] = x[3] * (1 + 1e-15)  # as nearly equal as numbers can be
    net = fw.MLP(name, depth=4, C_b=0.1, C_W=1.2)
    flow, other = fw.flow(net, x), fw.flow(net, x[order])
    for kernel in ("K", "Theta"):
        values = flow[kernel].values
        np.testing.assert_allclose(other[kernel].values, values[:, order][:, :, order], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(values[:, 1], values[:, 0], rtol=1e-12)
        np.testing.assert_allclose(values[:, 2, 3], values[:, 3, 3], rtol=1e-12)
        np.testing.assert_array_equal(values, values.transpose(0, 2, 1))
    np.testing.assert_allclose(other.V.values, flow.V.values[:, order], rtol=1e-12)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=4, deadline=None)
@given(x=inputs)
def test_kernels_are_positive_semidefinite(name: str, x: np.ndarray) -> None:
    x[1] = x[0] * (1 + 1e-9)
    flow = fw.flow(fw.MLP(name, depth=4, C_b=0.1, C_W=1.2), x)
    for kernel in ("K", "Theta"):
        values, error = flow[kernel].values, flow[f"{kernel}_error"].values
        assert np.all(np.linalg.eigvalsh(values).min(1) >= -len(x) * error - 1e-14 * values.max())
        size = np.sqrt(np.diagonal(values, axis1=1, axis2=2))
        assert np.all(np.abs(values) <= size[:, :, None] * size[:, None, :] * (1 + 1e-13))  # Cauchy–Schwarz


@settings(max_examples=10, deadline=None)
@given(x=inputs, log_scale=st.floats(-60, 60))
def test_relu_without_biases_is_scale_invariant(x: np.ndarray, log_scale: float) -> None:
    net, scale = fw.MLP("relu", depth=4, C_W=2.0, lambda_b=0.0), 2.0 ** round(log_scale)
    flow, other = fw.flow(net, x), fw.flow(net, scale * x)
    for name, power in (("K", 2), ("Theta", 2), ("V", 4), ("chi_parallel", 0)):
        np.testing.assert_allclose(other[name].values, scale**power * flow[name].values, rtol=1e-13)


@pytest.mark.parametrize("name", ["tanh", "hardtanh", "sin", "erf"])
def test_opposite_inputs_of_an_odd_activation(name: str) -> None:
    x = np.array([[1.0, 0.3], [-1.0, -0.3]])
    flow = fw.flow(fw.MLP(name, depth=5, C_W=1.3, lambda_b=0.0), x)
    for kernel in ("K", "Theta"):
        off = np.abs(flow[kernel][:, 0, 1] + flow[kernel][:, 0, 0])
        assert np.all(off <= 2 * flow[f"{kernel}_error"])  # two numbers, each with its error


@pytest.mark.parametrize(("name", "bias"), [("abs", 0.3), ("abs", 0.0), ("cos", 0.3), ("hardtanh", 0.0), ("erf", 0.0)])
@pytest.mark.parametrize("seed", [1, 2])
def test_opposite_inputs_are_as_good_as_equal_ones(name: str, bias: float, seed: int) -> None:
    """σ(−z) = ±σ(z): turning inputs round changes signs only, also of those that nearly coincide then."""
    x = np.random.default_rng(seed).normal(size=(4, 4))
    x[1:] = x[0], 1.001 * x[0], x[0] + 1e-7 * x[1]
    turned = x * np.array([1.0, -1.0, -1.0, -1.0])[:, None]
    net = fw.MLP(name, depth=5, C_b=[0.0, bias, bias, bias, bias], C_W=1.3, lambda_b=0.0)
    flow, other = fw.flow(net, x), fw.flow(net, turned)
    for kernel in ("K", "Theta"):
        off = np.abs(np.abs(flow[kernel].values) - np.abs(other[kernel].values)).max((1, 2))
        assert np.all(off <= flow[f"{kernel}_error"].values + other[f"{kernel}_error"].values)
        same = [[0, 1], [1, 0]]
        one, two = (np.abs(f[kernel].values[:, *same]) for f in (flow, other))
        np.testing.assert_allclose(one, two, rtol=1e-13)


# --- pairs that nearly coincide, tiles, options ---


@pytest.mark.parametrize("apart", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("known", [True, False], ids=["closed form", "table"])
def test_error_of_near_neighbours_is_honest(known: bool, apart: float) -> None:
    """Θ of ReLU feels the angle between inputs of nearly equal directions and unequal norms: 60 digits."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(3, 3))
    x[1], x[2] = x[0] + apart * x[2], -x[0] * (1 + apart)
    relu = fw.activations.relu
    net = fw.MLP(relu if known else fw.Activation(relu.function, kinks=(0.0,)), depth=4, C_b=0.1, C_W=1.3)
    flow = fw.flow(net, x, tensors="")
    with mp.workdps(60):
        G = mp.matrix([[mp.fdot(map(mpf, map(float, u)), map(mpf, map(float, v))) / 3 for v in x] for u in x])
        C_b, C_W = mpf(0.1), mpf(1.3)
        pairs = [(i, j) for i in range(3) for j in range(3)]
        K, Theta = ({p: c + d * G[p] for p in pairs} for c, d in ((C_b, C_W), (mpf(1), mpf(1))))
        for layer in range(4):
            for kernel, exact in (("K", K), ("Theta", Theta)):
                off = max(abs(mpf(float(flow[kernel].values[layer][p])) - exact[p]) for p in pairs)
                stated = flow[f"{kernel}_error"].values[layer]
                assert off <= stated <= 1e-10 * np.abs(flow[kernel].values[layer]).max(), (kernel, layer)
            size = {(i, j): mp.sqrt(K[i, i] * K[j, j]) for i, j in pairs}
            angle = {p: mp.acos(min(mpf(1), max(mpf(-1), K[p] / size[p]))) for p in pairs}
            F = {p: size[p] * (mp.sin(t) + (mp.pi - t) * mp.cos(t)) / (2 * mp.pi) for p, t in angle.items()}
            Theta = {p: 1 + F[p] + C_W * (1 - angle[p] / mp.pi) / 2 * Theta[p] for p in pairs}
            K = {p: C_b + C_W * F[p] for p in pairs}


@pytest.mark.parametrize("bias", [0.0, 0.3])
@pytest.mark.parametrize("tiny", [1e-3, 1e-6, 1e-9, 1e-12])
def test_nearly_collinear_inputs(bias: float, tiny: float) -> None:
    """Θ of ReLU and K of sign feel the angle itself: 1 − ρ of 1e-12 must keep its digits."""
    x = np.array([1.0, 2.0, -0.5])
    X = np.stack([x, x * (1 + 1e-13) + tiny * np.array([2.0, -1.0, 0.0])])
    with mp.workdps(60):
        G = mp.matrix([[sum(mpf(p) * mpf(q) for p, q in zip(u, v, strict=True)) / 3 for v in X] for u in X])
        K = [[mpf(bias) + G[i, j] for j in range(2)] for i in range(2)]
        angle = mp.acos(K[0][1] / mp.sqrt(K[0][0] * K[1][1]))
        size = mp.sqrt(K[0][0] * K[1][1])
        F = size * (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / (2 * mp.pi)
        Theta = float(1 + F + (1 - angle / mp.pi) / 2 * (1 + G[0, 1]))
        sign = float(bias + 1 - 2 * angle / mp.pi)
    relu = fw.flow(fw.MLP("relu", depth=2, C_b=bias), X)
    np.testing.assert_allclose(relu.Theta[1, 0, 1], Theta, rtol=2e-15)
    np.testing.assert_allclose(fw.flow(fw.MLP("sign", depth=2, C_b=bias), X).K[1, 0, 1], sign, rtol=2e-15)


@pytest.mark.parametrize(
    "name", ["relu", "silu", *(pytest.param(n, marks=pytest.mark.slow) for n in ("tanh", "hardtanh"))]
)
def test_many_inputs_are_pairs_of_inputs(name: str) -> None:
    """130 inputs take two tiles with padding, in JAX; each pair alone takes one, in NumPy."""
    x = np.random.default_rng(0).uniform(-1, 1, size=(130, 5)) * np.linspace(0.8, 1.6, 130)[:, None]
    net, calls = fw.MLP(name, depth=3, C_b=0.2, C_W=1.4), []
    whole = fw.flow(net, x, progress=lambda done, of: calls.append((done, of)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    np.testing.assert_array_equal(whole.K.values, whole.K.values.transpose(0, 2, 1))
    order = np.argsort(whole.K.values[0].diagonal())
    for i, j in ((0, 1), (71, 72), (0, 129), (72, 129), (128, 129)):
        pair = [order[i], order[j]]
        alone = fw.flow(net, x[pair])
        for kernel in ("K", "Theta"):
            np.testing.assert_allclose(whole[kernel].values[:, pair][:, :, pair], alone[kernel], rtol=3e-12)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_layers_and_tensors_choose_from_one_result(name: str) -> None:
    net, x = fw.MLP(name, depth=5, C_b=0.1, C_W=1.3), np.random.default_rng(2).normal(size=(4, 3))
    everything = fw.flow(net, x)
    assert list(everything.layer) == [1, 2, 3, 4, 5]
    for layers, kept in (("last", [5]), ([2, 4], [2, 4]), (np.array([5]), [5]), ((1,), [1])):
        some = fw.flow(net, x, layers=layers)
        assert list(some.layer) == kept and set(some) == set(everything)
        for variable in everything:
            np.testing.assert_allclose(some[variable], everything[variable].sel(layer=kept), rtol=1e-14)
    assert set(fw.flow(net, x, tensors="")) == {"K", "Theta", "K_error", "Theta_error"}


def test_one_layer() -> None:
    flow = fw.flow(fw.MLP("tanh", depth=1, C_b=0.5, C_W=2.0, lambda_W=3.0), [[1.0, 2.0], [0.0, 1.0]])
    np.testing.assert_allclose(flow.K[0], [[5.5, 2.5], [2.5, 1.5]])
    np.testing.assert_allclose(flow.Theta[0], [[8.5, 4.0], [4.0, 2.5]])
    np.testing.assert_array_equal(flow.V, 0.0)


# --- what is refused ---


@pytest.mark.parametrize(
    ("network", "x", "options", "message"),
    [
        ({"C_W": 1e100}, ONE, {}, r"leaves float64 at layer 3 \(K = .*explodes under relu with C_W = 1e\+100"),
        ({"C_W": [1, 1, 1, 1e-300, 1]}, ONE, {}, r"leaves float64 at layer 4 .*the signal dies under relu .*1e-300"),
        ({"activation": "exp", "C_W": 2.0}, ONE, {}, r"leaves float64 at layer \d .*explodes under exp"),
        ({"n_in": 3}, ONE, {}, r"`x` has 2 columns, but the network has n_in = 3; give inputs of shape \(N, 3\)"),
        ({}, [[1.0, np.nan]], {}, "`x`.*nan|`x`.*NaN"),
        ({}, [[1.0, np.inf]], {}, "`x`.*inf"),
        ({}, np.zeros((0, 3)), {}, "`x`"),
        ({}, [[1.0, 1.0], [0.0, 0.0]], {}, "`x` is all zero in row 1.*drop it"),
        ({}, ONE, {"order": 2}, "`order` must be 0"),
        ({}, ONE, {"tensors": "V"}, "`tensors` must be None"),
        ({}, ONE, {"layers": "first"}, "`layers` must be 'all', 'last'"),
        ({}, ONE, {"layers": [2, 6]}, "`layers` must be increasing layers between 1 and 5"),
        ({}, ONE, {"layers": [3, 2]}, "`layers` must be increasing"),
        ({}, ONE, {"layers": [0]}, "`layers` must be an integer ≥ 1, but got 0"),
        ({}, ONE, {"layers": []}, "`layers` must be increasing"),
    ],
)
def test_refusals(network, x, options, message: str) -> None:
    with pytest.raises(fw.InputError, match=message):
        fw.flow(fw.MLP(**{"activation": "relu", "depth": 5, **network}), x, **options)


def test_more_than_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 10, "SC_PAGE_SIZE": 4096}[name])
    with pytest.raises(fw.InputError, match=r"K and Theta of 40 inputs at 5 layers take .* GiB.*use layers='last'"):
        fw.flow(fw.MLP("relu", depth=5), np.ones((40, 2)))
