"""Features of σ that nodes of quadrature would step over: kernels right, and errors that own up to the rest."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import multivariate_normal

from finitewidth import MLP, Activation, flow

_X, _W = np.polynomial.legendre.leggauss(24)


def _steep(a, c):
    return (lambda z: np.tanh(a * (z - c))), (lambda z: a / np.cosh(np.clip(a * (z - c), -300.0, 300.0)) ** 2)


def _bump(w, c):
    def bump(z):
        return np.exp(-np.minimum(((z - c) / w) ** 2, 700.0))

    return (lambda z: np.tanh(z) + bump(z)), (lambda z: np.cosh(z) ** -2.0 - 2 * (z - c) / w**2 * bump(z))


CASES = {
    "tanh(1e6 (z − ½))": (lambda z: jnp.tanh(1e6 * (z - 0.5)), _steep(1e6, 0.5), 0.5, 1e-6),
    "tanh(1e3 (z + 1))": (lambda z: jnp.tanh(1e3 * (z + 1.0)), _steep(1e3, -1.0), -1.0, 1e-3),
    "tanh(1e6 z)": (lambda z: jnp.tanh(1e6 * z), _steep(1e6, 0.0), 0.0, 1e-6),
    "a bump of width 1e-4": (
        lambda z: jnp.tanh(z) + jnp.exp(-((1e4 * (z - 1.2345)) ** 2)),
        _bump(1e-4, 1.2345),
        1.2345,
        1e-4,
    ),
}


def _nodes(edges):
    edges = np.unique(edges)
    half = 0.5 * np.diff(edges)
    return (edges[:-1, None] + half[:, None] * (1 + _X)).ravel(), (half[:, None] * _W).ravel()


def _graded(place, width, far):
    steps = width * 1.5 ** np.arange(-4.0, np.log(far / width) / np.log(1.5))
    return np.concatenate([[place], place - steps, place + steps, np.linspace(-far, far, 61), [0.0]])


def _line(f, K, place, width):
    far = 12 * np.sqrt(K)
    edges = _graded(place, width, 2 * far)
    z, w = _nodes(edges[np.abs(edges) <= far])
    return f(z) @ (w * np.exp(-0.5 * z * z / K)) / np.sqrt(2 * np.pi * K)


def _pair(f, K, rho, place, width):
    """⟨f(z₁) f(z₂)⟩ as an integral over z₁ of one over z₂ given z₁."""
    far, s = 10 * np.sqrt(K), np.sqrt(K * (1 - rho) * (1 + rho))
    # where the inner integral changes: z₁ = place, and, as wide as s, where place is the mean of z₂
    edges = np.concatenate([_graded(place, width, 2 * far), _graded(place / rho, max(width, s) / abs(rho), 2 * far)])
    z1, w1 = _nodes(edges[np.abs(edges) <= far])
    w1 = w1 * f(z1) * np.exp(-0.5 * z1 * z1 / K) / np.sqrt(2 * np.pi * K)
    total = 0.0
    for z, w in zip(z1, w1, strict=True):
        if abs(w) > 1e-22:
            edges = (_graded(place, width, 4 * far) - rho * z) / s
            x, v = _nodes(np.append(edges[np.abs(edges) < 9], [-9.0, 9.0]))
            total += w * (f(rho * z + s * x) @ (v * np.exp(-0.5 * x * x))) / np.sqrt(2 * np.pi)
    return total


@pytest.mark.parametrize(("case", "K"), [*zip(CASES, (0.09, 0.7, 4.0, 0.7), strict=True), ("tanh(1e6 (z − ½))", 4.0)])
def test_kernels_of_narrow_features(case, K):
    function, (sigma, slope), place, width = CASES[case]
    rho = 0.6
    x = np.sqrt(2 * K) * np.array([[1.0, 0.0], [rho, np.sqrt(1 - rho**2)]])
    found = flow(MLP(Activation(function), depth=2, width=8, C_W=1.0), x)

    def check(name, value, expected, size, rtol):
        error = float(found[f"{name}_error"].max())
        assert abs(value - expected) <= error + 1e-12 * abs(size), name
        assert abs(value - expected) <= rtol * abs(size), name

    square, slope_square, fourth = (
        _line(f, K, place, width) for f in (lambda z: sigma(z) ** 2, lambda z: slope(z) ** 2, lambda z: sigma(z) ** 4)
    )
    mixed = _line(lambda z: z * sigma(z) * slope(z), K, place, width) / K
    check("K", float(found.K[1, 0, 0]), square, square, 1e-12)
    check("K", float(found.K[1, 0, 1]), _pair(sigma, K, rho, place, width), square, 1e-12)
    # σ' of tanh(1e6 (z − ½)) keeps 10 digits: z rounds
    check("chi_perp", float(found.chi_perp[0, 0]), slope_square, slope_square, 1e-10)
    check("chi_parallel", float(found.chi_parallel[0, 0]), mixed, np.sqrt(square * slope_square / K), 1e-10)
    check("V", float(found.V[1, 0]), fourth - square**2, square**2, 1e-12)


def test_the_vertex_of_a_steep_step():
    function, (sigma, _), place, width = CASES["tanh(1e6 (z − ½))"]
    x = np.sqrt(2) * np.array([[1.0, 0.0], [0.6, 0.8]])
    found = flow(MLP(Activation(function), depth=2, width=8, C_W=1.0), x, order=1, tensors="V")
    both, square = (_pair(f, 1.0, 0.6, place, width) for f in (sigma, lambda z: sigma(z) ** 2))
    error = float(found.V_error[1, 0, 1, 0, 1])
    assert error < 1e-9
    assert abs(float(found.V[1, 0, 1, 0, 1]) - (square - both**2)) <= error + 1e-12


@pytest.mark.parametrize("rho", [0.3, 1 - 1e-12])
def test_kernels_of_a_box(rho):
    low, high, K = 0.7, 0.701, 1.3
    x = np.sqrt(2 * K) * np.array([[1.0, 0.0], [rho, np.sqrt((1 - rho) * (1 + rho))]])
    box = Activation(lambda z: jnp.where((z > low) & (z < high), 1.0, 0.0))
    found = flow(MLP(box, depth=2, width=8, C_W=1.0), x)
    one = float(np.diff(ndtr(np.array([low, high]) / np.sqrt(K)))[0])
    np.testing.assert_allclose(found.K[1, 0, 0], one, rtol=1e-12)
    if rho < 0.5:  # the density over so small a box, to second order in its side
        normal = multivariate_normal([0.0, 0.0], K * np.array([[1.0, rho], [rho, 1.0]]))
        side, middle, inverse = high - low, np.full(2, 0.5 * (low + high)), np.linalg.inv(normal.cov)
        bend = np.trace(np.outer(inverse @ middle, inverse @ middle) - inverse)
        expected = normal.pdf(middle) * side**2 * (1 + side**2 / 24 * bend)
        assert float(found.K[1, 0, 1]) == pytest.approx(expected, abs=1e-11 * one)
    else:  # z₂ − z₁ is so small that each edge loses half its mean modulus, times the density
        mean_half = np.sqrt(2 * K * (1 - rho)) / np.sqrt(2 * np.pi)
        lost = mean_half * np.exp(-0.5 * np.array([low, high]) ** 2 / K).sum() / np.sqrt(2 * np.pi * K)
        assert float(found.K[1, 0, 0] - found.K[1, 0, 1]) == pytest.approx(lost, rel=1e-4)
