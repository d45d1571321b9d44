"""Gaussian random numbers of networks: those of `jax.random.normal`, in a form that compiles to a faster program.

Drawing weights takes most of an ensemble's time where inputs are few, so it is worth its own program. Number i of a key
k is a function of k and i alone, whoever draws it and beside whichever others:

    bits    Threefry-2×32 with 20 rounds of the counter i (Salmon, Moraes, Dror, Shaw, SC'11), written out. JAX keeps it
            as a loop on processors, whose every turn goes through memory; the bits are the same (a test says so)
    u       uniform on (−1, 1) from 52 of them, as JAX has it
    z       √2 erf⁻¹(u) = u R(w), w = − ln(1 − u²), by the smooth function R, interpolated once from SciPy's. JAX's own
            needs a scalar logarithm, and loses digits in 1 − u² where |u| → 1: there z is right to 1e-10 only, here
            to 3e-14

So the networks of a seed are what they were with `jax.random.normal`, but for the last digits.
"""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import chebyshev
from scipy.special import erfcinv, erfinv

GENERATOR = "threefry2x32 20, inverse normal 1"  # a store made with another one is another run
IMPLEMENTATION = "threefry2x32"  # of the keys

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_MIDDLE = 6.25  # of w: below, R is a polynomial in w; above, which is 0.1 % of all numbers, in √w
_LARGEST = 6.05  # of √w: 1 − |u| is 2⁻⁵³ at least, √w then 6.004
_DEGREE = 24


def normals(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Independent numbers from N(0, 1), of double precision where it is switched on.

    Arguments
        key: of `jax.random.key(seed, impl=IMPLEMENTATION)`. shape: of the result; fewer than 2³² numbers.
    """
    if jnp.result_type(float) != jnp.float64:
        return jax.random.normal(key, shape)
    count = math.prod(shape)
    if count >= 1 << 32:
        raise ValueError(f"{count} numbers of one key are more than its counter counts")
    return normals_at(key, jax.lax.iota(jnp.uint32, count)).reshape(shape)


def normals_at(key: jax.Array, counters: jax.Array) -> jax.Array:
    """Those of the numbers that have these counters, of double precision; uint32, in any shape."""
    return _inverse_normal(_uniform(_bits(key, counters)))


def _bits(key: jax.Array, low: jax.Array) -> jax.Array:
    """64 random bits for each of the counters."""
    k0, k1 = jax.random.key_data(key)
    first, second = _threefry(k0, k1, jnp.zeros_like(low), low)
    return (first.astype(jnp.uint64) << 32) | second.astype(jnp.uint64)


def _threefry(k0: jax.Array, k1: jax.Array, x0: jax.Array, x1: jax.Array) -> tuple[jax.Array, jax.Array]:
    keys = (k0, k1, k0 ^ k1 ^ np.uint32(_PARITY))
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = x0 ^ ((x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation)))
        x0, x1 = x0 + keys[(group + 1) % 3], x1 + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x0, x1


def _uniform(bits: jax.Array) -> jax.Array:
    """On (−1, 1): 52 bits become the digits of a number in [1, 2)."""
    digits = (bits >> 12) | np.uint64(np.float64(1.0).view(np.uint64))
    least = np.nextafter(-1.0, 0.0)
    return jnp.maximum(least, (jax.lax.bitcast_convert_type(digits, jnp.float64) - 1.0) * 2.0 + least)


def _inverse_normal(u: jax.Array) -> jax.Array:
    small, large = _ratio_polynomials()
    w = -_log((1 - u) * (1 + u))  # not 1 − u², which cancels
    is_small, low = w < _MIDDLE, math.sqrt(_MIDDLE)
    # one polynomial with coefficients of either kind: two would be computed for every number
    t = jnp.where(is_small, w * (2 / _MIDDLE) - 1, (jnp.sqrt(w) - (low + _LARGEST) / 2) * (2 / (_LARGEST - low)))
    return u * _polynomial([jnp.where(is_small, a, b) for a, b in zip(small, large, strict=True)], t)


def _log(x: jax.Array) -> jax.Array:
    """ln x of normal numbers in (0, 1], to 4e-16 of itself: x = 2ᵉ m, ln m = 2 artanh((m − 1)/(m + 1)), m near 1."""
    bits = jax.lax.bitcast_convert_type(x, jnp.int64)
    exponent = (bits - np.float64(math.sqrt(0.5)).view(np.int64)) >> 52
    m = jax.lax.bitcast_convert_type(bits - (exponent << 52), jnp.float64)
    s = (m - 1) / (m + 1)
    return exponent * math.log(2) + s * _polynomial([2 / (2 * j + 1) for j in range(11)], s * s)


def _polynomial(coefficients: list[jax.Array] | list[float], t: jax.Array) -> jax.Array:
    """Σ_j c_j tʲ, by halves that do not wait for each other (Estrin)."""
    while len(coefficients) > 1:
        pairs = [coefficients[i : i + 2] for i in range(0, len(coefficients), 2)]
        coefficients = [pair[0] + t * pair[1] if len(pair) == 2 else pair[0] for pair in pairs]  # type: ignore[assignment]
        t = t * t
    return coefficients[0]  # type: ignore[return-value]


@cache
def _ratio_polynomials() -> tuple[list[float], list[float]]:
    """R on both sides of `_MIDDLE`: coefficients of powers of a variable that runs from −1 to 1."""
    ends = ((lambda w: _ratio(w), 0.0, _MIDDLE), (lambda s: _ratio(s * s), math.sqrt(_MIDDLE), _LARGEST))
    found = []
    for function, low, high in ends:
        series = chebyshev.Chebyshev.interpolate(function, _DEGREE, domain=[low, high])
        found.append([float(each) for each in chebyshev.cheb2poly(series.coef)])
    return found[0], found[1]


def _ratio(w: np.ndarray) -> np.ndarray:
    """√2 erf⁻¹(u)/u at 1 − u² = e^{−w}."""
    u = np.sqrt(-np.expm1(-w))
    left = np.exp(-w) / (1 + u)  # 1 − u
    return np.sqrt(2) * np.where(u < 0.5, erfinv(u), erfcinv(left)) / u
