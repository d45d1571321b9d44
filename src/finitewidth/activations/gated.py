"""Gated activations: z times a smooth step. With a minimum left of 0, of the half-stable class (PDLT ch. 5.3)."""

from math import pi, sqrt
from typing import Any

from finitewidth.activations.conditioned import gauss_cdf, sigmoid, softplus, tanh
from finitewidth.activations.entry import Known, entry, require
from finitewidth.activations.transitions import at_origin


@entry(
    torch="GELU",
    jax="gelu(approximate=False)",
    aliases=("gelu(none)", "gelu(approximate=none)", "gelu(approximate=false)", "gelu_erf", "gelu_exact"),
)
def gelu() -> Known:
    """z Φ(z), with Φ the Gaussian cumulative distribution (the erf form; jax.nn.gelu's default is `gelu_tanh`)."""
    return Known(lambda z: z * gauss_cdf(z), closed_form=("gelu", ()), tails=("→ 0", "→ z"))


@entry(
    torch="GELU(approximate='tanh')",
    jax="gelu",
    aliases=("gelu(tanh)", "gelu(approximate=tanh)", "gelu(approximate=true)", "gelu_new"),
)
def gelu_tanh() -> Known:
    """½ z (1 + tanh(√(2/π) (z + 0.044715 z³))): the tanh approximation of GELU, jax.nn.gelu's default."""

    def function(z: Any) -> Any:
        # ½ (1 + tanh u) = sigmoid(2u), which keeps its digits for u → −∞
        return z * sigmoid((2.0 * sqrt(2.0 / pi)) * z * (1.0 + 0.044715 * (z * z)))

    return Known(function, tails=("→ 0", "→ z"))


@entry(torch="SiLU", jax="silu")
def silu() -> Known:
    """z · sigmoid(z), also called SWISH."""
    return Known(lambda z: z * sigmoid(z), tails=("→ 0", "→ z"))


@entry(jax="swish")
def swish(beta: float = 1.0) -> Known:
    """z · sigmoid(beta z)."""
    require(beta > 0, "beta", "> 0", beta)
    return Known(lambda z: z * sigmoid(beta * z), tails=("→ 0", "→ z"), transitions=at_origin(1.0 / beta))


@entry(torch="Mish", jax="mish")
def mish() -> Known:
    """z · tanh(softplus(z))."""
    return Known(lambda z: z * tanh(softplus(z)), tails=("→ 0", "→ z"))
