r"""All layers as one function: K and Θ of the last layer, tabulated in what a pair is at the first.

K⁽ᴸ⁾_αβ and Θ⁽ᴸ⁾_αβ depend on three numbers only, K_αα, K_ββ and ρ_αβ at layer 1, whatever the depth. For a smooth σ
they are analytic there, so some ten thousand pairs sent through the layers make a Chebyshev series

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

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.polynomial import chebyshev

from finitewidth.architecture import MLP
from finitewidth.flow.line import LineFlow, line_flow
from finitewidth.flow.tiles import FirstLayer, RunTile, compiled_tiles
from finitewidth.gaussian.pair_maps import TWO_SERIES_ERROR, DirectMap, TileBases, Tiles, pair_map, two_series
from finitewidth.gaussian.tables import chebyshev_coefficients, chebyshev_nodes, unseen
from finitewidth.precision import jit_with_wide_vectors

_SIZE, _CHECKS = 256, 16  # samples of the tile that holds the nodes, and how many of them are for checks
_BENDS = (0.75, 0.88)
_RESOLVED, _TOLERANCE = 1e-13, 1e-11  # coefficients that count, relative to the largest; errors


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


def composite(net: MLP, line: LineFlow) -> Composite | None:
    """The series for the kernels in `line`, or None where it would not be right to 1e-11."""
    if net.activation.kinks or net.depth < 3:
        return None
    u = np.log(line.K[0])
    low, high = float(u.min()), float(u.max())
    p = int(np.clip(np.ceil(8 + 4 * (high - low)), 8, 28))
    nodes = _Nodes.laid_out(low, high, p)
    C_b, C_W = (float(net.per_layer(name)[0]) for name in ("C_b", "C_W"))
    grid = line_flow(net, np.maximum((np.exp(nodes.u) - C_b) / C_W, 0.0))
    averages = pair_map(net.activation, grid.K[:-1], grid.moments[:-1], [np.arange(_SIZE)])
    if isinstance(averages, DirectMap):
        return None
    run = compiled_tiles(averages, net, grid, [np.arange(_SIZE)], keep=False)
    root = np.sqrt(grid.K[0])
    for bend in _BENDS:
        y = nodes.complements(bend)
        inner = ((1 - y) * np.outer(root, root) - C_b) / C_W
        K, Theta, _ = run(0, 0, FirstLayer(inner, np.minimum(y, 2 - y)))
        scaled = [part[0] / np.sqrt(np.outer(d, d)) for part, d in ((K, grid.K[-1]), (Theta, grid.Theta[-1]))]
        found = nodes.series(np.stack(scaled), y, bend)
        if found is not None:
            return found
    return None


class _Nodes(NamedTuple):
    """Nodes of the series in one tile of pairs: sample i·g + m is the i-th kernel, and node m·g + m' of v lies in the
    pairs (i·g + m, j·g + m'). The last samples are for checks.

    u: log K of each sample, shape (_SIZE,).
    x: the same on [−1, 1].
    p, g: kernels, and √(nodes of v).
    range: ends of u.
    """

    u: np.ndarray
    x: np.ndarray
    p: int
    g: int
    range: tuple[float, float]

    @classmethod
    def laid_out(cls, low: float, high: float, p: int) -> "_Nodes":
        g = (_SIZE - _CHECKS) // p
        x = np.zeros(_SIZE)
        x[: p * g] = np.repeat(_ends_included(p), g)
        rng = np.random.default_rng(3)
        apart, anywhere = 10.0 ** -np.arange(1.0, _CHECKS // 2 + 1), rng.uniform(-1, 1, _CHECKS // 2)
        x[-_CHECKS:] = np.concatenate([anywhere, anywhere[0] * (1 - apart)])
        return cls(np.clip(0.5 * (low + high) + 0.5 * (high - low) * x, low, high), x, p, g, (low, high))

    def complements(self, bend: float) -> np.ndarray:
        """y = 1 − ρ of all pairs, shape (_SIZE, _SIZE)."""
        n, v = self.p * self.g, chebyshev_nodes(self.g**2)
        # (1 − v)(1 − γv)/(1 + γv²), with (1 − v) that does not cancel
        y = 2 * np.sin(0.5 * np.arccos(v)) ** 2 * (1 - bend * v) / (1 + bend * v * v)
        y = np.pad(np.tile(y.reshape(self.g, self.g), (self.p, self.p)), (0, _SIZE - n), constant_values=0.5)
        checks = 10.0 ** np.random.default_rng(4).uniform(-14, np.log10(2.0), (_CHECKS, _CHECKS))
        checks[:, ::4] = 0.0
        y[-_CHECKS:, -_CHECKS:] = checks
        return y

    def series(self, values: np.ndarray, y: np.ndarray, bend: float) -> Composite | None:
        """From values at all pairs, shape (2, _SIZE, _SIZE); None where they are not resolved."""
        p, g, n = self.p, self.g, self.p * self.g
        on_nodes = values[:, :n, :n].reshape(2, p, g, p, g).transpose(0, 2, 4, 1, 3).reshape(2, g * g, p, p)
        if not np.all(np.isfinite(values)):
            return None
        to_series = np.linalg.inv(chebyshev.chebvander(_ends_included(p), p - 1))
        found = to_series @ chebyshev_coefficients(on_nodes, 1) @ to_series.T
        k, q = (_above(found, axis) for axis in (1, 2))
        if k > g * g - 2 or q > p - 1:
            return None
        coefficients = found[:, : 8 * -(-k // 8), : q + 1, : q + 1]
        missing = sum(unseen(found[None], axis) for axis in (2, 3, 4))
        for whole, sign in ((found, 1.0), (coefficients, -1.0)):
            missing = missing + sign * np.abs(whole).sum(axis=(1, 2, 3))
        basis = chebyshev.chebvander(self.x[-_CHECKS:], coefficients.shape[-1] - 1)
        v = chebyshev.chebvander(np.asarray(_coordinate(y[-_CHECKS:, -_CHECKS:], bend)), coefficients.shape[1] - 1)
        mine = np.einsum("fkpq,abk,ap,bq->fab", coefficients, v, basis, basis, optimize=True)
        seen = np.abs(mine - values[:, -_CHECKS:, -_CHECKS:]).max(axis=(1, 2))
        of_K, of_Theta = (float(e) for e in 2 * seen + missing + TWO_SERIES_ERROR)
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


def composite_tiles(table: Composite, net: MLP, line: LineFlow, tiles: Tiles) -> RunTile:
    """K and Θ of the last layer, shape (1, tile, tile), from the series. It does not need complements better than ρ."""
    low, high = table.range
    bases = TileBases(np.log(line.K[:1]), (np.array([low]), np.array([high])), tiles, table.coefficients[None, None])
    roots = np.sqrt(np.stack([line.K[0], line.K[-1], line.Theta[-1]]))
    sides = [jax.device_put((*(part[0] for part in bases.tile(i)), roots[:, tile])) for i, tile in enumerate(tiles)]
    constants = (net.per_layer("C_b")[0], net.per_layer("C_W")[0], table.bend)
    shared = jax.device_put((table.coefficients, constants))

    def run(i: int, j: int, first: FirstLayer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        K, Theta = _evaluate(first, sides[i], sides[j], *shared)
        return np.asarray(K), np.asarray(Theta), np.ones(net.depth)  # a smooth σ feels no angles

    return run


@jit_with_wide_vectors
def _evaluate(first: FirstLayer, one: Any, two: Any, coefficients: Array, constants: Any) -> tuple[Array, Array]:
    C_b, C_W, bend = constants
    (a, K_a, Theta_a), (b, K_b, Theta_b) = one[-1][:, :, None], two[-1]
    rho = (C_b + C_W * first.inner) / (a * b)
    y = jnp.where(first.refined >= 0, first.refined, jnp.clip(1 - rho, 0.0, 2.0))
    K, Theta = two_series(coefficients, one, two, _coordinate(y, bend))
    return (K * (K_a * K_b))[None], (Theta * (Theta_a * Theta_b))[None]
