"""Residual networks at infinite width, against sums over a grid, real networks and closed forms.

Statements about random networks have a false-alarm rate of 1e-6 each: |z| < 4.9.
"""

from dataclasses import replace
from itertools import pairwise

import jax
import numpy as np
import pytest
from mpmath import acos, cos, mp, mpf, pi, sin, sqrt

import finitewidth as fw
from finitewidth.flow.composite import composite
from finitewidth.flow.line import line_flow
from finitewidth.precision import float64

X = np.array([[0.5, -1.2, 0.3], [1.0, 0.4, -0.6], [-0.7, 1.68, -0.42]])  # the third looks away from the first


def by_grid(net, x, sigma, slope):
    """K and Θ of the last layer by the trapezoid rule in two dimensions, which converges geometrically for entire σ."""
    t = np.linspace(-9, 9, 301)
    weight = np.exp(-t * t / 2) * (t[1] - t[0]) / np.sqrt(2 * np.pi)
    C_b, C_W, l_b, l_W = (net.per_layer(name) for name in ("C_b", "C_W", "lambda_b", "lambda_W"))
    inner = x @ x.T / x.shape[1]
    K, Theta = C_b[0] + C_W[0] * inner, l_b[0] + l_W[0] * inner

    def average(f, a, b):
        rho = np.clip(K[a, b] / np.sqrt(K[a, a] * K[b, b]), -1, 1)
        other = rho * t[:, None] + np.sqrt(1 - rho**2) * t
        return weight @ (f(np.sqrt(K[a, a]) * t)[:, None] * f(np.sqrt(K[b, b]) * other)) @ weight

    for l in range(1, net.depth):
        gamma, xi = (net.gamma, net.xi) if l < net.depth - 1 else (0.0, 1.0)
        F, S = (np.array([[average(f, a, b) for b in range(len(x))] for a in range(len(x))]) for f in (sigma, slope))
        Theta = gamma**2 * Theta + xi**2 * (l_b[l] + l_W[l] * F + C_W[l] * S * Theta)
        K = gamma**2 * K + xi**2 * (C_b[l] + C_W[l] * F)
    return K, Theta


def tanh_slope(z):
    return 1 - np.tanh(z) ** 2


SQUARE = fw.Activation(lambda z: z * z, name="square", parity="even", kinks=())


@pytest.mark.parametrize(
    ("activation", "sigma", "slope", "C_b"),
    [
        ("tanh", np.tanh, tanh_slope, 0.0),  # odd: opposite inputs keep their digits as equal ones do
        ("cos", np.cos, lambda z: -np.sin(z), 0.0),  # even: opposite inputs part all the same, what is carried is odd
        ("cos", np.cos, lambda z: -np.sin(z), 0.3),
        (SQUARE, np.square, lambda z: 2 * z, 0.3),  # by plain quadrature
    ],
)
def test_kernels_by_a_sum_over_a_grid(activation, sigma, slope, C_b):
    net = fw.ResidualMLP(
        activation, depth=4, C_b=C_b, C_W=[1.2, 0.5, 0.4, 1.1], lambda_b=0.3, lambda_W=[0.7, 0.5, 0.6, 0.4], gamma=0.7,
        xi=0.9,
    )  # fmt: skip
    found, (K, Theta) = fw.flow(net, X).isel(layer=-1), by_grid(net, X, sigma, slope)
    for value, error, true in ((found.K, found.K_error, K), (found.Theta, found.Theta_error, Theta)):
        assert np.abs(value - true).max() < float(error) + 1e-13 * np.abs(true).max()


def real_networks(net, x, n, draws, seed):
    """E[z zᵀ] of the last hidden layer and the NTK of one output, by autodiff: means and standard errors."""
    widths = [x.shape[1], *[n] * (net.depth - 1), 1]
    rates = [net.per_layer("lambda_b"), net.per_layer("lambda_W")]
    sigma = net.activation.function

    def hidden(parameters):
        z = x @ parameters[0][0].T + parameters[0][1]
        for W, b in parameters[1:-1]:
            z = net.gamma * z + net.xi * (sigma(z) @ W.T + b)
        return z

    def one(key):
        parameters = []
        for l, (k, (fan_in, fan_out)) in enumerate(
            zip(jax.random.split(key, net.depth), pairwise(widths), strict=True)
        ):
            of_W, of_b = jax.random.split(k)
            W = jax.random.normal(of_W, (fan_out, fan_in)) * np.sqrt(net.per_layer("C_W")[l] / fan_in)
            parameters.append((W, jax.random.normal(of_b, (fan_out,)) * np.sqrt(net.per_layer("C_b")[l])))
        output = lambda p: sigma(hidden(p)) @ p[-1][0][0] + p[-1][1]  # noqa: E731
        H = 0.0
        for l, (W, b) in enumerate(jax.jacrev(output)(parameters)):
            W, b = W.reshape(len(x), -1), b.reshape(len(x), -1)
            H += rates[0][l] * b @ b.T + rates[1][l] / widths[l] * W @ W.T
        z = hidden(parameters)
        return z @ z.T / n, H

    with float64():
        keys = jax.random.split(jax.random.key(seed), draws)
        found = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=25))(keys)
    return [(np.mean(f, axis=0), np.std(f, axis=0, ddof=1) / draws**0.5) for f in map(np.asarray, found)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gamma", "xi"), [("gelu", -0.8, 0.7), ("relu", 1.0, 0.5)])
def test_kernels_of_real_networks(name, gamma, xi):
    """What is of order 1/n is extrapolated away with networks of two widths; what is left is of order 1/n²."""
    net = fw.ResidualMLP(
        name,
        depth=4,
        C_b=0.1,
        C_W=[1.3, 1.7, 1.5, 1.2],
        lambda_b=0.3,
        lambda_W=[0.7, 0.5, 0.6, 0.4],
        gamma=gamma,
        xi=xi,
    )
    flow, x = fw.flow(net, X[:2]), X[:2]
    narrow, wide = (real_networks(net, x, n, draws, n) for n, draws in ((24, 1500), (48, 1500)))
    for true, (mean, error), (mean_2, error_2) in zip((flow.K[-2], flow.Theta[-1]), narrow, wide, strict=True):
        off = 2 * mean_2 - mean - true.values
        assert np.all(np.abs(off) < 4.9 * np.hypot(2 * error_2, error))
        assert np.all(4.9 * np.hypot(2 * error_2, error) < 0.1 * np.abs(true.values).max())  # it could have failed


def test_without_a_skip_it_is_an_mlp():
    settings = {"depth": 5, "C_b": 0.2, "C_W": 1.4, "lambda_b": 0.5, "lambda_W": 0.8}
    residual = fw.flow(fw.ResidualMLP("gelu", **settings, gamma=0.0, xi=1.0), X)
    plain = fw.flow(fw.MLP("gelu", **settings), X)
    for name in residual.data_vars:
        np.testing.assert_array_equal(residual[name], plain[name])


def test_xi_is_absorbed_by_the_variances_and_rates():
    net = fw.ResidualMLP("tanh", depth=4, C_b=0.2, C_W=1.4, lambda_b=0.5, lambda_W=0.8, gamma=0.6, xi=0.5)
    absorbed = {n: [v, v / 4, v / 4, v] for n in ("C_b", "C_W", "lambda_b", "lambda_W") for v in [getattr(net, n)]}
    other = replace(net, **absorbed, xi=1.0)
    np.testing.assert_allclose(fw.flow(net, X).K, fw.flow(other, X).K, rtol=1e-15)
    np.testing.assert_allclose(fw.flow(net, X).Theta, fw.flow(other, X).Theta, rtol=1e-15)


@pytest.mark.parametrize("C_b", [0.0, 0.2])
@pytest.mark.parametrize("other", [[1.0, 0.5 + 1e-9], [1.0, 0.5 + 1e-6], [-1.0, -0.5 + 1e-6]])
def test_nearly_equal_and_nearly_opposite_inputs(C_b, other):
    """ReLU in 40 digits by its closed form, for inputs that differ in the sixth digit or less, in size too."""
    net = fw.ResidualMLP("relu", depth=12, C_b=C_b, C_W=1.6, gamma=0.7, xi=0.9)
    x = np.array([[1.0, 0.5], other])
    flow = fw.flow(net, x).isel(layer=-1)
    with mp.workdps(40):
        inner = [[sum(mpf(p) * mpf(q) for p, q in zip(a, b, strict=True)) / 2 for a in x] for b in x]
        k = [[C_b + mpf(1.6) * each for each in row] for row in inner]
        Theta = 1 + inner[0][1]  # of the pair: its ⟨σ'σ'⟩ follows the angle itself
        for l in range(1, net.depth):
            skip, xi2 = (mpf(0.7) ** 2, mpf(0.9) ** 2) if l < net.depth - 1 else (0, 1)
            size = sqrt(k[0][0] * k[1][1])
            t = acos(k[0][1] / size)
            mixed = size * (sin(t) + (pi - t) * cos(t)) / (2 * pi)
            Theta = skip * Theta + xi2 * (1 + mixed + mpf(1.6) * (pi - t) / (2 * pi) * Theta)
            F = [[k[0][0] / 2, mixed], [mixed, k[1][1] / 2]]
            k = [[skip * k[i][j] + xi2 * (C_b + mpf(1.6) * F[i][j]) for j in range(2)] for i in range(2)]
        np.testing.assert_allclose(flow.K.values, np.array(k, dtype=float), rtol=1e-14)
        off = abs(float(flow.Theta[0, 1] - float(Theta)))
    # the angle is right to 1e-7 of itself, or better: as an inner product would have it, Θ would be off by 1e-8
    assert off < float(flow.Theta_error) and off < 1e-13 * float(Theta)


@pytest.mark.slow
def test_many_inputs_by_one_series_for_all_layers():
    """Where one function of layer 1 replaces the layers, it is the same as layer by layer."""
    net = fw.ResidualMLP("tanh", depth=6, C_b=0.1, C_W=1.3, gamma=0.8, xi=0.7)
    x = np.random.default_rng(0).standard_normal((900, 4))
    with float64():
        assert composite(net, line_flow(net, np.mean(x**2, axis=1)), 900**2 / 2) is not None
    at_once, by_layer = fw.flow(net, x, tensors="", layers="last"), fw.flow(net, x, tensors="", layers=[5, 6])
    for name in ("K", "Theta"):
        bound = float(at_once[f"{name}_error"][-1] + by_layer[f"{name}_error"][-1])
        assert np.abs(at_once[name][-1] - by_layer[name][-1]).max() < bound < 1e-8


def test_critical_signals():
    """C_W A₂ = 1 − γ² keeps K for ReLU; for tanh K → 1/((1 − γ²) 2ℓ) at C_W = 1 − γ² (FACTS §7.4)."""
    gamma = 0.6
    relu = fw.ResidualMLP("relu", depth=50, C_W=2.0, gamma=gamma, xi=0.8)
    np.testing.assert_allclose(fw.flow(relu, [[1.0]]).K[:-1, 0, 0], 2.0, rtol=1e-13)
    np.testing.assert_allclose(fw.flow(relu, [[1.0]]).chi_perp[:, 0], 1.0, rtol=1e-13)
    tanh = fw.ResidualMLP("tanh", depth=1000, gamma=gamma, xi=(1 - gamma**2) ** 0.5)
    flow = fw.flow(tanh, [[1.0]])
    off = np.abs(2 * (1 - gamma**2) * flow.layer.values * flow.K.values[:, 0, 0] - 1)
    assert off[-2] < 5 * np.log(1000) / 1000 and off[-2] < 0.7 * off[499]


def test_susceptibilities_are_derivatives_of_the_kernel():
    net = fw.ResidualMLP("gelu", depth=4, C_b=0.1, C_W=1.5, gamma=0.8, xi=0.6)
    h = 1e-4
    flow, more, less = (fw.flow(net, [[1.0 + d]]) for d in (0, h, -h))
    steps = (more.K - less.K).values[:, 0, 0]
    np.testing.assert_allclose(steps[1:] / steps[:-1], flow.chi_parallel[:-1, 0], rtol=1e-6)


def test_rates_of_learning_are_shared_out():
    rates = fw.learning_rates(fw.ResidualMLP("relu", depth=6, C_W=1.5, gamma=0.7, xi=0.9), Theta=3.0)
    np.testing.assert_allclose(fw.flow(rates.network, [[1.0]]).Theta[-1, 0, 0], 3.0, rtol=1e-12)


def test_prediction_at_infinite_width():
    """Long training interpolates; a training set of one is known by hand."""
    net = fw.ResidualMLP("gelu", depth=4, C_b=0.1, C_W=1.3, gamma=0.8, xi=0.7)
    found = fw.predict(net, X[:1], [[2.0]], X[:2], order=0)
    Theta = fw.flow(net, X[:2]).Theta[-1].values
    np.testing.assert_allclose(found.mean_infinite[:, 0], 2 * Theta[:, 0] / Theta[0, 0], rtol=1e-9)


def test_first_order_is_refused_and_V_left_out():
    net = fw.ResidualMLP("relu", depth=4, width=32, n_in=3)
    flow = fw.flow(net, X)
    assert "V" not in flow and "V is not computed" in flow.notes
    ask = [
        lambda: fw.flow(net, X, order=1),
        lambda: fw.vertex(net, X),
        lambda: fw.nearly_gaussian(net, X),
        lambda: fw.tangent_kernel(net, X),
        lambda: fw.representation_learning(net, X),
        lambda: fw.predict(net, X, np.ones((3, 1)), order=1),
    ]
    for each in ask:
        with pytest.raises(
            fw.InputError, match=r"is computed for an MLP, but `net` is a ResidualMLP; fw\.flow\(net, x\)"
        ):
            each()
    with pytest.raises(fw.InputError, match="`net` must be an MLP"):
        fw.ensemble(net, X, n_networks=4, observables=[fw.observables.moment("ii")])
