"""K and Θ of all pairs of samples: the tiles are laid out, sent through the layers, and put together again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from finitewidth.architecture import Architecture
from finitewidth.cores import Progress
from finitewidth.flow.composite import Composite, composite, composite_tiles
from finitewidth.flow.constants import layer_constants
from finitewidth.flow.line import LineFlow, collinear_spread
from finitewidth.flow.tiles import (
    FirstLayer,
    RunTile,
    compiled_tiles,
    each_tile,
    run_tile_directly,
    symmetries,
    tile_size,
)
from finitewidth.gaussian.pair_maps import (
    DirectMap,
    MapErrors,
    PairMap,
    TableMap,
    has_closed_form,
    layer_by_layer,
    pair_map,
)

_FEW = 2**14  # pairs times layers that NumPy has done before JAX has compiled
_MANY_CLOSED_FORMS = 16  # layers of them that take longer than the series
NEARLY_COLLINEAR = 1e-5  # below this w = 1 − |ρ|, an inner product has lost eleven of its digits


class PairErrors(NamedTuple):
    """What the errors of the pairs come from.

    Attributes
        averages: what the averages of each layer but the last are good to.
        closest: the smallest complement w = 1 − |ρ| at each layer whose error is absolute, shape (L,).
        nearest: the smallest of all, but of an input with itself, shape (L,).
        composite: what is added to K and to Θ of the last layer, relative to their diagonals, where one series replaces
            the layers.
    """

    averages: MapErrors
    closest: np.ndarray
    nearest: np.ndarray
    composite: tuple[float, float] = (0.0, 0.0)


def pair_flow(
    net: Architecture, x: np.ndarray, line: LineFlow, kept: Sequence[int], progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray, PairErrors]:
    """K and Θ of all pairs at the kept layers, shape (layers, N, N), and what their errors come from."""
    tiling = Tiling.of(line.K[0], sort=not has_closed_form(net.activation))
    averages = pair_map(net.activation, line.K[:-1], line.moments[:-1], tiling.tiles)
    keep = list(kept) != [net.depth]
    picked, of_composite = np.array(kept) - 1, (0.0, 0.0)
    if isinstance(averages, DirectMap) or (tiling.size**2 * net.depth <= _FEW and len(tiling.tiles) == 1):
        run = _directly(averages, net, line, tiling, keep=keep)
    elif not keep and (table := _composite(net, line, tiling)) is not None:
        run = composite_tiles(table, net, line, tiling.tiles)
        of_composite = table.errors
    else:
        run = compiled_tiles(averages, net, line, tiling.tiles, keep=keep)
    # without sorting, a tile is a view of x
    rows = x if tiling.in_order else x[tiling.order]
    K, Theta = (np.empty((len(kept), len(x), len(x))) for _ in range(2))
    smallest: list[np.ndarray] = []

    def work(i: int, j: int) -> None:
        samples, others = rows[tiling.span(i)], rows[tiling.span(j)]
        inner = samples @ others.T
        inner /= x.shape[1]
        known = tiling.known_complements(i, j)
        found = run(i, j, FirstLayer(inner, known))
        if found[2][0, 0] < NEARLY_COLLINEAR:
            refined = nearly_collinear(samples, others, net.per_layer("C_b")[0], net.per_layer("C_W")[0])
            found = run(i, j, FirstLayer(inner, np.where(known >= 0, known, refined)))
        smallest.append(found[2])
        for whole, part in zip((K, Theta), found, strict=False):
            tiling.place(part[picked] if keep else part, whole, i, j)

    each_tile(work, len(tiling.tiles), progress)
    for whole, diagonal in ((K, line.K), (Theta, line.Theta)):
        tiling.restore_columns(whole)
        whole[:, np.arange(len(x)), np.arange(len(x))] = diagonal[np.array(kept) - 1]
    errors = averages.errors
    if isinstance(averages, TableMap):  # F(|ρ| = 1) − F is tabled relative to √(⟨σ'₁²⟩⟨σ'₂²⟩)
        of_slopes = line.moment_error[:-1, 1]
        errors = errors._replace(averages=errors.averages + of_slopes, angles=errors.angles + of_slopes)
    closest, nearest = np.min(smallest, axis=0).T
    return K, Theta, PairErrors(errors, closest, nearest, of_composite)


def _composite(net: Architecture, line: LineFlow, tiling: "Tiling") -> Composite | None:
    """The last layer as one function of the first, where there are so many pairs and layers that making it pays."""
    T = len(tiling.starts)
    enough = _MANY_CLOSED_FORMS if has_closed_form(net.activation) else 2
    return composite(net, line, T * (T + 1) // 2 * tiling.size**2) if net.depth > enough else None


@dataclass(frozen=True)
class Tiling:
    """Samples in tiles of one length: consecutive ones, or sorted first.

    The last tile overlaps the one before it. Where there are fewer samples than a tile has, or not a multiple of 8
    (few shapes are compiled), the last sample is repeated.

    Attributes
        N: number of samples.
        order: the samples in the order of the tiles, repetitions included.
        starts: where each tile begins in `order`.
        size: samples a tile.
    """

    N: int
    order: np.ndarray
    starts: list[int]
    size: int

    @classmethod
    def of(cls, K: np.ndarray, *, sort: bool) -> "Tiling":
        """With `sort`, tiles of similar kernels: tabled averages need the fewest terms there."""
        N, size = len(K), tile_size(len(K))
        padded = max(size, 8 * -(-N // 8))
        order = np.argsort(K, kind="stable") if sort else np.arange(N)
        order = np.concatenate([order, np.repeat(order[-1:], padded - N)])
        return cls(N, order, [min(start, padded - size) for start in range(0, padded, size)], size)

    @cached_property
    def in_order(self) -> bool:
        """Whether the samples stand as they came."""
        return np.array_equal(self.order, np.arange(self.N))

    @cached_property
    def tiles(self) -> list[np.ndarray]:
        """Sample indices of each tile."""
        return [self.order[self.span(i)] for i in range(len(self.starts))]

    @cached_property
    def _unknown(self) -> np.ndarray:
        return np.full((self.size, self.size), -1.0)

    def span(self, i: int) -> slice:
        """A tile in `order`."""
        return slice(self.starts[i], self.starts[i] + self.size)

    def known_complements(self, i: int, j: int) -> np.ndarray:
        """w = 0 of each sample with itself, −1 (unknown) for all other pairs of two tiles."""
        if abs(self.starts[i] - self.starts[j]) >= self.size:
            return self._unknown
        return np.where(np.equal.outer(self.tiles[i], self.tiles[j]), 0.0, self._unknown)

    def place(self, part: np.ndarray, whole: np.ndarray, i: int, j: int) -> None:
        """Write the pairs of two tiles, and their mirror image, into the matrices of all pairs.

        Rows go where they belong, columns stay in the order of the tiles until all are there (`restore_columns`):
        columns that are scattered one by one would cost ten times as much.
        """
        if i == j:  # the two roundings of one number
            part = 0.5 * (part + part.transpose(0, 2, 1))
        for first, second, block in ((i, j, part), (j, i, part.transpose(0, 2, 1))):
            here, there = self._own(first), self._own(second)
            rows = here if self.in_order else self.order[here]
            offsets = (here.start - self.starts[first], there.start - self.starts[second])
            whole[:, rows, there] = block[:, offsets[0] :, offsets[1] :][
                :, : self.N - here.start, : self.N - there.start
            ]
            if i == j:
                break

    def _own(self, i: int) -> slice:
        """The part of a tile that no other tile holds, without repetitions."""
        return slice(i * self.size, min((i + 1) * self.size, self.N))

    def restore_columns(self, whole: np.ndarray) -> None:
        """Columns of the matrices, shape (layers, N, N), from the order of the tiles into their own, in place."""
        if self.in_order:
            return
        inverse = np.argsort(self.order[: self.N], kind="stable")
        for matrix in whole:
            for start in range(0, self.N, 64):  # a few rows at a time: no second matrix
                matrix[start : start + 64] = matrix[start : start + 64].take(inverse, axis=1, mode="clip")


def _directly(
    averages: PairMap | DirectMap, net: Architecture, line: LineFlow, tiling: Tiling, *, keep: bool
) -> RunTile:
    """Tiles in NumPy, layer by layer: of few pairs, or through plain quadrature."""
    kernels, hyper, known = [line.K[:, tile] for tile in tiling.tiles], layer_constants(net), symmetries(net)
    turns = collinear_spread(net, line)
    spreads = [turns[:, tile] for tile in tiling.tiles]

    def run(i: int, j: int, first: FirstLayer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        of_these: Callable[[int, np.ndarray, np.ndarray], Any] = (
            partial(averages.averages, first=i, second=j)
            if isinstance(averages, DirectMap)
            else layer_by_layer(averages, i, j)
        )
        with np.errstate(all="ignore"):  # as in JAX: what leaves float64 is looked for in the result
            K, Theta, closest = run_tile_directly(
                of_these, first, (kernels[i], kernels[j]), (spreads[i], spreads[j]), hyper, known
            )
        return (K, Theta, closest) if keep else (K[-1:], Theta[-1:], closest)

    return run


def nearly_collinear(x: np.ndarray, y: np.ndarray, C_b: float, C_W: float) -> np.ndarray:
    """Complements w = 1 − |ρ| of the pairs (len(x), len(y)) that an inner product cannot resolve; −1 for all others.

    They are taken from differences: with x̃ = (√C_b, √(C_W/n_0) x) scaled to unit length, 1 ∓ ρ = ½|x̃ ∓ ỹ|². Only of
    equal inputs they are 0.
    """
    u, v = (np.concatenate([np.full((len(p), 1), np.sqrt(C_b)), np.sqrt(C_W / p.shape[1]) * p], 1) for p in (x, y))
    u, v = (p / np.linalg.norm(p, axis=1, keepdims=True) for p in (u, v))
    rho = u @ v.T
    w = np.full(rho.shape, -1.0)
    rows, columns = np.nonzero(1.0 - np.abs(rho) < NEARLY_COLLINEAR)
    for start in range(0, len(rows), 4096):
        r, c = rows[start : start + 4096], columns[start : start + 4096]
        found = 0.5 * np.sum((u[r] - np.sign(rho[r, c])[:, None] * v[c]) ** 2, axis=1)
        vanishes = np.flatnonzero(found == 0)  # differences below the rounding of x̃
        found[vanishes] = np.where(np.all(x[r[vanishes]] == y[c[vanishes]], axis=1), 0.0, np.finfo(float).tiny)
        w[r, c] = found
    return w
