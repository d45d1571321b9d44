r"""What an architecture adds to the next layer's covariance: its constants in the recursions of K and Θ.

    K⁽ℓ⁺¹⁾ = skip K⁽ℓ⁾ + C_b + C_W⟨σσ⟩          Θ⁽ℓ⁺¹⁾ = skip Θ⁽ℓ⁾ + λ_b + λ_W⟨σσ⟩ + C_W⟨σ'σ'⟩Θ⁽ℓ⁾

For z⁽ℓ⁺¹⁾ = γ z⁽ℓ⁾ + ξ (b + W σ(z⁽ℓ⁾)), skip = γ², and ξ² multiplies the four others: W is independent of z⁽ℓ⁾ and has
zero mean, so that the two terms are not correlated, nor are their gradients. In an `MLP` skip = 0 and ξ = 1.
"""

from typing import Any, NamedTuple

from finitewidth.architecture import Architecture


class LayerConstants(NamedTuple):
    """Of the layer that is entered; arrays over layers, layer 1 first."""

    C_b: Any
    C_W: Any
    lambda_b: Any
    lambda_W: Any
    skip: Any


def layer_constants(net: Architecture) -> LayerConstants:
    C_b, C_W, lambda_b, lambda_W = (
        net.added**2 * net.per_layer(name) for name in ("C_b", "C_W", "lambda_b", "lambda_W")
    )
    return LayerConstants(C_b, C_W, lambda_b, lambda_W, skip=net.carried**2)
