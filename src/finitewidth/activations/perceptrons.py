"""Perceptrons: steps. Their derivative vanishes almost everywhere, so nothing can be trained through them."""

import jax.numpy as jnp

from finitewidth.activations.entry import Known, entry
from finitewidth.activations.piecewise import piecewise


@entry(aliases=("heaviside", "perceptron", "binary_step"))
def step() -> Known:
    """1 for z > 0, else 0: the perceptron of PDLT ch. 2."""
    return piecewise((0.0,), ((0.0,), (1.0,)), closed_form=("step", ()), tails=("0", "1"))


@entry(jax="sign", aliases=("sgn", "signum"))
def sign() -> Known:
    """−1 below 0, 1 above."""
    return Known(
        jnp.sign, kinks=(0.0,), pieces=((-1.0,), (1.0,)), parity="odd", closed_form=("sign", ()), tails=("−1", "1")
    )
