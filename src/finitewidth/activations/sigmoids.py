"""Sigmoids: bounded and increasing. The odd ones are of the K* = 0 class (PDLT ch. 5.3)."""

from typing import Any

import jax
import jax.numpy as jnp

from finitewidth.activations import conditioned
from finitewidth.activations.conditioned import with_derivative
from finitewidth.activations.entry import Known, entry


@entry(torch="Tanh", jax="tanh")
def tanh() -> Known:
    """tanh z."""
    return Known(conditioned.tanh, parity="odd", tails=("→ −1", "→ 1"))


@entry(torch="Sigmoid", jax="sigmoid", aliases=("logistic",))
def sigmoid() -> Known:
    """1 / (1 + e^{−z})."""
    return Known(conditioned.sigmoid, tails=("→ 0", "→ 1"))


@entry(jax="jax.scipy.special.erf")
def erf() -> Known:
    """erf z = 2/√π ∫_0^z e^{−t²} dt."""
    return Known(jax.scipy.special.erf, parity="odd", closed_form=("erf", ()), tails=("→ −1", "→ 1"))


@entry(jax="arctan", aliases=("atan",))
def arctan() -> Known:
    """arctan z."""
    return Known(jnp.arctan, parity="odd", tails=("→ −π/2", "→ π/2"))


# z/(1+|z|) differentiated term by term would leave 1/(1+|z|) − |z|/(1+|z|)², without a digit at z = 1e7
@with_derivative(lambda z: jnp.square(1.0 / (1.0 + jnp.abs(z))))
def _softsign(z: Any) -> Any:
    return z / (1.0 + jnp.abs(z))


@entry(torch="Softsign", jax="soft_sign")
def softsign() -> Known:
    """z / (1 + |z|); its second derivative jumps at 0."""
    return Known(_softsign, kinks=(0.0,), parity="odd", tails=("→ −1, as 1/|z|", "→ 1, as 1/z"))
