r"""Pairs of inputs in polar coordinates: ⟨f(z₁) g(z₂)⟩ for many kernels at one angle.

With z₁ = √a r cos φ and z₂ = √b r cos(φ − θ), where cos θ = ρ is the correlation,

    ⟨f(z₁) g(z₂)⟩ = ∫₀^∞ dr r e^{−r²/2} ∮ dφ/2π f(√a r cos φ) g(√b r cos(φ − θ)) .

The radius of convergence does not shrink as θ → 0, a kink at the origin sits at fixed angles whatever r, a, b are, and
the nodes do not depend on a and b: all pairs out of p kernels are one p × p matrix product.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from finitewidth.activations import Activation
from finitewidth.cores import on_all_cores

_RADII = (2.5, 5.0, 9.0)


def _composite(edges: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(order)
    half = 0.5 * np.diff(edges)[:, None]
    return ((edges[:-1, None] + half) + half * x).ravel(), (half * w).ravel()


@lru_cache(maxsize=32)
def _rules(thirds: int, order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Radial nodes and weights (r e^{−r²/2} included), and those on an arc of unit length, dense at its ends."""
    inner = _RADII[0] * 3.0 ** -np.arange(thirds, 0, -1.0)
    r, wr = _composite(np.concatenate([[0.0], inner, _RADII]), order + 5)
    half = np.concatenate([[0.0], 0.5 * 3.0 ** -np.arange(thirds + 1, -1, -1.0)])
    t, wt = _composite(np.concatenate([half, 1.0 - half[-2::-1]]), order)
    return r, wr * r * np.exp(-0.5 * r * r), t, wt


class PairMatrices(NamedTuple):
    """Averages of every pair out of p kernels at some angles and both signs of ρ; shapes (signs, …, p, p).

    `collinear` is ⟨σσ⟩ at ρ = ±1, shape (signs, p, p). D = collinear − ⟨σσ⟩ and S = ⟨σ'σ'⟩ have shape
    (signs, angles, p, p).
    """

    collinear: np.ndarray
    D: np.ndarray
    S: np.ndarray


def pair_matrices(
    activation: Activation, K: np.ndarray, theta: np.ndarray, *, both_signs: bool, order: int = 12
) -> PairMatrices:
    """⟨σσ⟩ and ⟨σ'σ'⟩ for all pairs of the kernels `K`, at ρ = cos θ and, with `both_signs`, at ρ = −cos θ.

    With Δf(φ) = f(φ) − f(φ − θ), the distance from the collinear value is a square and does not cancel as θ → 0:

        ⟨σσ⟩(0) − ⟨σσ⟩(θ) = ½ ⟨Δσ_a Δσ_b⟩ .

    Arguments
        K: kernels, shape (p,). Kinks of the activation must lie at 0.
        theta: angles in [0, π/2], shape (angles,).
        order: Gauss–Legendre nodes a panel; the error falls geometrically with it.
    """
    # panels triple in length from the scale 1/√K outwards: σ changes at |z| ~ 1, its poles lie off the real axis
    thirds = max(0, int(np.ceil(np.log(np.sqrt(K.max())) / np.log(3.0))))
    r, wr, t, wt = _rules(thirds, order)
    flips = (1.0,) if activation.parity != "none" else (1.0, -1.0)
    signs = (1, -1) if both_signs else (1,)
    root = np.sqrt(K)[:, None, None]
    p = len(K)

    def on_circle(cosines: np.ndarray, orders: tuple[int, ...]) -> np.ndarray:
        """σ⁽ᵏ⁾(± √K r cos φ), shape (orders, flips, p, nodes)."""
        z = root * (r[:, None] * cosines)
        values = activation.evaluate(np.stack([flip * z for flip in flips]), orders)
        return values.reshape(len(orders), len(flips), p, -1)

    def product(f: np.ndarray, g: np.ndarray, weight: np.ndarray, sign: int) -> np.ndarray:
        """Σ f_a g_b over the circle; for ρ < 0 the second factor is taken at −z."""
        total = np.zeros((p, p))
        for i in range(len(flips)):
            partner = g[i if sign > 0 else len(flips) - 1 - i]
            total += (f[i] * weight) @ partner.T
        total = 0.5 * (total + total.T)
        if len(flips) == 2:
            return total
        return 2.0 * total if sign > 0 or activation.parity == "even" else -2.0 * total

    def measure(length: float) -> np.ndarray:
        return (wr[:, None] * (wt * length / (2 * np.pi))).ravel()

    values = on_circle(np.sin(np.pi * t), (0,))[0]
    collinear = np.stack([product(values, values, measure(np.pi), sign) for sign in signs])

    def at_angle(angle: float) -> tuple[np.ndarray, np.ndarray]:
        D, S = (np.zeros((len(signs), p, p)) for _ in range(2))
        # z₁, z₂ > 0 on an arc of length π − θ, z₁ < 0 < z₂ on one of length θ; the rest of the circle flips both signs.
        # Cosines measured from the ends of an arc, where they vanish, keep their relative accuracy.
        for length, side in ((np.pi - angle, 1.0), (angle, -1.0)):
            weight = measure(length)
            f1, d1 = on_circle(side * np.sin(length * t), (0, 1))
            f2, d2 = on_circle(np.sin(length * (1 - t)), (0, 1))
            step = f1 - f2
            for i, sign in enumerate(signs):
                D[i] += 0.5 * product(step, step, weight, sign)
                # σ' of an odd σ is even and the reverse
                S[i] += product(d1, d2, weight, sign) * (1 if sign > 0 or len(flips) == 2 else -1)
        return D, S

    found = on_all_cores(at_angle, theta)
    D, S = (np.stack([each[i] for each in found], axis=1) for i in range(2))
    return PairMatrices(collinear, D, S)
