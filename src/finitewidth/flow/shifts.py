r"""G1 and H1 of many inputs: what fluctuations add to the mean of the metric, at order 1/n (THEORY §3).

M⁽ℓ⁺¹⁾ = J M⁽ℓ⁾ + ½ J″ : X⁽ℓ⁾, and for the entry ab it needs of X only entries whose four samples are a or b. So the
recursion of two inputs, for every pair of inputs at once, gives all N² of them. The averages that one pair does not fix
in closed form, ⟨σ⁽ⁱ⁾_a σ⁽ʲ⁾_a σ⁽ᵏ⁾_b σ⁽ˡ⁾_b⟩ and their like, come from sample neurons.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

from finitewidth.architecture import MLP
from finitewidth.flow.densely import AllInputs, needed_averages
from finitewidth.flow.layer import advance
from finitewidth.flow.neurons import Means
from finitewidth.flow.vertex import FLUCTUATIONS, with_needed
from finitewidth.gaussian.many_pairs import many_pairs
from finitewidth.gaussian.normals import Normals, principal_root

_EVEN = 64  # columns of even normals
_PAIRS = 8192  # at a time: sixteen entries of every tensor each


_NAMES = with_needed(("G1", "H1"))


def shift_means(net: MLP, K: np.ndarray) -> list[Means]:
    """Averages over pairs of inputs that G1 and H1 need of layers 1 … L − 1, from K of all layers, (L, N, N)."""
    pair_keys, _ = needed_averages(_NAMES)
    return [many_pairs(net.activation, each, pair_keys) for each in K[:-1]]


def mean_shifts(
    net: MLP, K: np.ndarray, Theta: np.ndarray, means: Sequence[Means], *, neurons: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """G1 and H1 at the last layer, (N, N) each, coefficients of 1/n, n the width of the layer before.

    Arguments
        K, Theta: of all layers, (L, N, N). means: `shift_means`. neurons: how many stand for a layer.
    """
    names = _NAMES
    _, quartet_orders = needed_averages(names)
    a, b = np.triu_indices(K.shape[1])
    state = {n: np.zeros((len(a), *(2,) * (4 if n in FLUCTUATIONS else 2))) for n in names}
    for l in range(net.depth - 1):
        drawn = _Products(net, K[l], neurons, rng)
        for at in range(0, len(a), _PAIRS):
            some = slice(at, at + _PAIRS)
            layer = AllInputs(
                float(net.per_layer("C_W")[l + 1]),
                float(net.per_layer("lambda_W")[l + 1]),
                net.widths[l] / net.widths[l - 1] if l else 0.0,
                _two_by_two(Theta[l], a[some], b[some]),
                {key: _two_by_two(mean, a[some], b[some]) for key, mean in means[l].items()},
                {orders: drawn.quartets(orders, a[some], b[some]) for orders in quartet_orders},
            )
            before = {name: values[some] for name, values in state.items()}
            for name, values in {name: advance(name, before, layer) for name in names}.items():
                state[name][some] = values
    found = []
    for name in ("G1", "H1"):
        matrix = np.zeros(K.shape[1:])
        matrix[a, b] = matrix[b, a] = state[name][:, 0, 1]
        found.append(matrix)
    return found[0], found[1]


def _two_by_two(matrix: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The four entries of every pair of inputs, (pairs, 2, 2)."""
    both = np.stack([a, b], axis=1)
    return matrix[both[:, :, None], both[:, None, :]]


class _Products:
    """Averages over sample neurons of products of σ⁽ᵏ⁾ at one input and at another."""

    def __init__(self, net: MLP, K: np.ndarray, neurons: int, rng: np.random.Generator) -> None:
        root = principal_root(K)
        x = Normals(neurons, min(len(K), _EVEN), rng).draw(len(K), _EVEN) @ root.T
        self._sigma = net.activation.evaluate(x, (0, 1, 2, 3))
        self._found: dict[tuple[tuple[int, ...], tuple[int, ...]], np.ndarray] = {}

    def quartets(self, orders: tuple[int, ...], a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """⟨σ⁽ⁱ⁾ σ⁽ʲ⁾ σ⁽ᵏ⁾ σ⁽ˡ⁾⟩ of every pair of inputs, (pairs, 2, 2, 2, 2)."""
        found = np.empty((len(a), 2, 2, 2, 2))
        for places in product((0, 1), repeat=4):
            at_a, at_b = (tuple(o for o, place in zip(orders, places, strict=True) if place == k) for k in (0, 1))
            i, j, k, l = places
            found[:, i, j, k, l] = self._matrix(at_a, at_b)[a, b]
        return found

    def _matrix(self, at_a: tuple[int, ...], at_b: tuple[int, ...]) -> np.ndarray:
        key = tuple(sorted(at_a)), tuple(sorted(at_b))
        if key not in self._found:
            left, right = (self._power(orders) for orders in key)
            self._found[key] = left.T @ right / len(left)
            self._found[key[::-1]] = self._found[key].T
        return self._found[key]

    def _power(self, orders: tuple[int, ...]) -> np.ndarray:
        return np.prod([self._sigma[order] for order in orders], axis=0) * np.ones_like(self._sigma[0])
