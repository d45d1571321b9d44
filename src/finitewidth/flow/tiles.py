r"""K and Θ of all pairs of samples, tile by tile: each tile goes through all layers while it is in cache.

A pair of samples (α, β) needs only its own kernel, the two diagonal kernels and Θ_αβ from the layer before. So N × N
matrices never travel between memory and processor more than once, half of them is never computed (the kernels are
symmetric), and all cores work on different tiles.

The state of a pair is its complement w = 1 − |ρ| and sign s, with ρ = K_αβ/√(K_αα K_ββ). One layer takes it to

    R' (1 − s ρ') = R' − s (C_b + C_W F(|ρ| = 1)) + s C_W D(w) ,      R' = √(K'_αα K'_ββ) ,

in which the first two terms vanish for equal kernels, so that w keeps its relative accuracy on the way to w = 0. What a
residual layer carries over, skip K_αβ, takes skip √(K_αα K_ββ) (1 − w) off the right side.
"""

from collections.abc import Callable
from math import ceil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from finitewidth.architecture import Architecture
from finitewidth.cores import Progress, Tally, on_all_cores
from finitewidth.flow.constants import LayerConstants, layer_constants
from finitewidth.flow.line import LineFlow, collinear_spread
from finitewidth.gaussian.closed_forms import PairAverages
from finitewidth.gaussian.either_library import library
from finitewidth.gaussian.pair_maps import PairMap, Tiles
from finitewidth.precision import jit_with_wide_vectors

# |a − b|/(a + b) below which two kernels count as nearly equal: an expansion and a rounded difference are as good there
NEARLY_EQUAL = float(np.finfo(float).eps) ** 0.25


RunTile = Callable[[int, int, "FirstLayer"], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""(first tile, second tile, what their pairs start from) → K, Θ and the smallest complements, as `run_tile`."""


class PairState(NamedTuple):
    """One tile of pairs: complement w = 1 − |ρ|, sign of ρ, and Θ."""

    w: Array
    s: Array
    Theta: Array


class Symmetries(NamedTuple):
    """What a step may use of σ: A₂ = ⟨σ²⟩/K if it is scale-invariant, else 0; parity 1 (even), −1 (odd) or 0 (none)."""

    homogeneous: Any
    parity: Any


class FirstLayer(NamedTuple):
    """What a tile starts from: x·x'/n_0, and complements that are known better than from it (−1 where they are not)."""

    inner: Any
    refined: Any


def enter(first: FirstLayer, a: Array, b: Array, h: LayerConstants) -> PairState:
    """The state at layer 1 from x·x'/n_0 and the kernels of the two sides."""
    xp = library(first.inner, a, b)
    rho = (h.C_b + h.C_W * first.inner) / (xp.sqrt(a)[:, None] * xp.sqrt(b))
    w = xp.clip(1.0 - xp.abs(rho), 0.0, 1.0)
    w = xp.where(first.refined >= 0, first.refined, w)
    return PairState(w, xp.where(rho < 0, -1.0, 1.0), h.lambda_b + h.lambda_W * first.inner)


def correlation_step(
    averages: PairAverages,
    w: Array,
    s: Array,
    first: tuple[Array, ...],
    second: tuple[Array, ...],
    h: LayerConstants,
    known: Symmetries,
) -> tuple[Array, Array, Array]:
    """(w, s) of the next layer, and w again where its error is absolute, 1 where it is relative to w.

    `first`, `second`: kernels of the two sides at this layer and at the next, and their `collinear_spread`, shape
    (tile,) each.
    """
    xp = library(w, s)
    (homogeneous, parity), C_b, C_W = known, h.C_b, h.C_W
    # opposite inputs are as good as equal ones to an even σ, and to an odd one without biases: they keep their digits
    folds = ((parity > 0) & (h.skip == 0)) | ((parity < 0) & (C_b == 0))
    s, turn = xp.where(folds, 1.0, s), xp.where(folds & (parity < 0), s, 1.0)
    averages = averages._replace(collinear=turn * averages.collinear, D=turn * averages.D)
    (a, a2, spread_a), (b, b2, spread_b) = (side[:, None] for side in first), second
    R2, carried = xp.sqrt(a2) * xp.sqrt(b2), h.skip * xp.sqrt(a) * xp.sqrt(b)
    gap = R2 - s * (C_b + C_W * averages.collinear) - carried
    # nearly equal kernels: the difference is of second order, and rounding would hide it; the fourth order is left out
    apart, spread = (a - b) / (a + b), 2 * (spread_a + spread_b)
    near = (s > 0) & (xp.abs(apart) < NEARLY_EQUAL) & (spread >= 0)
    gap = xp.where(near, spread * apart * apart, xp.maximum(gap, 0.0))
    gap = xp.where((a == b) & (s > 0), 0.0, gap)
    keeps_digits = near | ((s > 0) & ((a == b) | (homogeneous > 0)))
    # scale-invariant σ: R'² − (C_b + q √(ab))² = C_b q (√a − √b)², q = skip + C_W A₂
    spread = C_b * (h.skip + C_W * homogeneous) * (xp.sqrt(a) - xp.sqrt(b)) ** 2
    spread = spread / (R2 + C_b + C_W * xp.abs(averages.collinear) + carried)
    gap = xp.where((homogeneous > 0) & (s > 0), spread, gap)
    complement = xp.clip((gap + s * C_W * averages.D + carried * w) / R2, 0.0, 2.0)
    crossed = complement > 1.0
    w = xp.where(crossed, 2.0 - complement, complement)
    return w, turn * xp.where(crossed, -s, s), xp.where(keeps_digits & ~crossed, 1.0, w)


def advance(
    found: PairAverages,
    state: PairState,
    first: tuple[Array, ...],
    second: tuple[Array, ...],
    h: LayerConstants,
    known: Symmetries,
) -> tuple[PairState, Array]:
    """The state of the next layer: Θ' = λ_b + λ_W⟨σσ⟩ + (skip + C_W⟨σ'σ'⟩)Θ, and its correlations.

    Second, the smallest complements, as `run_tile`.
    """
    w, s, absolute = correlation_step(found, state.w, state.s, first, second, h, known)
    Theta = h.lambda_b + h.lambda_W * found.F + (h.skip + h.C_W * found.S) * state.Theta
    return PairState(w, s, Theta), _smallest(absolute, w, _are_identical(state.w, first[0], second[0]))


def kernel(state: PairState, a: Array, b: Array) -> Array:
    """K_αβ from the correlations and the kernels of the two sides."""
    xp = library(state.w, a, b)
    return state.s * (1.0 - state.w) * (xp.sqrt(a)[:, None] * xp.sqrt(b))


def _are_identical(w: Array, a: Array, b: Array) -> Array:
    return (w == 0) & (a[:, None] == b)


def _smallest(absolute: Array, w: Array, identical: Array) -> Array:
    xp = library(w)
    return xp.stack([absolute.min(), xp.where(identical, 1.0, w).min()])


def _smallest_at_first(first: FirstLayer, state: PairState, a: Array, b: Array) -> Array:
    absolute = library(state.w).where(first.refined >= 0, 1.0, state.w)
    return _smallest(absolute, state.w, _are_identical(state.w, a, b))


def run_tile(
    averages: Callable[..., PairAverages],
    first: FirstLayer,
    K: tuple[Array, Array],
    shared: Any,
    sides: tuple[Any, Any],
    spread: tuple[Array, Array],
    hyper: LayerConstants,
    known: Symmetries,
    *,
    keep: bool,
) -> tuple[Array, Array, Array]:
    """K and Θ of one tile: of all layers, shape (L, tile, tile), or (`keep=False`) of the last, shape (1, tile, tile).

    Third, the smallest complements at each layer, shape (L, 2): of those whose error is absolute, and of all but an
    input's with itself. At layer 1 the former came from an inner product: where that cannot resolve it, the tile is run
    again.
    """
    layers, constants = shared

    def step(state: PairState, inputs: Any) -> tuple[PairState, Any]:
        layer, sides, first, second, h = inputs
        found = averages(constants, layer, *sides, state.w, state.s)
        state, absolute = advance(found, state, first, second, h, known)
        return state, (absolute, (kernel(state, first[1], second[1]), state.Theta) if keep else None)

    state = enter(first, K[0][0], K[1][0], jax.tree.map(lambda h: h[0], hyper))
    start = kernel(state, K[0][0], K[1][0]), state.Theta
    pairs = tuple((k[:-1], k[1:], g) for k, g in zip(K, spread, strict=True))
    last, (absolute, steps) = jax.lax.scan(step, state, (layers, sides, *pairs, jax.tree.map(lambda h: h[1:], hyper)))
    closest = jnp.concatenate([_smallest_at_first(first, state, K[0][0], K[1][0])[None], absolute])
    if not keep:
        return kernel(last, K[0][-1], K[1][-1])[None], last.Theta[None], closest
    K_all, Theta_all = (jnp.concatenate([s[None], rest]) for s, rest in zip(start, steps, strict=True))
    return K_all, Theta_all, closest


compiled_tile = jit_with_wide_vectors(run_tile, static_argnums=(0,), static_argnames=("keep",))


def compiled_tiles(averages: PairMap, net: Architecture, line: LineFlow, tiles: Tiles, *, keep: bool) -> RunTile:
    """Tiles through a compiled program."""
    turns = collinear_spread(net, line)
    # handed to JAX once, not with every tile
    sides = [jax.device_put((line.K[:, tile], averages.tile(i), turns[:, tile])) for i, tile in enumerate(tiles)]
    shared, hyper, known = jax.device_put((averages.layers(), layer_constants(net), symmetries(net)))

    def run(i: int, j: int, first: FirstLayer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        K, pair, spread = zip(sides[i], sides[j], strict=True)
        found = compiled_tile(averages.function, first, K, shared, pair, spread, hyper, known, keep=keep)
        return np.asarray(found[0]), np.asarray(found[1]), np.asarray(found[2])

    return run


def symmetries(net: Architecture) -> Symmetries:
    form, parameters = net.activation.closed_form or ("", ())
    homogeneous = 0.5 * (parameters[0] ** 2 + parameters[1] ** 2) if form == "piecewise_linear" else 0.0
    return Symmetries(homogeneous, {"even": 1.0, "odd": -1.0, "none": 0.0}[net.activation.parity])


def run_tile_directly(
    averages: Callable[[int, np.ndarray, np.ndarray], Any],
    first: FirstLayer,
    K: tuple[np.ndarray, np.ndarray],
    spread: tuple[np.ndarray, np.ndarray],
    hyper: LayerConstants,
    known: Symmetries,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same in NumPy, for averages (layer, w, s); always all layers."""
    state: Any = enter(first, K[0][0], K[1][0], LayerConstants(*(h[0] for h in hyper)))
    closest = [_smallest_at_first(first, state, K[0][0], K[1][0])]
    kept = [(kernel(state, K[0][0], K[1][0]), state.Theta)]
    for layer in range(len(K[0]) - 1):
        found = averages(layer, state.w, state.s)
        first_side, second_side = ((k[layer], k[layer + 1], g[layer]) for k, g in zip(K, spread, strict=True))
        entered = LayerConstants(*(h[layer + 1] for h in hyper))
        state, absolute = advance(found, state, first_side, second_side, entered, known)
        closest.append(absolute)
        kept.append((kernel(state, K[0][layer + 1], K[1][layer + 1]), state.Theta))
    K_all, Theta_all = (np.stack([k[i] for k in kept]) for i in range(2))
    return K_all, Theta_all, np.array(closest)


def tile_size(n: int) -> int:
    """Samples a tile: about 200 where there are many, a multiple of 8 (few shapes are compiled), with little padding.

    Larger tiles share the work that is done once a tile, smaller ones stay in cache; two at least, so that two cores
    have work.
    """
    tiles = 1 if n <= 64 else max(2, round(n / 200))
    return 8 * ceil(ceil(n / tiles) / 8)


def each_tile(work: Callable[[int, int], None], tiles: int, progress: Progress | None) -> None:
    """`work(i, j)` for all i ≤ j on all cores. Stops cleanly when interrupted."""
    pairs = [(i, j) for i in range(tiles) for j in range(i, tiles)]
    tally = Tally(len(pairs), progress)

    def counted(pair: tuple[int, int]) -> None:
        work(*pair)
        tally.add()

    if tiles == 1:  # nothing to share out
        counted((0, 0))
    else:
        on_all_cores(counted, pairs, tally)
