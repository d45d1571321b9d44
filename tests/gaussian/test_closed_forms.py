"""Closed forms against 60 digits: F, its collinear value, the distance D between them, and S, for every size and angle.

Two roads. `EXACT` writes each average as a textbook function of the covariance alone, in mpmath, where cancellation
costs nothing: it sees what float64 loses. A trapezoid sum over the plane knows no formula at all: it sees what is wrong
with one.
"""

from collections.abc import Callable
from math import comb, factorial

import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp, mpf
from scipy.special import erf, ndtr

from finitewidth.gaussian.closed_forms import FORMS, PairAverages, angle
from finitewidth.precision import float64

EPS = float(np.finfo(float).eps)
W = (0.0, 1e-15, 1e-12, 1e-6, 0.01, 0.4, 1.0)
SIZES = ((1.0, 1.0), (0.3, 2.5), (0.3e-12, 2.5e-12), (30.0, 250.0), (0.3e12, 2.5e12))


def relu(a: mpf, b: mpf, c: mpf) -> tuple[mpf, mpf]:
    root = mp.sqrt(a * b)
    t = mp.acos(c / root)
    return root * (mp.sin(t) + (mp.pi - t) * mp.cos(t)) / (2 * mp.pi), (mp.pi - t) / (2 * mp.pi)


def half_lines(minus: float, plus: float) -> Callable[..., tuple[mpf, mpf]]:
    """σ = plus·relu(z) − minus·relu(−z)."""

    def exact(a: mpf, b: mpf, c: mpf) -> tuple[mpf, mpf]:
        (F, S), (f, p) = relu(a, b, c), relu(a, b, -c)
        p2, pm = mpf(plus) ** 2 + mpf(minus) ** 2, 2 * mpf(plus) * mpf(minus)
        return p2 * F - pm * f, p2 * S + pm * p

    return exact


def error_function(a: mpf, b: mpf, c: mpf) -> tuple[mpf, mpf]:
    norm = (1 + 2 * a) * (1 + 2 * b)
    return 2 / mp.pi * mp.asin(2 * c / mp.sqrt(norm)), 4 / mp.pi / mp.sqrt(norm - 4 * c * c)


def gelu(a: mpf, b: mpf, c: mpf) -> tuple[mpf, mpf]:
    """By Stein's lemma from ⟨Φ(z₁)Φ(z₂)⟩ = 1/4 + asin(c/√N)/2π; S by Price's theorem, in finite differences."""

    def F(c: mpf) -> mpf:
        d = mp.sqrt((1 + a) * (1 + b) - c * c)
        # z₁z₂: c⟨ΦΦ⟩ + (ab + c²)⟨φφ⟩ + …, with ⟨φ(z₁)φ(z₂)⟩ = 1/2πd and the covariance under φφ
        inner = a * b + c * c * (1 - a / (1 + a) - b / (1 + b))
        return c / 4 + c * mp.asin(c / mp.sqrt((1 + a) * (1 + b))) / (2 * mp.pi) + inner / (2 * mp.pi * d)

    unit = mp.sqrt((1 + a) * (1 + b))
    with mp.workdps(140):
        return F(c), mp.diff(lambda t: F(t * unit), c / unit) / unit


def polynomial(*coefficients: float) -> Callable[..., tuple[mpf, mpf]]:
    """By Isserlis' theorem: ⟨z₁^p z₂^q⟩ = Σ_k k! C(p, k) C(q, k) (p−k−1)!! (q−k−1)!! c^k a^{(p−k)/2} b^{(q−k)/2}."""

    def moment(p: int, q: int, a: mpf, b: mpf, c: mpf) -> mpf:
        return mp.fsum(
            factorial(k) * comb(p, k) * comb(q, k) * pairings(p - k) * pairings(q - k)
            * c**k * a ** ((p - k) // 2) * b ** ((q - k) // 2)
            for k in range(min(p, q) + 1)
            if (p - k) % 2 == 0 and (q - k) % 2 == 0
        )  # fmt: skip

    def average(s: tuple[float, ...], a: mpf, b: mpf, c: mpf) -> mpf:
        return mp.fsum(
            mpf(x) * mpf(y) * moment(p, q, a, b, c) for p, x in enumerate(s) for q, y in enumerate(s) if x and y
        )

    slopes = tuple(p * x for p, x in enumerate(coefficients))[1:]
    return lambda a, b, c: (average(coefficients, a, b, c), average(slopes, a, b, c))


def pairings(n: int) -> int:
    return factorial(n) // (2 ** (n // 2) * factorial(n // 2))


def exponential(a: mpf, b: mpf, c: mpf) -> tuple[mpf, mpf]:
    F = mp.exp((a + b) / 2 + c)
    return F, F


def waves(F: Callable[[mpf], mpf], S: Callable[[mpf], mpf]) -> Callable[..., tuple[mpf, mpf]]:
    return lambda a, b, c: (mp.exp(-(a + b) / 2) * F(c), mp.exp(-(a + b) / 2) * S(c))


def sign(a: mpf, b: mpf, c: mpf) -> tuple[mpf, mpf]:
    return 2 / mp.pi * mp.asin(c / mp.sqrt(a * b)), mpf(0)


def step(a: mpf, b: mpf, c: mpf) -> tuple[mpf, mpf]:
    return (mp.pi - mp.acos(c / mp.sqrt(a * b))) / (2 * mp.pi), mpf(0)


EXACT = {
    ("piecewise_linear", (0.0, 1.0)): half_lines(0.0, 1.0),
    ("piecewise_linear", (0.1, 1.0)): half_lines(0.1, 1.0),
    ("piecewise_linear", (-1.0, 1.0)): half_lines(-1.0, 1.0),
    ("piecewise_linear", (1.0, 1.0)): half_lines(1.0, 1.0),
    ("erf", ()): error_function,
    ("gelu", ()): gelu,
    ("sin", ()): waves(mp.sinh, mp.cosh),
    ("cos", ()): waves(mp.cosh, mp.sinh),
    ("exp", ()): exponential,
    ("sign", ()): sign,
    ("step", ()): step,
    ("polynomial", (0.5, -1.0, 0.0, 2.0)): polynomial(0.5, -1.0, 0.0, 2.0),
    ("polynomial", (0.0, 0.0, 1.0)): polynomial(0.0, 0.0, 1.0),
    ("polynomial", (1.0, 2.0, 3.0, 4.0, 5.0)): polynomial(1.0, 2.0, 3.0, 4.0, 5.0),
}
# GELU's D is a plain difference: GELU is smooth, and needs no more
D_IS_A_DIFFERENCE = {"gelu"}


def test_every_form_is_here() -> None:
    assert {name for name, _ in EXACT} == set(FORMS)


def found(name: str, parameters: tuple[float, ...], a: float, b: float, w: float, s: int) -> list[float]:
    with float64():
        numbers = [jnp.asarray(float(x)) for x in (a, b, w, s)]
        return [float(x) for x in FORMS[name](*parameters)(*numbers)]


@pytest.mark.parametrize("s", [1, -1])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("problem", EXACT, ids=str)
def test_to_all_digits(problem: tuple[str, tuple[float, ...]], size: tuple[float, float], s: int) -> None:
    name, _ = problem
    exact = EXACT[problem]
    if max(size) > {"exp": 100, "sin": 1e3, "cos": 1e3}.get(name, np.inf):
        pytest.skip("the average leaves float64")
    mp.dps = 80
    a, b = map(mpf, size)
    # sin and exp feel the absolute size of the kernels: a unit in the last place of K is that many of the average
    loss = 1 + (max(size) if name in ("sin", "cos", "exp") else 0)
    allowed = 16 * EPS * loss * (8 if name in ("gelu", "polynomial") else 1)
    F_scale, S_scale = (mp.sqrt(x * y) for x, y in zip(exact(a, a, a), exact(b, b, b), strict=True))
    for w in W:
        c = s * mp.sqrt(a * b)
        (edge, _), (F, S) = exact(a, b, c), exact(a, b, c * (1 - mpf(w)))
        mine = found(*problem, *size, w, s)
        D_scale = F_scale if name in D_IS_A_DIFFERENCE else abs(edge - F)
        scales = PairAverages(F_scale, F_scale, D_scale, S_scale)
        for what, value, right, scale in zip(PairAverages._fields, mine, (F, edge, edge - F, S), scales, strict=True):
            assert abs(mpf(value) - right) <= allowed * scale + mpf(1e-300), (what, w, value, mp.nstr(right, 20))


FUNCTIONS = {
    "erf": (erf, lambda z: 2 / np.sqrt(np.pi) * np.exp(-z * z)),
    "gelu": (lambda z: z * ndtr(z), lambda z: ndtr(z) + z * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda z: -np.sin(z)),
    "exp": (np.exp, np.exp),
}


@pytest.mark.parametrize("rho", [0.7, -0.7, 0.0, 0.95])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_formula_is_that_of_the_function(name: str, rho: float) -> None:
    """Σ h² φ(x)φ(y) σ(z₁)σ(z₂): the trapezoid rule converges geometrically for these."""
    a, b, h = 0.7, 1.6, 0.08
    x = h * np.arange(-150, 151)
    weight = h * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    one = np.sqrt(a) * x[:, None]
    two = np.sqrt(b) * (rho * x[:, None] + np.sqrt(1 - rho**2) * x)
    F, _, _, S = found(name, (), a, b, 1 - abs(rho), -1 if rho < 0 else 1)
    for value, f in zip((F, S), FUNCTIONS[name], strict=True):
        assert abs(value - weight @ (f(one) * f(two)) @ weight) < 3e-14 * max(1.0, abs(value))


def test_angle_keeps_its_relative_accuracy() -> None:
    mp.dps = 60
    w = np.concatenate([[0.0, 1e-300, 1.0], np.geomspace(1e-20, 1.0, 60)])
    with float64():
        mine = np.asarray(angle(jnp.asarray(w)))
    for x, value in zip(w, mine, strict=True):
        right = 2 * mp.asin(mp.sqrt(mpf(float(x)) / 2))
        assert abs(mpf(float(value)) - right) <= 8 * EPS * right
