"""The activations of the references, each with the road that its averages take."""

from averages import LIMIT_PAIR, Corner, Exact, Pieces, Strip, relu_pair
from mpmath import mp, mpf

ZERO, ONE = mpf(0), mpf(1)


def poly(*coefficients: mpf | int | float) -> tuple[tuple[tuple[mpf, ...], int], ...]:
    return ((tuple(mpf(c) for c in coefficients), 0),)


def expm1(scale: mpf) -> tuple[tuple[tuple[mpf, ...], int], ...]:
    return (((scale,), 1), ((-scale,), 0))


def gelu_pair(a: mpf, b: mpf, k: mpf) -> mpf:
    det = mp.sqrt((1 + a) * (1 + b) - k * k)
    inner = a * b + k * k * (1 - a / (1 + a) - b / (1 + b))
    return k / 4 + k * mp.asin(k / mp.sqrt((1 + a) * (1 + b))) / (2 * mp.pi) + inner / (2 * mp.pi * det)


def by_price(ss):
    """⟨σ'σ'⟩ = ∂⟨σσ⟩/∂k (Price's theorem)."""

    def dsds(a: mpf, b: mpf, k: mpf) -> mpf:
        unit = mp.sqrt((1 + a) * (1 + b))  # the scale on which it varies
        with mp.workdps(140):
            return mp.diff(lambda t: ss(a, b, t * unit), k / unit) / unit

    return dsds


def sigmoid(z: mpf) -> mpf:
    return 1 / (1 + mp.exp(-z))


def softplus(z: mpf) -> mpf:
    return max(z, ZERO) + mp.log1p(mp.exp(-abs(z)))


def mish(z: mpf) -> mpf:
    return z * mp.tanh(softplus(z))


def mish_slope(z: mpf) -> mpf:
    t = mp.tanh(softplus(z))
    return t + z * (1 - t * t) * sigmoid(z)


def sech2(z: mpf) -> mpf:
    return 1 / mp.cosh(z) ** 2


def ncdf(z: mpf) -> mpf:
    return mp.erfc(-z / mp.sqrt(2)) / 2


def npdf(z: mpf) -> mpf:
    return mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)


# SELU's two constants and leaky slopes are the float64 numbers that a program uses
SELU_SCALE, SELU_ALPHA = mpf(1.0507009873554804934193349852946), mpf(1.6732632423543772848170429916717)

ROADS = {
    "relu": Pieces((ZERO,), (poly(0), poly(0, 1))),
    "leaky_relu(0.1)": Pieces((ZERO,), (poly(0, 0.1), poly(0, 1))),
    "elu": Pieces((ZERO,), (expm1(ONE), poly(0, 1))),
    "selu": Pieces((ZERO,), (expm1(SELU_SCALE * SELU_ALPHA), poly(0, SELU_SCALE))),
    "hardtanh": Pieces((-ONE, ONE), (poly(-1), poly(0, 1), poly(1))),
    "relu6": Pieces((ZERO, mpf(6)), (poly(0), poly(0, 1), poly(6))),
    "hardswish": Pieces((mpf(-3), mpf(3)), (poly(0), poly(0, 0.5, ONE / 6), poly(0, 1))),
    "softshrink": Pieces((mpf(-0.5), mpf(0.5)), (poly(0.5, 1), poly(0), poly(-0.5, 1))),
    "hardshrink": Pieces((mpf(-0.5), mpf(0.5)), (poly(0, 1), poly(0), poly(0, 1))),
    "erf": Exact(
        lambda a, b, k: 2 / mp.pi * mp.asin(2 * k / mp.sqrt((1 + 2 * a) * (1 + 2 * b))),
        lambda a, b, k: 4 / mp.pi / mp.sqrt((1 + 2 * a) * (1 + 2 * b) - 4 * k * k),
    ),
    "gelu": Exact(gelu_pair, by_price(gelu_pair)),
    "sin": Exact(
        lambda a, b, k: mp.exp(-(a + b) / 2) * mp.sinh(k),
        lambda a, b, k: mp.exp(-(a + b) / 2) * mp.cosh(k),
    ),
    "cos": Exact(
        lambda a, b, k: mp.exp(-(a + b) / 2) * mp.cosh(k),
        lambda a, b, k: mp.exp(-(a + b) / 2) * mp.sinh(k),
    ),
    "exp": Exact(*(2 * [lambda a, b, k: mp.exp((a + b) / 2 + k)])),
    "monomial(3)": Exact(
        lambda a, b, k: 9 * a * b * k + 6 * k**3,
        lambda a, b, k: 9 * (a * b + 2 * k * k),
    ),
    "tanh": Strip(mp.tanh, sech2, "sign"),
    "sigmoid": Strip(sigmoid, lambda z: sigmoid(z) * sigmoid(-z), "step"),
    "softplus": Strip(softplus, sigmoid, "relu"),
    "silu": Strip(lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * sigmoid(-z)), "relu"),
    "mish": Strip(mish, mish_slope, "relu"),
    "softsign": Corner(lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2),
}

# The same averages by another road, for the check of one road against another.
OTHER_ROADS = {
    "relu": Exact(relu_pair, LIMIT_PAIR["step"]),
    "erf": Strip(mp.erf, lambda z: 2 / mp.sqrt(mp.pi) * mp.exp(-z * z)),
    "gelu": Strip(lambda z: z * ncdf(z), lambda z: ncdf(z) + z * npdf(z)),
    "sin": Strip(mp.sin, mp.cos),
}
