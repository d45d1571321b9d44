"""Bells: even, and vanishing far from 0."""

import jax.numpy as jnp

from finitewidth.activations.entry import Known, entry, require
from finitewidth.activations.transitions import at_origin


@entry(aliases=("bump", "gauss"))
def gaussian(a: float = 1.0) -> Known:
    """e^{−a z²}."""
    require(a > 0, "a", "> 0", a)
    return Known(
        lambda z: jnp.exp(-a * jnp.square(z)),
        parity="even",
        closed_form=("gaussian", (a,)),
        tails=("→ 0", "→ 0"),
        transitions=at_origin(a**-0.5),
    )
