r"""Piecewise quadratic activations, with kinks or jumps anywhere: hard-tanh, ReLU6, hard-swish, hard-shrink, …

Price's theorem, ∂⟨f g⟩/∂K₁₂ = ⟨f' g'⟩, turns derivatives of σ into derivatives in the correlation ρ = cos θ, and after
two of them a piecewise quadratic σ is a sum of deltas. So everything follows from the density of (z₁, z₂) at pairs of
kinks,

    e_mn(t) = exp{ −(h_m − k_n)²/(2 sin² t) − h_m k_n/(1 + cos t) } ,        h_m = κ_m/√a ,   k_n = κ_n/√b ,

integrated over the angle from the collinear pair, t = 0, to t = θ. With the jumps J⁰, J¹, J² of σ, σ', σ'' at the
kinks and A_i(t) = Σ_mn J^i_m J^i_n e_mn(t)/2π (and X_i the terms of one delta and one regular factor),

    S(θ) = S(0) − √(ab)⟨σ''σ''⟩(0) w + √(ab) ∫ A₂ (cos t − cos θ) dt − ∫ (A₁ + X₁) dt
    D(θ) = √(ab) S(0) w − ab ⟨σ''σ''⟩(0) w²/2 + ab ∫ A₂ ½(cos t − cos θ)² dt
           − √(ab) ∫ (A₁ + X₁)(cos t − cos θ) dt + ∫ (A₀ + X₀) dt

where averages of σ' and σ'' are over their regular parts, w = 1 − cos θ, and D = ⟨σσ⟩(0) − ⟨σσ⟩(θ): nothing cancels as
θ → 0.
A negative correlation is a positive one with σ(−z₂) as second factor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jax import Array

from finitewidth.gaussian.closed_forms import PairAverages, PairForm, angle
from finitewidth.gaussian.either_library import functions, if_any, library, summed

_FAR = 40.0  # in standard deviations, where the Gaussian is below the smallest float64


# below this fraction of θ, e_mn is averaged in closed form: kernels that are nearly equal have it switch on there
_INNER = 3.0**-12


def _panels() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [_INNER, 1] in panels that triple outwards: e_mn(t) switches on at t ~ |h − k|, anywhere."""
    x, w = np.polynomial.legendre.leggauss(12)
    edges = _INNER * 3.0 ** np.arange(13.0)
    half = 0.5 * np.diff(edges)[:, None]
    return edges[:-1, None] + half * (1 + x), half * w


_NODES, _WEIGHTS = _panels()


@dataclass(frozen=True)
class Pieces:
    """σ = Σ_p coefficients[i][p] z^p between kinks i − 1 and i, p ≤ 2."""

    kinks: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]

    @cached_property
    def table(self) -> np.ndarray:
        """Coefficients padded to degree 2, shape (pieces, 3)."""
        return np.array([tuple(c) + (0.0,) * (3 - len(c)) for c in self.coefficients])

    @property
    def slopes(self) -> np.ndarray:
        """σ' on each piece, the same shape."""
        return self.table[:, 1:] @ np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])

    @property
    def curvatures(self) -> np.ndarray:
        """σ'' on each piece, the same shape."""
        return self.table[:, 2:] @ np.array([[2.0, 0.0, 0.0]])

    @cached_property
    def jumps(self) -> np.ndarray:
        """Jumps of σ, σ', σ'' at each kink, shape (3, kinks)."""
        k, c = np.array(self.kinks), np.diff(self.table, axis=0).T
        return np.stack([c[0] + c[1] * k + c[2] * k * k, c[1] + 2 * c[2] * k, 2 * c[2]])

    def mirrored(self) -> "Pieces":
        """σ(−z)."""
        flipped = tuple(tuple(c * (-1) ** p for p, c in enumerate(row)) for row in self.coefficients[::-1])
        return Pieces(tuple(-k for k in self.kinks[::-1]), flipped)


def is_piecewise_quadratic(pieces: tuple[tuple[float, ...], ...] | None) -> bool:
    """Whether the form below covers these pieces."""
    return pieces is not None and all(len(p) <= 3 or not any(p[3:]) for p in pieces)


def piecewise_quadratic(kinks: tuple[float, ...], coefficients: tuple[tuple[float, ...], ...]) -> PairForm:
    """The pair averages of a piecewise quadratic σ; S is the almost-everywhere value where σ itself jumps."""
    one = Pieces(kinks, tuple(tuple(c[:3]) for c in coefficients))

    def form(a: Array, b: Array, w: Array, s: Array) -> PairAverages:
        xp = library(a, b, w, s)
        F, D, S = _same_sign(one, one, a, b, w)

        def with_negative() -> tuple[Array, ...]:
            f, d, slope = _same_sign(one, one.mirrored(), a, b, w)
            return xp.where(s > 0, F, f), xp.where(s > 0, D, d), xp.where(s > 0, S, -slope)

        collinear, D, S = if_any(s < 0, with_negative, lambda: (F, D, S))
        return PairAverages(collinear - D, collinear, D, S)

    return form


def _same_sign(one: Pieces, two: Pieces, a: Array, b: Array, w: Array) -> tuple[Array, Array, Array]:
    """⟨σ₁σ₂⟩ at ρ = 1, its drop D, and ⟨σ₁'σ₂'⟩, for ρ = 1 − w ≥ 0."""
    xp = library(a, b, w)
    root_a, root_b = xp.sqrt(a), xp.sqrt(b)
    h, k = [x / root_a for x in one.kinks], [x / root_b for x in two.kinks]
    F0 = _collinear(one.table, two.table, h, k, root_a, root_b)
    S0 = _collinear(one.slopes, two.slopes, h, k, root_a, root_b)
    curved = bool(np.any(one.table[:, 2]))
    C0 = _collinear(one.curvatures, two.curvatures, h, k, root_a, root_b) if curved else xp.zeros_like(S0)
    theta, root = angle(w) * xp.ones_like(S0), root_a * root_b
    w = w * xp.ones_like(S0)

    def integrated(t: Array, dt: Array, density: Callable[[Array, Array, Array], Array]) -> Array:
        below = 2 * xp.sin(0.5 * (theta + t)) * xp.sin(0.5 * (theta - t))  # cos t − cos θ
        A0, A1, A2 = _densities(one, two, h, k, root_a, root_b, t, density)
        D = A0 - root * below * A1 + (0.5 * root * root * below * below * A2 if curved else 0.0)
        S = -A1 + (root * below * A2 if curved else 0.0)
        return xp.stack([(dt * D).sum(0), (dt * S).sum(0)])

    def panel(index: int, sums: Array) -> Array:
        t, dt = (theta * xp.asarray(rule)[index][:, None, None] for rule in (_NODES, _WEIGHTS))
        return sums + integrated(t, dt, _density)

    inner = integrated(0.5 * _INNER * theta[None], _INNER * theta[None], _mean_density)
    D, S = summed(len(_NODES), panel, inner)
    D = D + root * S0 * w - 0.5 * (root * w) ** 2 * C0
    return F0, D, S + S0 - root * w * C0


def _collinear(p: np.ndarray, q: np.ndarray, h: list[Array], k: list[Array], root_a: Array, root_b: Array) -> Array:
    """E[P(√a x) Q(√b x)] of two piecewise polynomials of degree ≤ 2 with breakpoints h, k in x."""
    xp = library(root_a, root_b)
    far = xp.asarray(_FAR)
    low_h, high_h = [-far, *h], [*h, far]
    low_k, high_k = [-far, *k], [*k, far]
    total = xp.zeros(xp.broadcast_shapes(root_a.shape, root_b.shape))
    for i, P in enumerate(p):
        for j, Q in enumerate(q):
            product = np.array([[P[m] * Q[n] for n in range(3)] for m in range(3)])
            if not product.any():
                continue
            low = xp.clip(xp.maximum(low_h[i], low_k[j]), -_FAR, _FAR)
            high = xp.maximum(low, xp.clip(xp.minimum(high_h[i], high_k[j]), -_FAR, _FAR))
            moments = _truncated_moments(low, high)
            for m in range(3):
                for n in range(3):
                    if product[m, n]:
                        total = total + product[m, n] * root_a**m * root_b**n * moments[m + n]
    return total


def _truncated_moments(low: Array, high: Array) -> list[Array]:
    """∫ x^m φ(x) dx over [low, high], m = 0 … 4."""
    xp, ndtr = library(low, high), functions(low, high).ndtr
    phi = [xp.exp(-0.5 * x * x) / np.sqrt(2 * np.pi) for x in (low, high)]
    # on the side where the tail is small, so that a far interval keeps its relative accuracy
    mass = xp.where(low > 0, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low))
    moments = [mass, phi[0] - phi[1]]
    for m in range(2, 5):
        moments.append((m - 1) * moments[m - 2] + low ** (m - 1) * phi[0] - high ** (m - 1) * phi[1])
    return moments


def _density(h: Array, k: Array, t: Array) -> Array:
    """e_mn(t)."""
    xp = library(h, k, t)
    return xp.exp(-0.5 * ((h - k) / xp.maximum(xp.sin(t), 1e-150)) ** 2 - h * k / (1 + xp.cos(t)))


def _mean_density(h: Array, k: Array, middle: Array) -> Array:
    """The average of e_mn over [0, T], T = 2 middle ≪ 1: ∫₀ᵀ e^{−δ²/2t²} dt/T = e^{−d²} − √π d erfc d, d = δ/√2T."""
    xp, erfc = library(h, k, middle), functions(h, k, middle).erfc
    d = xp.minimum(xp.abs(h - k) / xp.maximum(np.sqrt(8) * middle, 1e-150), 30.0)
    mean = xp.exp(-0.5 * xp.maximum(h * k, -100.0)) * (xp.exp(-d * d) - np.sqrt(np.pi) * d * erfc(d))
    return xp.where(d < 30.0, mean, 0.0)  # far kinks of opposite sign: 0 · ∞


def _densities(
    one: Pieces,
    two: Pieces,
    h: list[Array],
    k: list[Array],
    root_a: Array,
    root_b: Array,
    t: Array,
    density: Callable[[Array, Array, Array], Array],
) -> tuple[Array, Array, Array]:
    """A₀ + X₀, A₁ + X₁ and A₂ at angles t, given e_mn there."""
    xp = library(root_a, root_b, t)
    sin, cos = xp.sin(t), xp.cos(t)
    J, I = one.jumps, two.jumps
    A = [xp.zeros_like(t) for _ in range(3)]
    for m in range(len(h)):
        for n in range(len(k)):
            weights = J[:, m] * I[:, n] / (2 * np.pi)
            if not weights.any():
                continue
            e = density(h[m], k[n], t)
            for i in range(3):
                if weights[i]:
                    A[i] = A[i] + weights[i] * e
    for p, q, jumps, from_h, to_k, other in ((one, two, J, h, k, root_b), (two, one, I, k, h, root_a)):
        del p
        for m, x in enumerate(from_h):
            here = other * xp.exp(-0.5 * x * x) / np.sqrt(2 * np.pi) * sin
            if jumps[0, m]:
                A[0] = A[0] + jumps[0, m] * here * _conditional(
                    q.table[:, 1], 2 * q.table[:, 2], to_k, x, other, sin, cos
                )
            if jumps[1, m] and np.any(q.table[:, 2]):
                A[1] = A[1] + jumps[1, m] * here * _conditional(
                    2 * q.table[:, 2], 0 * q.table[:, 2], to_k, x, other, sin, cos
                )
    return A[0], A[1], A[2]


def _conditional(
    level: np.ndarray, slope: np.ndarray, breaks: list[Array], x: Array, root: Array, sin: Array, cos: Array
) -> Array:
    """E[g(z₂) | z₁] for g = level + slope·z on each piece, z₂ = root (x cos t + y sin t) with y standard normal."""
    xp, ndtr = library(x, root, sin), functions(x, root, sin).ndtr
    mean = root * x * cos
    total = level[0] + slope[0] * mean
    for n, edge in enumerate(breaks):
        y = xp.clip((edge - x * cos) / xp.maximum(sin, 1e-150), -_FAR, _FAR)
        above = ndtr(-y)
        dl, ds = level[n + 1] - level[n], slope[n + 1] - slope[n]
        total = total + (dl + ds * mean) * above
        if ds:
            total = total + ds * root * sin * xp.exp(-0.5 * y * y) / np.sqrt(2 * np.pi)
    return total
