"""Piecewise polynomials: one declaration gives σ, its kinks and its pieces."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from finitewidth.activations.entry import Known

Pieces = tuple[tuple[float, ...], ...]


def piecewise(kinks: tuple[float, ...], pieces: Pieces, **facts: Any) -> Known:
    """σ(z) = Σ_j pieces[i][j] z^j between kinks[i−1] and kinks[i]; a kink belongs to the piece on its left."""
    return Known(piecewise_function(kinks, pieces), kinks=kinks, pieces=pieces, **facts)


def piecewise_function(kinks: tuple[float, ...], pieces: Pieces) -> Callable[[Any], Any]:
    """The function of z alone."""
    # Comparisons lead outwards from a piece that depends on z: they are all false for NaN, which so comes out as NaN.
    start = next((i for i, piece in enumerate(pieces) if len(piece) > 1), 0)

    def function(z: Any) -> Any:
        value = polynomial_value(pieces[start], z)
        for kink, piece in zip(kinks[start:], pieces[start + 1 :], strict=True):
            value = jnp.where(z > kink, polynomial_value(piece, z), value)
        for kink, piece in zip(kinks[:start][::-1], pieces[:start][::-1], strict=True):
            value = jnp.where(z <= kink, polynomial_value(piece, z), value)
        return value

    return function


def polynomial_value(coefficients: tuple[float, ...], z: Any) -> Any:
    """Σ_j coefficients[j] z^j by Horner's rule, in the dtype of z."""
    *lower, value = coefficients
    for c in reversed(lower):
        value = (z if value == 1.0 else value * z) if isinstance(value, float) else value * z
        value = value if c == 0.0 else value + c
    return jnp.full_like(z, value) if isinstance(value, float) else value
