"""Single-input averages against closed forms and 30-digit quadrature on the textbook road ⟨σ²(z²−K)⟩/2K², which the
code avoids."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from finitewidth.activations import Activation
from finitewidth.criticality import slopes, susceptibility
from finitewidth.errors import InputError

TANH = Activation(jnp.tanh, "tanh", kinks=(), parity="odd")
SIN = Activation(jnp.sin, "sin", kinks=(), parity="odd")
SIGMOID = Activation(jax.nn.sigmoid, "sigmoid", kinks=(), parity="none")
RELU = Activation(lambda z: jnp.where(z > 0, z, 0.0), "relu", kinks=(0.0,), parity="none")
ELU = Activation(lambda z: jnp.where(z > 0, z, jnp.expm1(jnp.minimum(z, 0.0))), "elu", kinks=(0.0,), parity="none")
HARDTANH = Activation(lambda z: jnp.clip(z, -1.0, 1.0), "hardtanh", kinks=(-1.0, 1.0), parity="odd")
HARDSHRINK = Activation(lambda z: jnp.where(jnp.abs(z) > 0.5, z, 0.0), "hardshrink", kinks=(-0.5, 0.5), parity="odd")
JUMP = Activation(lambda z: z + jnp.sign(z), "z + sign z", kinks=(0.0,), parity="odd")

MP_SIGMA = {
    "tanh": (mp.tanh, lambda z: mp.sech(z) ** 2),
    "sigmoid": (lambda z: 1 / (1 + mp.exp(-z)), lambda z: mp.exp(-z) / (1 + mp.exp(-z)) ** 2),
    "elu": (lambda z: z if z > 0 else mp.expm1(z), lambda z: mp.mpf(1) if z > 0 else mp.exp(z)),
    "hardtanh": (lambda z: max(min(z, mp.mpf(1)), mp.mpf(-1)), lambda z: mp.mpf(1) if abs(z) < 1 else mp.mpf(0)),
    "hardshrink": (lambda z: z if abs(z) > 0.5 else mp.mpf(0), None),
}


def mp_average(f, K, breaks=()):
    root = mp.sqrt(K)
    inner = [s * b / root for b in (1, 3) for s in (1, -1)]
    points = sorted({mp.mpf(p) for p in [*range(-12, 13, 3), *inner, *(b / root for b in breaks)] if abs(p) <= 12})
    return mp.quad(lambda x: f(root * x) * mp.npdf(x), points)


@pytest.mark.parametrize("K", [1e-6, 0.3, 30.0])
@pytest.mark.parametrize("activation", [TANH, SIGMOID, ELU, HARDTANH, HARDSHRINK], ids=lambda a: a.name)
def test_against_the_textbook_road_in_30_digits(activation, K):
    with mp.workdps(30):
        sigma, slope = MP_SIGMA[activation.name]
        at = susceptibility(activation, K)
        k = mp.mpf(K)
        exact = [
            mp_average(lambda z: sigma(z) ** 2, k, activation.kinks),
            mp_average(lambda z: sigma(z) ** 2 * (z * z - k), k, activation.kinks) / (2 * k * k),
            None if slope is None else mp_average(lambda z: slope(z) ** 2, k, activation.kinks),
        ]
        for estimate, value in zip((at.mean_square, at.parallel, at.perp), exact, strict=True):
            if value is None:
                assert np.isnan(estimate.value) and np.isinf(estimate.error)
            elif value > 1e-40:
                assert abs(float(estimate.value - value)) <= 2e-13 * abs(value)


@pytest.mark.parametrize("K", [0.0, 1e-12, 1e-4, 0.3, 2.0, 40.0])
def test_sin_and_its_slopes_have_closed_forms(K):
    at, slope = susceptibility(SIN, K), slopes(SIN, K)
    e = np.exp(-2 * K)
    np.testing.assert_allclose(at.mean_square.value, -np.expm1(-2 * K) / 2, rtol=1e-13)
    for estimate, exact in ((at.parallel, e), (at.perp, (1 + e) / 2), (slope.parallel, -2 * e), (slope.perp, -e)):
        assert abs(estimate.value - exact) <= 1e-12 * abs(exact) + 3 * estimate.error


def test_slopes_of_a_kinked_sigma_need_the_deltas():
    # hardtanh: d⟨σ²⟩/dK = P(|z| < 1) − 2φ_K(1) and ⟨σ'²⟩ = P(|z| < 1), differentiated by mpmath
    with mp.workdps(30):
        inside = lambda K: mp.erf(1 / mp.sqrt(2 * K))  # noqa: E731
        density = lambda K: mp.exp(-1 / (2 * K)) / mp.sqrt(2 * mp.pi * K)  # noqa: E731
        for K in (0.05, 0.7, 3.0, 50.0):
            slope = slopes(HARDTANH, K)
            square = lambda k: k * (inside(k) - 2 * density(k)) + 1 - inside(k)  # noqa: E731
            for estimate, exact in ((slope.parallel, mp.diff(square, K, 2)), (slope.perp, mp.diff(inside, K))):
                assert abs(estimate.value / float(exact) - 1) < 1e-11


def test_a_jump_of_sigma_is_in_the_slope_of_the_kernel_and_forbids_chi_perp():
    K = np.array([1e-6, 0.2, 1.0, 50.0])
    at = susceptibility(JUMP, K)  # ⟨(z + sign z)²⟩ = K + 2√(2K/π) + 1
    np.testing.assert_allclose(at.mean_square.value, K + 2 * np.sqrt(2 * K / np.pi) + 1, rtol=1e-13)
    np.testing.assert_allclose(at.parallel.value, 1 + np.sqrt(2 / (np.pi * K)), rtol=1e-12)
    assert at.jumps == (0.0,) and np.all(np.isnan(at.perp.value)) and np.all(np.isinf(at.perp.error))


def test_limits_at_zero_kernel():
    tanh, elu, sigmoid = (susceptibility(a, 0.0) for a in (TANH, ELU, SIGMOID))
    assert [float(e.value) for e in (tanh.mean_square, tanh.parallel, tanh.perp)] == pytest.approx(
        [0.0, 1.0, 1.0], rel=1e-15
    )
    np.testing.assert_allclose(slopes(TANH, 0.0).parallel.value, -4.0, rtol=1e-14)
    assert (
        elu.parallel.value == pytest.approx(1.0, rel=1e-15) and slopes(ELU, 0.0).perp.value == -np.inf
    )  # χ⊥ = 1 − √(2K/π)
    np.testing.assert_allclose(sigmoid.parallel.value, 1 / 16, rtol=1e-14)


@pytest.mark.parametrize("activation", [RELU, SIN, HARDTANH], ids=lambda a: a.name)
def test_errors_are_honest_and_small(activation):
    K = np.geomspace(1e-12, 1e3, 16)
    at = susceptibility(activation, K)
    with mp.workdps(30):
        inside = [float(mp.erf(1 / mp.sqrt(2 * mp.mpf(k)))) for k in K]
        parallel = [
            float(mp.erf(1 / mp.sqrt(2 * k)) - 2 * mp.npdf(1 / mp.sqrt(k)) / mp.sqrt(k)) for k in map(mp.mpf, K)
        ]
    exact = {
        "relu": (K / 2, 0 * K + 0.5, 0 * K + 0.5),
        "sin": (-np.expm1(-2 * K) / 2, np.exp(-2 * K), (1 + np.exp(-2 * K)) / 2),
        "hardtanh": (None, np.array(parallel), np.array(inside)),
    }[activation.name]
    for estimate, truth in zip((at.mean_square, at.parallel, at.perp), exact, strict=True):
        if truth is not None:
            assert np.all(np.abs(estimate.value - truth) <= estimate.error + 4e-16 * np.abs(truth))
            assert np.all(estimate.error <= 1e-13 * np.maximum(1, np.abs(truth)))


@pytest.mark.parametrize("K", [-1.0, np.nan, np.inf, [1.0, -1e-9]])
def test_a_kernel_is_a_variance(K):
    with pytest.raises(InputError, match="`K` must be finite numbers ≥ 0"):
        susceptibility(TANH, K)
