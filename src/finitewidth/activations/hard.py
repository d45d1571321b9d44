"""Hard activations: sigmoids, gates and soft corners made of polynomials, cheap to compute."""

import jax.numpy as jnp

from finitewidth.activations.entry import Known, entry, require
from finitewidth.activations.piecewise import piecewise


@entry(torch="Hardtanh", jax="hard_tanh")
def hardtanh(min_val: float = -1.0, max_val: float = 1.0) -> Known:
    """z, cut off at min_val and max_val."""
    require(max_val > min_val, "max_val", f"greater than `min_val` = {min_val:g}", max_val)
    return piecewise(
        (min_val, max_val),
        ((min_val,), (0.0, 1.0), (max_val,)),
        parity="odd" if min_val == -max_val else "none",
        tails=(f"{min_val:g}", f"{max_val:g}"),
    )


@entry(torch="Hardsigmoid", jax="hard_sigmoid")
def hardsigmoid() -> Known:
    """(z + 3)/6, cut off at 0 and 1."""
    return piecewise((-3.0, 3.0), ((0.0,), (0.5, 1 / 6), (1.0,)), tails=("0", "1"))


@entry(torch="Hardswish", jax="hard_swish", aliases=("hard_silu",))
def hardswish() -> Known:
    """z · hardsigmoid(z)."""
    return piecewise((-3.0, 3.0), ((0.0,), (0.0, 0.5, 1 / 6), (0.0, 1.0)), tails=("0", "z"))


@entry(jax="sparse_plus")
def sparse_plus() -> Known:
    """(z + 1)²/4 between −1 and 1, 0 below, z above."""
    return Known(
        # the square written as one: expanded, it loses digits near −1
        lambda z: jnp.where(z <= -1.0, 0.0, jnp.where(z < 1.0, jnp.square(0.5 * z + 0.5), z)),
        kinks=(-1.0, 1.0),
        pieces=((0.0,), (0.25, 0.5, 0.25), (0.0, 1.0)),
        tails=("0", "z"),
    )


@entry(jax="sparse_sigmoid")
def sparse_sigmoid() -> Known:
    """(z + 1)/2, cut off at 0 and 1."""
    return piecewise((-1.0, 1.0), ((0.0,), (0.5, 0.5), (1.0,)), tails=("0", "1"))
