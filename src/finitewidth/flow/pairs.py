"""K and Θ of all pairs of samples: the tiles are laid out, sent through the layers, and put together again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from finitewidth.architecture import MLP
from finitewidth.flow.line import LineFlow, collinear_spread
from finitewidth.flow.tiles import (
    FirstLayer,
    LayerConstants,
    Symmetries,
    compiled_tile,
    each_tile,
    run_tile_directly,
    tile_size,
)
from finitewidth.gaussian.pair_maps import DirectMap, MapErrors, PairMap, pair_map

Progress = Callable[[int, int], None]
RunTile = Callable[[int, int, FirstLayer], tuple[np.ndarray, np.ndarray, np.ndarray]]
NEARLY_COLLINEAR = 1e-5  # below this w = 1 − |ρ|, an inner product has lost eleven of its digits


class PairErrors(NamedTuple):
    """What the errors of the pairs come from.

    Attributes
        averages: what the averages of each layer but the last are good to.
        closest: the smallest complement w = 1 − |ρ| at each layer whose error is absolute, shape (L,).
    """

    averages: MapErrors
    closest: np.ndarray


def pair_flow(
    net: MLP, x: np.ndarray, line: LineFlow, kept: Sequence[int], progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray, PairErrors]:
    """K and Θ of all pairs at the kept layers, shape (layers, N, N), and what their errors come from."""
    tiling = Tiling.by_kernel(line.K[0])
    averages = pair_map(net.activation, line.K[:-1], line.moments[:-1], tiling.tiles)
    keep = list(kept) != [net.depth]
    picked = np.array(kept) - 1 if keep else np.array([0])
    if isinstance(averages, DirectMap):
        run = _directly(averages, net, line, tiling, keep=keep)
    else:
        run = _compiled(averages, net, line, tiling, keep=keep)
    samples = [x[tile] for tile in tiling.tiles]
    smallest: list[np.ndarray] = []

    def work(i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        inner, known = samples[i] @ samples[j].T / x.shape[1], tiling.known_complements(i, j)
        K, Theta, closest = run(i, j, FirstLayer(inner, known))
        if closest[0] < NEARLY_COLLINEAR:
            refined = nearly_collinear(samples[i], samples[j], net.per_layer("C_b")[0], net.per_layer("C_W")[0])
            K, Theta, closest = run(i, j, FirstLayer(inner, np.where(known >= 0, known, refined)))
        smallest.append(closest)
        return K[picked], Theta[picked]

    K, Theta = np.empty((2, len(kept), len(x), len(x)))
    for i, j, found in each_tile(work, len(tiling.tiles), progress):
        for whole, part in zip((K, Theta), found, strict=True):
            tiling.place(part, whole, i, j)
    for whole, diagonal in ((K, line.K), (Theta, line.Theta)):
        whole[:, np.arange(len(x)), np.arange(len(x))] = diagonal[np.array(kept) - 1]
    return K, Theta, PairErrors(averages.errors, np.min(smallest, axis=0))


@dataclass(frozen=True)
class Tiling:
    """Samples in tiles of one length; the last is filled up with repetitions of its last sample.

    Attributes
        N: number of samples.
        tiles: sample indices of each tile.
    """

    N: int
    tiles: list[np.ndarray]

    @classmethod
    def by_kernel(cls, K: np.ndarray) -> "Tiling":
        """Tiles of similar kernels: their averages need the fewest terms."""
        N, size = len(K), tile_size(len(K))
        order = np.argsort(K, kind="stable")
        return cls(N, [order[np.minimum(np.arange(i, i + size), N - 1)] for i in range(0, N, size)])

    def known_complements(self, i: int, j: int) -> np.ndarray:
        """w = 0 of each sample with itself, −1 (unknown) for all other pairs of two tiles."""
        same = i == j and np.equal.outer(self.tiles[i], self.tiles[j])
        return np.where(same, 0.0, np.full((len(self.tiles[i]), len(self.tiles[j])), -1.0))

    def place(self, part: np.ndarray, whole: np.ndarray, i: int, j: int) -> None:
        """Write the pairs of two tiles, and their mirror image, into the matrices of all pairs."""
        size = len(self.tiles[0])
        rows, columns = (self.tiles[k][: self.N - k * size] for k in (i, j))
        block = part[:, : len(rows), : len(columns)]
        if i == j:  # the two roundings of one number
            block = 0.5 * (block + block.transpose(0, 2, 1))
        whole[:, rows[:, None], columns] = block
        whole[:, columns[:, None], rows] = block.transpose(0, 2, 1)


def _compiled(averages: PairMap, net: MLP, line: LineFlow, tiling: Tiling, *, keep: bool) -> RunTile:
    """Tiles through a compiled program."""
    kernels, sides = zip(*((line.K[:, tile], averages.tile(i)) for i, tile in enumerate(tiling.tiles)), strict=True)
    turns = collinear_spread(net, line)
    spreads = [turns[:, tile] for tile in tiling.tiles]
    shared, hyper, known = averages.layers(), _layer_constants(net), _symmetries(net)

    def run(i: int, j: int, first: FirstLayer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        K, pair, spread = (kernels[i], kernels[j]), (sides[i], sides[j]), (spreads[i], spreads[j])
        found = compiled_tile(averages.function, first, K, shared, pair, spread, hyper, known, keep=keep)
        return np.asarray(found[0]), np.asarray(found[1]), np.asarray(found[2])

    return run


def _directly(averages: DirectMap, net: MLP, line: LineFlow, tiling: Tiling, *, keep: bool) -> RunTile:
    """Tiles through plain quadrature."""
    kernels, hyper, known = [line.K[:, tile] for tile in tiling.tiles], _layer_constants(net), _symmetries(net)
    turns = collinear_spread(net, line)
    spreads = [turns[:, tile] for tile in tiling.tiles]

    def run(i: int, j: int, first: FirstLayer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        of_these = partial(averages.averages, first=i, second=j)
        K, Theta, closest = run_tile_directly(
            of_these, first, (kernels[i], kernels[j]), (spreads[i], spreads[j]), hyper, known
        )
        return (K, Theta, closest) if keep else (K[-1:], Theta[-1:], closest)

    return run


def nearly_collinear(x: np.ndarray, y: np.ndarray, C_b: float, C_W: float) -> np.ndarray:
    """Complements w = 1 − |ρ| of the pairs (len(x), len(y)) that an inner product cannot resolve; −1 for all others.

    They are taken from differences: with x̃ = (√C_b, √(C_W/n_0) x) scaled to unit length, 1 ∓ ρ = ½|x̃ ∓ ỹ|².
    """
    u, v = (np.concatenate([np.full((len(p), 1), np.sqrt(C_b)), np.sqrt(C_W / p.shape[1]) * p], 1) for p in (x, y))
    u, v = (p / np.linalg.norm(p, axis=1, keepdims=True) for p in (u, v))
    rho = u @ v.T
    w = np.full(rho.shape, -1.0)
    rows, columns = np.nonzero(1.0 - np.abs(rho) < NEARLY_COLLINEAR)
    for start in range(0, len(rows), 4096):
        r, c = rows[start : start + 4096], columns[start : start + 4096]
        w[r, c] = 0.5 * np.sum((u[r] - np.sign(rho[r, c])[:, None] * v[c]) ** 2, axis=1)
    return w


def _layer_constants(net: MLP) -> LayerConstants:
    return LayerConstants(*(net.per_layer(name) for name in LayerConstants._fields))


def _symmetries(net: MLP) -> Symmetries:
    form, parameters = net.activation.closed_form or ("", ())
    homogeneous = 0.5 * (parameters[0] ** 2 + parameters[1] ** 2) if form == "piecewise_linear" else 0.0
    return Symmetries(homogeneous, {"even": 1.0, "odd": -1.0, "none": 0.0}[net.activation.parity])
