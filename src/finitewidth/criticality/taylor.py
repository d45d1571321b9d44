"""The kernel recursion of a single input as K → 0, from the one-sided Taylor coefficients of σ at 0.

Write σ(z)² = Σ_n c_n^± zⁿ on either side of 0. Since z = √K x,

    ⟨σ²⟩_K = Σ_n G_n K^{n/2} ,     G_n = E|x|ⁿ (c_n^+ + (−1)ⁿ c_n^−) / 2 ,     E|x|ⁿ = 2^{n/2} Γ((n+1)/2) / √π .

For σ smooth at 0 the odd terms vanish and this is the series of FACTS 3.3. For σ with a kink or a jump of curvature
at 0 (ELU, SELU, softsign) the odd terms stay: the recursion is a series in √K, and depth enters through other
exponents.
"""

import math

import numpy as np

from finitewidth.activations import Activation
from finitewidth.errors import InputError

_BESIDE = 1e-30  # where 0⁺ and 0⁻ are evaluated if 0 is a kink: close enough that no digit changes, far from underflow
_NEAR = 1e-50  # where derivatives that have a limit have reached it
_ZERO = 64 * np.finfo(float).eps  # a coefficient below this share of what was added up to it is zero


def one_sided_derivatives(activation: Activation, order: int) -> np.ndarray:
    """σ⁽ᵏ⁾(0⁺) and σ⁽ᵏ⁾(0⁻) for k = 0 … `order`: shape (2, order + 1).

    Raises
        InputError: when a derivative at 0 is not finite.
    """
    step = (_BESIDE if 0.0 in activation.kinks else 0.0) * np.array([1.0, -1.0])
    derivatives = activation.evaluate(step, tuple(range(order + 1))).T.copy()
    if not np.all(np.isfinite(derivatives)):
        raise InputError(
            f"activation {activation.name!r} has no finite derivatives at 0 up to order {order}; write it so that "
            "automatic differentiation works there (two nested `jnp.where`, one to keep each branch finite)"
        )
    derivatives[:, :-1] -= step[:, None] * derivatives[:, 1:]  # so that σ(0) is 0, not 1e-30
    return derivatives


def first_irregular(activation: Activation, order: int) -> int:
    """The lowest k ≤ `order` for which σ⁽ᵏ⁾ has no limit at 0⁺ or at 0⁻ (|z|^{3/2} at k = 2); order + 1 if all have."""
    if 0.0 not in activation.kinks:
        return order + 1
    near, nearer = (
        activation.evaluate(np.array([step, -step]), tuple(range(order + 1))) for step in (_NEAR, _NEAR * 1e-10)
    )
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(near), np.abs(nearer))
        moves = ~(np.abs(near - nearer) <= 1e-4 * np.maximum(size[:2].max(), 1e-2 * size))
    irregular = np.flatnonzero(moves.any(axis=1))
    return int(irregular[0]) if len(irregular) else order + 1


def kernel_series(derivatives: np.ndarray, terms: int) -> np.ndarray:
    """G_0 … G_{terms−1} of ⟨σ²⟩_K = Σ G_n K^{n/2}; `derivatives` of σ at 0⁺ and 0⁻, shape (2, ≥ terms).

    Given the derivatives of σ' instead (the array without its first column), the same for ⟨σ'²⟩_K.
    """
    factorial = np.array([math.factorial(k) for k in range(terms)])
    right, left = derivatives[:, :terms] / factorial
    series = np.empty(terms)
    for n in range(terms):
        products = 0.5 * np.concatenate([right[: n + 1] * right[n::-1], (-1) ** n * left[: n + 1] * left[n::-1]])
        total = products.sum()
        moment = 2 ** (n / 2) * math.gamma((n + 1) / 2) / math.sqrt(math.pi)
        series[n] = 0.0 if abs(total) <= _ZERO * np.abs(products).sum() else moment * total
    return series


def limit_of_derivative(series: np.ndarray, order: int) -> float:
    """lim_{K→0} (d/dK)^order Σ G_n K^{n/2}: G_{2·order} order!, or ±∞ if a half-integer power below it is present."""
    for n in range(1, 2 * order, 2):
        if series[n] != 0.0:
            sign = math.prod(n / 2 - k for k in range(order)) * series[n]
            return math.copysign(math.inf, sign)
    return float(series[2 * order] * math.factorial(order))
