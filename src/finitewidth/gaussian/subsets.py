r"""⟨Π σ⁽ᵏ⁾⟩ over every pair and every quartet of inputs, for smooth σ: lattices in as many dimensions as inputs differ.

An average over four inputs is an integral over the *distinct* ones among them. With z = L x, K = L Lᵀ and x on a lattice
of spacing h, the trapezoid rule converges geometrically for analytic σ. What it gets wrong are the Fourier components of
the integrand at the points of the dual lattice. Two lattices, the second shifted by half a cell in every direction,
have them with opposite signs at the points with an odd sum of indices, and these are the nearest ones: their mean is free of
them, their difference shows them. The next points are √2 times as far, so a relative difference δ leaves a relative
error of the mean of at most about δ^√2 (for a Gaussian Fourier transform δ²).

For a subset of inputs, products over the left half of the slots times products over the right half are one matrix
product over the nodes, which holds the averages of all orders of derivatives at once.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, reduce
from itertools import combinations, product
from os import cpu_count
from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.activations import Activation
from finitewidth.errors import InputError
from finitewidth.gaussian.factor import factor
from finitewidth.gaussian.products import Product, single_input_products
from finitewidth.precision import float64

Orders = tuple[int, ...]
Pattern = tuple[tuple[int, ...], tuple[int, ...]]
"""Positions within the subset of the inputs on the left and on the right of the matrix product."""

_PORTION = 2048
_MOST_NODES = 40_000_000
_SPACINGS = tuple(0.95 * 0.87**i for i in range(24))
_BALL = {1: 1.0, 2: 0.785, 3: 0.524, 4: 0.308}  # of a cube
# By dimension: the relative error of one lattice on a line that the first spacing is chosen for, the relative error of
# the mean beyond which it is refined, and the relative weight beyond which the Gaussian's tail is cut off.
_START = {2: 1e-8, 3: 1e-4, 4: 3e-3}
_GOAL = {2: 1e-12, 3: 1e-8, 4: 1e-7}
_TAIL = {2: 1e-15, 3: 1e-11, 4: 1e-9}
_EXPONENT = 1.4
# (slots, distinct inputs) -> the matrix products that hold all averages
_PATTERNS: dict[tuple[int, int], tuple[Pattern, ...]] = {
    (2, 2): (((0,), (1,)),),
    (4, 2): (((0, 0), (1, 1)), ((0, 0), (0, 1)), ((0, 1), (1, 1))),
    (4, 3): (((0, 0), (1, 2)), ((1, 1), (0, 2)), ((2, 2), (0, 1))),
    (4, 4): (((0, 1), (2, 3)),),
}
_programs: "WeakKeyDictionary[Activation, dict[Any, Any]]" = WeakKeyDictionary()


def averages_of_subsets(activation: Activation, K: np.ndarray, wanted: Sequence[Orders]) -> dict[Orders, np.ndarray]:
    """⟨σ⁽ᵏ⁾_a σ⁽ˡ⁾_b⟩ (orders of length 2) or ⟨σ⁽ⁱ⁾_a σ⁽ʲ⁾_b σ⁽ᵏ⁾_c σ⁽ˡ⁾_d⟩ (length 4) for all a, b(, c, d).

    Arguments
        activation: without kinks.
        K: kernel, shape (N, N), of any rank.
        wanted: tuples of orders, all of the same length.

    Returns
        by orders, arrays of shape (2, N, N(, N, N)): values and absolute errors.

    Raises
        InputError: if σ overflows, or changes so fast at these K that a lattice would have too many nodes.
    """
    slots, N = len(wanted[0]), len(K)
    found = {orders: np.zeros((2, *(N,) * slots)) for orders in wanted}
    _fill_diagonal(activation, K, found)
    orders = tuple(sorted({k for each in wanted for k in each}))
    for size in range(2, min(N, slots) + 1):
        subsets = np.array(list(combinations(range(N), size)))
        tables = _tables(activation, K, subsets, orders, slots, tuple(wanted))
        for each, pattern, positions, assignment in _assignments(wanted, slots, size):
            column = tuple(orders.index(each[slot]) for slot in positions)
            where = tuple(subsets[:, i] for i in assignment)
            found[each][(slice(None), *where)] = tables[(slice(None), slice(None), pattern, *column)]
    return found


def _fill_diagonal(activation: Activation, K: np.ndarray, found: dict[Orders, np.ndarray]) -> None:
    wanted = tuple(sorted({Product(tuple(sorted(orders))) for orders in found}))
    value, error, _ = single_input_products(activation, np.diag(K), wanted)
    for orders, array in found.items():
        i = wanted.index(Product(tuple(sorted(orders))))
        array[(slice(None), *(np.arange(len(K)),) * len(orders))] = np.stack([value[i], error[i]])


def _assignments(
    wanted: Sequence[Orders], slots: int, size: int
) -> Iterator[tuple[Orders, int, tuple[int, ...], tuple[int, ...]]]:
    """Every way to put a subset's inputs on the slots: orders, pattern, the slot at each of its positions, inputs."""
    patterns = _PATTERNS[slots, size]
    inputs = [sorted(left + right) for left, right in patterns]
    for assignment in product(range(size), repeat=slots):
        if len(set(assignment)) < size:
            continue
        pattern = inputs.index(sorted(assignment))
        rest, positions = list(range(slots)), []
        for i in (*patterns[pattern][0], *patterns[pattern][1]):
            positions.append(next(slot for slot in rest if assignment[slot] == i))
            rest.remove(positions[-1])
        for orders in wanted:
            yield orders, pattern, tuple(positions), assignment


def _tables(
    activation: Activation, K: np.ndarray, subsets: np.ndarray, orders: Orders, slots: int, wanted: tuple[Orders, ...]
) -> np.ndarray:
    """For each subset, the matrix products of its patterns: values and errors, (2, subsets, patterns, *(orders,) * slots).

    The spacing is tried on the three subsets whose inputs are most alike: there the integrand changes fastest.
    """
    size = subsets.shape[1]
    factors = [factor(K[np.ix_(subset, subset)]) for subset in subsets]
    ranks = np.array([L.shape[1] for L in factors])
    found = np.zeros((2, len(subsets), len(_PATTERNS[slots, size]), *(len(orders),) * slots))
    largest = float(np.diag(K).max())
    for rank in map(int, np.unique(ranks)):
        here = np.flatnonzero(ranks == rank)
        L = np.stack([factors[i] for i in here])
        alike = np.argsort([-np.linalg.norm(l, 2) for l in L])[:3]
        program = _program(activation, orders, slots, size)
        reach = _reach(activation, largest, orders, slots, _TAIL.get(rank, 1e-15))
        for h in _spacings(activation, largest, wanted, rank, reach):
            _, error, scale = _summed(program, L[alike], rank, h, reach)
            if np.all(error <= _GOAL.get(rank, 1e-12) * scale):
                break
        else:
            raise InputError(
                f"averages over {rank} inputs at K = {largest:.4g} need more than {_MOST_NODES:.0e} nodes for "
                f"{activation.name}; use smaller inputs, C_W or C_b, or fewer inputs"
            )
        value, error, scale = _summed(program, L, rank, h, reach)
        cut = 4 * np.finfo(float).eps + 16 * _TAIL.get(rank, 0.0)  # rounding, and the tail that no lattice sees
        found[:, here] = np.stack([value, error + cut * scale]).reshape(
            2, len(here), *found.shape[2:]
        )
    return found


def _summed(
    program: Any, factors: np.ndarray, rank: int, h: float, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of the two lattices, its error, and the root mean squares it is measured by: (subsets, patterns, n, n)."""
    nodes, weights = _two_lattices(rank, h, reach)

    def portion(L: np.ndarray) -> tuple[np.ndarray, ...]:
        with float64():  # of this thread
            return tuple(np.asarray(each) for each in program(L, nodes, weights))

    threads = min(cpu_count() or 1, len(factors))
    size = -(-len(factors) // threads)
    padded = np.concatenate([factors, np.repeat(factors[-1:], size * threads - len(factors), axis=0)])
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(portion, np.split(padded, threads)))
    one, other, scale = (np.concatenate(each)[: len(factors)] for each in zip(*found, strict=True))
    # of the entries of a product the one that is farthest off: others may agree by chance
    apart = np.minimum(np.abs(one - other) / scale, 1.0).max(axis=(-2, -1), keepdims=True)
    return 0.5 * (one + other), scale * apart**_EXPONENT, scale


def _program(activation: Activation, orders: Orders, slots: int, size: int) -> Any:
    """(factors, nodes, weights) -> sums over both lattices, and √(⟨A²⟩⟨B²⟩) of the left and right products."""
    programs = _programs.setdefault(activation, {})
    if (orders, slots, size) in programs:
        return programs[orders, slots, size]
    derivatives = [activation.derivative(k) for k in orders]
    patterns = _PATTERNS[slots, size]

    def half(d: jax.Array, positions: tuple[int, ...]) -> jax.Array:
        found = jnp.ones((1, d.shape[-1]))
        for i in positions:
            found = (found[:, None] * d[:, i]).reshape(-1, d.shape[-1])
        return found

    def of_subset(L: jax.Array, nodes: jax.Array, weights: jax.Array) -> tuple[jax.Array, ...]:
        def add(total: jax.Array, portion: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            x, w = portion
            z = L @ x
            d = jnp.stack([jnp.broadcast_to(f(z), z.shape) for f in derivatives])
            halves = [(half(d, left), half(d, right)) for left, right in patterns]
            sums = jnp.stack([(A * w) @ B.T for A, B in halves])
            squares = jnp.stack([jnp.outer((A * A) @ w, (B * B) @ w) for A, B in halves])
            return total + jnp.stack([sums, squares]), None

        n = len(orders) ** (slots // 2)
        both = [jax.lax.scan(add, jnp.zeros((2, len(patterns), n, n)), each)[0] for each in zip(nodes, weights)]
        return both[0][0], both[1][0], jnp.sqrt(both[0][1]) + jnp.finfo(float).tiny

    programs[orders, slots, size] = jax.jit(
        lambda factors, nodes, weights: jax.lax.map(lambda L: of_subset(L, nodes, weights), factors)
    )
    return programs[orders, slots, size]


@lru_cache(maxsize=8)
def _two_lattices(rank: int, h: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes, shape (2, portions, rank, _PORTION), and weights of the lattice and of the shifted one.

    The number of portions is a power of two: few shapes are ever compiled.
    """
    n = int(np.ceil(reach / h)) + 1
    found = []
    for shift in (0.0, 0.5):
        x = h * (np.arange(-n, n + 1) + shift)
        squares = reduce(np.add.outer, [x * x] * rank)
        found.append(x[np.stack(np.nonzero(squares <= reach * reach))])
    portions = 1 << max(0, int(np.ceil(np.log2(max(x.shape[1] for x in found) / _PORTION))))
    nodes, weights = np.zeros((2, rank, portions * _PORTION)), np.zeros((2, portions * _PORTION))
    for i, x in enumerate(found):
        nodes[i, :, : x.shape[1]] = x
        weights[i, : x.shape[1]] = (h / np.sqrt(2 * np.pi)) ** rank * np.exp(-0.5 * (x * x).sum(0))
    nodes = nodes.reshape(2, rank, portions, _PORTION).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(nodes), weights.reshape(2, portions, _PORTION)


def _spacings(
    activation: Activation, variance: float, wanted: tuple[Orders, ...], rank: int, reach: float
) -> Iterator[float]:
    """Spacings to try: from the first that gives these averages of a single input roughly, to the finest affordable."""
    keys = tuple(sorted({Product(tuple(sorted(orders))) for orders in wanted}))
    exact = single_input_products(activation, np.array([variance]), keys).value[:, 0]
    orders = tuple(sorted({k for key in keys for k in key.orders}))
    n = np.arange(-np.ceil(reach / _SPACINGS[-1]), np.ceil(reach / _SPACINGS[-1]) + 1)
    is_enough = False
    for h in _SPACINGS:
        if _BALL[rank] * (2 * reach / h) ** rank > _MOST_NODES:
            return
        if not is_enough:
            x = h * n[np.abs(n) * h <= reach + h]
            d = dict(zip(orders, activation.evaluate(np.sqrt(variance) * x, orders), strict=True))
            rows = np.stack([np.prod([d[k] for k in key.orders], axis=0) for key in keys])
            weight = h / np.sqrt(2 * np.pi) * np.exp(-0.5 * x * x)
            is_enough = bool(np.all(np.abs(rows @ weight - exact) <= _START.get(rank, 1e-9) * (np.abs(rows) @ weight)))
        if is_enough:
            yield h


def _reach(activation: Activation, variance: float, orders: Orders, slots: int, negligible: float) -> float:
    """Standard deviations beyond which no product of `slots` derivatives has a relative weight above `negligible`."""
    r = np.arange(0.25, 38.0, 0.25)
    x = np.concatenate([-r[::-1], r])
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(activation.evaluate(np.sqrt(variance) * x, orders)).max(0) ** slots
        weight = np.nan_to_num(size, nan=np.inf) * np.exp(-0.5 * x * x) * np.abs(x) ** 3
    if not np.all(np.isfinite(weight)):
        raise InputError(f"{activation.name} overflows where a Gaussian of variance {variance:.4g} still has weight")
    return float(np.abs(x[weight > negligible * weight.max()]).max() + 0.25)
