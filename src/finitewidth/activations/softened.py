"""Softened rectifiers: smooth, of one sign, linear on one side. None has a critical point with C_b ≥ 0."""

from typing import Any

import jax.numpy as jnp

from finitewidth.activations import conditioned
from finitewidth.activations.conditioned import with_derivative
from finitewidth.activations.entry import Known, entry, require
from finitewidth.activations.transitions import at_origin

_LINEAR_BEYOND = 20.0


@entry(torch="Softplus", jax="softplus")
def softplus(beta: float = 1.0, threshold: float = 20.0) -> Known:
    """log(1 + e^{beta z}) / beta, and z where beta z exceeds a threshold below 20.

    torch's jumps by less than 3e-9 / beta at the threshold of 20, which is left out here.
    """
    require(beta > 0, "beta", "> 0", beta)
    require(threshold > 0, "threshold", "> 0", threshold)
    narrow = at_origin(1.0 / beta)
    tails = "→ 0", "→ z"
    if threshold >= _LINEAR_BEYOND:
        return Known(lambda z: conditioned.softplus(beta * z) / beta, tails=tails, transitions=narrow)

    def function(z: Any) -> Any:
        return jnp.where(beta * z > threshold, z, conditioned.softplus(jnp.minimum(beta * z, threshold)) / beta)

    return Known(function, kinks=(threshold / beta,), tails=tails, transitions=narrow)


@entry(torch="LogSigmoid", jax="log_sigmoid")
def log_sigmoid() -> Known:
    """log sigmoid(z) = −softplus(−z)."""
    return Known(lambda z: -conditioned.softplus(-z), tails=("→ z", "→ 0"))


@entry(jax="squareplus")
def squareplus(b: float = 4.0) -> Known:
    """(z + √(z² + b)) / 2."""
    require(b > 0, "b", "> 0 (at 0 it is `relu`)", b)

    def root(z: Any) -> Any:
        return jnp.sqrt(z * z + b)

    # each derivative in the form that does not cancel on the left: σ' = σ/√(z² + b), σ'' = b / 2(z² + b)^{3/2}
    @with_derivative(lambda z: (0.5 * b) * (z * z + b) ** -1.5)
    def slope(z: Any) -> Any:
        return value(z) / root(z)

    @with_derivative(slope)
    def value(z: Any) -> Any:
        size = root(z) + jnp.abs(z)
        return jnp.where(z < 0, (0.5 * b) / size, 0.5 * size)

    return Known(value, tails=("→ 0, as b/4|z|", "→ z"), transitions=at_origin(b**0.5))
