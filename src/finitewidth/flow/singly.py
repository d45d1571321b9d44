r"""All tensors of single inputs, V_{aaaa} and its sisters: thousands of layers in less than a second (FACTS §2.6).

The kernel does not depend on the tensors, so all averages of all layers are computed at once; what is left is a
recursion of numbers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from finitewidth.architecture import MLP
from finitewidth.flow.jets import Sigma
from finitewidth.flow.layer import Factor, responses, source
from finitewidth.flow.line import LineFlow
from finitewidth.flow.vertex import rule, with_needed
from finitewidth.gaussian.products import Product, single_input_products

_REPLICAS = 5


@dataclass(frozen=True)
class SingleInputs:
    """All steps of the flow at once, for each of N inputs on its own: arrays of shape (replicas, L − 1, N)."""

    C_W: np.ndarray
    lambda_W: np.ndarray
    ratio: np.ndarray
    Theta: np.ndarray
    products: dict[Product, np.ndarray]
    has_kinks: bool

    def pair(self, left: Sigma, right: Sigma) -> np.ndarray:
        weak = left.weak + right.weak if self.has_kinks else 0
        # at one and the same input only the derivative of the product exists; it is shared evenly among its terms
        return 0.5**weak * self.products[_product((left, right), self.has_kinks)]

    def quartet(self, orders: tuple[int, ...]) -> np.ndarray:
        return self.products[Product(tuple(sorted(orders)))]

    def join(self, factors: Sequence[Factor], axes: str) -> np.ndarray:
        product = factors[0][0]
        for array, _ in factors[1:]:
            product = product * array
        return product


def single_input_flow(
    net: MLP, line: LineFlow, relative_errors: tuple[np.ndarray, np.ndarray], tensors: Iterable[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The tensors at layers 1 … L, and their errors: arrays of shape (L, N) by name.

    X⁽ℓ⁺¹⁾ = A⁽ℓ⁾ X⁽ℓ⁾ + s⁽ℓ⁾, with a number for every tensor.

    Arguments
        relative_errors: of K and of Θ at every layer, shape (L,) each.
        tensors: names; those that they follow from are computed and returned too.
    """
    names = with_needed(tuple(tensors))
    steps = _all_steps(net, line, relative_errors, names)
    L, N = line.K.shape
    X = np.zeros((L, len(names), _REPLICAS, N))
    A, s = np.zeros((L - 1, len(names), len(names), _REPLICAS, N)), np.zeros((L - 1, len(names), _REPLICAS, N))
    for i, name in enumerate(names):
        s[:, i] = np.moveaxis(np.broadcast_to(source(name, steps), (_REPLICAS, L - 1, N)), 1, 0)
        for left, component, right in responses(name, steps):
            A[:, i, names.index(component.name)] += np.moveaxis(
                steps.ratio * (left if right is None else left * right), 1, 0
            )
    for l in range(L - 1):
        X[l + 1] = s[l] + np.einsum("ij...,j...->i...", A[l], X[l])
    error = np.abs(X[:, :, 1:] - X[:, :, :1]).max(2)
    return {n: X[:, i, 0] for i, n in enumerate(names)}, {n: error[:, i] for i, n in enumerate(names)}


def _all_steps(
    net: MLP, line: LineFlow, relative_errors: tuple[np.ndarray, np.ndarray], names: tuple[str, ...]
) -> SingleInputs:
    has_kinks = bool(net.activation.kinks)
    wanted = needed_products(names, has_kinks)
    averages = single_input_products(net.activation, line.K[:-1], wanted)
    of_K, of_Theta = (relative[:-1, None] for relative in relative_errors)
    rng = np.random.default_rng(0)
    replicas = replicated(rng, averages.value, averages.error + of_K * np.abs(averages.value))
    Theta = replicated(rng, line.Theta[:-1], of_Theta * np.abs(line.Theta[:-1]))
    C_W, lambda_W = (net.per_layer(name)[1:, None] for name in ("C_W", "lambda_W"))
    ratio = np.array([0.0, *(n / before for before, n in pairwise(net.widths))])[: len(C_W), None]
    products = {product: replicas[:, i] for i, product in enumerate(wanted)}
    return SingleInputs(C_W, lambda_W, ratio, Theta, products, has_kinks)


def replicated(rng: np.random.Generator, value: np.ndarray, error: np.ndarray) -> np.ndarray:
    """`value`, then `value` ± twice `error` with signs drawn at random, along a new first axis."""
    signs = rng.choice([-2.0, 2.0], size=(_REPLICAS - 1, *value.shape))
    return np.concatenate([value[None], value + signs * error])


@cache
def needed_products(names: tuple[str, ...], has_kinks: bool) -> tuple[Product, ...]:
    """Every average that the rules of these tensors ask of a single input."""
    found = set()
    for name in names:
        for each in rule(name).sources:
            sigmas = sorted(each.term.sigmas)
            found.add(_product(sigmas, has_kinks))
            if not each.is_connected:
                found |= {_product(sigmas[:2], has_kinks), _product(sigmas[2:], has_kinks)}
        for response in rule(name).responses:
            found |= {_product(t.sigmas, has_kinks) for t in (*response.left, *response.right)}
    return tuple(sorted(found))


def _product(sigmas: Iterable[Sigma], has_kinks: bool) -> Product:
    if has_kinks:
        return Product(tuple(sorted(s.order for s in sigmas)), sum(s.weak for s in sigmas))
    return Product(tuple(sorted(s.order + s.weak for s in sigmas)))
