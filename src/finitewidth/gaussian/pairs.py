r"""⟨σσ⟩ and ⟨σ'σ'⟩ of two inputs, to full accuracy for any σ: closed form where there is one, else the plane.

The flow of many samples takes `pair_maps` instead, whose tables share one quadrature between millions of pairs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.activations import Activation
from finitewidth.errors import InputError
from finitewidth.gaussian.closed_forms import FORMS, PairForm
from finitewidth.gaussian.estimate import Estimate
from finitewidth.gaussian.line import average
from finitewidth.gaussian.plane import direct_pairs
from finitewidth.precision import float64

_EPS = float(np.finfo(float).eps)


class KernelPair(NamedTuple):
    """The averages that a layer needs of two inputs; `Estimate`s of one shape.

    `ss` = ⟨σ(z₁)σ(z₂)⟩, `dsds` = ⟨σ'(z₁)σ'(z₂)⟩ with the almost-everywhere σ' (no delta function where σ jumps).
    """

    ss: Estimate
    dsds: Estimate


def kernel_pair(activation: Activation, K: np.ndarray) -> KernelPair:
    """⟨σ(z₁)σ(z₂)⟩ and ⟨σ'(z₁)σ'(z₂)⟩ for z ~ N(0, K) (PDLT §4.2, §8.2).

    Arguments
        activation: σ; panels end at its kinks.
        K: two-input kernels, shape (…, 2, 2): symmetric, positive semidefinite, taken as exact float64 numbers.

    Returns
        a `KernelPair` of `Estimate`s of shape (…). Each error is absolute.

    Raises
        InputError: if K is not a kernel, or σ is not finite where the Gaussian has weight.

    >>> import finitewidth as fw
    >>> from finitewidth.gaussian import kernel_pair
    >>> pair = kernel_pair(fw.activations.named("hardtanh"), [[1.0, 0.5], [0.5, 1.0]])
    >>> print(f"{pair.ss.value:.12f}")
    0.238169165801
    """
    K = np.asarray(K, dtype=np.float64)
    if K.shape[-2:] != (2, 2):
        raise InputError(f"`K` must have shape (…, 2, 2), one kernel of two inputs each, but got {K.shape}")
    if not np.all(np.isfinite(K)) or np.any(K[..., 0, 1] != K[..., 1, 0]) or np.any(K[..., [0, 1], [0, 1]] < 0):
        raise InputError(
            "`K` must hold symmetric kernels of finite numbers with variances ≥ 0; check how it was computed"
        )
    a, c, b = K.reshape(-1, 4)[:, [0, 1, 3]].T
    is_plain = (a > 0) & (b > 0)
    if np.any(c[~is_plain] != 0):
        raise InputError("`K` has a covariance with an input of zero variance, and is not positive semidefinite")
    value, error = np.zeros((2, len(a))), np.zeros((2, len(a)))
    value[:, is_plain], error[:, is_plain], method = _averages(activation, *(x[is_plain] for x in (a, b, c)))
    for i in np.flatnonzero(~is_plain):  # z = 0 of one input (or of both) leaves an average over the other
        value[:, i], error[:, i] = _beside_zero(activation, max(a[i], b[i]))
    shape = K.shape[:-2]
    return KernelPair(
        *(Estimate(v.reshape(shape), e.reshape(shape), method) for v, e in zip(value, error, strict=True))
    )


def complement(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(w, s): w = 1 − |c|/√(ab) to full relative accuracy for exact a, b > 0 and c, and the sign of c.

    1 − |c|/√(ab) taken at its word leaves four digits of w = 1e-12; (ab − c²)/(√(ab) (√(ab) + |c|)) with exact products
    (each a rounded product plus its rounding error) leaves all.
    """
    # powers of two cancel in the ratio and keep the products within range
    i, j = (np.frexp(x)[1] // 2 for x in (a, b))
    a, b, c = np.ldexp(a, -2 * i), np.ldexp(b, -2 * j), np.ldexp(c, -i - j)
    (ab, ab_low), (cc, cc_low) = _exact_product(a, b), _exact_product(c, c)
    determinant = (ab - cc) + (ab_low - cc_low)
    root = np.sqrt(a) * np.sqrt(b)
    w = determinant / (root * (root + np.abs(c)))
    return w, np.where(c < 0, -1.0, 1.0)


def _exact_product(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rounded product and its rounding error (Dekker 1971)."""

    def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        big = 134217729.0 * x  # 2²⁷ + 1
        high = big - (big - x)
        return high, x - high

    product = x * y
    (x1, x2), (y1, y2) = split(x), split(y)
    return product, ((x1 * y1 - product) + x1 * y2 + x2 * y1) + x2 * y2


def _averages(
    activation: Activation, a: np.ndarray, b: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str]:
    w, s = complement(a, b, c)
    if np.any(w < -32 * _EPS):
        i = int(np.argmin(w))
        raise InputError(
            f"`K` is not positive semidefinite: the correlation of [[{a[i]:g}, {c[i]:g}], [{c[i]:g}, {b[i]:g}]] is "
            f"{s[i] * (1 - w[i]):.15g}; check how it was computed"
        )
    w = np.clip(w, 0.0, 1.0)
    if activation.closed_form is not None and activation.closed_form[0] in FORMS:
        name, parameters = activation.closed_form
        return *_by_form(activation, FORMS[name](*parameters), a, b, w, s), "closed form"
    found, error = direct_pairs(activation, a, b, w, s)
    return np.stack([found.F, found.S]), np.stack([error.F, error.S]), "plane"


def _by_form(
    activation: Activation, form: PairForm, a: np.ndarray, b: np.ndarray, w: np.ndarray, s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values of a closed form, and errors: rounding of the result, and of the kernels times the derivatives by them."""

    def averages(log_a: jax.Array, log_b: jax.Array) -> jax.Array:
        kernels = jnp.asarray(a) * jnp.exp(log_a), jnp.asarray(b) * jnp.exp(log_b)
        found = form(*kernels, jnp.asarray(w), jnp.asarray(s))
        return jnp.stack([found.F, found.S])

    with float64():
        zero, one = jnp.zeros(len(a)), jnp.ones(len(a))
        value, by_a = jax.jvp(averages, (zero, zero), (one, zero))
        _, by_b = jax.jvp(averages, (zero, zero), (zero, one))
        found = form(jnp.asarray(a), jnp.asarray(b), jnp.asarray(w), jnp.asarray(s))
        size = np.asarray(jnp.stack([jnp.abs(found.F) + jnp.abs(found.D), jnp.abs(found.S)]))
    if not np.all(np.isfinite(value)):
        i = int(np.argmin(np.isfinite(value).all(0)))
        raise InputError(
            f"averages of activation {activation.name!r} leave float64 at kernels {a[i]:g} and {b[i]:g}; "
            "use smaller ones"
        )
    return np.asarray(value), 4 * _EPS * (size + np.abs(by_a) + np.abs(by_b))


def _beside_zero(activation: Activation, K: float) -> tuple[np.ndarray, np.ndarray]:
    """σ(0)⟨σ(z)⟩ and σ'(0)⟨σ'(z)⟩."""
    at_zero = activation.evaluate(np.zeros(1), (0, 1))[:, 0]
    mean = average(lambda z: activation.evaluate(z, (0, 1)), K, kinks=activation.breaks)
    return at_zero * mean.value, np.abs(at_zero) * mean.error
