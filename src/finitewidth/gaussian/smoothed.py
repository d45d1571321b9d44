r"""g(m) = ⟨Π σ⁽ᵏ⁾(m + s ξ)⟩ over ξ ~ N(0, 1): products of derivatives of σ, smoothed by noise, tabulated.

A kink of σ is blurred over the width s; away from it, g changes no faster than σ. Panels in m are as short as that
asks, and a polynomial on each goes through values by quadrature over ξ, whose panels end where m + s ξ is a kink.
Between the nodes, and by a coarser rule, the values are asked again: how far they lie off is the error.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.interpolate import PPoly

from finitewidth.activations import Activation
from finitewidth.gaussian.plane import legendre, panels

Orders = tuple[int, ...]

_DEGREE = 9
_BETWEEN = np.array([-0.35, 0.96])  # of a panel [−1, 1]: not at its nodes
_FINE, _COARSE = 11, 9
_SCALES = (0.7, 0.35, 0.17)  # lengths of panels, in turn
_GOAL = 4e-7
_REACH, _SEGMENTS = 7.3, 5
_CUT, _SAFETY = 1e-12, 4.0  # what lies beyond that reach; a single m may be worse than the root mean square


class Smoothed(NamedTuple):
    """One input's g by product, and their errors, relative to the root mean square of g over m ~ N(0, far²/8²)."""

    table: Callable[[np.ndarray], np.ndarray]
    error: np.ndarray

    def __call__(self, m: np.ndarray) -> np.ndarray:
        """Shape (products, n)."""
        return np.ascontiguousarray(self.table(m).T)


def smoothed(activation: Activation, products: Sequence[Orders], s: float, far: float) -> Smoothed:
    """⟨Π σ⁽ᵏ⁾(m + s ξ)⟩ for |m| ≤ far; `products` holds the orders k of each."""
    for scale in _SCALES:
        found = _on_panels(activation, products, s, far, scale)
        if found.error.max() <= _GOAL:
            break
    return found


def _on_panels(activation: Activation, products: Sequence[Orders], s: float, far: float, scale: float) -> Smoothed:
    centers, widths = _places(activation, s)
    edges = np.clip([-far, *activation.kinks, 0.0, far], -far, far)[None]
    unit = max(1.0, s)  # nothing changes faster than that far from the places
    found = panels(edges / unit, centers[None] / unit, widths[None] / unit, scale)
    order = np.argsort(found.low)
    low, length = unit * found.low[order], unit * (found.high - found.low)[order]
    t = 0.5 * (1 + np.concatenate([legendre(_DEGREE + 1)[0], _BETWEEN]))
    m = low[:, None] + length[:, None] * t
    at_nodes = _values(activation, products, m[:, : _DEGREE + 1].ravel(), s, scale, _FINE)
    between = _values(activation, products, m[:, _DEGREE + 1 :].ravel(), s, scale, _COARSE)
    powers = np.vander(t[: _DEGREE + 1])
    c = np.linalg.solve(powers, at_nodes.reshape(len(products), len(low), -1)[..., None])[..., 0]
    c = np.moveaxis(c / length[:, None] ** np.arange(_DEGREE, -1, -1.0), [0, 1, 2], [2, 1, 0])
    table = PPoly(np.ascontiguousarray(c), np.append(low, low[-1] + length[-1]))
    weight = (length[:, None] * np.exp(-32 * (m[:, _DEGREE + 1 :] / far) ** 2)).ravel()
    off = between - table(m[:, _DEGREE + 1 :].ravel()).T
    square, size = ((each * each) @ weight for each in (off, between))
    relative = np.sqrt(np.divide(square, size, out=np.zeros_like(size), where=size > 0))
    return Smoothed(table, _SAFETY * relative + _CUT)


def _places(activation: Activation, s: float) -> tuple[np.ndarray, np.ndarray]:
    """Where g changes fast, and on what scale: at the kinks, and, unless σ is a polynomial, at the origin."""
    kinks = np.array(activation.kinks, dtype=float)
    if activation.pieces is not None:
        return kinks, np.full(len(kinks), s)
    narrow = np.array(activation.transitions, dtype=float).reshape(-1, 2)
    places = np.concatenate([kinks, [0.0], narrow[:, 0]])
    return places, np.concatenate([np.full(len(kinks), s), [np.hypot(1.0, s)], np.hypot(narrow[:, 1], s)])


def _values(
    activation: Activation, products: Sequence[Orders], m: np.ndarray, s: float, scale: float, order: int
) -> np.ndarray:
    """g at every m by Gauss–Legendre panels in ξ, shape (products, len(m))."""
    base = np.broadcast_to(np.linspace(-_REACH, _REACH, _SEGMENTS + 1), (len(m), _SEGMENTS + 1))
    kinks = np.clip((np.array(activation.kinks) - m[:, None]) / s, -_REACH, _REACH)
    origin = np.zeros((0, 2)) if activation.pieces is not None else np.array([(0.0, 1.0), *activation.transitions])
    centers, widths = (origin[:, 0] - m[:, None]) / s, np.broadcast_to(origin[:, 1] / s, (len(m), len(origin)))
    found = panels(np.concatenate([base, kinks], axis=1), centers, widths, scale / _SCALES[0])
    xi, weight = found.nodes(order)
    orders = tuple(sorted({k for product in products for k in product}))
    d = dict(zip(orders, activation.evaluate(m[found.row][:, None] + s * xi, orders), strict=True))
    sums = [(np.prod([d[k] for k in product], axis=0) * weight).sum(1) for product in products]
    return np.stack([np.bincount(found.row, each, minlength=len(m)) for each in sums])
