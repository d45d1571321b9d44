r"""⟨Π σ⁽ᵏ⁾⟩ over every pair and every quartet of inputs, for smooth σ.

An average over four slots is an integral over the *distinct* inputs among them: one is a line, two are a plane with a
lattice on it (`planes`), three or four are two planes, joined by their canonical correlations (`canonical`). Always the
products over two slots are the left and the right factor of a matrix product, which holds all orders of derivatives at
once.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from finitewidth.activations import Activation
from finitewidth.cores import on_all_cores
from finitewidth.gaussian.canonical import averages_of_quartets, canonical_correlations
from finitewidth.gaussian.planes import Lattices, derivatives_on, mean_of_lattices, reach, spacing
from finitewidth.gaussian.products import Product, single_input_products

Orders = tuple[int, ...]
Pattern = tuple[tuple[int, ...], tuple[int, ...]]
"""Positions within the subset of the inputs on the left and on the right of the matrix product."""

# (slots, distinct inputs) -> the matrix products that hold all averages
_PATTERNS: dict[tuple[int, int], tuple[Pattern, ...]] = {
    (2, 2): (((0,), (1,)),),
    (4, 2): (((0, 0), (1, 1)), ((0, 0), (0, 1)), ((0, 1), (1, 1))),
    (4, 3): (((0, 0), (1, 2)), ((1, 1), (0, 2)), ((2, 2), (0, 1))),
    (4, 4): (((0, 1), (2, 3)),),
}
_SPLITS = np.array([[0, 1, 2, 3], [0, 2, 1, 3], [0, 3, 1, 2]])


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
    wanted = [orders for orders in wanted if activation.parity == "none" or sum(orders) % 2 == 0]  # else zero
    if not wanted:
        return found
    _fill_diagonal(activation, K, {orders: found[orders] for orders in wanted})
    halves = _halves(wanted)
    ascending = {tuple(sorted(orders)) for orders in wanted}
    which = np.array(
        [(i, j) for i, l in enumerate(halves) for j, r in enumerate(halves) if tuple(sorted(l + r)) in ascending]
    ).T
    needed = tuple(sorted({k for half in halves for k in half}))
    variance = float(np.diag(K).max())
    to = reach(activation, variance, needed, slots)
    h = spacing(activation, variance, tuple(wanted), to)
    if N > 1:
        pairs = np.array(list(combinations(range(N), 2)))
        _fill(found, wanted, halves, pairs, _on_planes(activation, K, pairs, halves, h, to))
    if slots == 4 and N > 2:
        subsets = [np.array(list(combinations(range(N), 3))), _well_split(K, np.array(list(combinations(range(N), 4))))]
        quartets = [each[:, np.array([l + r for l, r in _PATTERNS[4, each.shape[1]]])] for each in subsets if len(each)]
        every = np.concatenate([each.reshape(-1, 4) for each in quartets])
        tables = averages_of_quartets(activation, K, every, halves, which, h, to)
        at = 0
        for each, those in zip(subsets, quartets, strict=False):
            end = at + those.shape[0] * those.shape[1]
            _fill(found, wanted, halves, each, tables[:, at:end].reshape(2, *those.shape[:2], *tables.shape[2:]))
            at = end
    return found


def _fill(
    found: dict[Orders, np.ndarray],
    wanted: Sequence[Orders],
    halves: tuple[Orders, ...],
    subsets: np.ndarray,
    tables: np.ndarray,
) -> None:
    """From matrix products, shape (2, subsets, patterns, halves, halves), to every order of their inputs."""
    slots = len(wanted[0])
    for orders, pattern, positions, assignment in _assignments(wanted, slots, subsets.shape[1]):
        left, right = (
            halves.index(tuple(orders[slot] for slot in side))
            for side in (positions[: slots // 2], positions[slots // 2 :])
        )
        found[orders][:, *subsets.T[list(assignment)]] = tables[:, :, pattern, left, right]


def _fill_diagonal(activation: Activation, K: np.ndarray, found: dict[Orders, np.ndarray]) -> None:
    wanted = tuple(sorted({Product(tuple(sorted(orders))) for orders in found}))
    value, error, _ = single_input_products(activation, np.diag(K), wanted)
    for orders, array in found.items():
        diagonal: Any = (slice(None), *[np.arange(len(K))] * len(orders))
        i = wanted.index(Product(tuple(sorted(orders))))
        array[diagonal] = np.stack([value[i], error[i]])


def _halves(wanted: Sequence[Orders]) -> tuple[Orders, ...]:
    """The orders that one side of a matrix product can have: those of any half of the slots."""
    size = len(wanted[0]) // 2
    slots = [each for each in product(range(2 * size), repeat=size) if len(set(each)) == size]
    return tuple(sorted({tuple(orders[slot] for slot in each) for orders in wanted for each in slots}))


def _well_split(K: np.ndarray, subsets: np.ndarray) -> np.ndarray:
    """The same subsets, ordered such that the planes of the first two and the last two inputs are least correlated."""
    std = np.sqrt(np.diag(K))
    rho = np.clip(K / np.outer(std, std), -1.0, 1.0)
    if not len(subsets):
        return subsets.reshape(0, 4)
    s = np.stack([canonical_correlations(rho, subsets[:, split])[0][:, 0] for split in _SPLITS])
    return np.take_along_axis(subsets, _SPLITS[np.argmin(s, axis=0)], axis=1)


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


def _on_planes(
    activation: Activation, K: np.ndarray, pairs: np.ndarray, halves: tuple[Orders, ...], h: float, reach: float
) -> np.ndarray:
    """For each pair of inputs, products of its patterns: values and errors, (2, pairs, patterns, halves, halves)."""
    lattices = Lattices.of(h, reach, activation.parity != "none")
    weights = lattices.weights.reshape(2, -1)
    orders = tuple(sorted({k for half in halves for k in half}))
    patterns = _PATTERNS[2 * len(halves[0]), 2]
    found = np.zeros((2, len(pairs), len(patterns), len(halves), len(halves)))
    std = np.sqrt(np.diag(K))

    def fill(at: int) -> None:
        pair = pairs[at]
        rho = np.clip(K[pair[:1], pair[1:]] / np.prod(std[pair]), -1.0, 1.0)
        d = derivatives_on(activation, std[pair][None], rho, orders, lattices).reshape(len(orders), 2, 2, -1)
        sides = {
            side: np.stack(
                [np.prod([d[orders.index(k), j] for k, j in zip(half, side, strict=True)], 0) for half in halves], 1
            )
            for side in {side for pattern in patterns for side in pattern}
        }
        squares = {side: np.einsum("lhm,lm->h", A * A, 0.5 * weights) for side, A in sides.items()}
        for i, (left, right) in enumerate(patterns):
            both = (sides[left] * weights[:, None]) @ sides[right].swapaxes(1, 2)
            scale = np.sqrt(np.multiply.outer(squares[left], squares[right])) + np.finfo(float).tiny
            found[:, at, i] = mean_of_lattices(both, scale)

    on_all_cores(fill, range(len(pairs)))
    return found
