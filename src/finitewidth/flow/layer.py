r"""What the recursion of the vertex reads of one layer, and the recursion itself in numbers (THEORY §3).

A layer offers averages of products of σ⁽ᵏ⁾ over pairs and quartets of inputs, and joins arrays along named axes. The
same rules (`finitewidth.flow.vertex`) are read by a layer of one input at a time, where every axis is the same and
arrays are multiplied entry by entry, and by a layer of N inputs, where they are contracted as tensors.

The first axis of every array runs over replicas: 0 holds the best values, the others hold values that are as far from
them as the averages are uncertain. How far the results lie apart says what became of those errors in the recursion.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Protocol

import numpy as np

from finitewidth.flow.jets import Sigma, Term
from finitewidth.flow.vertex import FLUCTUATIONS, SHIFTS, Component, Source, rule

Factor = tuple[np.ndarray, str]
"""An array with its first axis over replicas, and the letters of the other axes."""


class Layer(Protocol):
    """One step ℓ → ℓ + 1: C_W and λ_W of layer ℓ + 1, r = n_ℓ/n_{ℓ−1}, and averages at layer ℓ."""

    @property
    def C_W(self) -> float | np.ndarray: ...

    @property
    def lambda_W(self) -> float | np.ndarray: ...

    @property
    def ratio(self) -> float | np.ndarray: ...

    @property
    def Theta(self) -> np.ndarray:
        """The frozen neural tangent kernel of layer ℓ."""

    def pair(self, left: Sigma, right: Sigma) -> np.ndarray:
        """⟨∂ⁱσ⁽ᵏ⁾_a ∂ʲσ⁽ˡ⁾_b⟩, axes in the order of the arguments."""

    def quartet(self, orders: tuple[int, ...]) -> np.ndarray:
        """⟨σ⁽ⁱ⁾_a σ⁽ʲ⁾_b σ⁽ᵏ⁾_c σ⁽ˡ⁾_d⟩."""

    def join(self, factors: Sequence[Factor], axes: str) -> np.ndarray:
        """Σ over the letters that are not in `axes` of the product of the factors."""


def advance(name: str, state: Mapping[str, np.ndarray], layer: Layer) -> np.ndarray:
    """A tensor of layer ℓ + 1 from the tensors of layer ℓ."""
    left_axes, right_axes = axes_of(name)
    axes = "".join(sorted(left_axes + right_axes))
    total = [source(name, layer)]
    for left, (needed, where), right in responses(name, layer):
        factors = [(left, left_axes), (state[needed], where), *([(right, right_axes)] if right is not None else [])]
        total.append(layer.ratio * layer.join(factors, axes))
    return sum_of(total)


def axes_of(name: str) -> tuple[str, str]:
    """The axes of a tensor's two pairs of slots: `("ad", "bc")` for P, `("ab", "")` for G1."""
    p, q = FLUCTUATIONS[name] if name in FLUCTUATIONS else (SHIFTS[name], ())
    return "".join(axis for _, axis in p), "".join(axis for _, axis in q)


def source(name: str, layer: Layer) -> np.ndarray:
    """Cov_u[f_p, f_q]: what this layer's neurons add to the fluctuations."""
    return sum_of([_source(each, *axes_of(name), layer) for each in rule(name).sources] or [np.zeros(1)])


def responses(name: str, layer: Layer) -> Iterator[tuple[np.ndarray, Component, np.ndarray | None]]:
    """The factors of J X Jᵀ, or of J M + ½ J'' : X: left, the component of this layer that they multiply, and right."""
    left_axes, right_axes = axes_of(name)
    for left, component, right in rule(name).responses:
        yield (
            _amplitude(left, left_axes, layer),
            component,
            _amplitude(right, right_axes, layer) if right else None,
        )


def sum_of(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return reduce(np.add, arrays)


def _amplitude(terms: Sequence[Term], axes: str, layer: Layer) -> np.ndarray:
    """Σ of coefficient · Π Θ · ⟨σσ⟩ over the terms, with two axes."""
    total = []
    for term in terms:
        left, right = sorted(term.sigmas, key=lambda s: axes.index(s.sample))
        factors = [(layer.pair(left, right), axes), *((layer.Theta, T) for T in term.Thetas)]
        total.append(_coefficient(term, layer) * layer.join(factors, axes))
    return sum_of(total)


def _source(source: Source, left: str, right: str, layer: Layer) -> np.ndarray:
    """⟨Π σ⟩ − [not connected] ⟨σσ⟩⟨σσ⟩, times Θ and the coefficient."""
    term, axes = source.term, "".join(sorted(left + right))
    sigmas = {s.sample: s for s in term.sigmas}
    average = layer.quartet(tuple(sigmas[a].order for a in axes))
    if not source.is_connected:
        pairs = [(layer.pair(*(sigmas[a] for a in side)), side) for side in (left, right)]
        average = average - layer.join(pairs, axes)
    factors = [(average, axes), *((layer.Theta, T) for T in term.Thetas)]
    return _coefficient(term, layer) * layer.join(factors, axes)


def _coefficient(term: Term, layer: Layer) -> float | np.ndarray:
    return term.coefficient * layer.C_W**term.C_W * layer.lambda_W**term.lambda_W
