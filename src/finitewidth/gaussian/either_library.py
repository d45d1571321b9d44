"""Formulas written once, for NumPy and for JAX: of few numbers NumPy has the result before JAX has compiled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax import Array

Formula = Callable[..., tuple[Array, ...]]


def library(*arrays: Any) -> Any:
    """`jax.numpy` if one of the arrays is JAX's, or traced, else `numpy`."""
    return jnp if any(isinstance(array, Array) for array in arrays) else np


def functions(*arrays: Any) -> Any:
    """`jax.scipy.special` or `scipy.special`, likewise."""
    return jax.scipy.special if library(*arrays) is jnp else scipy.special


def if_any(condition: Array, then: Formula, otherwise: Formula) -> tuple[Array, ...]:
    """`then()` if the condition holds anywhere, else `otherwise()`; the other one is not computed."""
    if library(condition) is jnp:
        return jax.lax.cond(jnp.any(condition), lambda _: then(), lambda _: otherwise(), None)
    return then() if np.any(condition) else otherwise()


def summed(terms: int, add: Callable[[int, Array], Array], start: Array) -> Array:
    """`add(index, sum so far)` for all terms, of which one stands in memory."""
    if library(start) is jnp:
        return jax.lax.fori_loop(0, terms, add, start)
    for index in range(terms):
        start = add(index, start)
    return start
