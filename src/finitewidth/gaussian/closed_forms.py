r"""Kernels in closed form: ⟨σ(z₁)σ(z₂)⟩ and ⟨σ'(z₁)σ'(z₂)⟩ for the activations that have them (FACTS §3.5).

Two inputs of kernels a = K₁₁ and b = K₂₂ and correlation ρ = K₁₂/√(ab). Correlations flow towards 1 with depth, and a
kinked σ feels the angle θ ≈ √(2(1 − ρ)) there: ρ itself would lose half of θ's digits. The pair is therefore described
by its sign s and its complement

    w = 1 − |ρ| ,      ρ = s (1 − w) ,      0 ≤ w ≤ 1 ,

and every form returns, beside the average F, its distance from the collinear value, D = F(ρ = s) − F(ρ), without
cancellation.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jax import Array

from finitewidth.gaussian.either_library import library


class PairAverages(NamedTuple):
    """The averages over one pair of inputs (arrays of one common shape).

    F = ⟨σσ⟩, `collinear` = F at |ρ| = 1 with the pair's sign, D = collinear − F, S = ⟨σ'σ'⟩ (almost-everywhere σ').
    """

    F: Array
    collinear: Array
    D: Array
    S: Array


PairForm = Callable[[Array, Array, Array, Array], PairAverages]


def _economised(terms: np.ndarray) -> tuple[float, ...]:
    """A power series with positive terms, Σ c_k w^k on [0, 1], as a short polynomial in 2w − 1."""
    nodes = np.cos(np.pi * (np.arange(22) + 0.5) / 22)
    values = np.polynomial.polynomial.polyval(0.5 * (nodes + 1), terms)
    return tuple(np.polynomial.chebyshev.cheb2poly(np.polynomial.chebyshev.chebfit(nodes, values, 21)))


# 2 asin √(w/2) = √(2w) Σ_k C(2k, k)/(8^k (2k + 1)) w^k, and sin θ − θ cos θ is its integral over w, since dw = sin θ dθ
_k = np.arange(90)
_binomials = np.cumprod(np.concatenate([[1.0], (2.0 * _k[1:] - 1) / (4.0 * _k[1:])]))
_ANGLE = _economised(_binomials / (2 * _k + 1))
_SINE_DEFICIT = _economised(_binomials / ((2 * _k + 1) * (2 * _k + 3)))


def _horner(coefficients: tuple[float, ...], v: Array) -> Array:
    xp = library(v)
    total = xp.full_like(v, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * v + c
    return total


def angle(w: Array) -> Array:
    """θ ∈ [0, π/2] with cos θ = 1 − w, to full relative accuracy as w → 0."""
    xp = library(w)
    return xp.sqrt(2 * w) * _horner(_ANGLE, 2 * w - 1)


def _sine_deficit(w: Array) -> Array:
    """sin θ − θ cos θ = θ³/3 − θ⁵/30 + …, which cancels when taken at its word."""
    xp = library(w)
    return 2 * w * xp.sqrt(2 * w) * _horner(_SINE_DEFICIT, 2 * w - 1)


def _factorial(n: int) -> float:
    return float(np.prod(np.arange(1.0, n + 1)))


def piecewise_linear(minus: float, plus: float) -> PairForm:
    """σ(z) = minus·z for z < 0, plus·z for z > 0 (ReLU, leaky ReLU, |z|):

    F = √(ab) [A₂ cos θ + (Δ²/2π)(sin θ − θ cos θ)] ,  S = A₂ − Δ²θ/2π ,  A₂ = (minus² + plus²)/2 ,   Δ = plus − minus.
    """
    A2, jump2 = 0.5 * (minus**2 + plus**2), (plus - minus) ** 2 / (2 * np.pi)

    def form(a: Array, b: Array, w: Array, s: Array) -> PairAverages:
        xp = library(a, b, w)
        scale, t = xp.sqrt(a) * xp.sqrt(b), angle(w)
        # for s < 0 the angle is π − t and the collinear value is −minus·plus
        straight = xp.where(s > 0, A2, -minus * plus)
        deficit = jump2 * _sine_deficit(w)
        F = scale * (straight * (1.0 - w) + deficit)
        S = xp.where(s > 0, A2 - jump2 * t, minus * plus + jump2 * t)
        return PairAverages(F, scale * straight, scale * (straight * w - deficit), S)

    return form


def erf() -> PairForm:
    """F = (2/π) asin(2c/√((1+2a)(1+2b))), S = (4/π)/√((1+2a)(1+2b) − 4c²)."""

    def form(a: Array, b: Array, w: Array, s: Array) -> PairAverages:
        xp = library(a, b, w)
        root = xp.sqrt(a) * xp.sqrt(b)
        over = 1 / (xp.sqrt(1 + 2 * a) * xp.sqrt(1 + 2 * b))  # quotients are what costs here
        x0 = 2 * root * over
        x = x0 * (1 - w)
        # cos of the two arcs: (1 + 2a)(1 + 2b) − 4ab = 1 + 2(a + b)
        size = xp.sqrt(1 + 2 * (a + b) + 4 * a * b * w * (2 - w))
        cos0, cos = xp.sqrt(1 + 2 * (a + b)) * over, size * over
        sine = x0 * w * (x0 + x) / (x0 * cos + x * cos0)
        # both arcs from their complements: 1 − cos = sin²/(1 + cos); arcsin would lose digits near 1, and costs more
        collinear = angle(x0 * x0 / (1 + cos0))
        D = angle(sine * sine / (1 + cos0 * cos + x0 * x))
        k = 2 / np.pi
        return PairAverages(s * k * (collinear - D), s * k * collinear, s * k * D, (4 / np.pi) / size)

    return form


def gelu() -> PairForm:
    """GELU in its erf form, with N = (1+a)(1+b), d² = N − c²:

    F = c/4 + [c asin(c/√N) + (ab d + c²/d)/N]/2π ,   S = 1/4 + [asin(c/√N) + (c/Nd)(3 + a + b + c²/d²)]/2π .
    """

    def parts(a: Array, b: Array, rho: Array, sine2: Array | float) -> tuple[Array, Array]:
        xp = library(a, b, rho)
        ab = a * b
        c, N = xp.sqrt(a) * xp.sqrt(b) * rho, (1 + a) * (1 + b)
        d2 = 1 + a + b + ab * sine2  # sine2 = 1 − ρ²; N − c² cancels for large kernels
        d = xp.sqrt(d2)
        # asin(c/√N) = atan(c/d) from its complement 1 − d/√N = c²/(N + d √N); arctan2 costs several times as much
        whole = N + d * xp.sqrt(1 + a) * xp.sqrt(1 + b)
        arc = c * xp.sqrt(2 / whole) * _horner(_ANGLE, 2 * c * c / whole - 1)
        F = c / 4 + (c * arc + (ab * d + c * c / d) / N) / (2 * np.pi)
        # S = ∂F/∂c at fixed a, b (Price's theorem)
        S = 0.25 + (arc + c / (N * d) * (3 + a + b + c * c / d2)) / (2 * np.pi)
        return F, S

    def form(a: Array, b: Array, w: Array, s: Array) -> PairAverages:
        F, S = parts(a, b, s * (1 - w), w * (2 - w))
        collinear, _ = parts(a, b, s, 0.0)
        return PairAverages(F, collinear, collinear - F, S)

    return form


def sin() -> PairForm:
    """F = e^{−(a+b)/2} sinh c, S = e^{−(a+b)/2} cosh c."""

    def form(a: Array, b: Array, w: Array, s: Array) -> PairAverages:
        xp = library(a, b, w)
        root = xp.sqrt(a) * xp.sqrt(b)
        c, tail = root * (1 - w), -0.5 * (xp.sqrt(a) - xp.sqrt(b)) ** 2
        grow = xp.exp(tail - root * w)  # e^{c − (a+b)/2}
        F = -0.5 * grow * xp.expm1(-2 * c)
        collinear = -0.5 * xp.exp(tail) * xp.expm1(-2 * root)
        # sinh x − sinh c = 2 cosh((x + c)/2) sinh((x − c)/2)
        D = -0.5 * xp.exp(tail) * (1 + xp.exp(-root - c)) * xp.expm1(-root * w)
        return PairAverages(s * F, s * collinear, s * D, 0.5 * grow * (1 + xp.exp(-2 * c)))

    return form


def cos() -> PairForm:
    """F = e^{−(a+b)/2} cosh c, S = e^{−(a+b)/2} sinh c."""

    def form(a: Array, b: Array, w: Array, s: Array) -> PairAverages:
        xp = library(a, b, w)
        root = xp.sqrt(a) * xp.sqrt(b)
        c, tail = root * (1 - w), -0.5 * (xp.sqrt(a) - xp.sqrt(b)) ** 2
        grow = xp.exp(tail - root * w)
        collinear = 0.5 * xp.exp(tail) * (1 + xp.exp(-2 * root))
        # cosh x − cosh c = 2 sinh((x + c)/2) sinh((x − c)/2)
        D = 0.5 * xp.exp(tail) * xp.expm1(-root - c) * xp.expm1(-root * w)
        return PairAverages(0.5 * grow * (1 + xp.exp(-2 * c)), collinear, D, -s * 0.5 * grow * xp.expm1(-2 * c))

    return form


def exp() -> PairForm:
    """F = S = e^{(a+b)/2 + c}."""

    def form(a: Array, b: Array, w: Array, s: Array) -> PairAverages:
        xp = library(a, b, w)
        root = xp.sqrt(a) * xp.sqrt(b)
        collinear = xp.exp(0.5 * (a + b) + s * root)
        D = -collinear * xp.expm1(-s * root * w)
        F = xp.exp(0.5 * (a + b) + s * root * (1 - w))
        return PairAverages(F, collinear, D, F)

    return form


def sign() -> PairForm:
    """σ = sign(z): F = 1 − 2θ/π. S is the almost-everywhere value 0: the delta of σ' is left out."""

    def form(a: Array, b: Array, w: Array, s: Array) -> PairAverages:
        xp = library(a, b, w)
        drop = 2 * angle(w) / np.pi
        return PairAverages(s * (1 - drop), s * xp.ones_like(w), s * drop, xp.zeros_like(w))

    return form


def step() -> PairForm:
    """σ = 1 for z > 0, else 0: F = 1/2 − θ/2π. S is the almost-everywhere value 0: the delta of σ' is left out."""

    def form(a: Array, b: Array, w: Array, s: Array) -> PairAverages:
        xp = library(a, b, w)
        turn = angle(w) / (2 * np.pi)
        collinear = xp.where(s > 0, 0.5, 0.0) * xp.ones_like(w)
        D = xp.where(s > 0, turn, -turn)
        return PairAverages(collinear - D, collinear, D, xp.zeros_like(w))

    return form


def polynomial(*coefficients: float) -> PairForm:
    """σ = Σ_p c_p z^p: F = Σ_k h_k(a) h_k(b) ρ^k with the Hermite coefficients h_k(a) = √k! [He_k] σ(√a x)."""
    # z^p = Σ_k p!/(2^m m! k!) He_k(z) with m = (p − k)/2
    degree = len(coefficients) - 1

    def hermite(K: Array, c: tuple[float, ...]) -> list[Array]:
        xp = library(K)
        out = []
        for k in range(len(c)):
            total = xp.zeros_like(K)
            for p in range(k, len(c), 2):
                m = (p - k) // 2
                total = total + c[p] * _factorial(p) / (2.0**m * _factorial(m) * _factorial(k)) * xp.sqrt(K) ** p
            out.append(total * np.sqrt(_factorial(k)))
        return out

    slope = tuple(p * coefficients[p] for p in range(1, degree + 1)) or (0.0,)

    def form(a: Array, b: Array, w: Array, s: Array) -> PairAverages:
        xp = library(a, b, w)
        rho, size = s * (1 - w), 1 - w
        F = collinear = D = S = xp.zeros_like(rho * a * b)
        geometric = xp.zeros_like(F)  # (1 − |ρ|^k)/w = 1 + |ρ| + … + |ρ|^{k−1}
        for k, (ha, hb) in enumerate(zip(hermite(a, coefficients), hermite(b, coefficients), strict=True)):
            F, collinear = F + ha * hb * rho**k, collinear + ha * hb * s**k
            D = D + ha * hb * s**k * w * geometric
            geometric = 1 + size * geometric
        for k, (ha, hb) in enumerate(zip(hermite(a, slope), hermite(b, slope), strict=True)):
            S = S + ha * hb * rho**k
        return PairAverages(F, collinear, D, S)

    return form


FORMS: dict[str, Callable[..., PairForm]] = {
    "piecewise_linear": piecewise_linear,
    "erf": erf,
    "gelu": gelu,
    "sin": sin,
    "cos": cos,
    "exp": exp,
    "sign": sign,
    "step": step,
    "polynomial": polynomial,
}
