"""Periodic activations, alone or on top of a line."""

from typing import Any

import jax.numpy as jnp

from finitewidth.activations.entry import Known, entry, require


@entry(jax="sin", aliases=("sine",))
def sin() -> Known:
    """sin z."""
    return Known(jnp.sin, parity="odd", closed_form=("sin", ()), tails=("oscillates", "oscillates"))


@entry(jax="cos", aliases=("cosine",))
def cos() -> Known:
    """cos z."""
    return Known(jnp.cos, parity="even", closed_form=("cos", ()), tails=("oscillates", "oscillates"))


@entry()
def snake(a: float = 1.0) -> Known:
    """z + sin²(a z)/a."""
    require(a != 0, "a", "different from 0 (in that limit it is `linear`)", a)

    def function(z: Any) -> Any:
        return z + jnp.square(jnp.sin(a * z)) / a

    return Known(function, tails=("z + oscillation", "z + oscillation"))
