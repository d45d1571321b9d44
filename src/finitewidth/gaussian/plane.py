r"""⟨σ(z₁)σ(z₂)⟩ by direct quadrature over the plane, for kinks anywhere and σ that changes fast compared with √K.

With p and q independent standard normal, cos θ = |ρ| the correlation, c = cos(θ/2) and t = sin(θ/2),

    z₁ = √a x₊ ,   z₂ = s √b x₋ ,   x± = c p ± t q ,      F(|ρ| = 1) − F = ½ ⟨[σ_a(x₊) − σ_a(x₋)] [σ_b(x₊) − σ_b(x₋)]⟩ ,

where σ_a(x) = σ(√a x) and σ_b(x) = σ(s √b x): the distance from the collinear value is a product of small differences
and does not cancel as θ → 0. A kink κ is a straight line in the plane, so panels in p end on these lines and panels in
q where two of them cross. Polar coordinates would have square roots there, where circles touch lines.

Panels are halved until each is short compared with its distance from the places where σ changes on the scale |z| ~ 1,
the kinks and the origin, or on the shorter scale of a transition. In p that scale is 1/√a; in q, where the two factors
slide past each other, it is 1/(t√a), which is long for small θ. What remains unresolved is seen by comparing two rules,
and refined.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

from finitewidth.activations import Activation
from finitewidth.errors import InputError

_EPS = float(np.finfo(float).eps)
_REACH, _FAR = 8.6, 38.0  # exp(−8.6²/2) is a rounding error of 1; exp(−38²/2) is the smallest normal float64
_LONGEST = 2.9  # 11 Gauss–Legendre nodes integrate the Gaussian over such a panel to 1e-13
_FINE, _COARSE = 14, 11
_SCALES = (1.0, 0.4, 0.12, 0.04)  # lengths of panels, in turn; the first fits tanh, SiLU and their kin
_CONVERGES = 0.01  # the last ones are for what the ones before have brought so much nearer: not for singular kinks
_NODES = 1 << 15  # evaluated at a time: four times as many numbers stay in cache
_PAIRS = 256  # pairs, and nodes of the outer variable, that are laid out at a time
_ROWS = 2048


@cache
def legendre(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre nodes and weights on [−1, 1]."""
    return np.polynomial.legendre.leggauss(order)


class Panels(NamedTuple):
    """Intervals, and the row (pair, or node of the outer variable) that each belongs to; flat arrays."""

    row: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def where(self, which: np.ndarray | slice) -> "Panels":
        return Panels(self.row[which], self.low[which], self.high[which])

    def portions(self, size: int) -> "Iterator[Panels]":
        """As many panels at a time."""
        for at in range(0, len(self.row), size):
            yield self.where(slice(at, at + size))

    def nodes(self, order: int) -> tuple[np.ndarray, np.ndarray]:
        """Gauss–Legendre nodes and weights times the normal density, shape (panels, order)."""
        x, weight = legendre(order)
        half = 0.5 * (self.high - self.low)[:, None]
        at = 0.5 * (self.high + self.low)[:, None] + half * x
        return at, half * weight * np.exp(-0.5 * at * at) / np.sqrt(2 * np.pi)


def panels(edges: np.ndarray, centers: np.ndarray, widths: np.ndarray, scale: float = 1.0) -> Panels:
    """The intervals between the edges of each row, halved until each is short compared with what changes near it.

    A panel may be two widths + 1.5 times its distance from a center long: for tanh, whose poles lie π/2 widths off the
    real axis, Gauss–Legendre then converges like 3.5^(−2·order) or faster.

    Arguments
        edges: shape (rows, edges), in any order, repeated ones allowed.
        centers: where the integrand changes fast, shape (rows, centers).
        widths: and on what scale, the same shape. Infinite where it does not.
        scale: makes every panel shorter by this factor.
    """
    edges = np.sort(edges, axis=1)
    row = np.broadcast_to(np.arange(len(edges))[:, None], (len(edges), edges.shape[1] - 1))
    is_panel = edges[:, 1:] > edges[:, :-1]
    todo = Panels(row[is_panel], edges[:, :-1][is_panel], edges[:, 1:][is_panel])
    done = []
    while len(todo.row):
        length = todo.high - todo.low
        center = centers[todo.row]
        distance = np.maximum(np.maximum(todo.low[:, None] - center, center - todo.high[:, None]), 0.0)
        with np.errstate(over="ignore"):  # no kink near: any length is allowed
            allowed = scale * np.min(2 * widths[todo.row] + 1.5 * distance, axis=1, initial=_LONGEST)
        is_done = length <= np.maximum(allowed, 1e-14)
        done.append(todo.where(is_done))
        rest = todo.where(~is_done)
        middle = 0.5 * (rest.low + rest.high)
        low, high = np.concatenate([rest.low, middle]), np.concatenate([middle, rest.high])
        todo = Panels(np.concatenate([rest.row, rest.row]), low, high)
    return Panels(*(np.concatenate(part) for part in zip(*done, strict=True)))


class PlaneAverages(NamedTuple):
    """F, its collinear value, D and S as in `closed_forms.PairAverages`, in NumPy."""

    F: np.ndarray
    collinear: np.ndarray
    D: np.ndarray
    S: np.ndarray


def direct_pairs(
    activation: Activation, a: np.ndarray, b: np.ndarray, w: np.ndarray, s: np.ndarray, *, rtol: float = 1e-12
) -> tuple[PlaneAverages, PlaneAverages]:
    """The averages over pairs of inputs, and the error of each, for any activation.

    Arguments
        activation: panels end at its kinks and are short near its transitions; elsewhere it should not change much
            faster than on a scale of 1/10.
        a, b: kernels > 0 of the two inputs, shape (pairs,).
        w: complement 1 − |ρ| ∈ [0, 1] of the correlation ρ.
        s: sign of ρ, ±1.
        rtol: accuracy aimed at, relative to √(⟨σ₁²⟩⟨σ₂²⟩) and √(⟨σ'₁²⟩⟨σ'₂²⟩). The stated error says what was reached.

    Returns
        F, its collinear value, D and S (see `closed_forms`), and their absolute errors: NumPy arrays of shape (pairs,).

    Raises
        InputError: if σ is not finite where the Gaussian has weight.
    """
    a, b, w, s = (np.asarray(x, dtype=np.float64) for x in (a, b, w, s))
    flip = np.ones_like(s)
    if activation.parity != "none":  # σ(−z) = ±σ(z): a negative correlation is a positive one with a sign
        flip, s = s, np.ones_like(s)
    value, error, before = np.zeros((3, len(a))), np.zeros((3, len(a))), np.zeros((3, len(a)))
    for some, reach in _batches(activation, a, b, s):
        for scale in _SCALES:
            geometry = _Geometry.of(activation, a[some], b[some], w[some], s[some], scale, reach)
            fine, coarse = (_averages(activation, geometry, order) for order in (_FINE, _COARSE))
            difference = np.abs(fine - coarse)[:3]
            size = np.sqrt(fine[[3, 3, 5]]) * np.sqrt(fine[[4, 4, 6]])
            loss = 1 + 1 / np.maximum(geometry.t, _EPS)  # in D, of differences between near neighbours
            rounding = 8 * _EPS * np.stack([size[0], np.abs(fine[1]) * loss, size[2]])
            is_done = np.all(difference <= rtol * size, axis=0)
            stated = difference
            if scale != _SCALES[0]:
                # rules that both miss an oscillation may agree by chance: the longer panels are asked as well
                stated = np.where(is_done, difference, np.maximum(difference, np.abs(fine[:3] - value[:, some])))
            value[:, some], error[:, some] = fine[:3], stated + rounding
            if scale == _SCALES[-2]:
                is_done |= np.any(difference > np.maximum(_CONVERGES * before[:, some], rtol * size), axis=0)
            before[:, some] = difference
            some = some[~is_done]
            if not len(some):
                break
    (collinear, D, S), (e_collinear, e_D, e_S) = value, error
    sign_F, sign_S = (flip, 1.0) if activation.parity == "odd" else (1.0, flip)
    averages = PlaneAverages(sign_F * (collinear - D), sign_F * collinear, sign_F * D, sign_S * S)
    return averages, PlaneAverages(e_collinear + e_D, e_collinear, e_D, e_S)


class _Geometry(NamedTuple):
    """What the integrals over a batch of pairs need of the kernels."""

    root_a: np.ndarray  # √a
    root_b: np.ndarray  # s √b: σ_b(x) = σ(s √b x)
    c: np.ndarray  # cos(θ/2)
    t: np.ndarray  # sin(θ/2)
    kinks: np.ndarray  # of σ_a and σ_b in x, shape (pairs, 2·kinks)
    centers: np.ndarray  # the places in x where they change fast, shape (pairs, centers)
    widths: np.ndarray  # and on what scale
    reach: float
    scale: float  # of the lengths of panels
    is_symmetric: bool  # σ is odd or even: a quarter of the plane is enough
    is_equal: bool  # σ_a = σ_b for all pairs

    @classmethod
    def of(
        cls,
        activation: Activation,
        a: np.ndarray,
        b: np.ndarray,
        w: np.ndarray,
        s: np.ndarray,
        scale: float,
        reach: float,
    ) -> "_Geometry":
        roots = np.sqrt(a), s * np.sqrt(b)
        kinks = np.array(activation.kinks, dtype=float)
        # between the kinks, a polynomial changes no faster than the Gaussian
        narrow = np.array(activation.transitions, dtype=float).reshape(-1, 2)
        places = np.array([]) if activation.pieces is not None else np.union1d(kinks, [0.0])
        places, scales = np.append(places, narrow[:, 0]), np.append(np.ones(len(places)), narrow[:, 1])
        lines, centers = (np.concatenate([x / r[:, None] for r in roots], axis=1) for x in (kinks, places))
        widths = np.concatenate([scales / np.abs(r[:, None]) for r in roots], axis=1)
        is_equal = bool(np.all(roots[0] == roots[1]))
        symmetric = activation.parity != "none"
        return cls(
            *roots, np.sqrt(1 - w / 2), np.sqrt(w / 2), lines, centers, widths, reach, scale, symmetric, is_equal
        )


def _batches(activation: Activation, a: np.ndarray, b: np.ndarray, s: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Portions of the pairs, and how many standard deviations out to go for them."""
    # ⟨σ²⟩ of hard-shrink at small kernels, or of an exponential, has weight beyond 8.6 standard deviations
    x = np.arange(-_FAR, _FAR, 0.2) + 0.1
    roots, which = np.unique(np.concatenate([np.sqrt(a), s * np.sqrt(b)]), return_inverse=True)
    with np.errstate(over="ignore"):
        weight = np.exp(-0.25 * x * x) * np.abs(activation.evaluate(roots[:, None] * x)[0])
        far = np.where(np.abs(x) > _REACH, weight, 0.0).max(1) > 1e-7 * weight.max(1)
    is_far = far[which].reshape(2, -1).any(0)
    is_equal = np.sqrt(a) == s * np.sqrt(b)  # then σ_a = σ_b is evaluated once
    for reach, group in ((_REACH, ~is_far), (_FAR, is_far)):
        for some in (np.flatnonzero(group & is_equal), np.flatnonzero(group & ~is_equal)):
            for at in range(0, len(some), _PAIRS):
                yield some[at : at + _PAIRS], reach


def _base(geometry: _Geometry, half: bool) -> np.ndarray:
    n = int(np.ceil(geometry.reach / _LONGEST))
    positive = geometry.reach * np.arange(n + 1) / n
    return positive if half else np.concatenate([-positive[:0:-1], positive])


def _with_base(geometry: _Geometry, places: np.ndarray, half: bool) -> np.ndarray:
    base = np.broadcast_to(_base(geometry, half), (len(places), len(_base(geometry, half))))
    return np.concatenate([base, np.clip(np.nan_to_num(places, nan=0.0), base[0, 0], base[0, -1])], axis=1)


def _averages(activation: Activation, geometry: _Geometry, order: int) -> np.ndarray:
    """Collinear value, D, S, ⟨σ_a²⟩, ⟨σ_b²⟩, ⟨σ'_a²⟩, ⟨σ'_b²⟩: shape (7, pairs)."""
    pairs = len(geometry.c)
    line, plane = np.zeros((5, pairs)), np.zeros((2, pairs))
    on_line = panels(_with_base(geometry, geometry.kinks, False), geometry.centers, geometry.widths, geometry.scale)
    for some in on_line.portions(_NODES // order):
        x, weight = some.nodes(order)
        (fa, da), (fb, db) = _both(activation, geometry, some.row, x)
        _add(line, some.row, weight, [fa * fb, fa * fa, fb * fb, da * da, db * db])
    for pair, q, weight_q in _outer(geometry, order):
        for some in _inner(geometry, pair, q).portions(_NODES // order):
            p, weight = some.nodes(order)
            row = pair[some.row]
            near, turn = geometry.c[row][:, None] * p, (geometry.t[row] * q[some.row])[:, None]
            (fa, da), (fb, db) = _both(activation, geometry, row, np.stack([near + turn, near - turn]))
            weight = weight * weight_q[some.row][:, None]
            _add(plane, row, weight, [(fa[0] - fa[1]) * (fb[0] - fb[1]), da[0] * db[1] + da[1] * db[0]])
    if geometry.is_symmetric:
        plane *= 2.0  # p < 0
    return np.concatenate([line[:1], plane, line[1:]])


def _outer(geometry: _Geometry, order: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Nodes q > 0 in portions: pair, q, weight. Panels end where the lines x₊ = u and x₋ = v of two kinks cross."""

    def crossings(u: np.ndarray) -> np.ndarray:
        i, j = np.tril_indices(u.shape[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.abs(u[:, i] - u[:, j]) / (2 * geometry.t[:, None])

    i, j = np.tril_indices(geometry.centers.shape[1])
    with np.errstate(divide="ignore"):
        widths = (geometry.widths[:, i] + geometry.widths[:, j]) / (2 * geometry.t[:, None])
    centers = np.nan_to_num(crossings(geometry.centers), nan=0.0)
    found = panels(_with_base(geometry, crossings(geometry.kinks), True), centers, widths, geometry.scale)
    q, weight = found.nodes(order)
    row = np.repeat(found.row, order)
    for at in range(0, len(row), _ROWS):
        part = slice(at, at + _ROWS)
        yield row[part], q.ravel()[part], weight.ravel()[part]


def _inner(geometry: _Geometry, pair: np.ndarray, q: np.ndarray) -> Panels:
    """Panels in p at each q, ended at the lines x₊ = u and x₋ = u."""
    turn, c = (geometry.t[pair] * q)[:, None], geometry.c[pair][:, None]

    def both_sides(x: np.ndarray) -> np.ndarray:
        return np.concatenate([(x[pair] - turn) / c, (x[pair] + turn) / c], axis=1)

    widths = np.tile(geometry.widths[pair] / c, (1, 2))
    edges = _with_base(geometry, both_sides(geometry.kinks), geometry.is_symmetric)
    return panels(edges, both_sides(geometry.centers), widths, geometry.scale)


def _both(
    activation: Activation, geometry: _Geometry, pair: np.ndarray, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(σ_a, σ'_a) and (σ_b, σ'_b) at x, whose second last axis is that of `pair`."""
    z = geometry.root_a[pair][:, None] * x
    if not geometry.is_equal:
        z = np.stack([z, geometry.root_b[pair][:, None] * x])
    values = activation.evaluate(z, (0, 1))
    if not np.all(np.isfinite(values)):
        where = z.ravel()[np.argmin(np.isfinite(values).all(0).ravel())]
        raise InputError(
            f"activation {activation.name!r} or its derivative is not finite at z = {where:.6g}, where a Gaussian of "
            f"variance {max(geometry.root_a.max(), np.abs(geometry.root_b).max()) ** 2:.6g} still has weight; "
            "use a smaller kernel"
        )
    return (values, values) if geometry.is_equal else (values[:, 0], values[:, 1])


def _add(total: np.ndarray, row: np.ndarray, weight: np.ndarray, integrands: list[np.ndarray]) -> None:
    for i, integrand in enumerate(integrands):
        total[i] += np.bincount(row, (integrand * weight).sum(1), minlength=total.shape[1])
