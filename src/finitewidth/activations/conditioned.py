"""Functions whose derivatives keep their digits.

JAX differentiates tanh as 1 − tanh², the logistic function as s(1 − s), expm1 as expm1 + 1: right at z ~ 1, no digit
left at z = 30. Gaussians of large variance live there. Each function here comes with its derivative written as another
function of this file, without cancellation, so that derivatives of every order keep their digits, and so do products:

    tanh' = sech² ,   sech²' = −2 tanh sech² ,   s' = ¼ sech²(z/2) ,   softplus' = s ,   expm1' = exp ,   Φ' = φ .
"""

from collections.abc import Callable
from math import factorial, pi, sqrt
from typing import Any

import jax
import jax.numpy as jnp


def with_derivative(derivative: Callable[[Any], Any]) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Decorator: differentiate the function as `derivative`, at every order."""

    def decorate(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        made = jax.custom_jvp(function)
        made.defjvp(lambda primals, tangents: (made(*primals), derivative(*primals) * tangents[0]))
        return made

    return decorate


@with_derivative(lambda z: -2.0 * tanh(z) * sech2(z))
def sech2(z: Any) -> Any:
    """1 / cosh²."""
    e = jnp.exp(-2.0 * jnp.abs(z))
    return 4.0 * e / jnp.square(1.0 + e)


@with_derivative(sech2)
def tanh(z: Any) -> Any:
    """tanh z."""
    return jnp.tanh(z)


@with_derivative(lambda z: 0.25 * sech2(0.5 * z))  # s(z) s(−z), whose own derivative would cancel at 0
def sigmoid(z: Any) -> Any:
    """1 / (1 + e^{−z}), accurate relative to itself also where it vanishes."""
    e = jnp.exp(-jnp.abs(z))
    return jnp.where(z < 0, e, 1.0) / (1.0 + e)


@with_derivative(sigmoid)
def softplus(z: Any) -> Any:
    """log(1 + e^z)."""
    return jnp.maximum(z, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(z)))


@with_derivative(jnp.exp)
def expm1(z: Any) -> Any:
    """e^z − 1."""
    return jnp.expm1(z)


def gauss(z: Any) -> Any:
    """φ(z) = e^{−z²/2} / √(2π)."""
    return jnp.exp(-0.5 * jnp.square(z)) / sqrt(2.0 * pi)


@with_derivative(gauss)
def gauss_cdf(z: Any) -> Any:
    """Φ(z) = ∫_{−∞}^z φ, accurate relative to itself in the left tail (there to z² ε, as e^{−z²/2} must be)."""
    return 0.5 * jax.scipy.special.erfc(z * -sqrt(0.5))


@with_derivative(lambda z: jnp.square(tanh(z)))
def tanhshrink(z: Any) -> Any:
    """z − tanh z; its leading z³/3 survives for small z."""
    inside = jnp.clip(z, -1.0, 1.0)
    square = jnp.square(inside)
    series = 0.0 * square  # (z cosh z − sinh z) / cosh z, all terms positive
    for k in range(10, 0, -1):
        series = (series + 2 * k / factorial(2 * k + 1)) * square
    return jnp.where(jnp.abs(z) < 1.0, inside * series / jnp.cosh(inside), z - jnp.tanh(z))
