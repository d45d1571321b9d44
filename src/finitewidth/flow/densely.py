r"""All tensors of a few inputs, every entry: T_{abcd} by layer (THEORY §3).

The averages of a layer are exact to their stated errors; with those errors as scatter, the recursion runs several times
at once, and how far the replicas lie apart is the error of its result.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finitewidth.architecture import MLP
from finitewidth.flow.jets import Sigma, Term, pair_key
from finitewidth.flow.layer import Factor, advance
from finitewidth.flow.singly import replicated
from finitewidth.flow.vertex import FLUCTUATIONS, rule, with_needed
from finitewidth.gaussian.quartets import PairKey, pair_averages, quartet_averages


@dataclass(frozen=True)
class AllInputs:
    """One step of the flow for N inputs together: arrays of shape (replicas, N, N) and (replicas, N, N, N, N)."""

    C_W: float
    lambda_W: float
    ratio: float
    Theta: np.ndarray
    pairs: Mapping[PairKey, np.ndarray]
    quartets: Mapping[tuple[int, ...], np.ndarray]

    def pair(self, left: Sigma, right: Sigma) -> np.ndarray:
        key = pair_key(left, right)
        if key in self.pairs:
            return self.pairs[key]
        return self.pairs[pair_key(right, left)].swapaxes(-1, -2)

    def quartet(self, orders: tuple[int, ...]) -> np.ndarray:
        # stored for ascending orders only: slot i of the result is slot ascending.index(i) of what is stored
        ascending = sorted(range(4), key=lambda i: orders[i])
        stored = self.quartets[tuple(orders[i] for i in ascending)]
        return np.moveaxis(stored, [1 + ascending.index(i) for i in range(4)], range(1, 5))

    def join(self, factors: Sequence[Factor], axes: str) -> np.ndarray:
        operands = [array for array, _ in factors]
        letters = ",".join(f"...{letters}" for _, letters in factors)
        return np.einsum(f"{letters}->...{axes}", *operands)


def dense_flow(
    net: MLP,
    K: np.ndarray,
    Theta: np.ndarray,
    relative_errors: tuple[np.ndarray, np.ndarray],
    tensors: Sequence[str],
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Values and errors of the tensors, layer by layer from 1 to L.

    Arguments
        K, Theta: of all layers, shape (L, N, N).
        relative_errors: theirs at every layer, shape (L,) each.
        tensors: names; those that they follow from are computed and returned too.
    """
    names = with_needed(tuple(tensors))
    N = K.shape[1]
    state = {name: np.zeros((1, *(N,) * (4 if name in FLUCTUATIONS else 2))) for name in names}
    rng = np.random.default_rng(0)
    for l in range(net.depth):
        yield {n: state[n][0] for n in names}, {n: np.abs(state[n] - state[n][:1]).max(0) for n in names}
        if l + 1 < net.depth:
            errors = float(relative_errors[0][l]), float(relative_errors[1][l])
            layer = _layer(net, l, (K[l], Theta[l]), errors, rng, names)
            state = {name: advance(name, state, layer) for name in names}


def _layer(
    net: MLP,
    l: int,
    kernels: tuple[np.ndarray, np.ndarray],
    relative_errors: tuple[float, float],
    rng: np.random.Generator,
    names: tuple[str, ...],
) -> AllInputs:
    (K, Theta), (of_K, of_Theta) = kernels, relative_errors

    def replicas(found: np.ndarray) -> np.ndarray:
        value, error = found
        return replicated(rng, value, error + of_K * np.abs(value))

    pair_keys, quartet_orders = needed_averages(names)
    pairs = pair_averages(net.activation, K, pair_keys)
    quartets = quartet_averages(net.activation, K, quartet_orders) if quartet_orders else {}
    return AllInputs(
        float(net.per_layer("C_W")[l + 1]),
        float(net.per_layer("lambda_W")[l + 1]),
        net.widths[l] / net.widths[l - 1] if l else 0.0,
        replicated(rng, Theta, of_Theta * np.abs(Theta)),
        {key: replicas(found) for key, found in pairs.items()},
        {orders: replicas(found) for orders, found in quartets.items()},
    )


def needed_averages(names: tuple[str, ...]) -> tuple[list[PairKey], list[tuple[int, ...]]]:
    """What the rules of these tensors ask: averages of pairs (each in one order of its two inputs) and of quartets."""
    pairs: set[PairKey] = set()
    quartets: set[tuple[int, ...]] = set()

    def add(term: Term, sides: Sequence[Sequence[Sigma]]) -> None:
        for left, right in sides:
            if pair_key(right, left) not in pairs:
                pairs.add(pair_key(left, right))

    for name in names:
        for each in rule(name).sources:
            sigmas = {s.sample: s for s in each.term.sigmas}
            quartets.add(tuple(sorted(s.order for s in sigmas.values())))
            if not each.is_connected:
                add(each.term, [[sigmas[axis] for _, axis in pair] for pair in FLUCTUATIONS[name]])
        for response in rule(name).responses:
            for term in (*response.left, *response.right):
                add(term, [term.sigmas])
    return sorted(pairs), sorted(quartets)
