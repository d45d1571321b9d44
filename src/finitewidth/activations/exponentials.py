"""Exponential linear units: z above 0, an exponential approach to a constant below."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from finitewidth.activations.conditioned import expm1
from finitewidth.activations.entry import Known, entry, require
from finitewidth.activations.transitions import at_origin

# of Klambauer, Unterthiner, Mayr, Hochreiter 2017: zero mean and unit variance are a fixed point
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _below_zero(function: Callable[[Any], Any], scale: float = 1.0) -> Callable[[Any], Any]:
    # the inner `where` keeps the branch that is not taken from overflowing: 0 · ∞ would make backward derivatives NaN
    return lambda z: jnp.where(z < 0, function(jnp.where(z < 0, z, 0.0)), z if scale == 1.0 else scale * z)


@entry(torch="ELU", jax="elu")
def elu(alpha: float = 1.0) -> Known:
    """z above 0, alpha (e^z − 1) below."""
    return Known(_below_zero(lambda z: alpha * expm1(z)), kinks=(0.0,), tails=(f"→ {-alpha:g}".replace("-", "−"), "z"))


@entry(torch="CELU", jax="celu")
def celu(alpha: float = 1.0) -> Known:
    """z above 0, alpha (e^{z/alpha} − 1) below: σ' is continuous for every alpha."""
    require(alpha > 0, "alpha", "> 0", alpha)
    return Known(
        _below_zero(lambda z: alpha * expm1(z / alpha)),
        kinks=(0.0,),
        tails=(f"→ {-alpha:g}".replace("-", "−"), "z"),
        transitions=at_origin(alpha),
    )


@entry(torch="SELU", jax="selu")
def selu() -> Known:
    """1.0507 z above 0, 1.7581 (e^z − 1) below."""
    return Known(
        _below_zero(lambda z: (_SELU_SCALE * _SELU_ALPHA) * expm1(z), _SELU_SCALE),
        kinks=(0.0,),
        tails=("→ −1.758", "1.051 z"),
    )


@entry(jax="exp")
def exp() -> Known:
    """e^z; beyond z = 709 it overflows."""
    return Known(jnp.exp, closed_form=("exp", ()), tails=("→ 0", "e^z"))
