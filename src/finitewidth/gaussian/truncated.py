r"""Truncated moments: averages of piecewise polynomials with their kink at the origin, over up to four inputs, exactly.

With r = max(z, 0), r⁰ the step, integration by parts lowers the powers (Tallis 1961): for q = p − e_i,

    ⟨Π r_k^{p_k}⟩ = Σ_j K_ij { q_j ⟨Π r_k^{q_k − δ_jk}⟩        if q_j ≥ 1
                             { ⟨δ(z_j) Π_{k≠j} r_k^{q_k}⟩       if q_j = 0, an average over the others, given z_j = 0 ,

until only steps are left: ⟨step⟩ = ½, ⟨step step⟩ = ¼ + asin ρ/2π, three of them the sum of three such terms, and four
one integral over an angle (Plackett 1954). Every piecewise polynomial with its kink at 0 is a sum of powers of r(z)
and r(−z).
"""

from collections.abc import Sequence
from functools import reduce
from itertools import product

import numpy as np
from numpy.polynomial import polynomial

from finitewidth.activations import Activation
from finitewidth.gaussian.estimate import Estimate

Key = tuple[tuple[int, ...], ...]
"""For each input of a subset, the orders of the derivatives of σ that are multiplied there."""

_NODES = (48, 36)


def can_be_truncated(activation: Activation) -> bool:
    """Whether σ is a polynomial on either side of the origin."""
    return activation.pieces is not None and activation.kinks == (0.0,)


def truncated_averages(activation: Activation, K: np.ndarray, keys: Sequence[Key]) -> Estimate:
    """⟨Π over inputs, Π over orders, σ⁽ᵏ⁾⟩ (almost-everywhere derivatives) for many subsets at once.

    Arguments
        activation: with its only kink at 0 and polynomial pieces.
        K: kernels of the subsets, shape (subsets, m, m), m ≤ 4, each of full rank.
        keys: the products wanted.

    Returns
        values and errors, shape (keys, subsets). The error is what rounding of K and a coarser integral change.
    """
    rng = np.random.default_rng(0)
    noise = 1 + 8 * np.finfo(float).eps * rng.choice([-1.0, 1.0], K.shape)
    noise = np.triu(noise) + np.triu(noise, 1).swapaxes(-1, -2)
    value, other = (_averages(activation, each, keys, n) for each, n in zip((K, K * noise), _NODES, strict=True))
    return Estimate(value, 2 * np.abs(value - other) + 8 * np.finfo(float).eps * np.abs(value), "truncated moments")


def _averages(activation: Activation, K: np.ndarray, keys: Sequence[Key], nodes: int) -> np.ndarray:
    assert activation.pieces is not None
    m = K.shape[-1]
    by_side = [_Moments(np.array(signs), K, nodes) for signs in product((1, -1), repeat=m)]
    found = np.zeros((len(keys), len(K)))
    for row, key in zip(found, keys, strict=True):
        for moments in by_side:
            # the pieces as polynomials in |z|
            each = [
                _in_modulus(activation.pieces[int(s > 0)], s, orders)
                for s, orders in zip(moments.signs, key, strict=True)
            ]
            for powers in product(*(np.flatnonzero(c) for c in each)):
                coefficient = np.prod([c[p] for c, p in zip(each, powers, strict=True)])
                row += coefficient * moments(tuple(int(p) for p in powers))
    return found


def _in_modulus(piece: Sequence[float], sign: int, orders: tuple[int, ...]) -> np.ndarray:
    """Π σ⁽ᵏ⁾ on one side of the origin, as coefficients of powers of |z|."""
    factors = [polynomial.polyder(np.array(piece, dtype=float), k) for k in orders]
    coefficients = reduce(polynomial.polymul, factors)
    return np.asarray(coefficients * float(sign) ** np.arange(len(coefficients)))


class _Moments:
    """⟨Π r(±z_k)^{p_k}⟩ for powers p, each computed once."""

    def __init__(self, signs: np.ndarray, K: np.ndarray, nodes: int) -> None:
        self.signs, self.nodes = signs, nodes
        self.K = K * np.outer(signs, signs)
        self._found: dict[tuple[int, ...], np.ndarray] = {}
        self._conditioned: dict[int, _Moments] = {}

    def __call__(self, powers: tuple[int, ...]) -> np.ndarray:
        if powers not in self._found:
            self._found[powers] = self._compute(powers)
        return self._found[powers]

    def _compute(self, powers: tuple[int, ...]) -> np.ndarray:
        if not any(powers):
            return orthant(self.K, self.nodes)
        i = int(np.argmax(powers))
        q = list(powers)
        q[i] -= 1
        total = np.zeros(len(self.K))
        for j, power in enumerate(q):
            if power:
                lower = (*q[:j], power - 1, *q[j + 1 :])
                total += self.K[:, i, j] * power * self(lower)
            else:
                density = 1 / np.sqrt(2 * np.pi * self.K[:, j, j])
                total += self.K[:, i, j] * density * self._given(j)((*q[:j], *q[j + 1 :]))
        return total

    def _given(self, j: int) -> "_Moments":
        """The same of the other inputs, given z_j = 0."""
        if j not in self._conditioned:
            rest = [k for k in range(self.K.shape[-1]) if k != j]
            self._conditioned[j] = _Moments(np.ones(len(rest)), conditioned(self.K, (j,)), self.nodes)
        return self._conditioned[j]


def conditioned(K: np.ndarray, given: tuple[int, ...]) -> np.ndarray:
    """The covariance of the other inputs, given the values of some, one after the other."""
    for done, j in enumerate(given):
        i = j - sum(earlier < j for earlier in given[:done])
        rest = [k for k in range(K.shape[-1]) if k != i]
        column = K[:, rest, i]
        K = K[:, rest][:, :, rest] - column[:, :, None] * column[:, None, :] / K[:, i, i][:, None, None]
    return K


def orthant(K: np.ndarray, nodes: int = _NODES[0]) -> np.ndarray:
    """The probability that all inputs are positive, shape (subsets,), for up to four of them."""
    m = K.shape[-1]
    if m == 0:
        return np.ones(len(K))
    std = np.sqrt(np.einsum("sii->si", K))
    rho = np.clip(K / (std[:, :, None] * std[:, None, :]), -1.0, 1.0)
    upper = np.triu_indices(m, 1)
    if m < 4:
        return 0.5**m + np.arcsin(rho[:, *upper]).sum(1) * 0.5**m * 2 / np.pi
    # dP/dt along ρ(t) = t ρ; in θ = asin(t ρ_ij) the density of (z_i, z_j) at the origin is constant
    x, w = np.polynomial.legendre.leggauss(nodes)
    total = np.full(len(K), 1 / 16)
    for i, j in zip(*upper, strict=True):
        end = np.arcsin(rho[:, i, j])
        theta = 0.5 * end[:, None] * (1 + x)
        t = np.divide(
            np.sin(theta), rho[:, i, j, None], out=0.5 * (1 + x) * np.ones_like(theta), where=end[:, None] != 0
        )
        path = np.where(np.eye(4, dtype=bool), 1.0, t[..., None, None] * rho[:, None])
        others = conditioned(path.reshape(-1, 4, 4), (int(i), int(j)))
        total += 0.5 * end * (orthant(others).reshape(theta.shape) @ w) / (2 * np.pi)
    return total
