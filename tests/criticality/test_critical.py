"""Critical points against closed forms, 30-digit roots and the printed digits of THEORY §4 and FACTS 3.2–3.4."""

import json
import math

import jax
import jax.numpy as jnp
import mpmath as mp
import pytest

from finitewidth.activations import Activation
from finitewidth.criticality import critical
from finitewidth.criticality.critical import homogeneity
from finitewidth.errors import InputError


def smooth(function, name, parity="none"):
    return Activation(function, name, kinks=(), parity=parity)


def leaky(right, left):
    return Activation(
        lambda z: jnp.where(z > 0, right * z, left * z), f"leaky {right} {left}", kinks=(0.0,), parity="none"
    )


def of(activation, seen={}):  # noqa: B006  (each activation is worked out once)
    if activation.name not in seen:
        seen[activation.name] = critical(activation)
    return seen[activation.name]


COS = smooth(jnp.cos, "cos", "even")
BUMP = smooth(lambda z: jnp.exp(-0.5 * z * z), "gaussian", "even")
AFFINE = smooth(lambda z: z + 1.0, "affine")
EXP = smooth(jnp.exp, "exp")
TANH = smooth(jnp.tanh, "tanh", "odd")
GELU = smooth(lambda z: z * jax.scipy.special.ndtr(z), "gelu")
SWISH = smooth(jax.nn.silu, "silu")
ELU = Activation(lambda z: jnp.where(z > 0, z, jnp.expm1(jnp.minimum(z, 0.0))), "elu", kinks=(0.0,), parity="none")
SELU = Activation(jax.nn.selu, "selu", kinks=(0.0,), parity="none")
HARDTANH = Activation(lambda z: jnp.clip(z, -1.0, 1.0), "hardtanh", kinks=(-1.0, 1.0), parity="odd")
SOFTSHRINK = Activation(
    lambda z: jnp.where(z > 0.5, z - 0.5, jnp.where(z < -0.5, z + 0.5, 0.0)),
    "softshrink",
    kinks=(-0.5, 0.5),
    parity="odd",
)


@pytest.mark.parametrize(
    ("right", "left", "C_W"),
    [
        (1, 0, 2.0),
        (1, 1, 1.0),
        (1, 0.01, 1.99980002),
        (1, 0.1, 1.98019802),
        (1, 0.2, 1.92307692),
        (1, 0.3, 1.83486239),
        (1, -1, 1.0),
    ],
)
def test_scale_invariant(right, left, C_W):
    result = critical(leaky(float(right), float(left)))
    assert (result.universality_class, result.C_b, result.K_star) == ("scale-invariant", 0.0, None)
    assert (
        pytest.approx(2 / (right**2 + left**2), rel=1e-15) == result.C_W and pytest.approx(C_W, abs=5e-9) == result.C_W
    )


@pytest.mark.parametrize(
    ("activation", "C_W", "a_1", "p_perp"),
    [
        (TANH, 1.0, -2.0, 1.0),
        (smooth(jnp.sin, "sin", "odd"), 1.0, -1.0, 1.0),
        (smooth(jnp.arctan, "arctan", "odd"), 1.0, -2.0, 1.0),
        (smooth(jax.scipy.special.erf, "erf", "odd"), math.pi / 4, -2.0, 1.0),
        (smooth(lambda z: jnp.sin(z) + 0.3 * (1 - jnp.cos(z)), "sin + bump"), 1.0, -1 + 0.75 * 0.09, 0.91 / 0.9325),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_K_star_zero(activation, C_W, a_1, p_perp):
    result = of(activation)
    assert (result.universality_class, result.C_b, result.K_star) == ("K*=0", 0.0, 0.0)
    assert pytest.approx(C_W, rel=1e-14) == result.C_W
    (point,) = result.points
    assert point.coefficients["a"] == pytest.approx(a_1, rel=1e-13)
    assert point.coefficients["K"] == pytest.approx(-1 / a_1, rel=1e-13)
    assert point.exponents == pytest.approx({"p_0": 1.0, "p_parallel": 2.0, "p_perp": p_perp}, rel=1e-13)
    assert point.stable_from_above and point.stable_from_below is None


def test_gelu_is_half_stable_with_a_closed_form():
    result = of(GELU)
    K = (3 + math.sqrt(17)) / 2
    assert result.universality_class == "half-stable"
    assert result.K_star == pytest.approx(K, rel=1e-12)
    assert pytest.approx(1.9830582574375471, rel=1e-13) == result.C_W
    assert result.C_b == pytest.approx(0.17292239075606735, rel=1e-12)
    assert abs(result.K_star - K) <= result.errors["K_star"] < 1e-11
    zero, half = result.points
    assert (half.stable_from_below, half.stable_from_above) == (False, True)
    assert half.coefficients["a"] == pytest.approx(-1.43626418732e-4, rel=1e-11)
    assert half.coefficients["b"] == pytest.approx(0.00933354055994, rel=1e-11)
    assert half.exponents["p_perp"] == pytest.approx(-64.9848, rel=1e-6)
    # the K* = 0 point: a_1 = ¾ (σ''/σ')² = 6/π > 0
    assert (zero.C_W, zero.stable_from_above) == (4.0, False)
    assert zero.coefficients["a"] == pytest.approx(6 / math.pi, rel=1e-13)
    assert set(zero.exponents.values()) == {None}


def test_gelu_critical_choice_has_a_second_stable_fixed_point():
    ((K, chi_parallel, chi_perp),) = of(GELU).points[1].companions
    with mp.workdps(30):
        C_b, C_W = mp.mpf("0.17292239075606735"), mp.mpf("1.9830582574375471")
        g = lambda k: k / 4 + k / (2 * mp.pi) * (mp.asin(k / (1 + k)) + 2 * k / ((1 + k) * mp.sqrt(1 + 2 * k)))  # noqa: E731
        exact = mp.findroot(lambda k: C_b + C_W * g(k) - k, (2.9, 3.1), solver="anderson")
        assert pytest.approx(float(exact), rel=1e-9) == K
        assert chi_parallel == pytest.approx(float(C_W * mp.diff(g, exact)), rel=1e-11)
    assert chi_parallel < 1 and chi_perp < 1


def test_swish_has_the_printed_digits_and_not_those_with_a_slipped_zero():
    result = of(SWISH)  # FACTS W1
    assert result.K_star == pytest.approx(14.320173618025799, rel=1e-12)
    assert pytest.approx(1.9880046782694920, rel=1e-13) == result.C_W
    assert result.C_b == pytest.approx(0.5551431707215304, rel=1e-12)
    half = result.points[1]
    assert (half.stable_from_below, half.stable_from_above) == (True, False)
    assert half.coefficients["a"] == pytest.approx(2.84979218941e-6, rel=1e-9)
    assert half.coefficients["b"] == pytest.approx(0.00173302724382, rel=1e-10)
    assert half.exponents["p_perp"] == pytest.approx(608.124, rel=1e-5)


def test_mish_against_a_20_digit_root():
    result = critical(smooth(jax.nn.mish, "mish"), K_range=(0.1, 100.0))
    with mp.workdps(20):
        sigma = lambda z: z * mp.tanh(mp.log1p(mp.exp(z)))  # noqa: E731

        def moments(K):
            nodes = [mp.mpf(i) / 5 for i in range(-45, 46)]  # the trapezoid rule converges geometrically
            g = g1 = p = mp.mpf(0)
            for x in nodes:
                z, w = mp.sqrt(K) * x, mp.npdf(x) / 5
                t = mp.tanh(mp.log1p(mp.exp(z)))
                d = t + z * (1 - t * t) / (1 + mp.exp(-z))
                g, g1, p = g + w * sigma(z) ** 2, g1 + w * z * sigma(z) * d / K, p + w * d * d
            return g, g1, p

        K = mp.findroot(lambda k: moments(k)[1] / moments(k)[2] - 1, (1.6, 1.7), solver="anderson", tol=1e-25)
        g, _, p = moments(K)
    assert result.K_star == pytest.approx(float(K), rel=1e-11)
    assert pytest.approx(float(1 / p), rel=1e-12) == result.C_W and result.C_b == pytest.approx(
        float(K - g / p), rel=1e-11
    )


@pytest.mark.parametrize(
    ("activation", "kind"),
    [
        (smooth(jax.nn.sigmoid, "sigmoid"), "edge of chaos"),
        (COS, "edge of chaos"),
        (BUMP, "edge of chaos"),
        (smooth(lambda z: jnp.logaddexp(z, 0.0), "softplus"), "large kernel"),
        (AFFINE, "large kernel"),
        (smooth(lambda z: z * z, "square"), "nothing"),
        (smooth(lambda z: z**3, "cube"), "nothing"),
        (EXP, "nothing"),
    ],
)
def test_no_critical_point_and_what_comes_closest(activation, kind):
    result = of(activation)
    assert (result.universality_class, result.C_b, result.C_W, result.K_star) == ("none", None, None, None)
    assert result.reason and result.nearest is not None and result.nearest.kind == kind
    json.dumps(result.to_dict(), allow_nan=False)


def test_nearest_choices_have_closed_forms():
    # cos: ⟨cos²⟩ = e^{−K} cosh K, ⟨sin²⟩ = e^{−K} sinh K; C_b = 0 where K tanh K = 1, and χ∥ = −2/(e^{2K} − 1) there
    near = of(COS).nearest
    K = float(mp.findroot(lambda k: k * mp.tanh(k) - 1, 1.2))
    assert (near.K_star, near.C_b) == (pytest.approx(K, rel=1e-12), 0.0)
    assert pytest.approx(2 / (1 - math.exp(-2 * K)), rel=1e-12) == near.C_W
    assert near.chi_parallel == pytest.approx(-2 / math.expm1(2 * K), rel=1e-11)
    # the Gaussian bump: C_b = 0 where K(K − 2) = 1, that is K = 1 + √2
    assert of(BUMP).nearest.K_star == pytest.approx(1 + math.sqrt(2))


def test_a_point_that_needs_negative_variance_is_reported_and_not_used():
    result = of(AFFINE)
    (point,) = result.points
    assert not point.admissible and point.C_b == pytest.approx(-1.0) and "negative variance" in result.reason


def test_perceptron_has_no_chi_perp():
    result = critical(Activation(jnp.sign, "sign", kinks=(0.0,), parity="odd"))
    assert result.universality_class == "none" and "does not exist" in result.reason and result.nearest is None


def test_softshrink_has_a_line_of_critical_points():
    result = of(SOFTSHRINK)  # σσ'' = 0: ⟨σ'²⟩ = 2Q(1/2√K) = d⟨σ²⟩/dK at every K
    assert result.universality_class == "half-stable" and "every K" in result.reason
    assert pytest.approx(1 / math.erfc(0.5 / math.sqrt(2 * result.K_star)), rel=1e-13) == result.C_W
    assert result.C_b > 0 and result.points[0].exponents["p_perp"] == pytest.approx(2.0, rel=1e-11)


def test_kinks_at_zero_change_the_exponents():
    elu, selu = of(ELU).points[0], of(SELU)
    assert "decay to 0 like 1/ℓ², slower" in of(ELU).reason
    assert (of(ELU).C_W, elu.exponents) == (1.0, {"p_0": 2.0, "p_parallel": 3.0, "p_perp": 2.0})
    assert elu.coefficients["a"] == pytest.approx(-math.sqrt(2 / math.pi), rel=1e-14)
    assert elu.coefficients["K"] == pytest.approx(2 * math.pi, rel=1e-13)
    assert (selu.universality_class, len(selu.points)) == ("K*=0", 1)
    assert pytest.approx(2.09744293, abs=5e-9) == 1 / selu.C_W
    assert selu.points[0].exponents == elu.exponents


def test_hardtanh_is_approached_logarithmically():
    (point,) = of(HARDTANH).points
    assert point.logarithmic and point.stable_from_above and point.coefficients["K"] == 0.5
    assert point.exponents == {"p_0": 0.0, "p_parallel": 1.0, "p_perp": 0.0}


def test_steeper_than_linear_is_unstable():
    result = critical(smooth(jnp.sinh, "sinh", "odd"))
    assert result.universality_class == "K*=0" and "unstable" in result.reason and result.nearest is not None


def test_cancelling_first_corrections_are_looked_through():
    # a_1 = σ3/σ1 + ¾(σ2/σ1)² = −3/4 + 3/4 = 0: the K² term vanishes, while ⟨σ'²⟩ moves at order K
    (point, *_) = critical(smooth(lambda z: z + z**2 / 2 - z**3 / 8, "tuned")).points
    assert point.coefficients["power"] == 2.0 and point.exponents["p_perp"] is None


def test_homogeneity_is_exact_or_nothing():
    assert homogeneity(TANH) is None and homogeneity(smooth(lambda z: z + 1e-9 * z**2, "nearly")) is None
    assert homogeneity(leaky(1.0, 0.1)) == pytest.approx(0.505, rel=1e-15)


def test_an_activation_that_overflows_says_where():
    assert "leave float64" in of(EXP).reason


def test_json_carries_everything():
    result = json.loads(json.dumps(of(GELU).to_dict(), allow_nan=False))
    assert set(result) >= {
        "activation",
        "universality_class",
        "C_b",
        "C_W",
        "K_star",
        "chi_parallel",
        "chi_perp",
        "points",
        "reason",
    }
    assert len(result["points"]) == 2 and result["points"][1]["C_W"] == result["C_W"]


@pytest.mark.parametrize("K_range", [(1.0, 1.0), (-1.0, 2.0), (2.0, 1.0), (1.0, math.inf)])
def test_range_must_increase(K_range):
    with pytest.raises(InputError, match="`K_range` must be two increasing positive kernels"):
        critical(TANH, K_range=K_range)


def test_activation_must_be_one():
    with pytest.raises(InputError, match="`activation` must be an Activation or the name of one"):
        critical(3)


def power_of_modulus(p):
    return lambda z: jnp.where(z == 0, 0.0, jnp.where(z == 0, 1.0, jnp.abs(z)) ** p)


@pytest.mark.parametrize(
    ("function", "p"),
    [(power_of_modulus(0.8), 0.8), (lambda z: jnp.maximum(z, 0.0) ** 1.5, 1.5), (power_of_modulus(1.2), 1.2)],
)
def test_fractional_powers_are_not_critical_at_zero(function, p):
    """χ∥/χ⊥ = (2p − 1)/p for σ ∝ |z|^p; |z|^0.8 came out critical at C_W = 1e-12, max(z, 0)^1.5 as an error."""
    found = critical(Activation(function))
    assert found.universality_class == "none" and not found.points
    assert f"it is {(2 * p - 1) / p:.4g} throughout" in found.reason


def test_infinite_slope_at_zero_is_no_slope():
    """z ln|z|, whose slope at 1e-30 was taken for that at 0. (χ∥ − χ⊥)/C_W = ⟨σσ''⟩ = ⟨ln|z|⟩ = (ln(K/2) − γ)/2, which
    is critical at K* = 2 e^γ alone."""
    found = critical(Activation(lambda z: z * jnp.log(jnp.abs(z) + 1e-300)))
    assert [point.universality_class for point in found.points] == ["half-stable"]
    assert found.K_star == pytest.approx(2 * math.exp(mp.euler), rel=1e-8)


@pytest.mark.parametrize(
    ("function", "stable"),
    [
        (lambda z: z + power_of_modulus(1.5)(z), False),  # ⟨σ²⟩ = K + ⟨|z|³⟩
        (lambda z: jnp.tanh(z) - 0.1 * jnp.sign(z) * power_of_modulus(1.5)(z), True),  # K − 0.2⟨|z|^{5/2}⟩ …
    ],
)
def test_approach_with_a_fractional_power_is_not_invented(function, stable):
    """Derivatives beside 0 are huge where σ has |z|^{3/2}; they gave K → 1e-28/ℓ², or an exactly linear σ."""
    (zero, *_) = critical(Activation(function)).points
    assert zero.K_star == 0 and pytest.approx(1, rel=1e-12) == zero.C_W
    assert zero.stable_from_above is stable
    assert zero.exponents["p_0"] is None and zero.coefficients["a"] is None
    assert "how fast is not said" in zero.note


def test_regular_terms_below_a_fractional_power_are_kept():
    """tanh z + |z|^{7/2}: ⟨σ²⟩ = K − 2K² + O(K^{9/4})."""
    (zero, *_) = critical(Activation(lambda z: jnp.tanh(z) + power_of_modulus(3.5)(z))).points
    assert zero.coefficients["a"] == pytest.approx(-2, rel=1e-12) and zero.exponents["p_0"] == 1


@pytest.mark.parametrize(
    ("function", "C_W"),
    [(lambda z: z - jnp.tanh(z), 1.0), (lambda z: z + jnp.maximum(z - 7.3, 0.0), 0.4)],
)
def test_large_kernels_are_those_of_the_asymptotes(function, C_W):
    """σ(z)/z at 1e8 still held the asymptote's constant: C_W = 1.00000002 for z − tanh z."""
    nearest = critical(Activation(function)).nearest
    assert nearest.kind == "large kernel" and pytest.approx(C_W, rel=1e-12) == nearest.C_W
