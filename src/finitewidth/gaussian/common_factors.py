r"""⟨f₁(z₁) … f_m(z_m)⟩ for factors with kinks: what the inputs have in common, and noise of their own.

Factor analysis: a covariance is split as K = L Lᵀ + diag(s²), L with m − 1 columns at most, so

    z_i = (L x)_i + s_i ξ_i ,      ⟨Π f_i(z_i)⟩ = ⟨Π g_i((L x)_i)⟩_x ,      g_i(m) = ⟨f_i(m + s_i ξ)⟩ ,

with x and ξ independent standard normal. There is a dimension less, and the noise has smoothed the kinks (`smoothed`).
s_i² is the part of z_i that no combination of the others can tell, less a common factor between 1 and 1/m.

**Lattice.** The Fourier transform of the integrand, the Gaussian included, falls as exp(−½ kᵀ(1 + Lᵀ s⁻² L)⁻¹k),
whatever the f_i are. In axes that diagonalise this, 1/v_j, a trapezoid rule of spacing h_j has errors
ε = exp(−2π²v_j/h_j²). The mean of two lattices, the second shifted by half a cell, is better still, and their
difference shows how good (`planes`).

**Panels.** Inputs that are nearly collinear have little noise of their own, and those of a singular K have none: their
lattices have too many nodes. Then panels end at the kinks and are short where these are blurred little (`nested`).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from finitewidth.activations import Activation
from finitewidth.cores import on_all_cores
from finitewidth.gaussian.estimate import Estimate
from finitewidth.gaussian.nested import Plane, levels_of, nested_nodes
from finitewidth.gaussian.planes import reach
from finitewidth.gaussian.smoothed import Orders, Smoothed, smoothed

Key = tuple[tuple[int, ...], ...]
"""For each input of a subset, the orders of the derivatives of σ that are multiplied there."""

_EPS = float(np.finfo(float).eps)
_SHARP = 3e-7  # noise below this part of a standard deviation is left to the rounding of K
_RESOLVED = {1: 1e-10, 2: 1e-8, 3: 1e-6}  # ε of a lattice in so many dimensions
_MOST_NODES = 300_000
_AT_A_TIME = 1 << 14
_PANELS = ((8, 6, 1.0), (10, 8, 1.0), (11, 9, 0.5))  # orders of the two rules and the length of panels, in turn
_GOAL = 2e-6
_EXPONENT = 1.4
_TAIL = 1e-12

Nodes = Iterator[tuple[np.ndarray, np.ndarray]]


class CommonFactors(NamedTuple):
    """z = L x + s ξ: `L` of shape (m, rank), `s` of shape (m,), and `v` of the axes of x, descending, shape (rank,)."""

    L: np.ndarray
    s: np.ndarray
    v: np.ndarray


def common_factors(K: np.ndarray) -> CommonFactors:
    """The split of a covariance of any rank, in the axes of the lattice."""
    std = np.sqrt(np.diag(K))
    outer = np.outer(std, std)
    rho = np.divide(K, outer, out=np.zeros_like(outer), where=outer > 0)
    np.fill_diagonal(rho, 1.0)
    eigenvalues, Q = np.linalg.eigh(rho)
    inverse = (Q / np.maximum(eigenvalues, 4 * _EPS)) @ Q.T
    untold = 1 / np.diag(inverse)  # the variance of each input, given the others
    noise = untold / np.linalg.eigvalsh(inverse * np.sqrt(np.outer(untold, untold)))[-1]
    noise[noise < _SHARP**2] = 0.0
    eigenvalues, Q = np.linalg.eigh(rho - np.diag(noise))
    kept = eigenvalues[1:] > len(K) * _EPS  # the first is zero
    L = Q[:, 1:][:, kept] * np.sqrt(eigenvalues[1:][kept])
    # noise that vanishes: axes along which the kinks that stay are seen
    _, steepness, axes = np.linalg.svd(L / np.maximum(np.sqrt(noise), _SHARP)[:, None], full_matrices=False)
    return CommonFactors(std[:, None] * (L @ axes.T)[:, ::-1], std * np.sqrt(noise), 1 / (1 + steepness[::-1] ** 2))


def averages_by_factors(activation: Activation, K: np.ndarray, keys: Sequence[Key]) -> Estimate:
    """⟨Π over inputs, Π over orders, σ⁽ᵏ⁾⟩ (almost-everywhere derivatives) for many subsets of inputs.

    Arguments
        activation: with kinks or without.
        K: kernels of the subsets, shape (subsets, m, m), 2 ≤ m ≤ 4, of any rank.
        keys: the products wanted.

    Returns
        values and absolute errors, shape (keys, subsets): 1e-6 or better of the average of the modulus.

    Raises
        InputError: if σ overflows where the Gaussian has weight.
    """
    orders = tuple(sorted({k for key in keys for each in key for k in each}))
    most = max(sum(map(len, key)) for key in keys)
    to = reach(activation, float(np.diagonal(K, axis1=1, axis2=2).max()), orders, most, _TAIL)
    found = np.zeros((2, len(keys), len(K)))

    def fill(at: int) -> None:
        found[:, :, at] = _one(activation, K[at], keys, to)

    on_all_cores(fill, range(len(K)))
    return Estimate(found[0], found[1], "common factors")


def _one(activation: Activation, K: np.ndarray, keys: Sequence[Key], to: float) -> np.ndarray:
    """Values and errors, shape (2, keys)."""
    factors = common_factors(K)
    products = [sorted({key[i] for key in keys}) for i in range(len(K))]
    functions = [
        smoothed(activation, each, s, max(s, 1.01 * to * float(np.linalg.norm(L))))
        if s > 0
        else _plain(activation, each)
        for L, s, each in zip(factors.L, factors.s, products, strict=True)
    ]
    where = np.array([[each.index(k) for each, k in zip(products, key, strict=True)] for key in keys]).T
    value, apart, size = _integrated(_Integrand(functions, where), activation, factors, to)
    tables = sum(function.error[at] for function, at in zip(functions, where, strict=True))
    return np.stack([value, size * (apart + tables + 16 * _EPS + _TAIL)])


def _plain(activation: Activation, products: Sequence[Orders]) -> Smoothed:
    """The same without noise."""
    orders = tuple(sorted({k for product in products for k in product}))

    def values(m: np.ndarray) -> np.ndarray:
        d = dict(zip(orders, activation.evaluate(m, orders), strict=True))
        return np.stack([np.prod([d[k] for k in product], axis=0) for product in products], axis=-1)

    return Smoothed(values, np.zeros(len(products)))


class _Integrand:
    """Sums over nodes of Π g_i for every key, as matrix products of the first two inputs with the others."""

    def __init__(self, functions: Sequence[Smoothed], where: np.ndarray) -> None:
        self.functions = functions
        half = len(functions) - len(functions) // 2
        (self.left, self.at_left), (self.right, self.at_right) = (
            np.unique(side, axis=1, return_inverse=True) for side in (where[:half], where[half:])
        )

    def sums(self, m: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Σ w Π g and Σ w |Π g|, shape (2, keys); m of shape (inputs, n)."""
        g = [f(each) for f, each in zip(self.functions, m, strict=True)]
        left = np.prod([each[at] for each, at in zip(g, self.left, strict=False)], axis=0)
        right = np.prod([each[at] for each, at in zip(g[len(self.left) :], self.right, strict=True)], axis=0)
        left *= weight
        pick = self.at_left.ravel(), self.at_right.ravel()
        value = (left @ right.T)[pick]
        return np.stack([value, (np.abs(left, out=left) @ np.abs(right, out=right).T)[pick]])


def _integrated(
    integrand: _Integrand, activation: Activation, factors: CommonFactors, to: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The averages, the errors of the rule relative to the averages of the modulus, and these."""

    def total(nodes: Nodes) -> np.ndarray:
        return sum((integrand.sums(factors.L @ x.T, w) for x, w in nodes), np.zeros(()))

    if not len(factors.v):
        value, size = integrand.sums(np.zeros((len(factors.L), 1)), np.ones(1))
        return value, np.zeros_like(size), size
    resolved = _RESOLVED[len(factors.v)]
    h = np.pi * np.sqrt(-2 * factors.v / np.log(resolved))
    if np.prod(2 * to / h) <= _MOST_NODES:
        (one, size), (other, _) = (total(_lattice(h, shift, to)) for shift in (0.0, 0.5))
        apart = np.minimum(_relative(np.abs(one - other), size), 1.0)
        # what two lattices do not show by chance is still of the size that the theory says
        return 0.5 * (one + other), np.maximum(apart, resolved) ** _EXPONENT, size
    levels = levels_of(_planes(activation, factors), len(h))
    before = None
    for fine, coarse, scale in _PANELS:
        (value, size), (rough, _) = (total(nested_nodes(levels, order, scale, to)) for order in (fine, coarse))
        apart = np.abs(value - rough)
        if np.all(apart <= _GOAL * size):
            break
        if before is not None:
            apart = np.maximum(apart, np.abs(value - before))
        before = value
    return value, _relative(apart, size), size


def _relative(error: np.ndarray, size: np.ndarray) -> np.ndarray:
    return np.divide(error, size, out=np.zeros_like(size), where=size > 0)


def _lattice(h: np.ndarray, shift: float, to: float) -> Nodes:
    """Nodes of a ball, shape (n, rank), and weights with the Gaussian, in portions."""
    x, weight = np.zeros((1, 0)), np.ones(1)
    for i, step in enumerate(h):
        axis = step * (np.arange(-np.ceil(to / step), np.ceil(to / step) + 1) + shift)
        of_axis = step / np.sqrt(2 * np.pi) * np.exp(-0.5 * axis * axis)
        squares = (x * x).sum(1)
        some = max(1, _AT_A_TIME // len(axis)) if i == len(h) - 1 else len(x)
        portions = []
        for at in range(0, len(x), some):
            j, k = np.nonzero(squares[at : at + some, None] + axis * axis <= to * to)
            portions.append((np.concatenate([x[at + j], axis[k, None]], axis=1), weight[at + j] * of_axis[k]))
        x, weight = portions[0]
    yield from portions


def _planes(activation: Activation, factors: CommonFactors) -> list[Plane]:
    found = []
    for L, s in zip(factors.L, factors.s, strict=True):
        if np.any(L):
            found += [Plane(L, kink, s or 1.0, s == 0) for kink in activation.kinks]
            found += [Plane(L, z, float(np.hypot(width, s)), False) for z, width in activation.transitions]
            if activation.pieces is None and 0.0 not in activation.kinks:
                found.append(Plane(L, 0.0, float(np.hypot(1.0, s)), False))
    return found
