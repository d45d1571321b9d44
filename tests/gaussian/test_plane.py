"""Averages over a pair by panels in the plane: against mpmath, polar coordinates and Price's theorem, for any kinks."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

import finitewidth as fw
from finitewidth.gaussian.plane import direct_pairs, panels
from finitewidth.gaussian.polar import pair_matrices

EPS = np.finfo(float).eps


def lopsided(z):
    """A leaky slope that begins at 0.3, where σ jumps."""
    return jnp.where(z > 0.3, z, 0.1 * z)


def exact_lopsided(a: float, b: float, w: float, s: float) -> tuple[float, float]:
    """⟨σσ⟩ and ⟨σ'σ'⟩ of `lopsided`: z₂ given z₁ in closed form, one integral in 30 digits."""
    mp.dps = 22
    a, b, rho = mpf(a), mpf(b), mpf(s) * (1 - mpf(w))
    tau = mp.sqrt(b * mpf(w) * (2 - mpf(w)))

    def given_mean(mean):
        gap = (mean - mpf(0.3)) / tau
        above = mp.ncdf(gap)
        return mean / 10 + mpf(9) / 10 * (mean * above + tau * mp.npdf(gap)), mpf(1) / 10 + mpf(9) / 10 * above

    def integrand(which):
        def of(x):
            z = mp.sqrt(a) * x
            known = (z if z > mpf(0.3) else z / 10) if which == 0 else (1 if z > mpf(0.3) else mpf(1) / 10)
            return known * given_mean(mp.sqrt(b) * rho * x)[which] * mp.npdf(x)

        return of

    kink, turn = mpf(0.3) / mp.sqrt(a), mpf(0.3) / (mp.sqrt(b) * rho)
    width = tau / (mp.sqrt(b) * abs(rho))
    ends = {kink} | {turn + i * width for i in (-8, -3, -1, 0, 1, 3, 8)} | set(map(mpf, range(-12, 13, 2)))
    ends = sorted(x for x in ends if abs(x) <= 12)
    return tuple(float(mp.quad(integrand(which), ends)) for which in (0, 1))


@pytest.fixture(scope="module")
def custom() -> fw.Activation:
    return fw.Activation(lopsided, kinks=(0.3,))


PAIRS = [(0.3, 2.5, 0.1, -1.0), (0.3, 2.5, 1e-6, 1.0), (1.0, 1.0, 1e-12, -1.0), (250.0, 30.0, 0.5, 1.0)]


@pytest.mark.parametrize("pair", PAIRS)
def test_kink_and_jump_away_from_the_origin(custom: fw.Activation, pair: tuple[float, ...]) -> None:
    value, error = direct_pairs(custom, *(np.array([x]) for x in pair))
    ss, dsds = exact_lopsided(*pair)
    scale = np.sqrt(pair[0] * pair[1])
    assert abs(value.F[0] - ss) < 1e-12 * scale
    assert abs(value.S[0] - dsds) < 1e-12
    assert abs(value.F[0] - ss) <= 10 * error.F[0] and abs(value.S[0] - dsds) <= 10 * error.S[0]
    assert error.F[0] < 1e-11 * scale and error.S[0] < 1e-11


@pytest.mark.parametrize("name", ["tanh", "silu", "elu"])
def test_agrees_with_polar_coordinates(name: str) -> None:
    activation = fw.activations.named(name)
    K, theta = np.array([0.05, 1.0, 40.0]), np.array([1e-5, 0.3, 1.5])
    polar = pair_matrices(activation, K, theta, both_signs=True, order=16)
    a, b = (x.ravel() for x in np.meshgrid(K, K, indexing="ij"))
    for i, angle in enumerate(theta):
        for row, sign in enumerate((1.0, -1.0)):
            w = np.full(9, 2 * np.sin(angle / 2) ** 2)
            value, _ = direct_pairs(activation, a, b, w, np.full(9, sign))
            np.testing.assert_allclose(value.S.reshape(3, 3), polar.S[row, i], rtol=1e-11, atol=1e-12)
            # both know the distance from the collinear value to its own accuracy, not to that of F
            np.testing.assert_allclose(value.D.reshape(3, 3), polar.D[row, i], rtol=1e-9, atol=1e-13 * angle**2)


@pytest.mark.parametrize("name", ["hardtanh", "tanh", "elu"])
def test_distance_from_collinear_does_not_cancel(name: str) -> None:
    """Price's theorem as θ → 0: D → √(ab) w ⟨σ'σ'⟩, up to the rounding of differences over θ, even of a D of 1e-24."""
    w = np.array([1e-24, 1e-20, 1e-15])
    a, b = np.full(3, 0.7), np.full(3, 1.9)
    value, error = direct_pairs(fw.activations.named(name), a, b, w, np.ones(3))
    off = np.abs(value.D / (np.sqrt(a * b) * w * value.S) - 1)
    assert np.all(off < EPS / np.sqrt(w) + 1e-7), off
    assert np.all(error.D < 1e-2 * value.D)


@pytest.mark.parametrize("K", [1e4, 1e8, 1e12])
def test_saturated_tanh_is_a_sign_with_soft_edges(K: float) -> None:
    """F = 1 − 2θ/π − O(1/√K)²: the edges of ± signs cancel to second order in their width."""
    w = np.array([0.2, 0.8])
    value, _ = direct_pairs(fw.activations.named("tanh"), np.full(2, K), np.full(2, K), w, np.ones(2))
    theta = np.arccos(1 - w)
    # ⟨(1 − tanh²)⟩-type strips along the axes: ∫(sign − tanh) z dz = π²/12, times the density at the crossing
    np.testing.assert_allclose(value.F, 1 - 2 * theta / np.pi, atol=3 / K + 1e-13)


def test_error_shrinks_with_the_aim() -> None:
    """Sine at K = 250 turns seven times within a panel: refined, and honest at every stage."""
    activation = fw.Activation(lambda z: jnp.sin(z), kinks=())
    exact = np.exp(-250.0) * np.sinh(250.0 * 0.9)
    one = np.array([1.0])
    errors = []
    for rtol in (1.0, 1e-12):
        value, error = direct_pairs(activation, 250 * one, 250 * one, 0.1 * one, one, rtol=rtol)
        assert abs(value.F[0] - exact) <= 10 * error.F[0]
        errors.append(error.F[0])
    assert errors[1] < 1e-11 < errors[0]


def test_error_of_a_fast_oscillation_is_not_that_of_panels_too_long_for_it() -> None:
    """sin 50z at K = 1: F = e^{−2500} sinh(2500ρ) and S = 2500 e^{−2500} cosh(2500ρ)."""
    activation = fw.Activation(lambda z: jnp.sin(50.0 * z))
    one = np.array([1.0])
    value, error = direct_pairs(activation, one, one, 4e-4 * one, one)
    assert abs(value.F[0] - 0.5 * np.exp(-1.0)) <= error.F[0] < 1e-12
    assert abs(value.S[0] - 1250 * np.exp(-1.0)) <= error.S[0] < 1250 * 1e-12


def test_hard_shrink_of_a_tiny_kernel_is_all_tail() -> None:
    """K = 1/400: the kink lies ten standard deviations out, where ⟨σ²⟩ = 2∫z² from there."""
    K, kink = 1 / 400, mpf(10)
    mp.dps = 30
    exact = float(2 * mp.quad(lambda x: x * x * mp.npdf(x), [kink, 12, 16, 30])) * K
    value, _ = direct_pairs(fw.activations.named("hardshrink"), *(np.array([x]) for x in (K, K, 0.0, 1.0)))
    np.testing.assert_allclose(value.F, exact, rtol=1e-11)


def test_function_that_overflows_is_said() -> None:
    activation = fw.activations.named("exp")
    with pytest.raises(fw.InputError, match=r"not finite at z = .* variance 1e\+06 still has weight"):
        direct_pairs(activation, *(np.array([x]) for x in (1e6, 1e6, 0.5, 1.0)))


@settings(max_examples=12, deadline=None)
@given(
    log_a=st.floats(-6, 6),
    log_b=st.floats(-6, 6),
    log_w=st.floats(-12, 0),
    sign=st.sampled_from([1.0, -1.0]),
    size=st.floats(0.1, 10),
)
def test_exchange_and_rescaling(log_a: float, log_b: float, log_w: float, sign: float, size: float) -> None:
    """F(a, b) = F(b, a), and σ(z/size) at size²·K is σ(z) at K."""
    a, b, w, s = (np.array([x]) for x in (10**log_a, 10**log_b, 10**log_w, sign))
    plain = direct_pairs(fw.activations.named("hardtanh"), a, b, w, s)[0]
    other = direct_pairs(fw.activations.named("hardtanh"), b, a, w, s)[0]
    scale = np.sqrt(np.minimum(a, 1) * np.minimum(b, 1))
    assert abs(plain.F - other.F) < 1e-13 * scale and abs(plain.S - other.S) < 1e-13
    wide = fw.Activation(lambda z: jnp.clip(z / size, -1, 1), kinks=(-size, size), parity="odd", transitions=())
    stretched = direct_pairs(wide, size**2 * a, size**2 * b, w, s)[0]
    assert abs(plain.F - stretched.F) < 1e-11 * scale
    assert abs(plain.S - stretched.S * size**2) < 1e-11


def test_panels_cover_each_row_once_and_end_at_every_edge() -> None:
    edges = np.array([[0.0, 2.0, 1.0, 1.0], [-1.0, -1.0, 0.5, 3.0]])
    found = panels(edges, np.array([[0.9], [0.5]]), np.array([[1e-3], [np.inf]]))
    for row in (0, 1):
        mine = found.where(found.row == row)
        order = np.argsort(mine.low)
        np.testing.assert_array_equal(mine.low[order][1:], mine.high[order][:-1])
        assert mine.low.min() == edges[row].min() and mine.high.max() == edges[row].max()
        assert set(edges[row]) <= set(mine.low) | set(mine.high)
    near = found.where((found.row == 0) & (found.low <= 0.9) & (found.high >= 0.9))
    assert np.all(near.high - near.low <= 2e-3)
