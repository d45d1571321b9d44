"""The flow through the layers: ℓ → ℓ + 1."""

from finitewidth.flow.kernel import flow

__all__ = ["flow"]
