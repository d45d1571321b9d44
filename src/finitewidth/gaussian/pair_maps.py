r"""How a layer averages over pairs: one interface, whatever is known of the activation.

A `PairMap` turns kernels a, b and correlation ρ = s(1 − w) into F = ⟨σσ⟩, D = F(|ρ| = 1) − F and S = ⟨σ'σ'⟩, for a tile
of pairs at once, as a JAX program or, where there are few pairs, in NumPy. What it needs for each layer and each sample
is prepared before.
`pair_map` chooses between closed forms, piecewise polynomials, Chebyshev tables and, where none applies, plain
quadrature.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.polynomial import chebyshev

from finitewidth.activations import Activation
from finitewidth.cores import one_blas_thread
from finitewidth.gaussian.closed_forms import FORMS, PairAverages, PairForm, angle
from finitewidth.gaussian.either_library import if_any, library
from finitewidth.gaussian.piecewise import Pieces, is_piecewise_quadratic, piecewise_quadratic
from finitewidth.gaussian.plane import direct_pairs
from finitewidth.gaussian.tables import NotTabulable, PairTable, chebyshev_nodes, pair_table

Tiles = Sequence[np.ndarray]
"""Sample indices of each tile, all of one length."""


class MapErrors(NamedTuple):
    """Errors of the averages, by layer; relative to √(⟨σ₁²⟩⟨σ₂²⟩) and √(⟨σ'₁²⟩⟨σ'₂²⟩).

    Attributes
        averages: of F.
        slopes: of S.
        collinear: of F at |ρ| = 1.
        angles: of √(2D), the angle between σ(z₁) and σ(z₂) as functions; where D has a relative error, no more than it.
    """

    averages: np.ndarray
    slopes: np.ndarray
    collinear: np.ndarray
    angles: np.ndarray

    @classmethod
    def rounding(cls, layers: int) -> "MapErrors":
        """Of averages that are as good as float64."""
        return cls(*np.full((4, layers), 4 * np.finfo(float).eps))


class PairMap(Protocol):
    """What the layers share, what belongs to a tile, and the averages of a tile of pairs."""

    @property
    def errors(self) -> "MapErrors":
        """What the averages are good to, by layer."""

    @property
    def function(self) -> Callable[..., PairAverages]:
        """(constants, layer, first tile, second tile, w, s) → the averages of all pairs of two tiles at one layer.

        For arrays of JAX or of NumPy; the same object for the same activation, so that it is compiled once.
        """

    def layers(self) -> tuple[Any, Any]:
        """Arrays with a leading layer axis, the same for every pair; and constants without one."""

    def tile(self, index: int) -> Any:
        """Arrays with a leading layer axis, for the samples of one tile."""


def layer_by_layer(averages: "PairMap", first: int, second: int) -> Callable[[int, np.ndarray, np.ndarray], Any]:
    """(layer, w, s) → the averages of all pairs of two tiles, in NumPy: nothing is compiled."""
    layers, constants = averages.layers()
    prepared = layers, averages.tile(first), averages.tile(second)

    def averages_of(layer: int, w: np.ndarray, s: np.ndarray) -> Any:
        return averages.function(constants, *jax.tree.map(lambda array: array[layer], prepared), w, s)

    return averages_of


class ClosedFormMap:
    """Averages in closed form: nothing to prepare but the kernels themselves."""

    def __init__(self, form: PairForm, K: np.ndarray, tiles: Tiles) -> None:
        self.function, self.K, self.tiles = _of_kernels(form), K, tiles
        self.errors = MapErrors.rounding(len(K))

    def layers(self) -> tuple[Any, Any]:
        return (), ()

    def tile(self, index: int) -> Any:
        return self.K[:, self.tiles[index]]


@cache
def _of_kernels(form: PairForm) -> Callable[..., PairAverages]:
    def function(constants: Any, layer: Any, first: Array, second: Array, w: Array, s: Array) -> PairAverages:
        return form(first[:, None], second[None, :], w, s)

    return function


@cache
def closed_form(name: str, parameters: tuple[float, ...]) -> PairForm:
    """The closed form of that name; the same object every time."""
    return FORMS[name](*parameters)


_NEGLIGIBLE = 2e-14  # of the largest coefficient of a series
_NEGLIGIBLE_EDGE = 1e-15  # and of that at |ρ| = 1: the angle between near neighbours feels it
# what `TileBases` and `two_series` cut: geometric tails that start at 1, 1 and 4 times what is negligible
TWO_SERIES_ERROR = 2 * 6 * _NEGLIGIBLE
_BLOCK = 8  # Chebyshev terms evaluated per step of the loop


class TableMap:
    """Averages from `PairTable`: three Chebyshev series, of which the one in the kernels is first reduced to each tile.

    Samples are sorted by kernel, so that log K varies little within a tile and a few local terms suffice: the T_r of
    the tile's own interval. The transfer matrix from the table's basis to these is exact interpolation.
    """

    def __init__(self, activation: Activation, K: np.ndarray, moments: np.ndarray, tiles: Tiles) -> None:
        self.K, self.tiles = K, tiles
        self.m, self.s = moments[:, 0], moments[:, 1]
        self.tables = [pair_table(activation, k) for k in K]
        # one more cut than `TWO_SERIES_ERROR` counts, to the range of these samples; Q enters as in D
        cuts = (2 * _NEGLIGIBLE + TWO_SERIES_ERROR) * np.maximum(1.0, (K * self.s / self.m).max(axis=1))
        errors = np.array([t.error for t in self.tables]) + cuts
        edges = np.array([t.collinear_error for t in self.tables]) + 14 * _NEGLIGIBLE_EDGE
        self.errors = MapErrors(errors, errors, edges, errors)
        self.function = _TABLE_FUNCTIONS[activation.parity]
        self._prepare_local_bases()

    def _prepare_local_bases(self) -> None:
        """First from the table's window to the range of these samples, then from there to each tile."""
        u = np.log(self.K)
        low, high = u.min(1), u.max(1)
        reduced = [_restricted(*each) for each in zip(self.tables, low, high, strict=True)]
        p = max(r[0].shape[-1] for r in reduced)
        k = _BLOCK * max(-(-t.size[0] // _BLOCK) for t in self.tables)
        signs = len(self.tables[0].signs)
        self.coefficients = np.zeros((len(u), signs, 2, k, p, p))
        self.collinear = np.zeros((len(u), signs, p, p))
        for layer, (series, edge) in enumerate(reduced):
            n = edge.shape[-1]
            self.coefficients[layer, :, :, : series.shape[2], :n, :n] = series
            self.collinear[layer, :, :n, :n] = edge
        self.bases = TileBases(u, (low, high), self.tiles, self.coefficients, self.collinear)

    def layers(self) -> tuple[Any, Any]:
        angular = np.array([t.coordinate.angular for t in self.tables])
        bend = np.array([t.coordinate.bend for t in self.tables])
        return (self.coefficients, self.collinear, angular, bend), ()

    def tile(self, index: int) -> Any:
        samples = self.tiles[index]
        root_m, root_s = np.sqrt(self.m[:, samples]), np.sqrt(self.s[:, samples])
        return *self.bases.tile(index), root_m, np.sqrt(self.K[:, samples]) * root_s, root_s


class TileBases:
    """Series in Chebyshev polynomials of log K over a whole range, re-expanded on each tile's own interval.

    Arguments
        u: log K of all samples, shape (layers, N).
        outer: ends of the ranges, shape (layers,) each.
        tiles: sample indices of each tile.
        coefficients: of the series, shape (layers, signs, 2, k, p, p).
        collinear: of those at |ρ| = 1, where they stand by themselves, shape (layers, signs, p, p).
    """

    def __init__(
        self,
        u: np.ndarray,
        outer: tuple[np.ndarray, np.ndarray],
        tiles: Tiles,
        coefficients: np.ndarray,
        collinear: np.ndarray | None = None,
    ) -> None:
        self.u, self.tiles, p = u, tiles, coefficients.shape[-1]
        low, high = (np.stack([end(u[:, t], axis=1) for t in tiles], 1) for end in (np.min, np.max))
        self.center, self.half = 0.5 * (low + high), np.maximum(0.5 * (high - low), 1e-9)
        center, half = (0.5 * (outer[1] + sign * outer[0])[:, None] for sign in (1, -1))
        at = (self.center - center)[..., None] + self.half[..., None] * chebyshev_nodes(p)
        basis = chebyshev.chebvander(at / np.maximum(half, 1e-9)[..., None], p - 1)
        transfer = np.einsum("rq,ltqp->ltpr", _interpolation(p), basis)
        # all tiles of a map share one number of local terms: what the widest of them needs
        widest = transfer[np.arange(len(u)), self.half.argmax(1)]
        with one_blas_thread():
            self.q = _needed(coefficients.swapaxes(-1, -2) @ widest[:, None, None, None], 5)
            if collinear is not None:
                edge = collinear.swapaxes(-1, -2) @ widest[:, None]
                self.q = max(self.q, _needed(edge, 3, _NEGLIGIBLE_EDGE))
        self.transfer = transfer[..., : self.q]

    def tile(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """From polynomials of the range to those of a tile, (layers, p, q); these at its samples, (layers, q, n)."""
        x = (self.u[:, self.tiles[index]] - self.center[:, index, None]) / self.half[:, index, None]
        return self.transfer[:, index], np.moveaxis(chebyshev.chebvander(np.clip(x, -1, 1), self.q - 1), 2, 1)


def _table_averages(
    constants: Any, layer: Any, first: Any, second: Any, w: Array, s: Array, *, parity: str
) -> PairAverages:
    coefficients, collinear, angular, bend = layer
    v = _coordinate(w, angular, bend)
    F1, Q, S = _series(coefficients[0], collinear[0], first, second, v)
    if parity == "odd":
        F1, Q = s * F1, s * Q
    elif parity == "even":
        S = s * S
    else:

        def with_negative() -> tuple[Array, ...]:
            negative = _series(coefficients[1], collinear[1], first, second, v)
            where = library(s).where
            return tuple(where(s > 0, here, there) for here, there in zip((F1, Q, S), negative, strict=True))

        F1, Q, S = if_any(s < 0, with_negative, lambda: (F1, Q, S))
    (_, _, root_m, root_Ks, root_s), (_, _, root_n, root_Kt, root_t) = first, second
    edge = F1 * root_m[:, None] * root_n
    D = w * Q * root_Ks[:, None] * root_Kt
    return PairAverages(edge - D, edge, D, S * root_s[:, None] * root_t)


_TABLE_FUNCTIONS = {parity: partial(_table_averages, parity=parity) for parity in ("odd", "even", "none")}


def _interpolation(n: int) -> np.ndarray:
    """From values at the n Chebyshev nodes to Chebyshev coefficients, shape (n, n)."""
    return np.linalg.inv(chebyshev.chebvander(chebyshev_nodes(n), n - 1))


@lru_cache(maxsize=128)
def _restricted(table: PairTable, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """The series and the collinear values of a table in Chebyshev polynomials of [low, high] ∋ log K, cut short."""
    n = table.size[1]
    at = 0.5 * (low + high) + 0.5 * (high - low) * chebyshev_nodes(n)
    transfer = (_interpolation(n) @ chebyshev.chebvander(table.window.to_unit(at), n - 1)).T
    # how many terms are left shows in the sum over k, before all k are transformed
    q = 2 + max(
        _needed(transfer.T @ a @ transfer, 1, floor)
        for a, floor in ((table.coefficients.sum(axis=(1, 2)), _NEGLIGIBLE), (table.collinear, _NEGLIGIBLE_EDGE))
    )
    transfer = transfer[:, :q]
    with one_blas_thread():
        return transfer.T @ table.coefficients @ transfer, transfer.T @ table.collinear @ transfer


def _needed(coefficients: np.ndarray, axis: int, floor: float = _NEGLIGIBLE) -> int:
    size = np.abs(np.moveaxis(coefficients, axis, 0)).reshape(coefficients.shape[axis], -1).max(1)
    return int(np.max(np.nonzero(size > floor * size.max())[0])) + 1


def _coordinate(w: Array, angular: Array, bend: Array) -> Array:
    """`Coordinate.v`, chosen at run time."""
    (y,) = if_any(angular, lambda: (2 / np.pi * angle(w),), lambda: (w,))
    return 1.0 - 2.0 * (1.0 + bend) * (y / (y + bend))


def _series(coefficients: Array, collinear: Array, first: Any, second: Any, v: Array) -> tuple[Array, Array, Array]:
    """F(|ρ| = 1), Q and S, normalised, of all pairs of two tiles."""
    (transfer_a, local_a, *_), (transfer_b, local_b, *_) = first, second
    edge = local_a.T @ (transfer_a.T @ collinear @ transfer_b) @ local_b
    return edge, *two_series(coefficients, first, second, v)


def two_series(coefficients: Array, first: Any, second: Any, v: Array) -> tuple[Array, Array]:
    """Σ_k T_k(v) Σ_pr C_kpr T_p(x_a) T_r(x_b) of all pairs of two tiles, for the two functions of `coefficients`.

    `first`, `second` begin with what `TileBases.tile` returns; the number of terms in v is a multiple of 8.
    """
    (transfer_a, local_a, *_), (transfer_b, local_b, *_) = first, second
    if library(v) is np:
        of_pairs = (transfer_a @ local_a).T @ coefficients @ (transfer_b @ local_b)
        Q, S = chebyshev.chebval(v, of_pairs.swapaxes(0, 1), tensor=False)
        return Q, S
    # as plain products of matrices: an einsum of the three takes twice as long
    half = (coefficients.reshape(-1, len(transfer_b)) @ transfer_b).reshape(*coefficients.shape[:3], -1).swapaxes(2, 3)
    reduced = (half.reshape(-1, len(transfer_a)) @ transfer_a).reshape(*half.shape[:3], -1).transpose(1, 0, 3, 2)
    reduced, v, blocks = _zoom(reduced, v)
    # all terms in x_a enter into the rows; every term in x_b is paid for by every pair
    needed = _last(jnp.abs(reduced).max(axis=(0, 1, 2)), _NEGLIGIBLE)
    q = reduced.shape[-1]
    widths = [n for n in _LOCAL_TERMS if n < q] + [q]
    branches = [partial(_sum_series, terms=n) for n in widths]
    branch = jnp.sum(needed > jnp.array(widths[:-1], dtype=int)) if len(widths) > 1 else 0
    Q, S = jax.lax.switch(branch, branches, reduced, local_a, local_b, v, blocks)
    return Q, S


_LOCAL_TERMS = (1, 2, 4, 6, 9, 12)
_ZOOM = 4 * _BLOCK


def _last(size: Array, negligible: float) -> Array:
    """How many coefficients reach to the last that is not negligible."""
    return jnp.max(jnp.where(size > negligible * size.max(), jnp.arange(1, len(size) + 1), 1))


def _zoom(reduced: Array, v: Array) -> tuple[Array, Array, Array]:
    """The series re-expanded on the interval of v that the tile occupies, where that takes fewer terms.

    Correlations gather with depth, so a tile soon sees a small part of [−1, 1]. `reduced` (k, 2, q, r) is interpolated
    at a few nodes of that interval; if the last coefficients are not negligible, the full series is kept.
    """
    k = reduced.shape[0]
    n = min(_ZOOM, k)
    low, high = v.min(), v.max()
    center, half = 0.5 * (low + high), jnp.maximum(0.5 * (high - low), 1e-9)
    at = jnp.clip(center + half * chebyshev_nodes(n), -1.0, 1.0)
    basis = _interpolation(n) @ jnp.cos(jnp.arange(k) * jnp.arccos(at)[:, None])  # T_k at the nodes
    local = (basis @ reduced.reshape(k, -1)).reshape(n, *reduced.shape[1:])
    size, full = (jnp.abs(series).max(axis=(1, 2, 3)) for series in (local, reduced))
    local_blocks, blocks = -(-_last(size, 4 * _NEGLIGIBLE) // _BLOCK), -(-_last(full, _NEGLIGIBLE) // _BLOCK)
    use = (size[-2:].max() < 4 * _NEGLIGIBLE * size.max()) & (local_blocks < blocks)
    padded = jnp.pad(local, ((0, k - n), (0, 0), (0, 0), (0, 0)))
    return (
        jnp.where(use, padded, reduced),
        jnp.where(use, (v - center) / half, v),
        jnp.where(use, local_blocks, blocks),
    )


def _block_basis(terms: int) -> np.ndarray:
    """T_k in the basis T_j(v) X^b with X = T_8(v), j < 8: shape (terms, terms/8, 8).

    From T_{8b+j} = 2 T_{8b} T_j − T_{8b−j} and T_{8b} = T_b(X). Well conditioned, since only b = k/8 powers occur.
    """
    blocks = terms // _BLOCK
    basis = np.zeros((terms, blocks, _BLOCK))
    for k in range(terms):
        b, j = divmod(k, _BLOCK)
        power = chebyshev.cheb2poly(np.eye(blocks)[b])
        basis[k, : len(power), j] = power if j == 0 or b == 0 else 2 * power
        if j and b:
            basis[k] -= basis[_BLOCK * b - j]
    return basis


def _sum_series(
    reduced: Array, local_a: Array, local_b: Array, v: Array, blocks: Array, *, terms: int
) -> tuple[Array, Array]:
    """Q and S of all pairs, with the first `terms` functions of x_b: Horner's rule in blocks of eight terms in v."""
    basis = _block_basis(reduced.shape[0])
    rows = jnp.einsum("kbj,kfqr,qi->bjrfi", basis, reduced[..., :terms], local_a, optimize="optimal")

    def block(index: Array, total: Array) -> Array:
        chunk = jax.lax.dynamic_index_in_dim(rows, blocks - 1 - index, keepdims=False)
        low = [jnp.ones_like(v), v]
        while len(low) <= _BLOCK:
            low.append(2 * v * low[-1] - low[-2])
        total = total * low[_BLOCK]
        # a polynomial in v for each r: the other order needs all r for each power, and is half as fast
        for r in range(terms):
            term = chunk[0, r][:, :, None]
            for j in range(1, _BLOCK):
                term = term + chunk[j, r][:, :, None] * low[j]
            total = total + term * local_b[r]
        return total

    total = jax.lax.fori_loop(0, blocks, block, jnp.zeros((2, *v.shape)))
    return total[0], total[1]


class PiecewiseMap(ClosedFormMap):
    """Averages of a piecewise quadratic activation, by one integral over angles."""

    def __init__(self, activation: Activation, K: np.ndarray, moments: np.ndarray, tiles: Tiles) -> None:
        assert activation.pieces is not None
        super().__init__(_piecewise(activation.kinks, activation.pieces), K, tiles)
        # ⟨σσ⟩ of a bounded σ is a difference of terms of the size of K
        edges = 8 * np.finfo(float).eps * (1 + (K / moments[:, 0]).max(axis=1))
        errors = 2e-12 + edges + _cancelling_errors(activation, K, moments)
        self.errors = MapErrors(errors, errors, edges, errors)
        if self.errors.averages.max() > _PIECEWISE_TOLERANCE:
            raise NotTabulable(f"{activation.name} at K = {K.max():.3g}")


_PIECEWISE_TOLERANCE = 2e-11


def _cancelling_errors(activation: Activation, K: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Rounding of the terms of the integral, J¹J¹ and K J²J², which cancel where the pieces are short against √K."""
    assert activation.pieces is not None
    jumps = np.abs(Pieces(activation.kinks, activation.pieces).jumps).sum(axis=1)
    size = (jumps[1] ** 2 + K * jumps[2] ** 2) / (2 * np.pi)
    return np.finfo(float).eps * np.maximum(K * size / moments[:, 0], size / moments[:, 1]).max(axis=1)


@cache
def _piecewise(kinks: tuple[float, ...], pieces: tuple[tuple[float, ...], ...]) -> PairForm:
    return piecewise_quadratic(kinks, pieces)


class DirectMap:
    """Averages by quadrature over each pair, outside JAX: slow, for what no other map covers."""

    def __init__(self, activation: Activation, K: np.ndarray, moments: np.ndarray, tiles: Tiles) -> None:
        self.activation, self.K, self.tiles = activation, K, tiles
        self.sizes = np.sqrt(moments[:, :2])
        self.errors = MapErrors.rounding(len(K))

    def averages(self, layer: int, w: np.ndarray, s: np.ndarray, *, first: int, second: int) -> PairAverages:
        """The averages of all pairs of two tiles at one layer; their errors are kept in `errors`."""
        rows, columns = self.tiles[first], self.tiles[second]
        a, b = np.broadcast_arrays(self.K[layer, rows][:, None], self.K[layer, columns])
        pairs = np.stack([np.minimum(a, b), np.maximum(a, b), w, s]).reshape(4, -1)
        # once for each pair, its mirror image and the repeated samples that fill a tile
        distinct, which = np.unique(pairs, axis=1, return_inverse=True)
        flat, error = (type(f)(*(x[which] for x in f)) for f in direct_pairs(self.activation, *distinct))
        tiny = np.finfo(float).tiny  # σ may vanish wherever these Gaussians have weight
        of_F, of_S = (np.maximum(np.outer(size[rows], size[columns]).ravel(), tiny) for size in self.sizes[layer])
        of_angle = error.D / np.sqrt(of_F) / np.sqrt(np.maximum(2 * np.abs(flat.D), tiny))
        found = error.F / of_F, error.S / of_S, error.collinear / of_F, of_angle
        for kept, each in zip(self.errors, found, strict=True):
            kept[layer] = max(kept[layer], float(np.max(each)))
        shaped: Any = (f.reshape(w.shape) for f in flat)
        return PairAverages(*shaped)


def has_closed_form(activation: Activation) -> bool:
    """Whether the averages over pairs are known in closed form."""
    return activation.closed_form is not None and activation.closed_form[0] in FORMS


def pair_map(activation: Activation, K: np.ndarray, moments: np.ndarray, tiles: Tiles) -> PairMap | DirectMap:
    """The best map for an activation at the kernels of every layer.

    Arguments
        K: kernels of the layers that are averaged over, shape (layers, samples).
        moments: ⟨σ²⟩ and ⟨σ'²⟩ there, shape (layers, ≥ 2, samples).
        tiles: sample indices of each tile.
    """
    if activation.closed_form is not None and has_closed_form(activation):
        return ClosedFormMap(closed_form(*activation.closed_form), K, tiles)
    if not len(K):  # a network of one layer takes no averages
        return ClosedFormMap(closed_form("piecewise_linear", (1.0, 1.0)), K, tiles)
    try:
        if any(activation.kinks) and is_piecewise_quadratic(activation.pieces):
            return PiecewiseMap(activation, K, moments, tiles)
        return TableMap(activation, K, moments, tiles)
    except NotTabulable:
        return DirectMap(activation, K, moments, tiles)
