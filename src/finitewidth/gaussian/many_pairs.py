r"""⟨∂ⁱσ⁽ᵏ⁾_a ∂ʲσ⁽ˡ⁾_b⟩ for every pair of many inputs, ∂ with the deltas of kinks.

Smooth σ: Hermite polynomials (`mehler`). Piecewise linear σ = αz + β|z| (ReLU and its kind): in closed form, since
σ⁽ᵏ⁾ for k ≥ 2 is zero almost everywhere, and ∂ⁿσ depends on n alone,

    ⟨σσ⟩ = α²K_ab + (2β²/π) √(ab) (√(1−ρ²) + ρ asin ρ) ,    ⟨∂σ ∂σ⟩ = α² + (2β²/π) asin ρ ,
    ⟨∂²σ_a σ_b⟩ = (2β²/π) √(b/a) √(1−ρ²) ,
    ⟨∂²σ ∂²σ⟩ = (2β²/π)/√(ab(1−ρ²)) ,    ⟨∂³σ_a ∂σ_b⟩ = −(ρ/a) (2β²/π)/√(1−ρ²) ,
    ⟨∂⁴σ_a σ_b⟩ = (2β²/π) √(b/a)/a (1/√(1−ρ²) − 2√(1−ρ²)) ,
    ⟨∂³σ ∂³σ⟩ = (2β²/π) (ρ/ab) (1−ρ²)^(−3/2) ,    ⟨∂⁴σ_a ∂²σ_b⟩ = −(2β²/π)/(a √(ab)) (1−ρ²)^(−3/2) ,
    ⟨∂⁵σ_a ∂σ_b⟩ = (2β²/π) (ρ/a²) (2(1−ρ²)^(−1/2) + (1−ρ²)^(−3/2)) ,

the last three lines being derivatives of the lines above them by K_aa and K_ab (Price's theorem).
"""

from collections.abc import Sequence

import numpy as np

from finitewidth.activations import Activation
from finitewidth.errors import InputError
from finitewidth.gaussian.kinked import PairKey
from finitewidth.gaussian.mehler import many_pair_averages

_ALMOST_COLLINEAR = 1e-4
"""sin θ below which inputs are equal: averages like θ⁻³ make 10⁻¹⁶ of rounding as large as θ, which this is off by."""


def is_piecewise_linear(activation: Activation) -> bool:
    """Whether σ is linear on either side of its only kink, at the origin, and continuous there."""
    return (activation.closed_form or ("", ()))[0] == "piecewise_linear"


def many_pairs(activation: Activation, K: np.ndarray, wanted: Sequence[PairKey]) -> dict[PairKey, np.ndarray]:
    """The averages by (k, i, l, j), shape (N, N).

    At equal inputs, where only the derivative of the product exists, it is shared evenly among its terms; for piecewise
    linear σ all of second order and above then vanish.

    Raises
        InputError: for other activations with kinks, for narrow transitions, or where `mehler` does not converge.
    """
    if activation.is_abrupt:
        z, width = min(activation.transitions, key=lambda each: each[1])
        raise InputError(
            f"`activation` {activation.name} changes on a scale of {width:.1g} near z = {z:.4g}, too fast for "
            "polynomials; for many inputs use a smoother one or order 0, for up to 16 inputs fw.flow(net, x, order=1)"
        )
    if not activation.kinks:
        totals = {(k, i, l, j): (k + i, l + j) for k, i, l, j in wanted}
        found = many_pair_averages(activation, K, sorted(set(totals.values())))
        return {key: found[total] for key, total in totals.items()}
    if not is_piecewise_linear(activation):
        raise InputError(
            f"`activation` {activation.name} has kinks and is not piecewise linear; for many inputs use a smooth one "
            "or ReLU and its kind, or order 0; for up to 16 inputs there is fw.flow(net, x, order=1)"
        )
    return {key: _piecewise_linear(activation, K, key) for key in wanted}


def _piecewise_linear(activation: Activation, K: np.ndarray, key: PairKey) -> np.ndarray:
    assert activation.closed_form is not None
    k, i, l, j = key
    _, (left, right) = activation.closed_form
    alpha, beta2 = 0.5 * (left + right), (right - left) ** 2 / (2 * np.pi)  # 2β²/π
    if k > 1 or l > 1:
        return np.zeros_like(K)
    std = np.sqrt(np.diag(K))
    size = np.multiply.outer(std, std)
    rho = np.clip(K / size, -1.0, 1.0)
    np.fill_diagonal(rho, 1.0)
    apart = np.sqrt((1 - rho) * (1 + rho))
    over = np.divide(1.0, apart, out=np.zeros_like(rho), where=apart > _ALMOST_COLLINEAR)
    match (k + i, l + j):
        case (0, 0):
            return alpha**2 * K + beta2 * size * (apart + rho * np.arcsin(rho))
        case (1, 1):
            return alpha**2 + beta2 * np.arcsin(rho)
        case (2, 0):
            return beta2 * apart * std / std[:, None]
        case (2, 2):
            return beta2 * over / size
        case (3, 1):
            return -beta2 * rho * over / std[:, None] ** 2
        case (4, 0):
            return beta2 * (over - 2 * apart) * std / std[:, None] ** 3
        case (3, 3):
            return beta2 * rho * over**3 / size**2
        case (4, 2):
            return -beta2 * over**3 / size / std[:, None] ** 2
        case (5, 1):
            return beta2 * rho * (2 * over + over**3) / std[:, None] ** 4
        case (0, 2) | (1, 3) | (0, 4) | (1, 5) | (2, 4):
            return _piecewise_linear(activation, K, (l, j, k, i)).T
    raise NotImplementedError(f"the derivatives {key} of a piecewise linear activation")
