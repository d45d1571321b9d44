"""Polynomials. Deep linear networks are the solvable model of PDLT ch. 3."""

from typing import Any

import jax

from finitewidth.activations.activation import Parity
from finitewidth.activations.entry import Known, entry, require
from finitewidth.activations.piecewise import piecewise


def _polynomial(coefficients: tuple[float, ...], **facts: Any) -> Known:
    odd, even = any(coefficients[1::2]), any(coefficients[::2])
    parity: Parity = "none" if odd and even else "odd" if odd else "even"
    return piecewise((), (coefficients,), parity=parity, closed_form=("polynomial", coefficients), **facts)


@entry(torch="Identity", jax="identity", aliases=("identity", "id"))
def linear() -> Known:
    """z."""
    return _polynomial((0.0, 1.0), tails=("z", "z"))


@entry(example=(3,))
def monomial(p: int) -> Known:
    """z^p for an integer p from 1 to 100."""
    require(1 <= p <= 100, "p", "an integer from 1 to 100", p)
    coefficients = (0.0,) * p + (1.0,)
    return Known(
        lambda z: jax.lax.integer_pow(jax.numpy.asarray(z), p),
        kinks=(),
        pieces=(coefficients,),
        parity="odd" if p % 2 else "even",
        closed_form=("polynomial", coefficients),
        tails=(f"z^{p}", f"z^{p}"),
    )


@entry(example=(0.0, 1.0, 0.5))
def polynomial(*coefficients: float) -> Known:
    """c0 + c1 z + c2 z² + …, from its coefficients c0, c1, c2, …"""
    require(
        len(coefficients) > 0, "coefficients", "at least one number, as in polynomial(0, 1, 0.5)", len(coefficients)
    )
    degree = max((i for i, c in enumerate(coefficients) if c), default=0)
    return _polynomial(coefficients[: degree + 1], tails=(f"{coefficients[degree]:g} z^{degree}",) * 2)
