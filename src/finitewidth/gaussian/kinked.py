r"""Averages over every pair and quartet of a few inputs where σ has kinks: almost everywhere, and with the deltas.

The derivative of σ in the sense of distributions is its almost-everywhere derivative and, at every kink κ, deltas
times the jumps there,

    ∂ⁱσ⁽ᵏ⁾ = σ⁽ᵏ⁺ⁱ⁾ + Σ_κ Σ_{m<i} [σ⁽ᵏ⁺ⁱ⁻¹⁻ᵐ⁾]_κ δ⁽ᵐ⁾(z − κ) ,

and a delta in one input of a pair leaves an integral over the other: (−∂_a)ᵐ of the joint density at z_a = κ, which is
a Hermite polynomial times the density.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations, product

import numpy as np

from finitewidth.activations import Activation
from finitewidth.gaussian.common_factors import averages_by_factors
from finitewidth.gaussian.factor import factor
from finitewidth.gaussian.line import average
from finitewidth.gaussian.products import Product, single_input_products
from finitewidth.gaussian.truncated import Key, can_be_truncated, truncated_averages

Orders = tuple[int, ...]
PairKey = tuple[int, int, int, int]
"""(k, i, l, j) of ⟨∂ⁱσ⁽ᵏ⁾_a ∂ʲσ⁽ˡ⁾_b⟩."""

_STEP = 1e-9
_OFF_THE_LINE = 0.25  # of θ times an average's size; 0.01 to 0.03 of it is what H1 and A were off by
_ALIKE = 0.1  # sin θ below which det K is not what rounding leaves alone
_EPS = float(np.finfo(float).eps)
_EQUAL = 8 * _EPS  # inputs whose kernels differ by rounding alone

ALMOST_COLLINEAR = (1e-4, 2e-3)
"""Angles below which inputs are collinear where deltas of both meet: of ∂² and of ∂⁴.

Averages of such terms go like θ⁻¹ and θ⁻³, and what they multiply in the flow vanishes like θ² and θ⁴, if rounding lets
it: 10⁻¹³ of it would be 10⁻¹³ θ⁻³ of a shift of order one, whereas taking the line instead is off by some θ.
"""


def kinked_quartets(activation: Activation, K: np.ndarray, wanted: Sequence[Orders]) -> dict[Orders, np.ndarray]:
    """⟨σ⁽ⁱ⁾_a σ⁽ʲ⁾_b σ⁽ᵏ⁾_c σ⁽ˡ⁾_d⟩ of almost-everywhere derivatives: values and errors, shape (2, N, N, N, N)."""
    N = len(K)
    found = {orders: np.zeros((2, N, N, N, N)) for orders in wanted}
    for size in range(1, min(N, 4) + 1):
        subsets = np.array(list(combinations(range(N), size)))
        placed = [(orders, a, _key(orders, a, size)) for orders in wanted for a in _surjections(4, size)]
        keys = sorted({key for *_, key in placed})
        averages = _regular(activation, K, subsets, keys)
        for orders, assignment, key in placed:
            found[orders][:, *subsets.T[list(assignment)]] = averages[:, keys.index(key)]
    return found


def kinked_pairs(activation: Activation, K: np.ndarray, wanted: Sequence[PairKey]) -> dict[PairKey, np.ndarray]:
    """⟨∂ⁱσ⁽ᵏ⁾_a ∂ʲσ⁽ˡ⁾_b⟩ by (k, i, l, j), ∂ with deltas: values and errors, shape (2, N, N).

    At equal and at collinear inputs, z_b = c z_a, only the derivative of the product along the line exists. It is
    shared among the terms of ∂ⁿ = (∂_a + c ∂_b)ⁿ evenly. So it is at inputs that are almost so, where a delta of one
    meets a delta of the other in a term of ∂ⁿ; the errors then say what that changes.
    """
    N = len(K)
    found = {key: np.zeros((2, N, N)) for key in wanted}
    pairs = np.array(list(combinations(range(N), 2)), dtype=int).reshape(-1, 2)
    is_line = np.array([factor(K[np.ix_(p, p)]).shape[1] == 1 for p in pairs], dtype=bool)
    for a, b in [(a, a) for a in range(N)] + [(int(i), int(j)) for p in pairs[is_line] for i, j in (p, p[::-1])]:
        c = np.sign(K[a, b]) * np.sqrt(K[b, b] / K[a, a])
        for key, (value, error) in zip(wanted, _on_line(activation, K[a, a], c, wanted), strict=True):
            found[key][:, a, b] = value, error
    plane = pairs[~is_line]
    if len(plane):
        keys = sorted({_flipped(k + i, l + j, flip) for k, i, l, j in wanted for flip in (False, True)})
        regular = _regular(activation, K, plane, keys)
        for key, array in found.items():
            k, i, l, j = key
            for flip in (False, True):
                (a, b), at = (plane.T[::-1] if flip else plane.T), keys.index(_flipped(k + i, l + j, flip))
                array[:, a, b] = regular[:, at]
                for x, y in zip(a, b, strict=True):
                    array[:, x, y] += _of_rounded(activation, K[np.ix_([x, y], [x, y])], key)
    return _almost_on_lines(activation, K, plane, found)


def _almost_on_lines(
    activation: Activation, K: np.ndarray, plane: np.ndarray, found: dict[PairKey, np.ndarray]
) -> dict[PairKey, np.ndarray]:
    """The averages, those of the line in place of what diverges at pairs of inputs that are almost collinear."""
    meeting = [key for key in found if _deltas_meet(activation, key)]
    for p in plane:
        apart = _angle(K[np.ix_(p, p)])
        keys = [key for key in meeting if apart < ALMOST_COLLINEAR[key[1] + key[3] > 2]]
        for a, b in (p, p[::-1]) if keys else ():
            c = np.sign(K[a, b]) * np.sqrt(K[b, b] / K[a, a])
            for key, (value, error) in zip(keys, _on_line(activation, K[a, a], c, keys), strict=True):
                found[key][:, a, b] = value, error + _OFF_THE_LINE * apart * _size(activation, K[a, a], K[b, b], key)
    return found


def _angle(K: np.ndarray) -> float:
    """sin θ of two inputs."""
    (aa, ab), (_, bb) = K
    root = np.sqrt(aa * bb)
    return float(np.sqrt(max(0.0, (root - ab) * (root + ab))) / root)


def _deltas_meet(activation: Activation, key: PairKey) -> bool:
    """Whether some term of ∂ⁿ, n = i + j, has deltas of both σ⁽ᵏ⁾ and σ⁽ˡ⁾."""
    k, i, l, j = key
    return any(
        next(_deltas(activation, k, of_a), None) and next(_deltas(activation, l, i + j - of_a), None)
        for of_a in range(1, i + j)
    )


def _size(activation: Activation, aa: float, bb: float, key: PairKey) -> float:
    """√(⟨σ⁽ᵏ⁾²⟩_a ⟨σ⁽ˡ⁾²⟩_b / K_aaⁱ K_bbʲ): what an average is of the order of."""
    k, i, l, j = key

    def mean_square(order: int, K: float) -> float:
        return float(average(lambda z: activation.evaluate(z, (order,))[0] ** 2, K, kinks=activation.breaks).value)

    left, right = mean_square(k, aa), mean_square(l, bb)
    return float(np.sqrt(left * right / (aa**i * bb**j)))


def _flipped(p: int, q: int, flip: bool) -> Key:
    return ((q,), (p,)) if flip else ((p,), (q,))


def _regular(activation: Activation, K: np.ndarray, subsets: np.ndarray, keys: Sequence[Key]) -> np.ndarray:
    """Averages of almost-everywhere derivatives over subsets of inputs: values and errors, (2, keys, subsets).

    Inputs that are equal are one, at which the orders of all of them are multiplied.
    """
    found = np.zeros((2, len(keys), len(subsets)))
    by_place: dict[tuple[int, ...], list[int]] = {}
    for i, subset in enumerate(subsets):
        by_place.setdefault(_places(K[np.ix_(subset, subset)]), []).append(i)
    for places, some in by_place.items():
        distinct = subsets[some][:, [places.index(place) for place in range(max(places) + 1)]]
        merged = [_key(tuple(chain(*key)), _repeated(places, key), distinct.shape[1]) for key in keys]
        wanted = sorted(set(merged))
        averages = _of_different(activation, K, distinct, wanted)
        found[:, :, some] = averages[:, [wanted.index(key) for key in merged]]
    return found


def _places(K: np.ndarray) -> tuple[int, ...]:
    """For each input, its place among those that differ: (0, 1, 2, 1) where the last is the second again."""
    size = np.sqrt(np.outer(np.diag(K), np.diag(K)))
    first = [int(np.flatnonzero(np.all(np.abs(K - row) <= _EQUAL * size, axis=1))[0]) for row in K]
    return tuple(sorted(set(first)).index(each) for each in first)


def _repeated(places: tuple[int, ...], key: Key) -> tuple[int, ...]:
    """The place of every order of a key."""
    return tuple(place for place, orders in zip(places, key, strict=True) for _ in orders)


def _of_different(activation: Activation, K: np.ndarray, subsets: np.ndarray, keys: Sequence[Key]) -> np.ndarray:
    size = subsets.shape[1]
    if size == 1:
        products = tuple(Product(key[0]) for key in keys)
        return np.stack(single_input_products(activation, np.diag(K)[subsets[:, 0]], products)[:2])
    found = np.zeros((2, len(keys), len(subsets)))
    kernels = np.stack([K[np.ix_(subset, subset)] for subset in subsets])
    is_exact = np.array([can_be_truncated(activation) and factor(k).shape[1] == size for k in kernels], dtype=bool)
    if is_exact.any():
        found[:, :, is_exact] = np.stack(truncated_averages(activation, kernels[is_exact], keys)[:2])
    if not is_exact.all():
        found[:, :, ~is_exact] = np.stack(averages_by_factors(activation, kernels[~is_exact], keys)[:2])
    return found


def _surjections(slots: int, size: int) -> Iterator[tuple[int, ...]]:
    return (a for a in product(range(size), repeat=slots) if len(set(a)) == size)


def _key(orders: Orders, assignment: tuple[int, ...], size: int) -> Key:
    return tuple(tuple(sorted(k for k, a in zip(orders, assignment, strict=True) if a == i)) for i in range(size))


def _on_line(activation: Activation, K: float, c: float, wanted: Sequence[PairKey]) -> Iterator[tuple[float, float]]:
    """For z_b = c z_a: ⟨dⁿ/dz_aⁿ σ⁽ᵏ⁾(z_a) σ⁽ˡ⁾(c z_a)⟩ / (2ⁿ cʲ), n = i + j, by integration by parts."""
    for k, i, l, j in wanted:
        n = i + j
        he = np.polynomial.hermite_e.HermiteE.basis(n)

        def f(z: np.ndarray, k: int = k, l: int = l, he: Callable[..., np.ndarray] = he) -> np.ndarray:
            return activation.evaluate(z, (k,))[0] * activation.evaluate(c * z, (l,))[0] * he(z / np.sqrt(K))

        kinks = tuple({*activation.breaks, *(z / c for z in activation.breaks)})
        estimate = average(f, K, kinks=kinks)
        factor_ = K ** (-0.5 * n) * 0.5**n * c**-j
        yield float(estimate.value * factor_), float(estimate.error * abs(factor_))


def _of_rounded(activation: Activation, K: np.ndarray, key: PairKey) -> np.ndarray:
    """What the deltas add, with what rounding of K_ab does to it where the inputs are much alike: powers of 1/det K."""
    value, error = _of_deltas(activation, K, key)
    if value and _angle(K) < _ALIKE:
        moved, _ = _of_deltas(activation, K * np.array([[1.0, 1 - 4 * _EPS], [1 - 4 * _EPS, 1.0]]), key)
        error += abs(moved - value)
    return np.array([value, error])


def _of_deltas(activation: Activation, K: np.ndarray, key: PairKey) -> np.ndarray:
    """What the deltas of ∂ⁱσ⁽ᵏ⁾_a and ∂ʲσ⁽ˡ⁾_b add to the almost-everywhere average: value and error."""
    k, i, l, j = key
    total = np.zeros(2)
    for kink, m, jump in _deltas(activation, k, i):
        total += jump * np.array(_delta_times(activation, K, kink, m, l + j))
        for other, q, other_jump in _deltas(activation, l, j):
            both = hermite(K, (m, q), np.array([kink]), np.array([other]))
            total[0] += jump * other_jump * float(both[0]) * _density(K, kink, other)
    for kink, m, jump in _deltas(activation, l, j):
        total += jump * np.array(_delta_times(activation, K[::-1, ::-1], kink, m, k + i))
    return np.array([total[0], abs(total[1]) + 1e-14 * abs(total[0])])


def _deltas(activation: Activation, order: int, weak: int) -> Iterator[tuple[float, int, float]]:
    """κ, m and the coefficient of δ⁽ᵐ⁾(z − κ) in ∂^weak σ^(order)."""
    for kink in activation.kinks:
        h = _STEP * max(1.0, abs(kink))
        for m in range(weak):
            k = order + weak - 1 - m
            before, after = activation.evaluate(np.array([kink - h, kink + h]), (k,))[0]
            # what a smooth function changes over 2h is no jump
            if abs(after - before) > 1e-6 * max(1.0, abs(before), abs(after)):
                yield kink, m, after - before


def _delta_times(activation: Activation, K: np.ndarray, kink: float, m: int, order: int) -> tuple[float, float]:
    """⟨δ⁽ᵐ⁾(z_a − κ) σ^(order)(z_b)⟩ = ∫ dz_b (−∂_a)ᵐ p(κ, z_b) σ^(order)(z_b), and (−∂_a)ᵐ p = H_m0 p."""
    slope = K[0, 1] / K[0, 0]
    rest = float(K[1, 1] - slope * K[0, 1])
    mean = slope * kink

    def f(x: np.ndarray) -> np.ndarray:
        z = mean + x
        return activation.evaluate(z, (order,))[0] * hermite(K, (m, 0), np.full_like(z, kink), z)

    estimate = average(f, rest, kinks=tuple(each - mean for each in activation.breaks))
    density = np.exp(-0.5 * kink * kink / K[0, 0]) / np.sqrt(2 * np.pi * K[0, 0])
    return float(estimate.value * density), float(abs(estimate.error * density))


def hermite(K: np.ndarray, orders: tuple[int, int], za: np.ndarray, zb: np.ndarray) -> np.ndarray:
    """H_{mq} with ∂_aᵐ ∂_b^q p = (−1)^{m+q} H_{mq} p, p the density of N(0, K): H_{+a} = y_a H − Σ_b K⁻¹_ab ∂H/∂y_b."""
    inverse = np.linalg.inv(K)
    y = inverse[0, 0] * za + inverse[0, 1] * zb, inverse[1, 0] * za + inverse[1, 1] * zb

    def of(m: int, q: int) -> np.ndarray:
        if m < 0 or q < 0:
            return np.zeros_like(za)
        if m == q == 0:
            return np.ones_like(za)
        if m:
            return y[0] * of(m - 1, q) - inverse[0, 0] * (m - 1) * of(m - 2, q) - inverse[0, 1] * q * of(m - 1, q - 1)
        return y[1] * of(0, q - 1) - inverse[1, 1] * (q - 1) * of(0, q - 2)

    return of(*orders)


def _density(K: np.ndarray, za: float, zb: float) -> float:
    z = np.array([za, zb])
    return float(np.exp(-0.5 * z @ np.linalg.solve(K, z)) / (2 * np.pi * np.sqrt(np.linalg.det(K))))
