r"""⟨σ⁽ᵏ⁾_a σ⁽ˡ⁾_b⟩ for every pair of many inputs, by Hermite polynomials (Mehler's formula).

With orthonormal Hermite polynomials h_n and standard normal u, v of correlation ρ, ⟨h_m(u) h_n(v)⟩ = δ_mn ρⁿ. So

    ⟨f(z_a) g(z_b)⟩ = Σ_n f_n(K_aa) g_n(K_bb) ρⁿ ,      f_n(K) = ⟨f(√K u) h_n(u)⟩ .

Coefficients cost one integral for an input, a pair one product for each n. For σ analytic within a distance d of the
real axis (tanh: π/2) f_n falls as e^{−d√(n/K)}, and what is left out as its square.
"""

from collections.abc import Sequence

import numpy as np

from finitewidth.activations import Activation
from finitewidth.errors import InputError

Orders = tuple[int, int]

_DEGREES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536)
_GOAL = 1e-6
_IN_CACHE = 1 << 15
_REACH, _SPACING = 12.0, 0.04


def many_pair_averages(activation: Activation, K: np.ndarray, wanted: Sequence[Orders]) -> dict[Orders, np.ndarray]:
    """⟨σ⁽ᵏ⁾_a σ⁽ˡ⁾_b⟩ by (k, l), shape (N, N), to 1e-6 of √(⟨σ⁽ᵏ⁾²⟩⟨σ⁽ˡ⁾²⟩).

    Arguments
        activation: without kinks.
        K: kernel, shape (N, N).

    Raises
        InputError: if σ changes too fast at these K for polynomials of degree 1536.
    """
    orders = tuple(sorted({k for each in wanted for k in each}))
    std = np.sqrt(np.diag(K))
    # by degree first: a row of the sum then is contiguous
    coefficients = {k: np.ascontiguousarray(f.T) for k, f in _coefficients(activation, std, orders).items()}
    rho = np.clip(K / np.outer(std, std), -1.0, 1.0)
    np.fill_diagonal(rho, 0.0)
    found = {each: np.zeros_like(rho) for each in wanted}
    size = max(1, _IN_CACHE // len(K))
    for rows in (slice(at, at + size) for at in range(0, len(K), size)):
        degree = _degree(float(np.abs(rho[rows]).max()))
        for (k, l), total in found.items():
            total[rows] = _horner(coefficients[k][:degree, rows], coefficients[l][:degree], rho[rows])
    for (k, l), total in found.items():
        np.fill_diagonal(total, np.einsum("na,na->a", coefficients[k], coefficients[l]))
    return found


def _degree(rho: float) -> int | None:
    """Beyond this degree Σ f_n g_n ρⁿ is below `_GOAL` of ‖f‖ ‖g‖; None for all that there are."""
    return None if rho >= 1.0 else 1 if rho == 0.0 else 1 + int(np.ceil(np.log(_GOAL) / np.log(rho)))


def _horner(left: np.ndarray, right: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """Σ_n left_n right_n ρⁿ, from the highest degree down."""
    total, term = np.zeros_like(rho), np.empty_like(rho)
    for f, g in zip(left[::-1], right[::-1], strict=True):
        total *= rho
        total += np.multiply.outer(f, g, out=term)
    return total


def _coefficients(activation: Activation, std: np.ndarray, orders: tuple[int, ...]) -> dict[int, np.ndarray]:
    """f_n(K_aa) for n up to the degree that is needed, shape (N, degree), by the order of the derivative."""
    n = int(_REACH / _SPACING)
    u = _SPACING * np.arange(-n, n + 1)
    values = activation.evaluate(std[:, None] * u, orders)
    if not np.all(np.isfinite(values)):
        raise InputError(f"{activation.name} overflows where a Gaussian of variance {std.max() ** 2:.4g} has weight")
    half = np.exp(-0.25 * u * u) * (2 * np.pi) ** -0.25  # φ^{1/2}, kept apart: h_n alone would overflow
    weighted = _SPACING * values.reshape(-1, len(u)) * half
    total = (weighted * values.reshape(weighted.shape)) @ half
    rows = [half, u * half]
    coefficients = np.zeros((len(weighted), 0))
    for degree in _DEGREES:
        for n in range(len(rows), degree):
            rows.append((u * rows[-1] - np.sqrt(n - 1) * rows[-2]) / np.sqrt(n))
        more = weighted @ np.stack(rows[coefficients.shape[1] : degree]).T
        coefficients = np.concatenate([coefficients, more], axis=1)
        if np.all(total - (coefficients**2).sum(1) <= _GOAL * total):
            return dict(zip(orders, coefficients.reshape(len(orders), len(std), degree), strict=True))
    raise InputError(
        f"pair averages of {activation.name} at K = {std.max() ** 2:.4g} need Hermite polynomials beyond degree "
        f"{_DEGREES[-1]}; use smaller inputs, C_W or C_b"
    )
