r"""All layers as one function: K and Θ of the last layer, tabulated in what a pair is at the first.

K⁽ᴸ⁾_αβ and Θ⁽ᴸ⁾_αβ depend on three numbers only, K_αα, K_ββ and ρ_αβ at layer 1, whatever the depth. For a smooth σ
they are analytic there, so some hundred thousand pairs sent through the layers make a Chebyshev series

    K⁽ᴸ⁾_αβ/√(K⁽ᴸ⁾_αα K⁽ᴸ⁾_ββ) = Σ_kpr C_kpr T_k(v) T_p(x_α) T_r(x_β) ,     likewise Θ,

which replaces the layers for the millions of pairs of a large data set. x is log K⁽¹⁾ scaled to [−1, 1]. The nearest
singularities lie just beyond ρ = ±1, so v is bent to have more nodes there: ρ = (1 + γ)v/(1 + γv²).

A σ with a kink is left out: at K_αα = K_ββ, ρ = 1 its kernels depend on √(y + (K_αα − K_ββ)²), which no series follows.
So is what the series does not resolve: a chaotic network separates inputs that are closer than any node. Checks sit
where that would show, at 1 − ρ from 0 and 1e-14 upwards, and at kernels that differ as little.

The error of the series comes on top of that of the layers, and is made up like that of the tables (`PairTable`): terms
cut off, terms never seen, what the evaluation leaves out, and, for the roundings at the nodes, twice the deviation at
the checks.
"""

from dataclasses import replace
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.polynomial import chebyshev

from finitewidth.architecture import Architecture
from finitewidth.errors import InputError
from finitewidth.flow.line import LineFlow, line_flow
from finitewidth.flow.tiles import FirstLayer, RunTile, compiled_tiles, each_tile
from finitewidth.gaussian.pair_maps import TWO_SERIES_ERROR, DirectMap, TileBases, Tiles, pair_map, two_series
from finitewidth.gaussian.tables import chebyshev_coefficients, chebyshev_nodes, unseen
from finitewidth.precision import jit_with_wide_vectors

_TILE = 128  # samples of a tile of nodes; another one is for checks
_COPIES = 9  # of each kernel in a tile, so that a pair of kernels has 9 × 9 nodes of v
_KERNELS = _TILE // _COPIES
_MOST_TILES = 7
_PROBE = 128
_BENDS = (0.75, 0.88)
_RESOLVED = 1e-13  # coefficients that count, relative to the largest
_TOLERANCE = 5e-11  # of its error, half of the 1e-10 that kernels are to be right to


class Composite(NamedTuple):
    """The series.

    coefficients: (2, k, p, p), of K and Θ, k a multiple of 8.
    bend: γ.
    range: ends of log K at layer 1.
    errors: of K and of Θ, relative to their diagonals; those of the layers come on top.
    """

    coefficients: np.ndarray
    bend: float
    range: tuple[float, float]
    errors: tuple[float, float]


def composite(net: Architecture, line: LineFlow, pairs: float) -> Composite | None:
    """The series for the kernels in `line`.

    None where it would not be right to 5e-11, or where making it takes more pairs than it is wanted for.
    """
    if net.activation.kinks or net.depth < 3:
        return None
    # whole quarters: other data of the same network then find the series made. Below C_b there is no kernel
    low, high = np.floor(4 * np.log(line.K[0].min())) / 4, np.ceil(4 * np.log(line.K[0].max())) / 4
    C_b = float(net.per_layer("C_b")[0])
    low = max(low, np.log(C_b)) if C_b else low
    # K and Θ of an infinitely wide network know no widths
    alike = replace(net, width=1, n_in=None, n_out=1)
    tiles = ceil(_kernels_needed(alike, float(low), float(high)) / _KERNELS)
    if tiles > _MOST_TILES or (tiles * (tiles + 1) // 2 + 1) * _TILE**2 > pairs:
        return None
    return _series(alike, float(low), float(high), tiles)


@lru_cache(maxsize=64)
def _kernels_needed(net: Architecture, low: float, high: float) -> int:
    """Nodes in log K that resolve the series: a quarter more than its diagonal takes, which is a row of kernels."""
    try:
        grid = _line(net, 0.5 * (low + high) + 0.5 * (high - low) * chebyshev_nodes(_PROBE))
    except InputError:  # beyond the data, up to a quarter in log K, the signal may leave float64
        return _TILE * _MOST_TILES
    diagonal = np.stack([np.log(grid.K[-1]), grid.Theta[-1] / grid.Theta[-1].max()])
    return 5 * _above(chebyshev_coefficients(diagonal, 1), 1) // 4 + 3


@lru_cache(maxsize=64)
def _series(net: Architecture, low: float, high: float, tiles: int) -> Composite | None:
    nodes = _Nodes.laid_out(low, high, tiles)
    grid = _line(net, nodes.u)
    averages = pair_map(net.activation, grid.K[:-1], grid.moments[:-1], nodes.tiles)
    if isinstance(averages, DirectMap):
        return None
    run = compiled_tiles(averages, net, grid, nodes.tiles, keep=False)
    C_b, C_W = (float(net.per_layer(name)[0]) for name in ("C_b", "C_W"))
    root = np.sqrt(grid.K[0])

    def scaled(i: int, j: int, y: np.ndarray) -> np.ndarray:
        """K/√(K_αα K_ββ) and the like of Θ at complements y of two tiles."""
        one, two = nodes.tiles[i], nodes.tiles[j]
        inner = ((1 - y) * np.outer(root[one], root[two]) - C_b) / C_W
        K, Theta, _ = run(i, j, FirstLayer(inner, np.minimum(y, 2 - y)))
        ends = (K[0], grid.K[-1]), (Theta[0], grid.Theta[-1])
        return np.stack([part / np.sqrt(np.outer(d[one], d[two])) for part, d in ends])

    for bend in _BENDS:
        y, found = nodes.complements(bend), nodes.empty()
        each_tile(lambda i, j, y=y, found=found: nodes.place(scaled(i, j, y), found, i, j), tiles, None)  # type: ignore[misc]
        series = nodes.series(found, scaled(tiles, tiles, nodes.checks), bend)
        if series is not None:
            return series
    return None


def _line(net: Architecture, u: np.ndarray) -> LineFlow:
    C_b, C_W = (float(net.per_layer(name)[0]) for name in ("C_b", "C_W"))
    return line_flow(net, np.maximum((np.exp(u) - C_b) / C_W, 0.0))


class _Nodes(NamedTuple):
    """Nodes of the series in tiles of pairs: sample 9i + m of a tile is its i-th kernel, and node 9m + m' of v lies in
    the pairs (9i + m, 9j + m'). One more tile is for checks.

    u: log K of each sample, shape (128 (tiles + 1),).
    x: the same on [−1, 1].
    p: kernels of all tiles.
    range: ends of u.
    checks: y = 1 − ρ of all pairs of the last tile.
    """

    u: np.ndarray
    x: np.ndarray
    p: int
    range: tuple[float, float]
    checks: np.ndarray

    @classmethod
    def laid_out(cls, low: float, high: float, tiles: int) -> "_Nodes":
        p, rng = tiles * _KERNELS, np.random.default_rng(3)
        kernels = np.repeat(_ends_included(p).reshape(tiles, _KERNELS), _COPIES, axis=1)
        kernels = np.pad(kernels, ((0, 0), (0, _TILE - _KERNELS * _COPIES)), mode="edge")
        anywhere = rng.uniform(-1, 1, _TILE // 2)
        nearby = anywhere.reshape(8, -1) * (1 - 10.0 ** -np.arange(1.0, 9.0)[:, None])
        x = np.concatenate([kernels.ravel(), anywhere, nearby.ravel()])
        checks = 10.0 ** rng.uniform(-14, np.log10(2.0), (_TILE, _TILE))
        checks[:, ::4] = 0.0
        u = np.clip(0.5 * (low + high) + 0.5 * (high - low) * x, low, high)
        return cls(u, x, p, (low, high), checks)

    @property
    def tiles(self) -> list[np.ndarray]:
        return list(np.arange(len(self.u)).reshape(-1, _TILE))

    def complements(self, bend: float) -> np.ndarray:
        """y = 1 − ρ of all pairs of two tiles of nodes, shape (128, 128)."""
        v = chebyshev_nodes(_COPIES**2)
        # (1 − v)(1 − γv)/(1 + γv²), with (1 − v) that does not cancel
        y = 2 * np.sin(0.5 * np.arccos(v)) ** 2 * (1 - bend * v) / (1 + bend * v * v)
        y = np.tile(y.reshape(_COPIES, _COPIES), (_KERNELS, _KERNELS))
        return np.pad(y, (0, _TILE - len(y)), constant_values=0.5)

    def empty(self) -> np.ndarray:
        return np.empty((2, _COPIES**2, self.p, self.p))

    def place(self, values: np.ndarray, whole: np.ndarray, i: int, j: int) -> None:
        """Values at the pairs of two tiles, shape (2, 128, 128), to where they belong by v and two kernels."""
        n = _KERNELS * _COPIES
        block = values[:, :n, :n].reshape(2, _KERNELS, _COPIES, _KERNELS, _COPIES)
        block = block.transpose(0, 2, 4, 1, 3).reshape(2, _COPIES**2, _KERNELS, _KERNELS)
        one, two = (slice(t * _KERNELS, (t + 1) * _KERNELS) for t in (i, j))
        whole[:, :, one, two] = block
        whole[:, :, two, one] = block.swapaxes(2, 3)

    def series(self, values: np.ndarray, seen: np.ndarray, bend: float) -> Composite | None:
        """From values at the nodes, shape (2, 81, p, p), and at the checks; None where they are not resolved."""
        if not (np.all(np.isfinite(values)) and np.all(np.isfinite(seen))):
            return None
        to_series = np.linalg.inv(chebyshev.chebvander(_ends_included(self.p), self.p - 1))
        found = to_series @ chebyshev_coefficients(values, 1) @ to_series.T
        k, q = (_above(found, axis) for axis in (1, 2))
        if k > values.shape[1] - 2 or q > self.p - 1:
            return None
        coefficients = found[:, : 8 * -(-k // 8), : q + 1, : q + 1]
        missing = sum(unseen(found[None], axis) for axis in (2, 3, 4))
        for whole, sign in ((found, 1.0), (coefficients, -1.0)):
            missing = missing + sign * np.abs(whole).sum(axis=(1, 2, 3))
        basis = chebyshev.chebvander(self.x[-_TILE:], coefficients.shape[-1] - 1)
        local = basis @ coefficients @ basis.T
        v = chebyshev.chebvander(np.asarray(_coordinate(self.checks, bend)), coefficients.shape[1] - 1)
        off = np.abs(np.einsum("fkab,abk->fab", local, v) - seen).max(axis=(1, 2))
        of_K, of_Theta = (float(e) for e in 2 * off + missing + TWO_SERIES_ERROR)
        errors = of_K, of_Theta
        return Composite(coefficients, bend, self.range, errors) if max(errors) <= _TOLERANCE else None


def _ends_included(p: int) -> np.ndarray:
    """Extrema of a Chebyshev polynomial: with the ends, the deeper layers span what those of the data span."""
    return np.cos(np.pi * np.arange(p) / (p - 1))


def _above(coefficients: np.ndarray, axis: int) -> int:
    size = np.abs(np.moveaxis(coefficients, axis, 0)).reshape(coefficients.shape[axis], -1).max(1)
    return int(np.max(np.nonzero(~(size <= _RESOLVED * size.max()))[0])) + 1


def _coordinate(y: Any, bend: Any) -> Any:
    """v at ρ = 1 − y."""
    rho = 1 - y
    return 2 * rho / (1 + bend + jnp.sqrt((1 + bend) ** 2 - 4 * bend * rho * rho))


def composite_tiles(table: Composite, net: Architecture, line: LineFlow, tiles: Tiles) -> RunTile:
    """K and Θ of the last layer, shape (1, tile, tile), from the series. It does not need complements better than ρ."""
    low, high = table.range
    bases = TileBases(np.log(line.K[:1]), (np.array([low]), np.array([high])), tiles, table.coefficients[None, None])
    roots = np.sqrt(np.stack([line.K[0], line.K[-1], line.Theta[-1]]))
    sides = [jax.device_put((*(part[0] for part in bases.tile(i)), roots[:, tile])) for i, tile in enumerate(tiles)]
    constants = (net.per_layer("C_b")[0], net.per_layer("C_W")[0], table.bend)
    shared = jax.device_put((table.coefficients, constants))

    def run(i: int, j: int, first: FirstLayer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        K, Theta = _evaluate(first, sides[i], sides[j], *shared)
        # a smooth σ feels no angles, and of the layers between nothing is known
        return np.asarray(K), np.asarray(Theta), np.tile([1.0, 0.0], (net.depth, 1))

    return run


@jit_with_wide_vectors
def _evaluate(first: FirstLayer, one: Any, two: Any, coefficients: Array, constants: Any) -> tuple[Array, Array]:
    C_b, C_W, bend = constants
    (a, K_a, Theta_a), (b, K_b, Theta_b) = one[-1][:, :, None], two[-1]
    rho = (C_b + C_W * first.inner) / (a * b)
    y = jnp.where(first.refined >= 0, first.refined, jnp.clip(1 - rho, 0.0, 2.0))
    K, Theta = two_series(coefficients, one, two, _coordinate(y, bend))
    return (K * (K_a * K_b))[None], (Theta * (Theta_a * Theta_b))[None]
