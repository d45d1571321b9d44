"""Products of preactivations with neurons that are equal or different: averages over a layer, partitions, cumulants."""

from collections.abc import Iterator, Sequence
from functools import cache, partial
from math import factorial, perm, prod

import jax
import jax.numpy as jnp

from finitewidth.errors import InputError

MOST = 6  # factors
Blocks = tuple[tuple[str, tuple[int, ...]], ...]


def pattern_of(text: str) -> str:
    """The pattern of neurons with its letters renamed i, j, k, … in the order in which they come."""
    if not isinstance(text, str) or not text.isalpha() or not 1 <= len(text) <= MOST:
        raise InputError(
            f"`pattern` must be 1 to {MOST} letters, equal ones for equal neurons, such as 'iijj', but got {text!r}"
        )
    return renamed(text)


def renamed(letters: Sequence[str]) -> str:
    """The letters as i, j, k, … in the order in which they come: patterns of the same statistic become equal."""
    names = dict(zip(dict.fromkeys(letters), "ijklmn", strict=False))
    return "".join(names[letter] for letter in letters)


def partitions(items: Sequence[int]) -> Iterator[list[list[int]]]:
    """All ways to put the items into blocks."""
    if not items:
        yield []
        return
    first, *others = items
    for smaller in partitions(others):
        yield [[first], *smaller]
        for b, block in enumerate(smaller):
            yield [*smaller[:b], [first, *block], *smaller[b + 1 :]]


@cache
def cumulant_terms(pattern: str) -> tuple[tuple[int, Blocks], ...]:
    """The joint cumulant of the factors: weights, and the moments to multiply, each with the factors that are in it."""
    terms = []
    for blocks in partitions(range(len(pattern))):
        weight = (-1) ** (len(blocks) - 1) * factorial(len(blocks) - 1)
        moments = tuple((renamed([pattern[p] for p in block]), tuple(block)) for block in map(sorted, blocks))
        terms.append((weight, moments))
    return tuple(terms)


@partial(jax.jit, static_argnums=0)  # one call where it is not part of a larger program
def distinct_mean(pattern: str, z: jax.Array) -> jax.Array:
    """The average over choices of different neurons of Π_p z_(neuron of p)(input p): an axis of inputs for each factor.

    The sum over different neurons is Σ_π Π_blocks (−1)^(b−1) (b−1)! of sums in which the letters of a block are one
    neuron (Möbius inversion over partitions of the letters): no array has two neuron axes and the axes of the result.

    Arguments
        z: (neurons, N).
    """
    letters = sorted(set(pattern))
    if z.shape[0] < len(letters):
        raise InputError(
            f"`pattern` {pattern!r} needs {len(letters)} different neurons, but the layer has {z.shape[0]}; choose "
            "another layer, or a larger width or n_out"
        )
    if z.shape[1] ** len(pattern) > 1 << 20:
        raise InputError(
            f"`x` has {z.shape[1]} inputs, of which {len(pattern)} are chosen in every way: "
            f"{z.shape[1] ** len(pattern):.1e} numbers; give fewer inputs"
        )
    axes = "abcdef"[: len(pattern)]
    total: jax.Array | float = 0.0
    for blocks in partitions(range(len(letters))):
        weight = prod((-1) ** (len(block) - 1) * factorial(len(block) - 1) for block in blocks)
        factors = []
        for block in blocks:
            mine = "".join(axis for axis, letter in zip(axes, pattern, strict=True) if letters.index(letter) in block)
            factors.append((mine, _sum(z, len(mine))))
        spec = ",".join(mine for mine, _ in factors) + "->" + axes
        total = total + weight * jnp.einsum(spec, *(each for _, each in factors))
    return jnp.asarray(total / perm(z.shape[0], len(letters)))


def _sum(z: jax.Array, factors: int) -> jax.Array:
    """Σ_i z_ia z_ib …, as one matrix product of two halves."""
    half = factors // 2
    left, right = _power(z, half), _power(z, factors - half)
    return (left.T @ right).reshape((z.shape[1],) * factors)


def _power(z: jax.Array, factors: int) -> jax.Array:
    """z_ia z_ib …, (neurons, N^factors)."""
    made = jnp.ones((z.shape[0], 1), z.dtype)
    for _ in range(factors):
        made = (made[:, :, None] * z[:, None, :]).reshape(z.shape[0], -1)
    return made
