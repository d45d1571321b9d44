"""Shrinkage: small z are taken to zero, large z kept."""

import jax.numpy as jnp

from finitewidth.activations import conditioned
from finitewidth.activations.entry import Known, entry, require
from finitewidth.activations.piecewise import piecewise


@entry(torch="Softshrink")
def softshrink(lambd: float = 0.5) -> Known:
    """z − lambd above lambd, z + lambd below −lambd, 0 between."""
    require(lambd > 0, "lambd", "> 0 (at 0 it is `linear`)", lambd)
    return piecewise(
        (-lambd, lambd),
        ((lambd, 1.0), (0.0,), (-lambd, 1.0)),
        parity="odd",
        tails=(f"z + {lambd:g}", f"z − {lambd:g}"),
    )


@entry(torch="Hardshrink")
def hardshrink(lambd: float = 0.5) -> Known:
    """z where |z| > lambd, 0 between."""
    require(lambd > 0, "lambd", "> 0 (at 0 it is `linear`)", lambd)
    return Known(
        lambda z: jnp.where(jnp.abs(z) <= lambd, 0.0, z),
        kinks=(-lambd, lambd),
        pieces=((0.0, 1.0), (0.0,), (0.0, 1.0)),
        parity="odd",
        tails=("z", "z"),
    )


@entry(torch="Tanhshrink")
def tanhshrink() -> Known:
    """z − tanh z."""
    return Known(conditioned.tanhshrink, parity="odd", tails=("z + 1", "z − 1"))
