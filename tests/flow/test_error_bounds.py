"""Errors of K and Θ of steep activations: never smaller than the real ones, and not much larger for inputs apart."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import erf
from mpmath import asin, mp, mpf, pi, sqrt

import finitewidth as fw


def _bump(a, A, B, c):
    """⟨σσ⟩ and ⟨σ'σ'⟩ of e^{−a z²}."""
    det = (1 + 2 * a * A) * (1 + 2 * a * B) - 4 * a * a * c * c
    return 1 / sqrt(det), 4 * a * a * c / det ** mpf(1.5)


def _steep_erf(a, A, B, c):
    A, B, c = (2 * a * a * x for x in (A, B, c))
    return 2 / pi * asin(c / sqrt((1 + A) * (1 + B))), 4 * a * a / pi / sqrt((1 + A) * (1 + B) - c * c)


def _exact(averages, a, net, x):
    """K and Θ at every layer with 50 digits, shape (L, 2, N, N), for λ_b = 0 and the same constants in all layers."""
    C_b, C_W = (mpf(float(net.per_layer(name)[0])) for name in ("C_b", "C_W"))
    inner = np.array([[mpf(float(v)) for v in row] for row in x])
    Theta = inner @ inner.T / x.shape[1]
    kernels = [(C_b + C_W * Theta, Theta)]
    for _ in range(1, net.depth):
        K, Theta = kernels[-1]
        d = np.diag(K)
        found = [[averages(mpf(a), d[i], d[j], K[i, j]) for j in range(len(x))] for i in range(len(x))]
        F, S = np.moveaxis(np.array(found), 2, 0)
        kernels.append((C_b + C_W * F, F + C_W * S * Theta))
    return np.array(kernels)


def _inputs(apart):
    x = np.random.default_rng(5).normal(size=(4, 3))
    if apart is not None:
        x[1] = x[0] + apart * x[1]
    return x


@pytest.mark.parametrize(("apart", "C_b", "C_W"), [(None, 0.0, 2.0), (1e-5, 0.3, 0.7)])
def test_errors_of_steep_activations(apart, C_b, C_W):
    net = fw.MLP("gaussian(1e8)", depth=4, width=8, C_b=C_b, C_W=C_W, lambda_b=0.0, lambda_W=1.0)
    _check(net, _inputs(apart), _bump, 1e8, 1e-9 if apart is None else np.inf)


def test_errors_of_a_steep_step_of_a_user():
    net = fw.MLP(fw.Activation(lambda z: erf(1e6 * z)), depth=3, width=8, C_b=0.1, C_W=1.3, lambda_b=0.0, lambda_W=1.0)
    _check(net, _inputs(None)[:3], _steep_erf, 1e6, 1e-10)


def _check(net, x, averages, a, most):
    with mp.workdps(50):
        exact = _exact(averages, a, net, x)
        found = fw.flow(net, x, tensors="")
        for i, name in enumerate(("K", "Theta")):
            for layer, right in enumerate(exact[:, i]):
                off = float(np.abs(found[name].values[layer] - right).max())
                stated = float(found[f"{name}_error"][layer])
                assert off <= stated <= most * float(np.diag(right).max()), (name, layer, a)


def test_second_derivatives_that_automatic_differentiation_loses() -> None:
    """max(z, 0)^1.5 has σ'' = nan on the left, which only bounds ask for: its kernel was refused as an overflow.

    ⟨σσ⟩ = (1/2πs) ∫ (cos t sin t)^p 2^p Γ(p + 1) (s²/(1 − c sin 2t))^{p+1} dt over the first quadrant, s² = 1 − c².
    """
    mp.dps = 25
    p, c = mpf(3) / 2, mpf(1) / 2
    s = sqrt(1 - c * c)

    def ray(t):
        return (mp.cos(t) * mp.sin(t)) ** p * 2**p * mp.gamma(p + 1) * (s * s / (1 - c * mp.sin(2 * t))) ** (p + 1)

    exact = mp.re(mp.quad(ray, [0, pi / 8, pi / 4, 3 * pi / 8, pi / 2])) / (2 * pi * s)
    x = np.sqrt(2.0) * np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
    flow = fw.flow(fw.MLP(fw.Activation(lambda z: jnp.maximum(z, 0) ** 1.5), depth=2, width=8), x)
    assert abs(flow.K[1, 0, 1] - float(exact)) <= flow.K_error[1] <= 1e-10 * float(exact)
    with pytest.raises(fw.InputError, match="write it so that automatic differentiation works"):
        fw.flow(fw.MLP(fw.Activation(lambda z: jnp.maximum(z, 0) ** 1.5), depth=2, width=8), x, order=1, tensors="A")


@pytest.mark.parametrize("activation", ["relu", "hard_tanh", "elu"])
def test_kinks_at_inputs_that_are_almost_alike(activation):
    """A and H1 of two inputs go over into those of one, A_{abab} and H1_ab; what lies between is within the errors.

    Their averages hold δ(z_a) δ(z_b) and δ′(z_a) δ′(z_b), which diverge, times differences that vanish faster.
    """
    net, one = fw.MLP(activation, depth=3, width=64, C_b=0.2, C_W=1.3), np.array([0.3, 1.0])

    def at(apart):
        inputs = one + np.outer([0.0, apart], [1.0, 0.0])
        last = fw.flow(net, inputs, order=1, tensors="A,H1", layers="last").isel(layer=0)
        ab = {"a": 0, "b": 1, "c": 0, "d": 1}
        return {
            name: tuple(float(last[each].isel({d: ab[d] for d in last[each].dims})) for each in (name, f"{name}_error"))
            for name in ("A", "H1")
        }

    same, slopes = at(0.0), {name: (at(1e-2)[name][0] - at(0.0)[name][0]) / 1e-2 for name in ("A", "H1")}
    for apart in (3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6):
        for name, (value, error) in at(apart).items():
            expected = same[name][0] + slopes[name] * apart
            assert abs(value - expected) < error + 0.1 * abs(slopes[name]) * apart + 1e-7, (name, apart)
            assert error < 5e-3 or apart > 1e-3, (name, apart)
